"""The Lightning module: a potential, its loss, its average and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from carten.data.dataset import Batch
from carten.ops.threads import leave_to_kernels
from carten.properties.potential import Potential
from carten.train.average import Average
from carten.train.bootstrap import mixture
from carten.train.datamodule import Batches
from carten.train.loader import Loader
from carten.train.loss import LossTerm, combine, loss_terms
from carten.train.metrics import Breakdown, PropertyErrors
from carten.train.optimizer import Length, Schedule, optimizer
from carten.train.rows import SampledRows
from carten.train.tuning import Tuning
from carten.train.watch import Watch
from carten.train.world import largest, union

GPU_LOOKS = 50  # steps between looks at the loss where each look would stall the device


class Fit(LightningModule):
    """Trains a potential on the terms of the loss; the average of the weights is validated and saved.

    Labels are without the share of the model's fixed terms, see :mod:`carten.properties.fixed`.

    Training looks radial functions up in tables, as fine as the weights at the last validation ask for, see
    :meth:`carten.model.network.Network.choose_tables`; validation evaluates the exact ones.

    Args:
        potential: the model.
        terms: what the loss consists of.
        tuning: what is trained, and by which optimiser.
        schedule: the learning rate.
        length: of the run.
        ema: decay of the average of the weights, 0 for none.
        seed: of what is drawn in a step.
        groups: names of those of structures, for errors by group.

    Attributes:
        results: ``loss`` and errors in reported units of the last validation or test.
        breakdowns: errors ``by group`` and ``by element`` of the same.
        train_loss: mean loss of training between the two last validations.
    """

    def __init__(
        self,
        potential: Potential,
        terms: Sequence[LossTerm],
        tuning: Tuning,
        schedule: Schedule,
        length: Length,
        ema: float = 0.0,
        seed: int = 0,
        groups: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.potential = potential
        potential.network.choose_tables()
        self.average = Average(potential, ema) if ema else None
        self.terms = tuple(terms)
        self.tuning = tuning
        self.schedule = schedule
        self.length = length
        self.results: Mapping[str, float] = {}
        self.train_loss = float("nan")
        self.watch = Watch()
        self.errors = PropertyErrors([term.property for term in terms], groups or ("",))
        self.breakdowns: Mapping[str, Breakdown] = {}
        self._grouped = bool(groups)
        self._group_of = torch.zeros(0, dtype=torch.int64)
        self._names = tuple(term.property.name for term in terms)
        self._rows, self._seed = SampledRows(terms, potential, seed), seed
        self._trained = torch.zeros(len(self.terms), 2, dtype=torch.float64)
        self._measured, self._recent = torch.zeros_like(self._trained), torch.zeros_like(self._trained)
        self._earlier, self._since = 0.0, length.clock()

    @property
    def averaged(self) -> Potential:
        """The potential to validate and to save."""
        return self.potential if self.average is None else self.average.model

    @property
    def elapsed(self) -> float:
        """Seconds of training, those before a resume included."""
        return self._earlier + self.length.clock() - self._since

    @property
    def progress(self) -> float:
        """Part of the run that is done; processes agree on it."""
        elapsed = self.elapsed
        if self.length.seconds is not None:
            (elapsed,) = largest(self.trainer, elapsed)
        return self.length.progress(self.global_step, elapsed)

    @property
    def remaining(self) -> float:
        """Seconds to the end of the run, as it went so far."""
        done = self.length.progress(self.global_step, self.elapsed)
        return self.elapsed * (1.0 - done) / max(done, 1e-9)

    @property
    def rate(self) -> float:
        """Learning rate of the last step; NaN before the first."""
        return float(self.trainer.optimizers[0].param_groups[0]["lr"]) if self.epoch else math.nan

    @property
    def epoch(self) -> int:
        """Number of the present epoch, from 1; 0 while a model is validated before training."""
        return 0 if self.trainer.state.fn == TrainerFn.VALIDATING else self.current_epoch + 1

    def recent_loss(self) -> float:
        """Mean loss of training since this was asked last."""
        loss = float(combine(self.terms, self._recent))
        self._recent.zero_()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        configured = optimizer(self.tuning.tensors(self.potential), self.tuning.config)
        for group in configured.param_groups:
            group["initial_lr"] = group["lr"]
        return configured

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Batches move themselves; sums and averages follow the first."""
        if self._trained.device != device:
            self._trained, self._measured = self._trained.to(device), self._measured.to(device)
            self._recent = self._recent.to(device)
        return batch.to(device)

    def setup(self, stage: str) -> None:
        leave_to_kernels()

    def on_train_start(self) -> None:
        self._since = self.length.clock()
        self.watch = Watch(1 if self.device.type == "cpu" else GPU_LOOKS, partial(union, self.trainer))

    def on_train_epoch_start(self) -> None:
        if self.current_epoch + 1 == self.trainer.max_epochs:
            self._validate_the_end()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Set the learning rate of this step."""
        factor = self.schedule.factor(self.progress)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * factor

    def training_step(self, batch: Batch) -> Tensor:
        drawn = self._rows.draw(batch, self.global_step)
        batch = self._rows.restrict(batch, drawn)
        members = mixture(batch.index, self.potential.config.n_members, self._seed, self.global_step)
        predictions = self.potential.remainder(batch.graph, self._names, drawn, members)
        sums = loss_terms(self.terms, predictions, batch)
        self._trained += sums.detach()
        in_all = self._in_all(sums.detach())
        self._recent += in_all
        self.watch.see(combine(self.terms, in_all), predictions, batch)
        share = combine(self.terms, torch.stack([sums[:, 0], in_all[:, 1]], dim=1))
        return share * self.trainer.world_size  # the mean of the gradients of all processes is that of the loss

    def on_after_backward(self) -> None:
        if self.tuning.low_rank is not None:
            self.tuning.low_rank.lead_gradients()

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: torch.optim.Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """One step, then the average follows: callbacks that save at the end of the batch find both done."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.tuning.low_rank is not None:
            self.tuning.low_rank.update()
        if self.average is not None:
            self.average.update(self.global_step)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        if self.length.seconds is not None and self.progress >= 1.0:
            self.trainer.should_stop = True
            self._validate_the_end()
        if self.trainer.is_last_batch and self.current_epoch + 1 == self.trainer.max_epochs:
            self.trainer.val_check_batch = 1  # where validations are counted in steps

    def on_train_epoch_end(self) -> None:
        if isinstance(stream := self.trainer.train_dataloader, Loader):
            stream.end_epoch()

    def on_validation_epoch_start(self) -> None:
        self.watch.check()
        self._begin("validation")

    def validation_step(self, batch: Batch) -> None:
        """Errors of the averaged model."""
        self._measure(batch)

    def on_validation_epoch_end(self) -> None:
        self._finish()
        self.potential.network.choose_tables()
        self.train_loss = self._combined(self._trained) if self.epoch else math.nan
        self._trained.zero_()
        self.schedule.observe(self.results["loss"])
        self.log("validation_loss", self.results["loss"], sync_dist=True)

    def on_test_epoch_start(self) -> None:
        self._begin("test")

    def test_step(self, batch: Batch) -> None:
        """Errors of the averaged model."""
        self._measure(batch)

    def on_test_epoch_end(self) -> None:
        self._finish()

    def provenance(self) -> dict[str, Any]:
        """Where the averaged weights come from: epoch, step, minutes and errors of the last validation."""
        return {
            "epoch": self.epoch,
            "step": self.global_step,
            "minutes": self.elapsed / 60.0,
            "validation": dict(self.results),
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not know of."""
        checkpoint["carten"] = {
            "elapsed": self.elapsed,
            "schedule": self.schedule.state_dict(),
            "trained": self._in_all(self._trained),
            "intervals": self.potential.network.trained_intervals,
            "rng": torch.get_rng_state(),
            "low_rank": self.tuning.low_rank.state() if self.tuning.low_rank is not None else [],
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what :meth:`on_save_checkpoint` added."""
        state = checkpoint["carten"]
        self._earlier = state["elapsed"]
        self.schedule.load_state_dict(state["schedule"])
        self._trained = state["trained"] * self.trainer.is_global_zero  # of all processes: one of them goes on with it
        self.potential.network.trained_intervals = state["intervals"]
        torch.set_rng_state(state["rng"].cpu())
        if self.tuning.low_rank is not None:
            self.tuning.low_rank.restore(state["low_rank"])

    def _validate_the_end(self) -> None:
        """Validate at the end of this epoch, even if it is not its turn; where steps are counted the trainer does."""
        if self.trainer.check_val_every_n_epoch is not None:
            self.trainer.check_val_every_n_epoch = 1

    def _begin(self, part: str) -> None:
        """Forget errors; ``part`` of the data, ``validation`` or ``test``, follows."""
        self.errors.reset()
        self._measured.zero_()
        batches = getattr(self.trainer, "datamodule", None)
        if self._grouped and isinstance(batches, Batches):
            self._group_of = torch.tensor(batches.sets.groups[part].codes, dtype=torch.int64, device=self.device)

    def _measure(self, batch: Batch) -> None:
        predictions = self.averaged.remainder(batch.graph, self._names)
        self._measured += loss_terms(self.terms, predictions, batch)
        group = self._group_of[batch.index] if len(self._group_of) else None
        self.errors.update(predictions, batch, group)

    def _finish(self) -> None:
        self.results = {"loss": self._combined(self._measured), **self.errors.compute()}
        self.breakdowns = {"by group": self.errors.by_group(), "by element": self.errors.by_element()}

    def _combined(self, sums: Tensor) -> float:
        """The loss of all processes together."""
        return float(combine(self.terms, self._in_all(sums)))

    def _in_all(self, sums: Tensor) -> Tensor:
        """Sums of all processes together."""
        total: Tensor = self.trainer.strategy.reduce(sums.clone(), reduce_op="sum")
        return total
