"""Readouts: from tensor features to Cartesian properties of atoms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from carten.math.symmetry import decompose
from carten.model.described import Layered, describe
from carten.model.parameters import Features, FeatureValues, Precise, add_features
from carten.model.readout import ReadoutLayer
from carten.ops.circuit import Circuit
from carten.ops.draft import Draft
from carten.ops.space import SCALAR, Part, Space
from carten.properties.routes import Property


def parts_of(row: Property) -> dict[Part, int]:
    """The irreducible parts of a property's values, with multiplicities."""
    return {Part(rank, row.parity): copies for rank, copies in decompose(row.indices).parts}


@dataclass(frozen=True)
class Kind:
    """What the baselines and readouts of a head depend on.

    Args:
        elements: number of elements.
        levels: number of levels of theory.
        apart: whether each level has readouts of its own.
    """

    elements: int
    levels: int = 1
    apart: bool = False


class Head(Precise, Layered):
    """Values of one property at every atom, ``reference[z] + shift[z] + scale * sum_layers readout``.

    The values are float64: small differences survive large references. ``reference`` holds energies of isolated atoms
    or another composition baseline for the scalar part; ``scale`` and ``shift`` come from the statistics of the data.
    With several levels of theory z counts the elements of the first level, then those of the second, ..
    """

    reference: Tensor
    shift: Tensor
    scale: Tensor
    assembly: Tensor

    def __init__(
        self, row: Property, spaces: list[Space], kind: Kind, sizes: tuple[int, int], generator: torch.Generator
    ) -> None:
        super().__init__()
        n_channels, n_hidden = sizes
        self.kind = kind
        self.copies = parts_of(row)
        self.shape = row.shape
        self.spaces, self.n_channels = tuple(spaces), n_channels
        self.readouts = nn.ModuleList()
        for _ in range(kind.levels if kind.apart else 1):
            for k, space in enumerate(spaces):
                copies = {part: n for part, n in self.copies.items() if part in space}
                self.readouts.append(
                    ReadoutLayer(copies, n_channels, n_hidden if k == len(spaces) - 1 else 0, generator)
                )
        n_scalars = self.copies.get(SCALAR, 0)
        n_kinds = kind.elements * kind.levels
        self.register_buffer("reference", torch.zeros(n_kinds, n_scalars, dtype=torch.float64))
        self.register_buffer("shift", torch.zeros(n_kinds, n_scalars, dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))
        rows = [_rows(row, part) for part in self.copies]
        self.register_buffer("assembly", torch.cat(rows), persistent=False)
        self.prepare()

    def forward(self, layers: list[Features], kind: Tensor) -> Tensor:
        """(atoms, 3, ..) float64 from the features after each layer and the row of each atom in the baselines."""
        if self.kind.apart:
            level = (kind // self.kind.elements).view(-1, 1, 1)
            total = self._read(layers, 0)
            for k in range(1, self.kind.levels):
                readouts_of_level = self._read(layers, k)
                total = {part: torch.where(level == k, readouts_of_level[part], value) for part, value in total.items()}
        else:
            total = self._read(layers, 0)
        total = {part: value.to(torch.float64) * self.scale for part, value in total.items()}
        if SCALAR in total:
            total[SCALAR] = total[SCALAR] + (self.reference + self.shift).index_select(0, kind).unsqueeze(1)
        flat = torch.cat([total[part].flatten(1) for part in self.copies], dim=1)
        return (flat @ self.assembly).view(-1, *self.shape)

    def draw(self) -> dict[str, Circuit]:
        """``level 0``, ..: packed values (own, 2l + 1, copies), from the features ``LAYER/PART`` after each layer."""
        n_levels = self.kind.levels if self.kind.apart else 1
        return {f"level {k}": self._circuit(k) for k in range(n_levels)}

    def _circuit(self, level: int) -> Circuit:
        draft = Draft()
        total: FeatureValues = {}
        for k, space in enumerate(self.spaces):
            parts = {*(part for part in self.copies if part in space), SCALAR}
            features = {
                p: draft.input(f"{k}/{p.name}", "own", p.size, self.n_channels) for p in space.parts if p in parts
            }
            values = describe(self, f"readouts.{level * len(self.spaces) + k}", draft, features)
            total = add_features(draft, total, values)
        return draft.finish({part.name: value for part, value in total.items()})

    def _read(self, layers: list[Features], level: int) -> Features:
        circuit = self.circuits[f"level {level}"]
        features = {f"{k}/{part.name}": value for k, layer in enumerate(layers) for part, value in layer.items()}
        tensors = {value.name: features[value.name] for value in circuit.inputs}
        rows = {"own": len(next(iter(tensors.values())))}
        return {Part.named(part): value for part, value in self.run(circuit, tensors, {}, rows, "reference").items()}


def _rows(row: Property, part: Part) -> Tensor:
    """Rows (m, copy) of the map from packed values of one part to flat Cartesian values."""
    basis = torch.tensor(decompose(row.indices).basis(part.l))
    return basis.transpose(0, 1).reshape(-1, 3**row.rank)
