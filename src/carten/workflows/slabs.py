"""Slabs of crystals: the distinct planes, where a crystal can be cut along each of them, and the cut crystal."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import ase
import numpy as np

from carten.errors import DataError
from carten.math.arrays import Array, Floats
from carten.workflows.symmetry import TOLERANCE, require_symmetry, standard_cell

Miller = tuple[int, int, int]

PLANE = 0.1
"""Å, up to which atoms are in one plane."""
CENTRING = 6
"""Times a primitive lattice vector is one of whole conventional ones: they are centred at halves or thirds."""


@dataclass(frozen=True)
class OrientedCrystal:
    """A crystal whose first two cell vectors span a lattice plane.

    Args:
        miller: of the plane, in the conventional cell.
        atoms: of a primitive cell; its third vector leads to the next lattice plane.
    """

    miller: Miller
    atoms: ase.Atoms

    @property
    def area(self) -> float:
        """Of the first two cell vectors, Å^2."""
        return float(np.linalg.norm(np.cross(*self.atoms.cell.array[:2])))

    @property
    def spacing(self) -> float:
        """Of lattice planes, Å."""
        return float(self.atoms.get_volume()) / self.area

    @cached_property
    def cuts(self) -> list[float]:
        """Heights, as shares of the spacing, of distinct cuts between planes of atoms; the widest gap comes first."""
        heights = np.sort(self.atoms.get_scaled_positions()[:, 2])
        gaps = np.diff(heights, append=heights[0] + 1.0)
        middles = [
            ((height + gap / 2) % 1.0, gap)
            for height, gap in zip(heights, gaps, strict=True)
            if gap * self.spacing > PLANE
        ]
        distinct: list[float] = []
        for middle, _ in sorted(middles, key=lambda cut: (-round(cut[1], 6), cut[0])):
            if not any(self._equivalent(middle, other) for other in distinct):
                distinct.append(float(middle))
        return distinct

    def slab(self, cut: float, layers: int, vacuum: float) -> ase.Atoms:
        """A slab of a number of lattice planes, and vacuum in Å; its normal is along the third cell vector."""
        shifted = self.atoms.copy()
        fractional = shifted.get_scaled_positions()
        fractional[:, 2] = (fractional[:, 2] - cut) % 1.0
        shifted.set_scaled_positions(fractional)
        slab: ase.Atoms = shifted.repeat((1, 1, layers))
        along, across, _ = slab.cell.array
        normal = np.cross(along, across) / self.area
        slab.set_cell([along, across, (layers * self.spacing + vacuum) * normal])
        slab.rotate(along, "x", rotate_cell=True)
        slab.rotate(slab.cell.array[2], "z", rotate_cell=True)
        slab.positions[:, 2] += vacuum / 2
        slab.wrap(pbc=(True, True, False))
        return slab

    @cached_property
    def _heights(self) -> Floats:
        """(n, 2) sign and shift of heights under the operations that keep the planes."""
        operations = require_symmetry(self.atoms)
        kept = (operations.rotations[:, 2, :2] == 0).all(axis=1)
        return np.stack([operations.rotations[kept, 2, 2], operations.translations[kept, 2]], axis=1)

    def _equivalent(self, height: float, other: float) -> bool:
        differences = self._heights[:, 0] * height + self._heights[:, 1] - other
        return bool((np.abs(differences - np.round(differences)) * self.spacing < PLANE / 2).any())


def distinct_planes(atoms: ase.Atoms, largest: int) -> list[Miller]:
    """Miller indices up to a largest one that differ by the symmetry of the crystal, ``(h k l)`` as ``(-h -k -l)``."""
    rotations = laue_group(atoms)
    candidates = [
        index for index in product(range(largest, -largest - 1, -1), repeat=3) if np.gcd.reduce(np.abs(index)) == 1
    ]
    candidates.sort(key=lambda index: (sum(map(abs, index)), sum(number < 0 for number in index)))
    distinct: list[Miller] = []
    covered: set[Miller] = set()
    for h, k, l in candidates:
        if (h, k, l) not in covered:
            distinct.append((h, k, l))
            covered |= {tuple(row) for row in (np.array([h, k, l]) @ rotations).tolist()}
    return sorted(distinct, key=lambda index: (max(map(abs, index)), sum(map(abs, index))))


def laue_group(atoms: ase.Atoms) -> Array:
    """(n, 3, 3) rotations of the conventional cell and these with inversion: rows of indices times them."""
    rotations = require_symmetry(standard_cell(atoms)).rotations
    unique: Array = np.unique(np.concatenate([rotations, -rotations]), axis=0)
    return unique


def oriented(atoms: ase.Atoms, miller: Miller) -> OrientedCrystal:
    """The primitive cell of a crystal with a lattice plane across it.

    Args:
        atoms: a crystal.
        miller: integers without a common divisor, in the conventional cell.

    Raises:
        DataError: the structure is no crystal, or the indices are zero or have a common divisor.
    """
    if np.gcd.reduce(np.abs(miller)) != 1:
        raise DataError(f"Miller indices are integers without a common divisor and not all zero, found {miller}")
    conventional, primitive = standard_cell(atoms), standard_cell(atoms, primitive=True)
    index = primitive.cell.array @ np.linalg.solve(conventional.cell.array, np.asarray(miller, dtype=float))
    index = np.rint(index * CENTRING).astype(int)
    rows = _plane_basis(index // np.gcd.reduce(np.abs(index)), primitive.cell.array)
    cell = rows @ primitive.cell.array
    turned = ase.Atoms(primitive.numbers, primitive.positions, cell=cell, pbc=True, info=primitive.info)
    turned.wrap(eps=TOLERANCE)
    return OrientedCrystal(miller, turned)


def _plane_basis(index: Array, cell: Floats) -> Array:
    """(3, 3) integers: two short vectors that span the lattice plane, and one to the next plane; right-handed."""
    reach = int(np.abs(index).max()) + 1
    grid = np.array(list(product(range(-reach, reach + 1), repeat=3)))
    lengths = np.linalg.norm(grid @ cell, axis=1)
    grid = grid[np.argsort(lengths, kind="stable")]
    planes = grid @ index
    inside, above = grid[(planes == 0) & grid.any(axis=1)], grid[planes == 1]
    for number, first in enumerate(inside):
        for second in inside[:number]:
            normal = np.cross(second, first)
            if (normal == index).all():
                return np.array([second, first, above[0]])
            if (normal == -index).all():
                return np.array([first, second, above[0]])
    raise DataError(f"no lattice plane {index.tolist()} in the primitive cell: relax the cell, or use a smaller index")
