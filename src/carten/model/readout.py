"""Readouts: from the features of atoms to irreducible tensors of a few copies."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from carten.model.described import Described, describe
from carten.model.parameters import FeatureValues, Linear, normal
from carten.ops.draft import Draft
from carten.ops.gates import gate_plan
from carten.ops.operators import Value
from carten.ops.space import SCALAR, Part


class ReadoutLayer(Described):
    """Linear in the features of a layer; the last layer has one hidden layer, gated by its scalars.

    ``copies`` are those of all members, which share the hidden layer.
    """

    def __init__(self, copies: dict[Part, int], n_channels: int, n_hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.out = nn.ModuleDict(
            {part.name: Linear({part: n_hidden or n_channels}, n, generator) for part, n in copies.items()}
        )
        self.copies = copies
        self.hidden = Linear(dict.fromkeys(copies, n_channels), n_hidden, generator) if n_hidden else None
        gates = {part: normal((n_channels, n_hidden), generator) for part in copies if n_hidden and part != SCALAR}
        self.gates = nn.ParameterDict({part.name: weight for part, weight in gates.items()})

    def describe(self, draft: Draft, features: Mapping[Part, Value]) -> FeatureValues:
        """(own, 2l + 1, copies) for every part."""
        inner = self.describe_inner(draft, features)
        return {part: describe(self, f"out.{part.name}", draft, inner)[part] for part in self.copies}

    def describe_inner(self, draft: Draft, features: Mapping[Part, Value]) -> FeatureValues:
        """What the values are linear in."""
        if self.hidden is None:
            return dict(features)
        hidden = describe(self, "hidden", draft, features)
        return {part: self._activated(draft, part, hidden[part], features[SCALAR]) for part in self.copies}

    def _activated(self, draft: Draft, part: Part, hidden: Value, scalars: Value) -> Value:
        if part == SCALAR:
            return draft.apply("silu", hidden)
        weight = draft.weight(f"gates.{part.name}", self.gates[part.name].shape)
        gate = draft.apply("sigmoid", draft.mix(scalars, weight, int(weight.rows) ** -0.5))
        (result,) = draft.run(gate_plan(part.size), [hidden, gate], "own")
        return result
