"""Pairs of atoms of small structures, by looking at all of them: no search is faster."""

from __future__ import annotations

import numpy as np

from carten.math.arrays import Array, Floats

MOST = 400_000
"""Distances that are looked at."""


def all_pairs(positions: Floats, cell: Floats, pbc: Array, cutoff: float) -> tuple[Array, Array, Floats] | None:
    """All ordered pairs closer than a cutoff, (P, 2), the lattice vectors crossed, (P, 3), and their distances.

    Args:
        positions: (N, 3) Å.
        cell: (3, 3) Å, rows are independent vectors, also along directions that are not periodic.
        pbc: (3,) bool.
        cutoff: Å.

    Returns:
        None where there are too many atoms and images.
    """
    n = len(positions)
    inverse = np.linalg.inv(cell)
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    fractions = positions @ inverse
    spread = np.ptp(fractions, axis=0) if n else np.zeros(3)
    reach = np.where(pbc, np.ceil(cutoff / heights + spread), 0)
    if n * n * np.prod(2.0 * reach + 1.0) > MOST:
        return None
    ranges = [np.arange(-m, m + 1) for m in reach.astype(np.int64)]
    shifts = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    vectors = positions[None, :, None] - positions[:, None, None] + (shifts @ cell)[None, None]
    square = np.einsum("ijsx,ijsx->ijs", vectors, vectors)
    home = int(np.flatnonzero((shifts == 0).all(axis=1))[0])
    square[np.arange(n), np.arange(n), home] = np.inf
    centre, neighbour, image = np.nonzero(square < cutoff**2)
    pairs = np.stack([centre, neighbour], axis=1)
    return pairs, shifts[image], np.sqrt(square[centre, neighbour, image])
