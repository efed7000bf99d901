"""Keeps the best model and a checkpoint to resume from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.trainer.states import TrainerFn

from carten.properties.potential import Potential
from carten.train.metrics import Breakdown
from carten.train.module import Fit
from carten.train.resume import FACTS, Facts
from carten.train.signals import Interruption
from carten.train.world import largest

Save = Callable[[Potential, dict[str, Any]], None]


class Keeper(Checkpoint):
    """Writes the model whenever the validation loss is the lowest so far, and ``last.ckpt`` every few minutes.

    A signal is obeyed after the step that it arrives in, or after the validation that follows the last step of an
    epoch: a checkpoint is written first.

    Args:
        last: path of the checkpoint.
        save: writes the averaged model; it is given the provenance (epoch, step, minutes, errors).
        minutes: time between checkpoints; 0 writes one each epoch. One is always written at the end.
        interruption: what signals do.

    Attributes:
        facts: of the run; known to the process that writes.
    """

    def __init__(self, last: Path, save: Save, minutes: float, interruption: Interruption) -> None:
        self.last = last
        self.save = save
        self.seconds = 60.0 * minutes
        self.facts = Facts({}, {})
        self.interruption = interruption
        self.best = math.inf
        self.results: Mapping[str, float] = {}
        self.breakdowns: Mapping[str, Breakdown] = {}
        self.written: tuple[int, int] | None = None
        """Epoch and step of the checkpoint on disk."""
        self._saved = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved = time.monotonic()
        self.interruption.install()  # Lightning has put its own handlers in place

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.interruption.install()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.interruption.install()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, Fit) and pl_module.results["loss"] < self.best:
            results, self.breakdowns = pl_module.results, pl_module.breakdowns
            self.best, self.results = results["loss"], results
            if trainer.is_global_zero:
                self.save(pl_module.averaged, pl_module.provenance())
        if trainer.state.fn == TrainerFn.FITTING and _validates_within_epoch(trainer):
            self._write_within_epoch(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Within an epoch when the time has come or a signal: after the validation, if one follows this step."""
        self.interruption.postponed = True
        if trainer.world_size > 1 and isinstance(pl_module, Fit) and trainer.global_step % pl_module.watch.every:
            return  # to agree waits for the device
        if not _validates_within_epoch(trainer):
            self._write_within_epoch(trainer, pl_module)

    def _write_within_epoch(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What comes after the last batch is left to the end of the epoch."""
        if trainer.is_last_batch or trainer.should_stop:
            return
        due, stopped = self._agreed(trainer)
        if stopped or (self.seconds and due):
            self._write(trainer, pl_module)
        if stopped:
            self.interruption.check()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        done = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        due, stopped = self._agreed(trainer)
        if done or stopped or due:
            self._write(trainer, pl_module)
        if stopped:
            self.interruption.check()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.interruption.postponed = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[FACTS] = self.facts.state()

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "results": dict(self.results), "breakdowns": dict(self.breakdowns)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.results = state_dict["best"], state_dict["results"]
        self.breakdowns = state_dict["breakdowns"]

    def _agreed(self, trainer: Trainer) -> tuple[bool, bool]:
        """Whether a checkpoint is due, and whether a signal has been received, by any process: all obey it."""
        waited = time.monotonic() - self._saved >= self.seconds
        due, number = largest(trainer, float(waited), float(self.interruption.received or 0))
        self.interruption.received = int(number) or None
        return bool(due), bool(number)

    def _write(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, Fit):
            pl_module.watch.check()
        trainer.save_checkpoint(self.last, weights_only=False)
        self._saved = time.monotonic()
        self.written = (trainer.current_epoch + 1, trainer.global_step)


def _validates_within_epoch(trainer: Trainer) -> bool:
    """Whether validations are counted in steps and one belongs to the present step."""
    every = trainer.val_check_batch
    return trainer.check_val_every_n_epoch is None and bool(every) and trainer.global_step % int(every or 1) == 0
