"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class Average(nn.Module, Generic[Model]):
    """A copy of a model whose weights follow it: ``average <- d average + (1 - d) weights``.

    The decay ``d = min(decay, (1 + step) / (10 + step))`` lets the average leave the initial weights quickly.
    """

    model: Model

    def __init__(self, model: Model, decay: float) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self._average: list[Tensor] = list(self.model.parameters())
        self._weights: list[Tensor] = list(model.parameters())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the weights after optimiser step number ``step``."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._average, self._weights, 1.0 - decay)
