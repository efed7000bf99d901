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
    return {Part(rank, row.parity, row.time_parity): copies for rank, copies in decompose(row.indices).parts}


@dataclass(frozen=True)
class Kind:
    """What the baselines and readouts of a head depend on.

    Args:
        elements: number of elements.
        levels: number of levels of theory.
        apart: whether each level has readouts of its own.
        members: number of readouts side by side, whose mean is the value.
    """

    elements: int
    levels: int = 1
    apart: bool = False
    members: int = 1


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
                copies = {part: n * kind.members for part, n in self.copies.items() if part in space}
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

    def forward(self, layers: list[Features], kind: Tensor, mixture: Tensor | None = None) -> Tensor:
        """(atoms, 3, ..) float64 from the features after each layer and the row of each atom in the baselines.

        ``mixture`` are weights of the members (atoms, members), or the same for all atoms (1, members); equal weights,
        which give the mean, by default.
        """
        total = {Part.named(name): value for name, value in self._of_level(layers, kind, "level").items()}
        if self.kind.members > 1:
            total = {part: _mixed(value, self.kind.members, mixture) for part, value in total.items()}
        total = {part: value.to(torch.float64) * self.scale for part, value in total.items()}
        if SCALAR in total:
            total[SCALAR] = total[SCALAR] + (self.reference + self.shift).index_select(0, kind).unsqueeze(1)
        flat = torch.cat([total[part].flatten(1) for part in self.copies], dim=1)
        return (flat @ self.assembly).view(-1, *self.shape)

    def inner(self, layers: list[Features], kind: Tensor) -> Tensor:
        """(atoms, features) float64: what the scalar of the property is linear in, scaled as the readouts scale it."""
        blocks = [block.squeeze(1).to(torch.float64) for block in self._of_level(layers, kind, "inner").values()]
        return torch.cat([block * block.shape[1] ** -0.5 for block in blocks], dim=1) * self.scale

    def draw(self) -> dict[str, Circuit]:
        """Circuits from the features ``LAYER/PART`` after each layer.

        ``level 0``, .. have packed values (own, 2l + 1, copies); ``inner 0``, .. of a scalar what it is linear in, by
        layer.
        """
        levels = range(self.kind.levels if self.kind.apart else 1)
        circuits = {f"level {k}": self._circuit(k) for k in levels}
        return circuits | ({f"inner {k}": self._inner_circuit(k) for k in levels} if SCALAR in self.copies else {})

    def _circuit(self, level: int) -> Circuit:
        draft = Draft()
        total: FeatureValues = {}
        for k in range(len(self.spaces)):
            values = describe(self, f"readouts.{level * len(self.spaces) + k}", draft, self._inputs(draft, k))
            total = add_features(draft, total, values)
        return draft.finish({part.name: value for part, value in total.items()})

    def _inner_circuit(self, level: int) -> Circuit:
        draft, values = Draft(), {}
        for k in range(len(self.spaces)):
            name = f"readouts.{level * len(self.spaces) + k}"
            if isinstance(readout := self.get_submodule(name), ReadoutLayer):
                values[str(k)] = readout.describe_inner(draft.within(name), self._inputs(draft, k))[SCALAR]
        return draft.finish(values)

    def _inputs(self, draft: Draft, layer: int) -> FeatureValues:
        """Features after a layer that readouts take."""
        space = self.spaces[layer]
        parts = {*(part for part in self.copies if part in space), SCALAR}
        return {p: draft.input(f"{layer}/{p.name}", "own", p.size, self.n_channels) for p in space.parts if p in parts}

    def _of_level(self, layers: list[Features], kind: Tensor, name: str) -> dict[str, Tensor]:
        """Outputs of a circuit, for each atom that of its level of theory."""
        total = self._run_of(layers, f"{name} 0")
        if self.kind.apart:
            level = (kind // self.kind.elements).view(-1, 1, 1)
            for k in range(1, self.kind.levels):
                outputs = self._run_of(layers, f"{name} {k}")
                total = {part: torch.where(level == k, outputs[part], value) for part, value in total.items()}
        return total

    def _run_of(self, layers: list[Features], name: str) -> dict[str, Tensor]:
        circuit = self.circuits[name]
        features = {f"{k}/{part.name}": value for k, layer in enumerate(layers) for part, value in layer.items()}
        tensors = {value.name: features[value.name] for value in circuit.inputs}
        rows = {"own": len(next(iter(tensors.values())))}
        return self.run(circuit, tensors, {}, rows, "reference")


def _mixed(values: Tensor, members: int, mixture: Tensor | None) -> Tensor:
    """(atoms, 2l + 1, copies) from those of all members."""
    split = values.view(*values.shape[:-1], members, values.shape[-1] // members)
    if mixture is None:
        return split.mean(dim=-2)
    weighted = split * mixture.to(values.dtype).view(len(mixture), 1, members, 1)
    return weighted.sum(dim=-2)


def _rows(row: Property, part: Part) -> Tensor:
    """Rows (m, copy) of the map from packed values of one part to flat Cartesian values."""
    basis = torch.tensor(decompose(row.indices).basis(part.l))
    return basis.transpose(0, 1).reshape(-1, 3**row.rank)
