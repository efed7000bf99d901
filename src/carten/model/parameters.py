"""Parameters and linear maps of tensor features: unit-variance weights, scaled in the forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from carten.model.kinds import Kinds
from carten.ops.linear import mix, mix_by_kind
from carten.ops.space import Part, Space

Features = dict[Part, Tensor]
"""Tensor features by part, each (rows, 2l + 1, channels)."""


def normal(shape: tuple[int, ...], generator: torch.Generator, scale: float = 1.0) -> nn.Parameter:
    """A float64 parameter of independent normals of this standard deviation."""
    return nn.Parameter(scale * torch.randn(shape, generator=generator, dtype=torch.float64))


class Precise(nn.Module):
    """A module whose own buffers keep their dtype: casting the model moves them to the device, no more."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in kept.items():
            setattr(self, name, value.to(getattr(self, name).device))
        return self


class Linear(nn.Module):
    """Mix channels and paths within each part: (rows, (2l + 1) * paths, channels) -> (rows, 2l + 1, n_out).

    ``initial`` is the standard deviation of the initial weights.
    """

    def __init__(self, n_in: dict[Part, int], n_out: int, generator: torch.Generator, initial: float = 1.0) -> None:
        super().__init__()
        self.scale = {part: n**-0.5 for part, n in n_in.items()}
        weights = {part.name: normal((n, n_out), generator, initial) for part, n in n_in.items()}
        self.weight = nn.ParameterDict(weights)

    def forward(self, features: Features) -> Features:
        """Apply to the parts the map was built for."""
        return {part: mix(features[part], self.weight[part.name], scale) for part, scale in self.scale.items()}


class ElementLinear(nn.Module):
    """A linear map per element of the atom: (atoms, (2l + 1) * paths, channels) -> (atoms, 2l + 1, n_out)."""

    def __init__(self, n_in: dict[Part, int], n_out: int, n_elements: int, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = {part: n**-0.5 for part, n in n_in.items()}
        self.weight = nn.ParameterDict({p.name: normal((n_elements, n, n_out), generator) for p, n in n_in.items()})

    def forward(self, features: Features, kinds: Kinds) -> Features:
        """Apply each atom's own map."""
        weights = {part: self.weight[part.name] for part in self.scale}
        return {p: mix_by_kind(features[p], weights[p], scale, kinds.index) for p, scale in self.scale.items()}


def channels(space: Space, n: int) -> dict[Part, int]:
    """The same number of channels for every part."""
    return dict.fromkeys(space.parts, n)
