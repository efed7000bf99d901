"""The learning curve: a CSV file and TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from carten.train.files import write_text
from carten.train.module import Fit


class History(Callback):
    """One row each validation, to ``metrics.csv`` and TensorBoard.

    Columns: ``epoch`` (from 1; 0 is the model that the run starts from), ``step``, ``minutes``, ``lr``, ``train_loss``
    (mean since the last row), ``validation_loss``, then for every trained property ``validation_<property>_rmse``,
    ``_mae``, ``_max`` in the unit the property is reported in (meV, meV/Angstrom, ...) and, where it grows with size,
    the same for ``<property>_per_atom``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: list[dict[str, str]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget rows that a run wrote after its last checkpoint: they are made again."""
        if not trainer.is_global_zero:
            return
        if trainer.global_step and self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["step"]) <= trainer.global_step]
        self._write()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Fit) or not trainer.is_global_zero:
            return
        row = measured(trainer, pl_module)
        self._rows.append({name: f"{value:.8g}" for name, value in row.items()})
        self._write()
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.log_metrics({name.replace("_", "/", 1): v for name, v in row.items()}, trainer.global_step)

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
