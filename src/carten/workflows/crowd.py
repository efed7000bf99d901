"""Many structures evaluated in one call of a compiled model, or one by one with any calculator of ASE."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator

from carten.data.neighbours import require_distances
from carten.data.structures import is_crystal
from carten.deploy import Deployed, PairList
from carten.interfaces.skin import SkinList
from carten.math.arrays import Array, Floats

SKIN = 0.5  # Å


@dataclass(frozen=True)
class CrowdValues:
    """Of S structures with N atoms in all.

    Args:
        energies: (S,) eV.
        forces: (N, 3) eV/Å.
        virials: (S, 3, 3) eV, ``-dE/dstrain``, symmetric.
    """

    energies: Floats
    forces: Floats
    virials: Floats


class Structures:
    """Structures whose positions and cells may change between evaluations, but nothing else.

    ``structure`` (N,) is that of each atom, ``first`` (S + 1,) the first atom of each.
    """

    def __init__(self, structures: Sequence[ase.Atoms]) -> None:
        counts = [len(atoms) for atoms in structures]
        self.structures = list(structures)
        self.structure = np.repeat(np.arange(len(structures)), counts)
        self.first = np.concatenate([[0], np.cumsum(counts)])

    def evaluate(self) -> CrowdValues:
        """Energies, forces and virials of the structures as they are now."""
        raise NotImplementedError


class Queue(Structures):
    """Structures one after the other, with any calculator of ASE; constraints do not count.

    Virials are not a number where there is no volume or the calculator has no stress.
    """

    def __init__(self, calculator: BaseCalculator, structures: Sequence[ase.Atoms]) -> None:
        super().__init__(structures)
        self._calculator = calculator

    def evaluate(self) -> CrowdValues:
        energies, forces, virials = [], [], []
        for atoms in self.structures:
            with_stress = is_crystal(atoms) and "stress" in self._calculator.implemented_properties
            atoms.calc = self._calculator
            energies.append(atoms.get_potential_energy(apply_constraint=False))
            forces.append(atoms.get_forces(apply_constraint=False))
            stress = atoms.get_stress(voigt=False, apply_constraint=False) if with_stress else np.full((3, 3), np.nan)
            virials.append(-atoms.get_volume() * stress if with_stress else stress)
        return CrowdValues(np.array(energies), np.concatenate(forces), np.stack(virials))


class Crowd(Structures):
    """Structures side by side: they do not see each other. What a call costs is shared by all.

    Args:
        model: without inputs.
        structures: see :class:`Structures`.
        threads: of an evaluation.
    """

    def __init__(self, model: Deployed, structures: Sequence[ase.Atoms], threads: int | None = 1) -> None:
        super().__init__(structures)
        self._elements = model.rows_of(np.concatenate([atoms.numbers for atoms in structures]))
        self._lists = [SkinList(model.cutoff, SKIN) for _ in structures]
        self._evaluator = model.evaluator(threads)
        self._builds = -1
        self._pairs = PairList(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 3), np.int32))

    def evaluate(self) -> CrowdValues:
        pairs = self._current_pairs()
        positions = np.concatenate([atoms.positions for atoms in self.structures])
        cells = np.stack([atoms.cell.array for atoms in self.structures])
        owner = self.structure[pairs.centre]
        vectors = positions[pairs.neighbour] - positions[pairs.centre]
        vectors += np.einsum("ea,eab->eb", pairs.shifts.astype(np.float64), cells[owner])
        require_distances(np.stack([pairs.centre, pairs.neighbour]), np.linalg.norm(vectors, axis=1))
        atomic, gradients = self._evaluator.evaluate(self._elements, pairs, vectors)
        n_atoms, n_structures = len(positions), len(self.structures)
        forces = _sums(pairs.centre, gradients, n_atoms) - _sums(pairs.neighbour, gradients, n_atoms)
        products = -np.einsum("ea,eb->eab", gradients, vectors).reshape(-1, 9)
        virials = _sums(owner, products, n_structures).reshape(-1, 3, 3)
        energies: Floats = np.bincount(self.structure, atomic, n_structures).astype(np.float64)
        return CrowdValues(energies, forces, (virials + virials.transpose(0, 2, 1)) / 2)

    def _current_pairs(self) -> PairList:
        """PairList of all structures; joined again only when a list has changed."""
        pairs = [neighbours.pairs(atoms) for neighbours, atoms in zip(self._lists, self.structures, strict=True)]
        builds = sum(neighbours.builds for neighbours in self._lists)
        if builds != self._builds:
            self._builds = builds
            self._pairs = PairList(
                np.concatenate([part.centre + first for part, first in zip(pairs, self.first, strict=False)]),
                np.concatenate([part.neighbour + first for part, first in zip(pairs, self.first, strict=False)]),
                np.concatenate([part.shifts for part in pairs]),
            )
        return self._pairs


def _sums(index: Array, values: Floats, n_rows: int) -> Floats:
    """Rows (E, k) added up by index: (n_rows, k)."""
    columns = [np.bincount(index, column, n_rows) for column in values.T]
    return np.stack(columns, axis=1)
