"""Stops a run whose loss is no longer a number, and names the structures."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from carten.data.dataset import Batch
from carten.errors import TrainingError
from carten.train.loss import Predictions


class Watch:
    """Looks at the loss every few steps: each look waits for the device, which costs nothing on a CPU.

    Args:
        every: steps between looks.
        everywhere: from the structures of this process to those of all processes; every process calls it.
    """

    def __init__(self, every: int = 1, everywhere: Callable[[list[int]], list[int]] = sorted) -> None:
        self.every = every
        self.everywhere = everywhere
        self._losses: list[Tensor] = []
        self._batches: list[Tensor] = []

    def see(self, loss: Tensor, predictions: Predictions, batch: Batch) -> None:
        """Remember a loss; look at those remembered when it is time.

        Raises:
            TrainingError: a loss was NaN or infinite.
        """
        self._losses.append(loss)
        self._batches.append(batch.index)
        if len(self._losses) < self.every:
            return
        if self.every == 1 and not bool(loss.isfinite()):
            suspects = self.everywhere(batch.index[_suspects(predictions, batch)].tolist())
            self._batches = [torch.tensor(suspects, dtype=torch.int64)] if suspects else self._batches
        self.check()

    def check(self) -> None:
        """Look at the losses remembered, and forget them.

        Raises:
            TrainingError: one was NaN or infinite.
        """
        if not self._losses:
            return
        bad = (~torch.stack(self._losses).isfinite()).nonzero()
        if len(bad):
            structures = self.everywhere(self._batches[int(bad[0])].tolist())
            raise TrainingError(
                f"the loss became NaN or infinite at structures {structures} (positions in the training data, from 0): "
                "look at their geometry and labels (carten check), or lower optimizer.lr; the last checkpoint is intact"
            )
        self._losses.clear()
        self._batches.clear()


def _suspects(predictions: Predictions, batch: Batch) -> Tensor:
    """Structures with a squared error that is not finite, (S,) bool."""
    structure = batch.graph.structure
    suspect = torch.zeros(batch.graph.n_structures, dtype=torch.bool, device=structure.device)
    for name, target in batch.targets.items():
        squared = (predictions[name].detach() - target).square()
        bad = (~squared.isfinite() & ~target.isnan()).reshape(len(target), -1).any(-1)
        if len(bad) in (len(structure), len(suspect)):  # not rows of pairs of atoms
            suspect[structure[bad] if len(bad) == len(structure) else bad] = True
    return suspect.to(batch.index.device)
