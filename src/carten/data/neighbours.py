"""Neighbour lists, and the graph of one structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from vesin import NeighborList

from carten.errors import DataError
from carten.math.arrays import Array
from carten.math.lattice import complete_cell
from carten.model.graph import Graph

SAME_PLACE = 1e-3  # Å
SMALL = 2000  # atoms; fewer are not worth a second thread
FAR = 1e9  # Å; beyond it the image of an atom is no longer exact
FLAT = 1e-6  # volume of the periodic directions relative to the product of their lengths


class Structure(Protocol):
    """What a graph is made of: an ``ase.Atoms`` or anything with these four attributes."""

    @property
    def numbers(self) -> Any: ...
    @property
    def positions(self) -> Any: ...
    @property
    def cell(self) -> Any: ...
    @property
    def pbc(self) -> Any: ...


def edges(positions: Array, cell: Array, pbc: Array, cutoff: float) -> tuple[Array, Array]:
    """All ordered pairs (i, j, image of j) closer than ``cutoff``, sorted by i, then j, then image.

    An atom is a neighbour of its own periodic images, never of itself. Any mixture of periodic directions, cells
    smaller than the cutoff and atoms outside the cell are correct; non-periodic cell vectors do not matter.

    Args:
        positions: (N, 3) in Å.
        cell: (3, 3) in Å, rows are lattice vectors.
        pbc: (3,) bool.
        cutoff: in Å.

    Returns:
        index (2, E) int64, centre and neighbour, and shift (E, 3) int64: ``vector = r_j - r_i + shift @ cell``.

    Raises:
        DataError: positions or cell are not finite, the periodic cell vectors span no volume, or two atoms are at
            one place.
    """
    positions, cell = np.asarray(positions, dtype=np.float64), np.asarray(cell, dtype=np.float64)
    pbc = np.asarray(pbc, dtype=bool)
    _require_finite(positions, cell)
    if len(positions) == 0:
        return np.empty((2, 0), dtype=np.int64), np.empty((0, 3), dtype=np.int64)
    threads = 1 if len(positions) < SMALL else 0  # 0: as many as there are cores
    search = NeighborList(cutoff=cutoff, full_list=True, sorted=False, n_threads=threads)
    _require_volume(cell, pbc)
    whole = complete_cell(cell, pbc)
    points = _without_gaps(positions, whole[~pbc], 2.0 * cutoff)
    pairs, shift, distance = search.compute(points, whole, pbc, "PSd", copy=False)
    index = pairs.T.astype(np.int64)
    shift = shift.astype(np.int64)
    _require_apart(index, distance)
    order = np.argsort(_rank_key(index, shift, len(positions)))
    return np.ascontiguousarray(index[:, order]), shift[order]


def graph(
    atoms: Structure,
    cutoff: float,
    inputs: Mapping[str, Array] | None = None,
    dtype: torch.dtype = torch.float64,
) -> Graph:
    """Graph of one structure with all neighbours closer than ``cutoff``.

    Args:
        atoms: the structure; a cell is kept even where it is not periodic.
        cutoff: in Å.
        inputs: conditions by name, with their leading axis: (1, ...) per structure, (N, ...) per atom. Integers stay
            int64, everything else becomes ``dtype``.
        dtype: floating-point type of the graph; the neighbour list is always found in float64.

    Raises:
        DataError: as :func:`edges`.
    """
    positions, cell = np.asarray(atoms.positions, dtype=np.float64), np.array(atoms.cell, dtype=np.float64)
    pbc = np.array(atoms.pbc, dtype=bool)
    index, shift = edges(positions, cell, pbc, cutoff)
    return Graph(
        positions=torch.tensor(positions, dtype=dtype),
        numbers=torch.tensor(np.asarray(atoms.numbers), dtype=torch.int64),
        cell=torch.tensor(cell, dtype=dtype)[None],
        pbc=torch.from_numpy(pbc)[None],
        structure=torch.zeros(len(positions), dtype=torch.int64),
        edge_index=torch.from_numpy(index),
        edge_shift=torch.from_numpy(shift).to(dtype),
        inputs={name: _input(value, dtype) for name, value in (inputs or {}).items()},
    )


def _rank_key(index: Array, shift: Array, n_atoms: int) -> Array:
    """One integer per edge, unique and ordered as (i, j, image): much faster to sort than five columns."""
    key: Array = index[0] * n_atoms + index[1]
    if len(shift):
        for axis in range(3):
            lowest, highest = shift[:, axis].min(), shift[:, axis].max()
            key = key * (highest - lowest + 1) + (shift[:, axis] - lowest)
    return key


def _input(value: Array, dtype: torch.dtype) -> Tensor:
    value = np.asarray(value)
    return torch.tensor(value, dtype=torch.int64 if value.dtype.kind in "iub" else dtype)


def _require_volume(cell: Array, pbc: Array) -> None:
    """Check that the periodic cell vectors are independent."""
    lengths = np.linalg.norm(cell[pbc], axis=1)
    unit = cell[pbc] / np.where(lengths > 0.0, lengths, 1.0)[:, None]
    spanned = np.sqrt(max(np.linalg.det(unit @ unit.T), 0.0))
    if spanned < FLAT:
        raise DataError(
            f"periodic directions {_axes(pbc)} need cell vectors that span a volume, found {cell[pbc].tolist()} Å: "
            "give the structure its cell, or set pbc to False"
        )


def _without_gaps(positions: Array, normals: Array, gap: float) -> Array:
    """Positions with empty space along the non-periodic directions closed up to ``gap``, which is beyond the cutoff.

    The pairs within the cutoff and their vectors stay as they are; the search grid stays small when parts of a system
    are far apart (vesin 0.6 takes minutes or overflows there).
    """
    for normal in normals[np.ptp(positions @ normals.T, axis=0) > 10.0 * gap]:
        height = positions @ normal
        order = np.argsort(height)
        excess = np.maximum(np.diff(height[order]) - gap, 0.0)
        if excess.any():
            lowered = np.zeros(len(height))
            lowered[order[1:]] = np.cumsum(excess)
            positions = positions - lowered[:, None] * normal
    return positions


def _axes(pbc: Array) -> str:
    return ", ".join(axis for axis, periodic in zip("abc", pbc, strict=True) if periodic)


def _require_finite(positions: Array, cell: Array) -> None:
    if positions.ndim != 2 or positions.shape[1] != 3:
        raise DataError(f"positions must have shape (atoms, 3), found {positions.shape}")
    bad = np.flatnonzero(~(np.abs(positions) < FAR).all(axis=1))
    if len(bad):
        raise DataError(
            f"position of atom {bad[0]} is {positions[bad[0]].tolist()}, expected finite numbers below {FAR:.0e} Å; "
            "remove the structure"
        )
    if not np.isfinite(cell).all():
        raise DataError(f"the cell is not finite: {cell.tolist()}; remove the structure")


def _require_apart(index: Array, distance: Array) -> None:
    if len(distance) == 0 or distance.min() >= SAME_PLACE:
        return
    closest = int(distance.argmin())
    i, j = index[:, closest]
    what = f"atom {i} and its periodic image" if i == j else f"atoms {i} and {j}"
    raise DataError(
        f"{what} are at one place: {distance[closest]:.2g} Å apart (two atoms are at least {SAME_PLACE} Å apart); "
        "remove one of them, or correct the cell"
    )
