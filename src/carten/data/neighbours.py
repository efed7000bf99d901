"""Neighbour lists, and the graph of one structure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from carten.data.search import closed, require_finite, require_volume, search_radius
from carten.data.vesin_numpy import NeighborList
from carten.errors import DataError
from carten.math.arrays import Array
from carten.math.lattice import complete_cell

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from carten.model.graph import Graph

SAME_PLACE = 1e-3  # Å
SMALL = 2000  # atoms; fewer are not worth a second thread


class StructureLike(Protocol):
    """What a graph is made of: an ``ase.Atoms`` or anything with these four attributes."""

    @property
    def numbers(self) -> Any: ...
    @property
    def positions(self) -> Any: ...
    @property
    def cell(self) -> Any: ...
    @property
    def pbc(self) -> Any: ...


def edges(positions: Array, cell: Array, pbc: Array, cutoff: float, threads: int = 1) -> tuple[Array, Array]:
    """All ordered pairs (i, j, image of j) closer than ``cutoff``, sorted by i, then j, then image.

    An atom is a neighbour of its own periodic images, never of itself. Any mixture of periodic directions, cells
    smaller than the cutoff and atoms outside the cell are correct; non-periodic cell vectors do not matter.

    Args:
        positions: (N, 3) in Å.
        cell: (3, 3) in Å, rows are lattice vectors.
        pbc: (3,) bool.
        cutoff: in Å.
        threads: that search large structures.

    Returns:
        index (2, E) int64, centre and neighbour, and shift (E, 3) int64: ``vector = r_j - r_i + shift @ cell``.

    Raises:
        DataError: positions or cell are not finite or absurdly large, the periodic cell vectors span no volume, there
            are more pairs than memory holds, or two atoms coincide.
    """
    index, shift, _ = _search(positions, cell, pbc, cutoff, threads)
    order = np.argsort(_rank_key(index, shift, len(positions)))
    return np.ascontiguousarray(index[:, order]), shift[order]


def pairs(positions: Array, cell: Array, pbc: Array, cutoff: float) -> tuple[Array, Array]:
    """Each pair of :func:`edges` once, in any order: index (2, P), and distance (P,) in Å."""
    index, _, distance = _search(positions, cell, pbc, cutoff, full=False)
    return index, distance


def _search(
    positions: Array, cell: Array, pbc: Array, cutoff: float, threads: int = 1, full: bool = True
) -> tuple[Array, Array, Array]:
    """Pairs in both directions or one, in any order: index, shift, distance."""
    positions, cell = np.asarray(positions, dtype=np.float64), np.asarray(cell, dtype=np.float64)
    pbc = np.asarray(pbc, dtype=bool)
    require_finite(positions, cell)
    if len(positions) == 0:
        return np.empty((2, 0), dtype=np.int64), np.empty((0, 3), dtype=np.int64), np.empty(0)
    require_volume(cell, pbc)
    points, box = closed(positions, complete_cell(cell, pbc), pbc, cutoff)
    radius = search_radius(points, box, cutoff)
    used = 1 if len(positions) < SMALL else threads
    search = NeighborList(cutoff=radius, full_list=full, sorted=False, n_threads=used)
    ends, shift, distance = search.compute(points, box, True, "PSd")
    if radius > cutoff:
        ends, shift, distance = (array[distance < cutoff] for array in (ends, shift, distance))
    index = ends.T.astype(np.int64)
    require_distances(index, distance)
    return index, shift.astype(np.int64), distance


def graph(
    atoms: StructureLike,
    cutoff: float,
    inputs: Mapping[str, Array] | None = None,
    dtype: torch.dtype | None = None,
) -> Graph:
    """Graph of one structure with all neighbours closer than ``cutoff``.

    Args:
        atoms: the structure; a cell is kept even where it is not periodic.
        cutoff: in Å.
        inputs: conditions by name, with their leading axis: (1, ...) per structure, (N, ...) per atom. Integers stay
            int64, everything else becomes ``dtype``.
        dtype: floating-point type of the graph, float64 by default; the neighbour list is always found in float64.

    Raises:
        DataError: as :func:`edges`.
    """
    import torch

    pbc = np.array(atoms.pbc, dtype=bool)
    index, shift = edges(atoms.positions, np.array(atoms.cell), pbc, cutoff, torch.get_num_threads())
    return graph_of_edges(atoms, index, shift, inputs, dtype)


def graph_of_edges(
    atoms: StructureLike,
    index: Array,
    shift: Array,
    inputs: Mapping[str, Array] | None = None,
    dtype: torch.dtype | None = None,
) -> Graph:
    """Graph of one structure with these edges, see :func:`edges` for them and :func:`graph` for the rest."""
    import torch

    from carten.model.graph import Graph

    dtype = torch.float64 if dtype is None else dtype
    return Graph(
        positions=torch.tensor(np.asarray(atoms.positions), dtype=dtype),
        numbers=torch.tensor(np.asarray(atoms.numbers), dtype=torch.int64),
        cell=torch.tensor(np.array(atoms.cell), dtype=dtype)[None],
        pbc=torch.tensor(np.array(atoms.pbc, dtype=bool))[None],
        structure=torch.zeros(len(atoms.positions), dtype=torch.int64),
        edge_index=torch.tensor(index, dtype=torch.int64),
        edge_shift=torch.tensor(shift, dtype=dtype),
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
    import torch

    value = np.asarray(value)
    return torch.tensor(value, dtype=torch.int64 if value.dtype.kind in "iub" else dtype)


def require_distances(index: Array, distance: Array) -> None:
    """Check that no two atoms are at one place.

    Args:
        index: (2, E) atoms of pairs.
        distance: (E,) Å.

    Raises:
        DataError: some are.
    """
    if len(distance) == 0 or distance.min() >= SAME_PLACE:
        return
    closest = int(distance.argmin())
    i, j = index[:, closest]
    pair = f"atom {i} and its periodic image" if i == j else f"atoms {i} and {j}"
    raise DataError(
        f"{pair} coincide: they are {distance[closest]:.2g} Å apart, less than {SAME_PLACE} Å; remove one of them, or "
        "correct the cell"
    )
