"""Space groups of crystals, by spglib: which atoms are equivalent, and how operations move them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import ase
import numpy as np
from scipy.spatial import cKDTree

from carten.data.structures import is_crystal
from carten.errors import ConfigError, DataError
from carten.math.arrays import Array, Floats

TOLERANCE = 1e-5
"""Å, up to which positions count as symmetric."""


@dataclass(frozen=True)
class Operations:
    """The space group of a crystal.

    Args:
        symbol: Hermann-Mauguin, and number.
        equivalent: (N,) the first of the atoms that are equivalent to each.
        rotations: (n, 3, 3) in fractional coordinates, columns ``x' = W x + w``.
        translations: (n, 3) fractional.
        positions: (N, 3) fractional.
        cell: (3, 3) Å, rows.
    """

    symbol: str
    equivalent: Array
    rotations: Array
    translations: Floats
    positions: Floats
    cell: Floats

    def bringing(self, source: int, atom: int) -> tuple[Floats, Array]:
        """An operation that brings one atom to another: its Cartesian rotation (3, 3), and the image of each atom (N,).

        Raises:
            ValueError: the two are not equivalent.
        """
        targets = self.images(self.positions[source])
        matching = np.flatnonzero(self.distances(targets - self.positions[atom]) < 10 * TOLERANCE)
        if not len(matching):
            raise ValueError(f"atoms {source} and {atom} are not equivalent")
        number = int(matching[0])
        moved = self.positions @ self.rotations[number].T + self.translations[number]
        return self.cartesian[number], np.asarray(self._places.query(moved % 1.0 % 1.0)[1])

    @cached_property
    def _places(self) -> cKDTree:
        """The atoms by fractional coordinates, up to lattice vectors (1 - 1e-17 is 1, which is 0 again)."""
        return cKDTree(self.positions % 1.0 % 1.0, boxsize=np.ones(3))

    @cached_property
    def cartesian(self) -> Floats:
        """(n, 3, 3) rotations of Cartesian columns."""
        basis = self.cell.T
        rotations: Floats = basis @ self.rotations @ np.linalg.inv(basis)
        return rotations

    def images(self, place: Floats) -> Floats:
        """(n, 3) fractional: a place (3,) under all operations."""
        images: Floats = self.rotations @ place + self.translations
        return images

    def distances(self, differences: Floats) -> Floats:
        """Lengths in Å of fractional differences, up to lattice vectors; right where they are short."""
        lengths: Floats = np.linalg.norm((differences - np.round(differences)) @ self.cell, axis=-1)
        return lengths


def crystal_symmetry(atoms: ase.Atoms) -> Operations | None:
    """The space group of a structure; None if it is not periodic in three directions.

    Magnetic moments and other values of atoms are not looked at.

    Raises:
        ConfigError: spglib is not installed.
    """
    if not is_crystal(atoms):
        return None
    positions = atoms.get_scaled_positions()
    dataset = _spglib().get_symmetry_dataset((atoms.cell.array, positions, atoms.numbers), symprec=TOLERANCE)
    if dataset is None:
        return None
    return Operations(
        f"{dataset.international} ({dataset.number})",
        np.asarray(dataset.equivalent_atoms),
        np.asarray(dataset.rotations),
        np.asarray(dataset.translations),
        positions,
        atoms.cell.array.copy(),
    )


def require_symmetry(atoms: ase.Atoms) -> Operations:
    """The space group of a crystal.

    Raises:
        ConfigError: spglib is not installed.
        DataError: the structure is no crystal, or spglib finds no space group.
    """
    operations = crystal_symmetry(atoms)
    if operations is None:
        raise _no_space_group(atoms)
    return operations


def standard_cell(atoms: ase.Atoms, primitive: bool = False) -> ase.Atoms:
    """The conventional or the primitive cell that spglib chooses as standard, not turned and not idealised.

    It keeps ``info``, such as the level of theory, but no values of atoms.

    Raises:
        ConfigError: spglib is not installed.
        DataError: spglib finds no space group.
    """
    crystal = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    standard = _spglib().standardize_cell(crystal, to_primitive=primitive, no_idealize=True, symprec=TOLERANCE)
    if standard is None:
        raise _no_space_group(atoms)
    cell, positions, numbers = standard
    return ase.Atoms(numbers, cell=cell, scaled_positions=positions, pbc=True, info=dict(atoms.info))


def _no_space_group(atoms: ase.Atoms) -> DataError:
    formula = atoms.get_chemical_formula()
    return DataError(f"{formula}: no space group is found; is it a crystal, without two atoms in one place?")


def _spglib() -> Any:
    try:
        import spglib
    except ImportError as error:
        raise ConfigError("symmetry needs spglib: pip install 'carten[workflows]'") from error
    return spglib
