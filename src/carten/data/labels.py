"""Frames: structures with the labels and conditions a model is trained on, in carten's units and shapes."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from carten.data.read import Paths, read_structures
from carten.errors import DataError
from carten.math.arrays import Array
from carten.math.symmetry import decompose, parse_indices
from carten.model.conditions import Category, Input
from carten.properties.routes import Property
from carten.units import conversion

if TYPE_CHECKING:
    from ase import Atoms

ASYMMETRY = 1e-3
"""Relative size of what violates an index symmetry and is more than round-off of a file."""
_STRUCTURE = ("numbers", "positions", "tags", "masses", "momenta")
MAX_NUMBER = 118
_VOIGT = ((0, 5, 4), (5, 1, 3), (4, 3, 2))  # xx, yy, zz, yz, xz, xy
VOIGT = ("stress", "stresses")
"""Properties that ASE keeps as six components in this order; of the latter, which need not be symmetric, the mean."""


@dataclass(frozen=True)
class Label:
    """Where a property or an input is found in files.

    Args:
        row: the property or input.
        key: its name in the file; the name of the row where not given.
        unit: its unit in the file; the unit of the row where not given.
        required: whether it is an error that no structure at all carries it.
        project: whether what violates the index symmetry of a property is projected out.
    """

    row: Property | Input
    key: str = ""
    unit: str | None = None
    required: bool = True
    project: bool = False

    @property
    def name(self) -> str:
        """Name of the property or input."""
        return self.row.name

    @property
    def file_key(self) -> str:
        """Name in the file."""
        return self.key or self.row.name

    @property
    def factor(self) -> float:
        """What numbers in the file are multiplied with; a ``ConfigError`` where the units do not fit."""
        return conversion(self.row.unit if self.unit is None else self.unit, self.row.unit)


@dataclass(frozen=True)
class Frame:
    """One structure with its labels; a label it does not carry is not in ``labels``.

    Args:
        numbers: (N,) atomic numbers.
        positions: (N, 3) in Å.
        cell: (3, 3) in Å, zero where there is none.
        pbc: (3,) bool.
        labels: by property, (3, ...) per structure, (N, 3, ...) per atom or (N * N, 3, ...) per pair of atoms, float64,
            in the unit of the property.
        inputs: by input, with their leading axis: (1, ...) per structure, (N, ...) per atom.
        where: file and frame, for messages.
        weight: of this structure in a loss.
    """

    numbers: Array
    positions: Array
    cell: Array
    pbc: Array
    labels: Mapping[str, Array] = field(default_factory=dict)
    inputs: Mapping[str, Array] = field(default_factory=dict)
    where: str = "structure"
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def is_isolated_atom(self) -> bool:
        """Whether this is one atom without periodic images."""
        return len(self.numbers) == 1 and not self.pbc.any()


def read_frames(paths: Paths, labels: Sequence[Label] = (), inputs: Sequence[Label] = ()) -> list[Frame]:
    """Frames of one or more files, with labels and inputs looked up by name and converted.

    A label is looked up in ``atoms.info``, ``atoms.arrays``, then the results of the calculator. Accepted shapes: that
    of the property, all Cartesian components in one row-major axis, everything flat, and six components in Voigt order
    (xx, yy, zz, yz, xz, xy) for each pair of indices that is symmetric: (6,) for stress, (3, 6) for a piezoelectric,
    (6, 6) for an elastic tensor, without factors. Properties of pairs of atoms are matrices, 3N x 3N for rank 2, flat
    or not. A structure without a label does not get it; a structure without an input gets the default of the input.

    Args:
        paths: as :func:`carten.data.read.read_structures`.
        labels: properties wanted.
        inputs: conditions wanted.

    Raises:
        DataError: as :func:`carten.data.read.read_structures`; no structure carries a required label; a label is not
            a number, not finite or of the wrong length; a structure lacks an input that has no default.
        ConfigError: a unit is unknown or does not fit.
    """
    return frames_from(read_structures(paths), labels, inputs)


def frames_from(
    structures: Sequence[tuple[str, Atoms]], labels: Sequence[Label] = (), inputs: Sequence[Label] = ()
) -> list[Frame]:
    """As :func:`read_frames`, from structures in memory, each with a name for messages."""
    for label in (*labels, *inputs):
        if label.required:
            _require_carried(structures, label)
    return [frame_from(atoms, labels, inputs, where) for where, atoms in structures]


def frame_from(
    atoms: Atoms, labels: Sequence[Label] = (), inputs: Sequence[Label] = (), where: str = "structure"
) -> Frame:
    """Frame of one structure; arguments and errors as :func:`read_frames`."""
    n_atoms = len(atoms)
    if n_atoms == 0:
        raise DataError(f"{where}: has no atoms; remove it")
    if not ((atoms.numbers >= 1) & (atoms.numbers <= MAX_NUMBER)).all():
        raise DataError(f"{where}: has an atom that is no element (atomic number 1 to {MAX_NUMBER}); remove the dummy")
    values = {label.name: _value(atoms, label, where) for label in labels}
    _require_together(atoms, inputs, where)
    return Frame(
        numbers=np.array(atoms.numbers, dtype=np.int64),
        positions=np.array(atoms.positions, dtype=np.float64),
        cell=np.array(atoms.cell, dtype=np.float64),
        pbc=np.array(atoms.pbc, dtype=bool),
        labels={name: value for name, value in values.items() if value is not None},
        inputs={label.name: _condition(atoms, label, where) for label in inputs},
        where=where,
    )


def weighted(frames: Sequence[Frame], structures: Sequence[tuple[str, Atoms]], key: str) -> list[Frame]:
    """The frames with the weights in the loss that their structures carry under a name; 1 where they carry none.

    Raises:
        DataError: a weight is negative or not one finite number, or no structure carries one.
    """
    label = Label(Property("weight", "structure", "", +1, ""), key)
    _require_carried(structures, label)
    found = [_value(atoms, label, where) for where, atoms in structures]
    weights = [1.0 if value is None else float(value) for value in found]
    for (where, _), weight in zip(structures, weights, strict=True):
        if weight < 0.0:
            raise DataError(f'{where}: label "{key}" of weight should be at least 0, found {weight:g}')
    return [replace(frame, weight=weight) for frame, weight in zip(frames, weights, strict=True)]


def carried(frames: Sequence[Frame], name: str) -> int:
    """Number of frames that carry the label of a property."""
    return sum(name in frame.labels for frame in frames)


def label_names(atoms: Atoms) -> dict[str, tuple[int, ...]]:
    """Every numeric entry a structure carries, by name in the file, with its shape."""
    results = atoms.calc.results if atoms.calc is not None else {}
    arrays = {name: value for name, value in atoms.arrays.items() if name not in _STRUCTURE}
    found = {}
    for name, value in {**results, **arrays, **atoms.info}.items():
        array = _numeric(value)
        if array is not None:
            found[str(name)] = array.shape
    return found


def carries(atoms: Atoms, label: Label) -> bool:
    """Whether a structure has something under the name of a label."""
    return _lookup(atoms, label.file_key) is not None


def obeying(row: Property | Input, value: Array) -> Array:
    """The nearest value with the index symmetry of a row; second derivatives are the same in either order of atoms."""
    value = decompose(row.indices).project(value)
    if isinstance(row, Property) and row.reciprocal:
        n_atoms = math.isqrt(len(value))
        swapped = value.reshape(n_atoms, n_atoms, 3, 3).transpose(1, 0, 3, 2).reshape(value.shape)
        value = (value + swapped) / 2
    return value


def _numeric(value: Any) -> Array | None:
    if isinstance(value, str | bytes | dict) or value is None:
        return None
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        return None
    return array if array.dtype.kind in "iuf" else None


def _lookup(atoms: Atoms, key: str) -> Any:
    results = atoms.calc.results if atoms.calc is not None else {}
    for place in (atoms.info, atoms.arrays, results):
        if place.get(key) is not None:
            return place[key]
    return None


def _value(atoms: Atoms, label: Label, where: str) -> Array | None:
    """The label in the unit and shape of its row, float64; ``None`` where the structure does not carry it."""
    found = _lookup(atoms, label.file_key)
    if found is None:
        return None
    what = f'{where}: label "{label.file_key}" of {label.name}'
    array = _numeric(found)
    if array is None:
        raise DataError(f"{what} should be numbers, found {found!r:.60}")
    array = _shaped(array.astype(np.float64), label.row, len(atoms), what)
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0]
        place = f" (atom {bad[0]})" if label.row.scope == "atom" else ""
        raise DataError(f"{what} is {array[tuple(bad)]}{place}, not a finite number; correct or remove the frame")
    array = array * label.factor
    return obeying(label.row, array) if label.project else array


def _shaped(array: Array, row: Property | Input, n_atoms: int, what: str) -> Array:
    """Bring the accepted layouts (see :func:`read_frames`) to (3, ...) or (N, 3, ...)."""
    if row.scope == "pair":
        return _paired(array, row, n_atoms, what)
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
    raise DataError(f"{what} has shape {array.shape}, expected {expected}, {meaning}; correct or remove the structure")


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


def _paired(array: Array, row: Property | Input, n_atoms: int, what: str) -> Array:
    """(N * N, 3, ...) from that shape, or from a matrix (3N, 3N), however it is folded, for rank 2."""
    expected = (n_atoms**2, *row.shape)
    if array.shape == expected:
        return array
    if row.rank == 2 and array.size == 9 * n_atoms**2 and array.shape[:2] != (n_atoms, n_atoms):
        return array.reshape(n_atoms, 3, n_atoms, 3).swapaxes(1, 2).reshape(expected)
    matrix = f" or a matrix {(3 * n_atoms, 3 * n_atoms)}" if row.rank == 2 else ""
    raise DataError(f"{what} has shape {array.shape}, expected {expected}{matrix}; correct or remove the structure")


def matrix(values: Array) -> Array:
    """The matrix (3N, 3N) of a rank-2 property of pairs (N * N, 3, 3)."""
    n_atoms = math.isqrt(len(values))
    return values.reshape(n_atoms, n_atoms, 3, 3).swapaxes(1, 2).reshape(3 * n_atoms, 3 * n_atoms)


def _require_together(atoms: Atoms, inputs: Sequence[Label], where: str) -> None:
    """Check that inputs that go together are both there."""
    there = {label.name for label in inputs if _lookup(atoms, label.file_key) is not None}
    rows = [label.row for label in inputs if isinstance(label.row, Input) and label.row.along_with]
    for row in rows:
        if row.name in there and row.along_with not in there:
            raise DataError(f"{where}: carries the input {row.name} without {row.along_with}: give both, or neither")


def _condition(atoms: Atoms, label: Label, where: str) -> Array:
    """An input with its leading axis; categories as positions among their values."""
    row = label.row
    if not isinstance(row, Input):
        raise DataError(f"{label.name} is a property, not an input")
    n_rows = len(atoms) if row.scope == "atom" else 1
    if isinstance(row.embed, Category):
        return _category(atoms, label, row.embed, n_rows, where)
    value = _value(atoms, label, where)
    if value is None:
        if row.default is None:
            raise _missing(atoms, label, where)
        return np.full((n_rows, *row.shape), float(row.default))
    _require_symmetric(value, label, where)
    return value if row.scope == "atom" else value[None]


def _require_symmetric(value: Array, label: Label, where: str) -> None:
    """A model is told the whole of a tensor: what violates its index symmetry would act as something it is not."""
    if label.row.rank < 2:
        return
    defect = float(np.abs(value - obeying(label.row, value)).max(initial=0.0))
    if defect > ASYMMETRY * float(np.abs(value).max(initial=0.0)):
        raise DataError(
            f'{where}: input {label.name} ("{label.file_key}") violates its index symmetry {label.row.indices!r} by '
            f"{defect:.2g} {label.row.unit}".rstrip()
            + "; correct it"
        )


def _missing(atoms: Atoms, label: Label, where: str) -> DataError:
    row = label.row
    place = "arrays" if row.scope == "atom" else "info"
    return DataError(
        f'{where}: input {row.name} ("{label.file_key}") is missing and has no default; set '
        f'atoms.{place}["{label.file_key}"]{row.unit and f" in {row.unit}"}; {_offer(atoms, label)}'
    )


def _category(atoms: Atoms, label: Label, kind: Category, n_rows: int, where: str) -> Array:
    found = _lookup(atoms, label.file_key)
    if found is None:
        found = label.row.default if isinstance(label.row, Input) else None
    if found is None:
        raise _missing(atoms, label, where)
    names = [category(value) for value in np.broadcast_to(np.asarray(found), (n_rows,)).tolist()]
    if unknown := [name for name in names if name not in kind.values]:
        known = ", ".join(map(repr, kind.values))
        raise DataError(f'{where}: input {label.name} ("{label.file_key}") is {unknown[0]!r}, expected one of {known}')
    return np.array([kind.values.index(name) for name in names], dtype=np.int64)


def category(value: Any) -> str | int:
    """A value of a category: whole numbers as such, anything else as text."""
    whole = isinstance(value, int | float) and float(value).is_integer()
    return int(value) if whole else str(value)


def categories(structures: Sequence[tuple[str, Atoms]], key: str) -> tuple[str | int, ...]:
    """All values of a category in some structures, sorted."""
    found: set[str | int] = set()
    for _, atoms in structures:
        if (value := _lookup(atoms, key)) is not None:
            found.update(category(item) for item in np.ravel(np.asarray(value)).tolist())
    return tuple(sorted(found, key=lambda value: (isinstance(value, str), value)))


def _require_carried(structures: Sequence[tuple[str, Atoms]], label: Label) -> None:
    if any(_lookup(atoms, label.file_key) is not None for _, atoms in structures):
        return
    if isinstance(label.row, Input) and label.row.default is not None:
        return
    files = sorted({where.rsplit(", frame ", 1)[0] for where, _ in structures})
    shown = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
    everything: dict[str, tuple[int, ...]] = {}
    for _, atoms in structures:
        everything |= label_names(atoms)
    raise DataError(
        f'label "{label.file_key}" of {label.name} is carried by none of the {len(structures)} structures of {shown}; '
        + _offer_names(everything, label.file_key)
    )


def _offer(atoms: Atoms, label: Label) -> str:
    return _offer_names(label_names(atoms), label.file_key)


def _offer_names(names: Mapping[str, tuple[int, ...]], key: str) -> str:
    if not names:
        return "the structures carry no labels at all"
    near = difflib.get_close_matches(key, names, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else "; give the key of this label in the configuration"
    return "names in it: " + ", ".join(sorted(names)) + hint
