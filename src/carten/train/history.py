"""The learning curve: a CSV file, loggers, and a picture at the end."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from carten.train.config import Config
from carten.train.curves import draw_curves
from carten.train.fields import steps_of
from carten.train.files import METRICS, write_text
from carten.train.log import Log
from carten.train.loggers import Recorder
from carten.train.module import Fit


class History(Callback):
    """One row each validation, to ``metrics.csv`` and loggers; the loss of training in between.

    Columns: ``epoch`` (from 1; 0 is the model that the run starts from), ``step``, ``minutes``, ``lr``, ``train_loss``
    (mean since the last row), ``validation_loss``, then for every trained property ``validation_<property>_rmse``,
    ``_mae``, ``_max`` in the unit the property is reported in (meV, meV/Angstrom, ...) and, where it grows with size,
    the same for ``<property>_per_atom``.

    Args:
        config: of the run.
        recorder: passes values to loggers.
        lines: shows the loss of training where the configuration asks for it.
    """

    def __init__(self, config: Config, recorder: Recorder, lines: Log) -> None:
        self.path = config.output / METRICS
        self.config = config
        self.recorder = recorder
        self.lines = lines
        self._rows: list[dict[str, str]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget rows that a run wrote after its last checkpoint: they are made again."""
        if not trainer.is_global_zero:
            return
        if trainer.global_step and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["step"]) <= trainer.global_step]
        self._write()
        self.recorder.begin(self.config.model_dump(mode="json"))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Where it is time: the loss of training."""
        every = self.config.training.log_every
        if every is None or not isinstance(pl_module, Fit):
            return
        if trainer.global_step % steps_of(every, int(trainer.num_training_batches)) == 0:
            loss, rate, step = pl_module.recent_loss(), pl_module.rate, trainer.global_step
            if trainer.is_global_zero:
                self.lines.line(f"{trainer.current_epoch + 1:>6} step {step}, training loss {loss:.3e}, lr {rate:.2e}")
                self.recorder.record({"train_step_loss": loss, "lr": rate}, step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Fit) or not trainer.is_global_zero:
            return
        row = measured(trainer, pl_module)
        self._rows.append({name: f"{value:.8g}" for name, value in row.items()})
        self._write()
        self.recorder.record(row, trainer.global_step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or not isinstance(pl_module, Fit):
            return
        self.recorder.end("success")
        try:
            draw_curves(self._rows, [term.property for term in pl_module.terms], self.path.parent)
        except OSError as error:
            self.lines.line(f"the picture of the learning curves can't be written: {error}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """What was logged so far is kept."""
        self.recorder.end("failed")

    def _write(self) -> None:
        if not self._rows:
            return
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(self._rows[-1]), extrasaction="ignore")
        writer.writeheader()
        writer.writerows(self._rows)
        write_text(self.path, text.getvalue())


def measured(trainer: Trainer, fit: Fit) -> Mapping[str, Any]:
    """The row of the learning curve that describes the last validation."""
    return {
        "epoch": fit.epoch,
        "step": trainer.global_step,
        "minutes": fit.elapsed / 60.0,
        "lr": fit.rate,
        "train_loss": fit.train_loss,
        **{f"validation_{name}": value for name, value in fit.results.items()},
    }
