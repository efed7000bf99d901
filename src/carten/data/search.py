"""What is checked before positions and cells reach the native neighbour search, which trusts its input.

The search (vesin 0.6) sorts atoms into a grid of at most 10^5 cells; for thin systems it divides by zero, for absurd
ones it takes all memory.
"""

from __future__ import annotations

import os
from functools import lru_cache

import numpy as np

from carten.errors import DataError
from carten.math.arrays import Array

FAR = 1e9  # Å; beyond it the image of an atom is no longer exact
LONGEST = 1e5  # Å, of the vectors of a cell
FLAT = 1e-6  # volume of the periodic directions relative to the product of their lengths
THIN = 0.05  # Å, between lattice planes
_GRID = 1e5  # cells of the search
_WORK = 3e8  # pairs of cells that the search looks at
_PER_ATOM = 20_000  # neighbours, on average
_BYTES = 120  # of memory for a pair
_FEW = 1e6  # pairs that are never too many


def require_finite(positions: Array, cell: Array) -> None:
    """Check shapes, finiteness and magnitudes.

    Raises:
        DataError: positions are not finite or beyond 1e9 Å, or the cell is not finite or has vectors beyond 1e5 Å.
    """
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise DataError(f"positions must have shape (atoms, 3), found {positions.shape}")
    if cell.shape != (3, 3):
        raise DataError(f"the cell must have shape (3, 3), found {cell.shape}")
    bad = np.flatnonzero(~(np.abs(positions) < FAR).all(axis=1))
    if len(bad):
        raise DataError(
            f"position of atom {bad[0]} is {positions[bad[0]].tolist()}, expected finite numbers below {FAR:.0e} Å; "
            "remove the structure"
        )
    if not (np.abs(cell) < LONGEST).all():
        problem = f"has vectors of {LONGEST:.0e} Å and more" if np.isfinite(cell).all() else "is not finite"
        raise DataError(f"the cell {problem}: {cell.tolist()}; correct it, or remove the structure")


def require_volume(cell: Array, pbc: Array) -> None:
    """Check that the periodic cell vectors are independent.

    Raises:
        DataError: they are not, or they are missing.
    """
    lengths = np.linalg.norm(cell[pbc], axis=1)
    unit = cell[pbc] / np.where(lengths > 0.0, lengths, 1.0)[:, None]
    spanned = np.sqrt(max(np.linalg.det(unit @ unit.T), 0.0))
    if not spanned >= FLAT or (len(lengths) and lengths.min() < FLAT):
        axes = ", ".join(axis for axis, periodic in zip("abc", pbc, strict=True) if periodic)
        raise DataError(
            f"periodic directions {axes} need cell vectors that span a volume, found {cell[pbc].tolist()} Å: "
            "give the structure its cell, or set pbc to False"
        )


def closed(positions: Array, cell: Array, pbc: Array, cutoff: float) -> tuple[Array, Array]:
    """Positions and a cell, periodic in all directions, with the same pairs within the cutoff.

    Along open directions the cell ends in empty space; gaps are closed up to twice the cutoff. (The search takes
    minutes where systems are wide along open directions.)

    Args:
        positions: (N, 3) in Å.
        cell: (3, 3) in Å; vectors along open directions are normal to all others and of length 1.
        pbc: (3,) bool.
        cutoff: in Å.
    """
    gap = 2.0 * cutoff
    box = cell.copy()
    for axis in np.flatnonzero(~pbc):
        height = positions @ cell[axis]
        if np.ptp(height) > 10.0 * gap:
            order = np.argsort(height)
            lowered = np.zeros(len(height))
            lowered[order[1:]] = np.cumsum(np.maximum(np.diff(height[order]) - gap, 0.0))
            positions = positions - lowered[:, None] * cell[axis]
            height = height - lowered
        positions = positions - height.min() * cell[axis]
        box[axis] = (np.ptp(height) + gap) * cell[axis]
    return positions, box


def search_radius(positions: Array, box: Array, cutoff: float) -> float:
    """Radius at least ``cutoff`` within which the search works: larger where the system is thin and wide.

    Args:
        positions: (N, 3) in Å.
        box: (3, 3) in Å, periodic in all directions.
        cutoff: in Å.

    Raises:
        DataError: there would be more pairs than memory holds.
    """
    inverse = np.linalg.inv(box)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    if heights.min() < THIN:
        raise DataError(
            f"atom 0 and its periodic image are too close: the lattice planes of the cell {box.tolist()} are "
            f"{heights.min():.2g} Å apart, less than {THIN} Å; correct the cell"
        )
    radius = cutoff
    while not _grid_fits(heights / radius):
        radius *= 1.1
    _require_few_pairs(positions @ inverse, heights, radius)
    return radius


def _grid_fits(cells: Array) -> bool:
    n_cells = np.maximum(np.floor(cells), 1.0)
    product = float(n_cells.prod())
    return product <= _GRID or _GRID * float(n_cells.min()) ** 3 >= 8.0 * product


def _require_few_pairs(fractional: Array, heights: Array, radius: float) -> None:
    n_atoms = len(fractional)
    images = float(np.prod(2.0 * np.ceil(radius / heights) + 1.0))
    cells = np.maximum(np.floor(heights / radius), 1.0)
    work = min(float(cells.prod()), _GRID) * float(np.prod(2.0 * np.ceil(radius * cells / heights) + 1.0))
    if n_atoms**2 * images <= _FEW and work <= _WORK:
        return
    pairs = _expected_pairs(fractional, heights, radius)
    if pairs > _PER_ATOM * n_atoms or pairs > _most_pairs() or work > _WORK:
        raise DataError(
            f"about {pairs:.1e} pairs of {n_atoms} atoms are closer than {radius:.1f} Å, more than makes sense or fits "
            "into memory: positions, cell or cutoff are wrong, or in other units than Å"
        )


def _expected_pairs(fractional: Array, heights: Array, radius: float) -> float:
    """Pairs within a radius, from the numbers of atoms in boxes about as large."""
    bins = np.maximum(np.floor(heights / radius), 1.0)
    places = np.floor((fractional - np.floor(fractional)) * bins).astype(np.int64)
    counts = np.unique(places @ (bins[1] * bins[2], bins[2], 1.0), return_counts=True)[1]
    volume = float(np.prod(heights / bins))
    return float(np.sum(counts.astype(float) ** 2)) * (4.0 / 3.0 * np.pi * radius**3) / volume


@lru_cache(maxsize=1)
def _most_pairs() -> float:
    """That the memory of this computer holds."""
    try:
        memory = float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, ValueError, OSError):  # not everywhere
        memory = 64e9
    return memory / _BYTES
