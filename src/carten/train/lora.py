"""Low-rank adaptation: of a large matrix only a product of two small ones is trained, and added to it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn


def is_adaptable(shape: Sequence[int], rank: int) -> bool:
    """Whether matrices, the two last axes, have fewer numbers in low rank."""
    return len(shape) > 1 and rank * (shape[-2] + shape[-1]) < shape[-2] * shape[-1]


class LowRank:
    """Weights ``W = W_0 + factor A B``, of which A (.., n, rank) and B (.., rank, m) are trained.

    The model holds W and knows nothing of it: whatever evaluates, averages or saves the model finds plain weights. The
    chain rule leads from gradients of W to those of A and B, an update from A and B to W. B is 0 at first.

    Source: Hu et al., arXiv 2106.09685 (2021).

    Args:
        weights: W by name, of two or more axes.
        rank: of A B.
        factor: of A B.
        seed: of A, independent unit normals.
    """

    def __init__(self, weights: Mapping[str, nn.Parameter], rank: int, factor: float, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.weights, self.factor = dict(weights), factor
        self._initial = [weight.detach().clone() for weight in weights.values()]
        self._left, self._right = [], []
        for weight in weights.values():
            *batch, n, m = weight.shape
            left = torch.randn(*batch, n, rank, generator=generator, dtype=torch.float64)
            self._left.append(left.to(weight.dtype).requires_grad_())
            self._right.append(torch.zeros(*batch, rank, m, dtype=weight.dtype, requires_grad=True))

    def to(self, device: torch.device) -> None:
        """Move to where the weights are, before an optimiser takes the trained tensors."""
        self._initial = [value.to(device) for value in self._initial]
        for side in (self._left, self._right):
            side[:] = [value.detach().to(device).requires_grad_() for value in side]

    @property
    def trained(self) -> dict[str, tuple[Tensor, Tensor]]:
        """A and B by the name of the weight."""
        return dict(zip(self.weights, zip(self._left, self._right, strict=True), strict=True))

    @torch.no_grad()
    def lead_gradients(self) -> None:
        """Gradients of A and B from those of W, which are then dropped."""
        for weight, left, right in zip(self.weights.values(), self._left, self._right, strict=True):
            if weight.grad is None:
                continue
            gradients = (weight.grad @ right.mT, left.mT @ weight.grad)
            for value, gradient in zip((left, right), gradients, strict=True):
                value.grad = self.factor * gradient + (0.0 if value.grad is None else value.grad)
            weight.grad = None

    @torch.no_grad()
    def update(self) -> None:
        """W from the present A and B."""
        sides = zip(self._initial, self._left, self._right, strict=True)
        for weight, (initial, left, right) in zip(self.weights.values(), sides, strict=True):
            weight.copy_(initial + self.factor * (left @ right))

    def state(self) -> list[Tensor]:
        """What a resumed run needs."""
        return [value.detach() for value in (*self._left, *self._right)]

    @torch.no_grad()
    def restore(self, state: Iterable[Tensor]) -> None:
        """Take what :meth:`state` gave."""
        for value, saved in zip((*self._left, *self._right), state, strict=True):
            value.copy_(saved)
