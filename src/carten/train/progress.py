"""What a training run shows: a bar with the time left, and a line of errors for each validation."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.progress import BarColumn, Progress, TextColumn

from carten.train.log import Log
from carten.train.metrics import metric_names
from carten.train.module import Fit

INTERVAL = 30.0
"""Seconds between lines on the steps done, where there is no terminal to show a bar."""

REFRESH = 0.2
"""Seconds between updates of the bar."""


class Display(Callback):
    """Errors in reported units after each validation; in between a bar, or in a log file lines at intervals."""

    def __init__(self, lines: Log) -> None:
        self.lines = lines
        console = lines.console
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("step {task.completed:.0f}/{task.total:.0f}  {task.fields[rate]}"),
            TextColumn("{task.fields[remaining]} left"),
            console=console,
            transient=True,
            refresh_per_second=4,
            disable=not console.is_terminal,
        )
        self._has_header = False
        self._shown = time.monotonic()
        self._task = self._bar.add_task("training", epoch=1, rate="", remaining="?")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Fit) or not trainer.is_global_zero:
            return
        self._begin = (trainer.global_step, pl_module.elapsed)
        self._bar.update(self._task, total=pl_module.length.steps, completed=trainer.global_step)
        self._bar.start()
        self._print_header(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not isinstance(pl_module, Fit) or not trainer.is_global_zero:
            return
        now = time.monotonic()
        if now - self._shown < (INTERVAL if self._bar.disable else REFRESH):
            return
        self._shown = now
        first, since = self._begin
        rate = f"{1e3 * (pl_module.elapsed - since) / (trainer.global_step - first):.0f} ms/step"
        epoch, step, remaining = trainer.current_epoch + 1, trainer.global_step, _clock(pl_module.remaining)
        if self._bar.disable:
            self._print(f"{epoch:>6} step {step} of {pl_module.length.steps}, {rate}, {remaining} left")
        else:
            self._bar.update(self._task, completed=step, epoch=epoch, rate=rate, remaining=remaining)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(pl_module, Fit) and trainer.is_global_zero:
            self._print_header(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Fit) or not trainer.is_global_zero:
            return
        results = pl_module.results
        errors = " ".join(f"{results[f'{name}_rmse']:>{width}.4g}" for name, _, width in _columns(pl_module))
        self._shown = time.monotonic()
        self._print(
            f"{pl_module.epoch:>6} {results['loss']:>10.3e} {errors} " + (
                f"{pl_module.rate:>9.2e} {_clock(pl_module.elapsed):>8} {_clock(pl_module.remaining):>8}"
                if pl_module.epoch
                else "(the model that the run starts from)"
            )
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal in order."""
        self._bar.stop()

    def _print_header(self, fit: Fit) -> None:
        """The names of the columns, once."""
        if self._has_header:
            return
        self._has_header = True
        columns = [("epoch", "", 6), ("loss", "", 10), *_columns(fit), ("lr", "", 9), ("time", "", 8), ("left", "", 8)]
        for line in (0, 1):
            self._print(" ".join(f"{column[line]:>{column[2]}}" for column in columns))

    def _print(self, line: str) -> None:
        self.lines.line(line)


def _columns(fit: Fit) -> list[tuple[str, str, int]]:
    """Name, unit and width of the errors shown."""
    named = [(name, term.property.report_unit) for term in fit.terms for name in metric_names(term.property)]
    return [(name, unit, max(len(name), len(unit), 9)) for name, unit in named]


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
