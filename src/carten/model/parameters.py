"""Parameters and linear maps of tensor features: unit-variance weights, scaled in the forward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from carten.model.kinds import Kinds
from carten.ops.space import Part, Space

Features = dict[Part, Tensor]
"""Tensor features by part, each (rows, 2l + 1, channels)."""


def normal(shape: tuple[int, ...], generator: torch.Generator) -> nn.Parameter:
    """A float64 parameter of independent unit normals."""
    return nn.Parameter(torch.randn(shape, generator=generator, dtype=torch.float64))


class Precise(nn.Module):
    """A module whose own buffers keep their dtype: casting the model moves them to the device, no more."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        kept = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, value in kept.items():
            setattr(self, name, value.to(getattr(self, name).device))
        return self


class Linear(nn.Module):
    """Mix channels (and paths) within each part: (rows, 2l + 1, n_in) -> (rows, 2l + 1, n_out)."""

    def __init__(self, n_in: dict[Part, int], n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = {part: n**-0.5 for part, n in n_in.items()}
        self.weight = nn.ParameterDict({part.name: normal((n, n_out), generator) for part, n in n_in.items()})

    def forward(self, features: Features) -> Features:
        """Apply to the parts the map was built for."""
        return {part: features[part] @ (self.weight[part.name] * scale) for part, scale in self.scale.items()}


class ElementLinear(nn.Module):
    """A linear map per element of the atom: (atoms, 2l + 1, n_in) -> (atoms, 2l + 1, n_out)."""

    def __init__(self, n_in: dict[Part, int], n_out: int, n_elements: int, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = {part: n**-0.5 for part, n in n_in.items()}
        self.weight = nn.ParameterDict({p.name: normal((n_elements, n, n_out), generator) for p, n in n_in.items()})

    def forward(self, features: Features, kinds: Kinds) -> Features:
        """Apply each atom's own map."""
        result = {}
        for part, scale in self.scale.items():
            weight = self.weight[part.name] * scale
            ordered = features[part].index_select(0, kinds.order)
            chunks = torch.split(ordered, kinds.counts)
            mixed = [chunk @ weight[z] for z, chunk in enumerate(chunks) if len(chunk)]
            result[part] = torch.cat(mixed).index_select(0, kinds.inverse) if mixed else ordered @ weight[0]
        return result


def channels(space: Space, n: int) -> dict[Part, int]:
    """The same number of channels for every part."""
    return dict.fromkeys(space.parts, n)
