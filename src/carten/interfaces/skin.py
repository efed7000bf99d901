"""A neighbour list that is kept while atoms move: a Verlet list with a skin, valid in a changing cell too."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ase
import numpy as np

from carten.data.neighbours import edges, graph_of_edges
from carten.deploy.deployed import PairList
from carten.math.arrays import Array, Floats

if TYPE_CHECKING:
    import torch

    from carten.model.graph import Graph


@dataclass(frozen=True)
class _Reference:
    """The configuration a list was built for, and all pairs up to cutoff + skin."""

    positions: Floats
    cell: Floats
    numbers: Array
    pbc: tuple[bool, ...]
    pairs: PairList


class SkinList:
    """Pairs of one structure along a trajectory.

    All pairs closer than ``cutoff + skin`` are listed once. As long as no pair that is not listed can have come closer
    than the cutoff, they are all that can matter.

    With a strain F that takes the periodic vectors of the listed cell to the present ones and ``u_i = r_i - r0_i F``,
    an unlisted pair is now at least ``s_min(F) (cutoff + skin) - 2 max|u|`` apart (s_min: smallest singular value), so
    the list is good while that is not below the cutoff. In a fixed cell this is Verlet's ``max|u| <= skin / 2``.

    Args:
        cutoff: distance in Å up to which pairs are edges.
        skin: further distance in Å that is listed; 0 builds a new list for every change.

    Source: L. Verlet, Phys. Rev. 159, 98 (1967).
    """

    def __init__(self, cutoff: float, skin: float) -> None:
        if not skin >= 0.0:
            raise ValueError(f"skin must not be negative, found {skin} Å")
        self.cutoff = cutoff
        self.skin = skin
        self.builds = 0
        self._reference: _Reference | None = None

    def pairs(self, atoms: ase.Atoms) -> PairList:
        """All pairs of ``atoms`` that are closer than the cutoff, and others, sorted by centre."""
        reference = self._reference
        if reference is None or not self._covers(atoms, reference):
            reference = self._reference = self._build(atoms)
        return reference.pairs

    def graph(self, atoms: ase.Atoms, inputs: Mapping[str, Array], device: torch.device | str = "cpu") -> Graph:
        """The graph of ``atoms``, positions in float64: listed pairs now shorter than the cutoff, in the listed order.

        Args:
            atoms: the structure.
            inputs: conditions by name, with their leading axis.
            device: where it lives.
        """
        pairs, positions, cell = self.pairs(atoms), atoms.positions, atoms.cell.array
        vectors = positions[pairs.neighbour] - positions[pairs.centre] + pairs.shifts @ cell
        near = np.flatnonzero(np.einsum("ex,ex->e", vectors, vectors) < self.cutoff**2)
        index = np.stack([pairs.centre[near], pairs.neighbour[near]])
        return graph_of_edges(atoms, index, pairs.shifts[near], inputs).to(device=device)

    def _build(self, atoms: ase.Atoms) -> _Reference:
        self.builds += 1
        index, shifts = edges(atoms.positions, atoms.cell.array, atoms.pbc, self.cutoff + self.skin)
        centre, neighbour = (np.ascontiguousarray(row) for row in index)
        pairs = PairList(centre, neighbour, np.ascontiguousarray(shifts, dtype=np.int32))
        return _Reference(
            atoms.positions.copy(), atoms.cell.array.copy(), atoms.numbers.copy(), tuple(atoms.pbc), pairs
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
