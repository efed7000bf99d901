"""Optimisers, and the learning rate over a run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from carten.train.config import OptimizerConfig, ScheduleConfig

ParameterGroup = dict[str, Any]

BETAS = {"soap": (0.95, 0.95), "adamw": (0.9, 0.999), "muon": (0.9, 0.999)}
MAX_AXIS = 512  # the longest axis that SOAP rotates: it decomposes a matrix of this size every ten steps


def optimizer(
    parameters: Sequence[tuple[Iterable[Tensor], float | None]], config: OptimizerConfig
) -> torch.optim.Optimizer:
    """The configured optimiser; weight decay acts on parameters with two or more axes only.

    Args:
        parameters: what is trained, with learning rates; None for the configured one.
        config: of the run.

    SOAP, Adam in the eigenbasis of Shampoo's preconditioner, is the default: ``docs/studies.md`` compares the three.

    Sources: AdamW (Loshchilov and Hutter, 2019) with AMSGrad (Reddi, Kale, Kumar, 2018); Muon (Jordan, 2024) with the
    update scaled to AdamW's size (Liu et al., arXiv 2502.16982), so both share one learning rate; SOAP (Vyas et al.,
    arXiv 2409.11321).
    """
    groups = [group for tensors, lr in parameters for group in _by_axes(list(tensors), lr or config.lr, config)]
    betas = config.betas or BETAS[config.name]
    if config.name == "muon":
        return _muon(groups, betas)
    if config.name == "soap":
        from carten.train.soap import Soap

        return Soap(groups, lr=config.lr, betas=betas, max_precondition_dim=MAX_AXIS)
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, amsgrad=config.amsgrad, fused=True)


def _by_axes(tensors: Sequence[Tensor], lr: float, config: OptimizerConfig) -> list[ParameterGroup]:
    """Matrices, whose weights decay, and vectors."""
    matrices = {"params": [p for p in tensors if p.ndim > 1], "weight_decay": config.weight_decay, "lr": lr}
    vectors = {"params": [p for p in tensors if p.ndim <= 1], "weight_decay": 0.0, "lr": lr}
    return [group for group in (matrices, vectors) if group["params"]]


def _muon(groups: list[ParameterGroup], betas: tuple[float, float]) -> torch.optim.Optimizer:
    from pytorch_optimizer import Muon

    for group in groups:
        is_matrices = group["params"][0].ndim > 1
        options: ParameterGroup = {"use_adjusted_lr": True} if is_matrices else {"betas": betas, "eps": 1e-8}
        group.update(options, use_muon=is_matrices)
    return Muon(groups)


class Schedule:
    """The learning rate as a multiple of its configured value.

    ``factor(progress)`` with progress in [0, 1]: a linear warm-up, then
    cosine: ``final + (1 - final) (1 + cos pi x) / 2`` over the rest x of the run;
    wsd: 1, and over the last part ``decay`` of the run down to ``final`` as ``1 - sqrt(x)`` (Hägele et al., 2024);
    constant: 1; plateau: multiplied by ``config.factor`` after ``patience`` validations without a lower loss.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        self.config = config
        self.best = math.inf
        self.waited = 0
        self.reduced = 1.0

    def factor(self, progress: float) -> float:
        """Multiple of the configured learning rate at this progress of the run, 0 to 1."""
        config = self.config
        if progress < config.warmup:
            return self.reduced * max(progress / config.warmup, 1e-3)
        if config.name == "cosine":
            x = (progress - config.warmup) / (1.0 - config.warmup) if config.warmup < 1.0 else 1.0
            return config.final + (1.0 - config.final) * (1.0 + math.cos(math.pi * x)) / 2.0
        if config.name == "wsd" and progress > 1.0 - config.decay:
            x = (progress - 1.0 + config.decay) / config.decay
            return config.final + (1.0 - config.final) * (1.0 - math.sqrt(x))
        return self.reduced

    def observe(self, loss: float) -> None:
        """Take note of a validation loss (plateau)."""
        if self.config.name != "plateau":
            return
        self.waited = 0 if loss < self.best else self.waited + 1
        self.best = min(self.best, loss)
        if self.waited >= self.config.patience:
            self.waited, self.reduced = 0, max(self.reduced * self.config.factor, self.config.final)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {"best": self.best, "waited": self.waited, "reduced": self.reduced}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.best, self.waited, self.reduced = state["best"], state["waited"], state["reduced"]


@dataclass(frozen=True)
class Length:
    """Length of a run: optimiser steps and optionally seconds of a clock; it ends with whichever comes first."""

    steps: int
    seconds: float | None
    clock: Callable[[], float] = time.monotonic

    def progress(self, step: int, elapsed: float) -> float:
        """Part of the run that is done, 0 to 1."""
        by_time = elapsed / self.seconds if self.seconds else 0.0
        return min(max(step / self.steps if self.steps else 1.0, by_time), 1.0)
