"""Lattices: complete cells and nearest images."""

from __future__ import annotations

import numpy as np

from carten.math.arrays import Array


def complete_cell(cell: Array, pbc: Array) -> Array:
    """The cell, its vectors along open directions replaced by unit vectors normal to all others, (3, 3).

    Args:
        cell: (3, 3), rows are lattice vectors; those of periodic directions span a volume.
        pbc: (3,) bool.
    """
    if pbc.all():
        return cell
    rows = np.where(pbc[:, None], cell, 0.0)
    # rows of vh beyond the rank are orthonormal and orthogonal to every periodic vector
    rows[~pbc] = np.linalg.svd(rows)[2][int(pbc.sum()) :]
    return rows


def nearest(vectors: Array, cell: Array) -> Array:
    """Vectors less the lattice vectors next to them: their nearest images unless the cell is very skew, (.., 3).

    Args:
        vectors: (.., 3).
        cell: (k, 3) vectors of the periodic directions, which may be none.
    """
    inside: Array = vectors - np.round(vectors @ np.linalg.pinv(cell)) @ cell
    return inside
