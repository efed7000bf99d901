"""The layouts in which files keep tensors: one axis for all components, Voigt order, matrices of pairs of atoms."""

from __future__ import annotations

import math

import numpy as np

from carten.errors import DataError
from carten.math.arrays import Array
from carten.math.symmetry import decompose, parse_indices
from carten.model.conditions import Input
from carten.properties.routes import Property

_VOIGT = ((0, 5, 4), (5, 1, 3), (4, 3, 2))  # xx, yy, zz, yz, xz, xy
VOIGT = ("stress", "stresses")
"""Properties that ASE keeps as six components in this order; of the latter, which need not be symmetric, the mean."""


def shaped(array: Array, row: Property | Input, n_atoms: int, subject: str) -> Array:
    """Bring the layouts of :func:`carten.data.labels.read_frames` to (3, ...), (N, 3, ...) or (N * N, 3, ...).

    Raises:
        DataError: the array has another layout; the message begins with ``subject``.
    """
    if row.scope == "pair":
        return _paired(array, row, n_atoms, subject)
    lead = (n_atoms,) if row.scope == "atom" else ()
    expected = (*lead, *row.shape)
    components = int(np.prod(row.shape, dtype=int))
    accepted = {expected, (*lead, components), (n_atoms * components,) if lead else (1, *expected)}
    if array.shape in accepted:
        return array.reshape(expected)
    voigt = (*lead, *_voigt_shape(row))
    if array.shape in {voigt, (*lead, math.prod(voigt[len(lead) :])), (1, *voigt)}:
        return _from_voigt(array.reshape(voigt), len(lead))
    meaning = "(atoms" + ", 3" * row.rank + ")" if lead else "one value per structure"
    expectation = f"expected {expected}, {meaning}"
    raise DataError(f"{subject} has shape {array.shape}, {expectation}; correct or remove the structure")


def _voigt_shape(row: Property | Input) -> tuple[int, ...]:
    """Shape of one value with an axis of 6 for each pair of neighbouring indices that is symmetric, from the right."""
    symmetric = parse_indices("ij=ji" if row.name in VOIGT else row.indices).group()
    shape: list[int] = []
    axis = row.rank
    while axis > 0:
        swapped = (*range(axis - 2), axis - 1, axis - 2, *range(axis, row.rank))
        pair = axis > 1 and symmetric.get(swapped) == 1
        shape.insert(0, 6 if pair else 3)
        axis -= 2 if pair else 1
    return tuple(shape)


def _from_voigt(array: Array, first: int) -> Array:
    """Every axis of 6, from one of them on, as two of 3."""
    for axis in reversed(range(first, array.ndim)):
        if array.shape[axis] == 6:
            array = np.moveaxis(np.moveaxis(array, axis, -1)[..., _VOIGT], (-2, -1), (axis, axis + 1))
    return array


def _paired(array: Array, row: Property | Input, n_atoms: int, subject: str) -> Array:
    """(N * N, 3, ...) from that shape, or from a matrix (3N, 3N), however it is folded, for rank 2."""
    expected = (n_atoms**2, *row.shape)
    if array.shape == expected:
        return array
    if row.rank == 2 and array.size == 9 * n_atoms**2 and array.shape[:2] != (n_atoms, n_atoms):
        return array.reshape(n_atoms, 3, n_atoms, 3).swapaxes(1, 2).reshape(expected)
    matrix = f" or a matrix {(3 * n_atoms, 3 * n_atoms)}" if row.rank == 2 else ""
    raise DataError(f"{subject} has shape {array.shape}, expected {expected}{matrix}; correct or remove the structure")


def matrix(values: Array) -> Array:
    """The matrix (3N, 3N) of a rank-2 property of pairs (N * N, 3, 3)."""
    n_atoms = math.isqrt(len(values))
    return values.reshape(n_atoms, n_atoms, 3, 3).swapaxes(1, 2).reshape(3 * n_atoms, 3 * n_atoms)


def obeying(row: Property | Input, value: Array) -> Array:
    """The nearest value with the index symmetry of a row; second derivatives are the same in either order of atoms."""
    value = decompose(row.indices).project(value)
    if isinstance(row, Property) and row.reciprocal:
        n_atoms = math.isqrt(len(value))
        swapped = value.reshape(n_atoms, n_atoms, 3, 3).transpose(1, 0, 3, 2).reshape(value.shape)
        value = (value + swapped) / 2
    return value
