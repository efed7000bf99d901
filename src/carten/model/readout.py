"""Readouts: from the features of atoms to irreducible tensors of a few copies."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from carten.model.parameters import Features, Linear, normal
from carten.ops.space import SCALAR, Part


class Readout(nn.Module):
    """Linear in the features of a layer; the last layer has one hidden layer, gated by its scalars."""

    def __init__(self, copies: dict[Part, int], n_channels: int, n_hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.out = nn.ModuleDict(
            {part.name: Linear({part: n_hidden or n_channels}, n, generator) for part, n in copies.items()}
        )
        self.copies = copies
        self.hidden = Linear(dict.fromkeys(copies, n_channels), n_hidden, generator) if n_hidden else None
        gates = {part: normal((n_channels, n_hidden), generator) for part in copies if n_hidden and part != SCALAR}
        self.gates = nn.ParameterDict({part.name: weight for part, weight in gates.items()})

    def forward(self, features: Features) -> Features:
        """(atoms, 2l + 1, copies) for every part."""
        if self.hidden is None:
            inner = features
        else:
            inner = self.hidden(features)
            for part in self.copies:
                gate = inner[part] if part == SCALAR else features[SCALAR] @ self._gate(part)
                inner[part] = nn.functional.silu(inner[part]) if part == SCALAR else inner[part] * torch.sigmoid(gate)
        result: Features = {part: self.out[part.name](inner)[part] for part in self.copies}
        return result

    def _gate(self, part: Part) -> Tensor:
        weight: Tensor = self.gates[part.name]
        scaled: Tensor = weight * weight.shape[0] ** -0.5
        return scaled
