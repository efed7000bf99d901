"""Parameters and linear maps of tensor features: unit-variance weights, scaled in the forward pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Self

import torch
from torch import Tensor, nn

from carten.model.described import Described
from carten.ops.draft import Draft
from carten.ops.operators import CircuitIndex, Value
from carten.ops.space import Part, Space

Features = dict[Part, Tensor]
"""Tensor features by part, each (rows, 2l + 1, channels)."""

FeatureValues = dict[Part, Value]
"""Tensor features in a circuit."""


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


class Linear(Described):
    """Mix channels and paths within each part: (rows, (2l + 1) * paths, channels) -> (rows, 2l + 1, n_out).

    ``initial`` is the standard deviation of the initial weights.
    """

    def __init__(self, n_in: dict[Part, int], n_out: int, generator: torch.Generator, initial: float = 1.0) -> None:
        super().__init__()
        self.scale = {part: n**-0.5 for part, n in n_in.items()}
        weights = {part.name: normal((n, n_out), generator, initial) for part, n in n_in.items()}
        self.weight = nn.ParameterDict(weights)

    def describe(self, draft: Draft, features: Mapping[Part, Value]) -> FeatureValues:
        """Apply to the parts the map was built for."""
        weights = {p: draft.weight(f"weight.{p.name}", self.weight[p.name].shape) for p in self.scale}
        return {part: draft.mix(features[part], weights[part], scale) for part, scale in self.scale.items()}


class ElementLinear(Described):
    """A linear map per element of the atom: (atoms, (2l + 1) * paths, channels) -> (atoms, 2l + 1, n_out)."""

    def __init__(self, n_in: dict[Part, int], n_out: int, n_elements: int, generator: torch.Generator) -> None:
        super().__init__()
        self.scale = {part: n**-0.5 for part, n in n_in.items()}
        self.weight = nn.ParameterDict({p.name: normal((n_elements, n, n_out), generator) for p, n in n_in.items()})

    def describe(self, draft: Draft, features: Mapping[Part, Value], element: CircuitIndex) -> FeatureValues:
        """Apply each atom's own map."""
        mixed = {}
        for part, scale in self.scale.items():
            name, shape = f"weight.{part.name}", self.weight[part.name].shape
            if shape[0] == 1:
                mixed[part] = draft.mix(features[part], draft.weight(name, shape[1:], row=0), scale)
            else:
                mixed[part] = draft.mix(features[part], draft.weight(name, shape), scale, index=element)
        return mixed


def add_features(draft: Draft, features: Mapping[Part, Value], added: Mapping[Part, Value]) -> FeatureValues:
    """Sum of features; parts that only one of them has are kept."""
    return {**features, **{part: draft.add(features[part], x) if part in features else x for part, x in added.items()}}


def channels(space: Space, n: int) -> dict[Part, int]:
    """The same number of channels for every part."""
    return dict.fromkeys(space.parts, n)
