"""Pairs of atoms of small structures, by looking at all of them: no search is faster."""

from __future__ import annotations

import numpy as np

from carten.math.arrays import Array, Floats

MOST = 400_000
"""Distances that are looked at."""
ROUND_OFF = 1e-14
"""Of a squared distance that is a difference of squares, relative to the largest: twenty times more than it is."""


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
    crossed = shifts @ cell
    centred = positions - positions.mean(axis=0) if n else positions
    images = (centred + crossed[:, None]).reshape(-1, 3)
    lowest, highest = centred.min(axis=0, initial=np.inf) - cutoff, centred.max(axis=0, initial=-np.inf) + cutoff
    around = np.flatnonzero(((images >= lowest) & (images <= highest)).all(axis=1))
    centre, column = _nearly_within(centred, images[around], cutoff)
    image, neighbour = np.divmod(around[column], max(n, 1))
    vectors = positions[neighbour] - positions[centre] + crossed[image]
    square = np.einsum("px,px->p", vectors, vectors)
    kept = (square < cutoff**2) & ((centre != neighbour) | (image != len(shifts) // 2))
    pairs = np.stack([centre[kept], neighbour[kept]], axis=1)
    return pairs, shifts[image[kept]], np.sqrt(square[kept])


def _nearly_within(positions: Floats, images: Floats, cutoff: float) -> tuple[Array, Array]:
    """Pairs of points closer than a cutoff, and some beyond it by round-off: a product of matrices is fastest."""
    lengths, other = np.square(positions).sum(axis=1), np.square(images).sum(axis=1)
    square = positions @ (-2.0 * images.T)
    square += lengths[:, None]
    square += other
    slack = ROUND_OFF * float(other.max(initial=0.0))
    rows, columns = np.divmod(np.flatnonzero(square < cutoff**2 + slack), max(len(images), 1))
    return rows, columns
