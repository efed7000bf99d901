"""Lattices: complete cells and nearest images."""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from ase.geometry import minkowski_reduce

from carten.math.arrays import Array


def complete_cell(cell: Array, pbc: Array) -> Array:
    """The cell, its vectors along open directions replaced by unit vectors normal to all others, (3, 3).

    Args:
        cell: (3, 3), rows are lattice vectors; those of periodic directions span a volume.
        pbc: (3,) bool.
    """
    if pbc.all():
        return cell
    if not pbc.any():
        return np.eye(3)
    rows = np.where(pbc[:, None], cell, 0.0)
    # rows of vh beyond the rank are orthonormal and orthogonal to every periodic vector
    rows[~pbc] = np.linalg.svd(rows)[2][int(pbc.sum()) :]
    return rows


def nearest_images(vectors: Array, cell: Array) -> Array:
    """The shortest of all vectors that differ by lattice vectors, (.., 3), in cells however skew.

    Args:
        vectors: (.., 3).
        cell: (k, 3) vectors of the periodic directions, which may be none.
    """
    return vectors - nearest_points(vectors, cell)


def nearest_points(vectors: Array, cell: Array) -> Array:
    """The lattice vectors next to vectors, (.., 3).

    Args:
        vectors: (.., 3).
        cell: (k, 3) vectors of the periodic directions, which may be none.
    """
    reduced = _reduced(tuple(map(tuple, cell.tolist())))
    rounded = np.round(vectors @ np.linalg.pinv(reduced)) @ reduced
    if np.square(vectors - rounded).sum(-1).max(initial=0.0) <= 0.25 * np.square(reduced).sum(-1).min(initial=np.inf):
        return rounded  # closer than half of the shortest lattice vector: no other is nearer
    steps = np.array(list(product((0.0, -1.0, 1.0), repeat=len(reduced)))) @ reduced
    candidates = rounded[..., None, :] + steps
    distances = np.square(vectors[..., None, :] - candidates).sum(-1)
    chosen: Array = np.take_along_axis(candidates, distances.argmin(-1)[..., None, None], axis=-2)[..., 0, :]
    return chosen


@lru_cache(maxsize=4096)
def _reduced(cell: tuple[tuple[float, float, float], ...]) -> Array:
    """Shortest vectors of the same lattice, (k, 3): what rounding finds among them is a neighbour of the nearest."""
    periodic = np.arange(3) < len(cell)
    rows = np.zeros((3, 3))
    rows[: len(cell)] = np.array(cell).reshape(-1, 3)
    reduced: Array = np.asarray(minkowski_reduce(complete_cell(rows, periodic), periodic)[0])[: len(cell)]
    return reduced
