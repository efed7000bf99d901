"""What a run will take: a few steps of it, and the memory and time that they need."""

from __future__ import annotations

import math
import re
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from carten.data.dataset import Batch
from carten.train.config import BatchConfig, Config
from carten.train.datamodule import Batches
from carten.train.fields import steps_of
from carten.train.memory import memory_limit
from carten.train.module import Fit
from carten.train.trainer import make_trainer

STEPS = 8
"""Taken of a run; the first of them, which also prepares kernels, does not count."""
LARGER = 4
"""Factor between the two batches whose memory is compared."""
SHARE = 0.9
"""Part of the memory that a run may fill."""


@dataclass(frozen=True)
class Needs:
    """What steps take.

    Args:
        step: seconds of a training step.
        validation: seconds of a batch of the validation.
        memory: bytes, at their peak.
        edges: in the largest batch of this process.
    """

    step: float
    validation: float
    memory: float
    edges: int


class _Stopwatch(Callback):
    """Times of steps, and sizes of batches."""

    def __init__(self) -> None:
        self.steps: list[float] = []
        self.validations: list[float] = []
        self.edges = 0
        self._since = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        self.edges = max(self.edges, batch.graph.n_edges)
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps.append(self._elapsed(pl_module))

    def on_validation_batch_start(self, *_: Any) -> None:
        self._since = time.perf_counter()

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        self.validations.append(self._elapsed(pl_module))

    def _elapsed(self, module: LightningModule) -> float:
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)
        return time.perf_counter() - self._since


def rehearse(config: Config, fit: Fit, batches: Batches) -> list[str]:
    """Take a few steps of a run in this process, with its part of the batches, and say what the run needs.

    Args:
        config: of the run.
        fit: the training; its weights change.
        batches: of the run.
    """
    needs = _measured(config, fit, batches)
    training, steps = config.training, len(batches.stream)
    every = steps_of(training.validate_every, steps)
    validations = steps / every
    n_validation = len(batches.val_dataloader())
    epoch = steps * needs.step + validations * n_validation * needs.validation
    on = f"{training.processes} processes" if training.processes > 1 else "one process"
    lines = [
        f"dry run: {1e3 * needs.step:.3g} ms/step on {on}, {_clock(epoch)} per epoch of {steps} steps, "
        f"{_clock(epoch * training.epochs)} for {training.epochs} epochs",
        f"memory {needs.memory / 1e9:.2f} GB in each process",
    ]
    limit = memory_limit(fit.device, training.devices)
    if limit is not None and (factor := _factor(config, fit, batches.sets, needs, SHARE * limit)) is not None:
        bounds = {key: int(bound * factor) for key, bound in config.data.batch.model_dump(exclude_none=True).items()}
        shown = ", ".join(f"{key}: {bound}" for key, bound in bounds.items())
        lines.append(
            f"the largest batch that fits into {SHARE:.0%} of {limit / 1e9:.3g} GB is about {{{shown}}}; larger ones "
            "make fewer steps of an epoch"
        )
    return lines


def _measured(config: Config, fit: Fit, batches: Batches) -> Needs:
    watch = _Stopwatch()
    trainer = make_trainer(
        config, [watch], devices=1, num_nodes=1, strategy="auto", max_epochs=1, check_val_every_n_epoch=1,
        val_check_interval=None, limit_train_batches=min(STEPS, len(batches.stream)), limit_val_batches=2,
    )  # fmt: skip
    peak = _Peak(trainer.strategy.root_device)
    trainer.fit(fit, datamodule=batches)
    step = statistics.median(watch.steps[1:] or watch.steps)
    return Needs(step, statistics.median(watch.validations), peak.read(), watch.edges)


def _factor(config: Config, fit: Fit, batches: Any, needs: Needs, limit: float) -> float | None:
    """How many times larger a batch may be, by the memory of a larger one; ``None`` where that needs no more."""
    bounds = {key: LARGER * bound for key, bound in config.data.batch.model_dump(exclude_none=True).items()}
    larger = config.model_copy(update={"data": config.data.model_copy(update={"batch": BatchConfig(**bounds)})})
    second = _measured(larger, fit, Batches(larger, batches))
    slope = (second.memory - needs.memory) / max(second.edges - needs.edges, 1)
    if second.edges < 1.5 * needs.edges or slope <= 0.0:
        return None
    return max((limit - needs.memory) / slope / needs.edges + 1.0, 1.0 / needs.edges)


class _Peak:
    """The largest memory of the process, or of its device, since this was made."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            with suppress(OSError):  # another system: the peak of the process so far
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def read(self) -> float:
        """Bytes; NaN where the system does not tell."""
        if self.device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self.device))
        try:
            line = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
        except OSError:
            return math.nan
        return 1024.0 * int(line[1]) if line else math.nan


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=math.ceil(seconds)))
