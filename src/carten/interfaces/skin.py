"""A neighbour list that is kept while atoms move: a Verlet list with a skin, valid in a changing cell too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import ase
import numpy as np
import torch
from torch import Tensor

from carten.data.neighbours import graph as build_graph
from carten.math.arrays import Floats
from carten.model.graph import Graph


@dataclass(frozen=True)
class _Reference:
    """The configuration a list was built for and all edges up to cutoff + skin."""

    positions: Floats
    cell: Floats
    numbers: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
    pbc: tuple[bool, ...]
    graph: Graph


class SkinList:
    """Graphs of one structure along a trajectory.

    All pairs closer than ``cutoff + skin`` are listed once. As long as no pair that is not listed can have come closer
    than the cutoff, a new graph is the listed edges now shorter than the cutoff, in the listed order.

    With a strain F that takes the periodic vectors of the listed cell to the present ones and ``u_i = r_i - r0_i F``,
    an unlisted pair is now at least ``s_min(F) (cutoff + skin) - 2 max|u|`` apart (s_min: smallest singular value), so
    the list is good while that is not below the cutoff. In a fixed cell this is Verlet's ``max|u| <= skin / 2``.

    Args:
        cutoff: distance in Å up to which pairs are edges.
        skin: further distance in Å that is listed; 0 builds a new list for every change.
        device: where graphs live.

    Source: L. Verlet, Phys. Rev. 159, 98 (1967).
    """

    def __init__(self, cutoff: float, skin: float, device: torch.device) -> None:
        if not skin >= 0.0:
            raise ValueError(f"skin must not be negative, found {skin} Å")
        self.cutoff = cutoff
        self.skin = skin
        self.device = device
        self.builds = 0
        self._reference: _Reference | None = None

    def graph(self, atoms: ase.Atoms, inputs: Mapping[str, Tensor]) -> Graph:
        """The graph of ``atoms``, positions in float64.

        Args:
            atoms: the structure.
            inputs: conditions by name, as the graph carries them.
        """
        reference = self._reference
        if reference is None or not self._covers(atoms, reference):
            reference = self._reference = self._build(atoms)
        listed = reference.graph
        positions, cell = self._tensor(atoms.positions), self._tensor(atoms.cell.array)
        centre, neighbour = listed.edge_index
        vectors = positions.index_select(0, neighbour) - positions.index_select(0, centre)
        vectors += torch.mm(listed.edge_shift, cell)
        near = (torch.linalg.vector_norm(vectors, dim=1) < self.cutoff).nonzero().squeeze(1)
        return replace(
            listed,
            positions=positions,
            cell=cell[None],
            edge_index=listed.edge_index.index_select(1, near),
            edge_shift=listed.edge_shift.index_select(0, near),
            inputs=inputs,
        )

    def _tensor(self, array: Floats) -> Tensor:
        return torch.tensor(array, dtype=torch.float64, device=self.device)

    def _build(self, atoms: ase.Atoms) -> _Reference:
        self.builds += 1
        graph = build_graph(atoms, self.cutoff + self.skin).to(device=self.device)
        return _Reference(
            positions=atoms.positions.copy(),
            cell=atoms.cell.array.copy(),
            numbers=atoms.numbers.copy(),
            pbc=tuple(atoms.pbc),
            graph=graph,
        )

    def _covers(self, atoms: ase.Atoms, reference: _Reference) -> bool:
        if tuple(atoms.pbc) != reference.pbc or not np.array_equal(atoms.numbers, reference.numbers):
            return False
        carried, smallest = reference.positions, 1.0
        if not np.array_equal(atoms.cell.array, reference.cell):
            before, now = (cell[list(reference.pbc)] for cell in (reference.cell, atoms.cell.array))
            strain = np.eye(3) + np.linalg.pinv(before) @ (now - before)
            carried, smallest = carried @ strain, float(np.linalg.svd(strain, compute_uv=False)[-1])
        moved = np.square(atoms.positions - carried).sum(axis=1).max(initial=0.0) ** 0.5
        return bool(smallest * (self.cutoff + self.skin) - 2.0 * moved >= self.cutoff)
