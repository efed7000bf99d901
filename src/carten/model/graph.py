"""The graph of atoms and edges: everything a model sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Graph:
    """One or many structures: N atoms, S structures, E directed edges i <- j.

    Args:
        positions: (N, 3) in Å.
        numbers: (N,) int64 atomic numbers.
        cell: (S, 3, 3) in Å, rows are lattice vectors; zero where a structure has none.
        pbc: (S, 3) bool, periodic directions.
        structure: (N,) int64, the structure each atom belongs to, ascending.
        edge_index: (2, E) int64, rows centre i and neighbour j, sorted by centre; both directions are listed.
        edge_shift: (E, 3) whole lattice vectors crossed; the edge vector is ``r_j - r_i + shift @ cell``.
        inputs: conditions by name, (S, ...) per structure or (N, ...) per atom.
    """

    positions: Tensor
    numbers: Tensor
    cell: Tensor
    pbc: Tensor
    structure: Tensor
    edge_index: Tensor
    edge_shift: Tensor
    inputs: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def n_atoms(self) -> int:
        return self.positions.shape[0]

    @property
    def n_structures(self) -> int:
        return self.cell.shape[0]

    @property
    def n_edges(self) -> int:
        return self.edge_index.shape[1]

    def edge_vectors(self) -> Tensor:
        """Vectors from centre to neighbour, (E, 3) in Å, differentiable in positions and cell."""
        centre, neighbour = self.edge_index
        shift = torch.einsum("ex,exy->ey", self.edge_shift, self.cell[self.structure[centre]])
        return self.positions[neighbour] - self.positions[centre] + shift

    def map(self, function: Callable[[Any], Any]) -> Graph:
        """The same with a function of every tensor."""
        return replace(
            self,
            positions=function(self.positions),
            numbers=function(self.numbers),
            cell=function(self.cell),
            pbc=function(self.pbc),
            structure=function(self.structure),
            edge_index=function(self.edge_index),
            edge_shift=function(self.edge_shift),
            inputs={name: function(value) for name, value in self.inputs.items()},
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Graph:
        """Move to a device and cast all floating-point tensors to ``dtype``."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)

        return self.map(move)


def batch(graphs: Sequence[Graph]) -> Graph:
    """Concatenate graphs; atoms, edges and structures keep their order.

    Raises:
        ValueError: when there is no graph, or the graphs do not carry the same inputs.
    """
    if not graphs:
        raise ValueError("batch() needs at least one graph, found none")
    names = set(graphs[0].inputs)
    if any(set(graph.inputs) != names for graph in graphs):
        raise ValueError(f"batch() needs the same inputs in every graph, found {[sorted(g.inputs) for g in graphs]}")
    first_atom, first_structure = [0], [0]
    for graph in graphs:
        first_atom.append(first_atom[-1] + graph.n_atoms)
        first_structure.append(first_structure[-1] + graph.n_structures)
    return Graph(
        positions=torch.cat([g.positions for g in graphs]),
        numbers=torch.cat([g.numbers for g in graphs]),
        cell=torch.cat([g.cell for g in graphs]),
        pbc=torch.cat([g.pbc for g in graphs]),
        structure=torch.cat([g.structure + first for g, first in zip(graphs, first_structure, strict=False)]),
        edge_index=torch.cat([g.edge_index + first for g, first in zip(graphs, first_atom, strict=False)], dim=1),
        edge_shift=torch.cat([g.edge_shift for g in graphs]),
        inputs={name: torch.cat([g.inputs[name] for g in graphs]) for name in names},
    )
