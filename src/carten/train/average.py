"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


class Average(nn.Module, Generic[Model]):
    """A copy of a model whose weights follow it: ``average <- d average + (1 - d) weights``.

    The decay ``d = min(decay, (1 + step) / (10 + step))`` lets the average leave the initial weights quickly. The
    average is kept in float64: in float32 a step of (1 - d) times the difference is lost to rounding as soon as the
    difference is a few 1e-5 of the weight, and the average stays behind for good (by 15 meV for acetylacetone).
    """

    model: Model

    def __init__(self, model: Model, decay: float) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        for k, weight in enumerate(model.parameters()):
            self.register_buffer(f"precise_{k}", weight.detach().to(torch.float64))
        self._average: list[Tensor] = list(self.model.parameters())
        self._weights: list[Tensor] = list(model.parameters())

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follow the weights after optimiser step number ``step``."""
        decay = min(self.decay, (1 + step) / (10 + step))
        precise = [self.get_buffer(f"precise_{k}") for k in range(len(self._weights))]
        torch._foreach_lerp_(precise, [weight.to(torch.float64) for weight in self._weights], 1.0 - decay)
        torch._foreach_copy_(self._average, precise)
