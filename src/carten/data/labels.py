"""Frames: structures with the labels and conditions a model is trained on, in carten's units and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from ase.geometry import minkowski_reduce

from carten.data.categories import category
from carten.data.layouts import obeying, shaped
from carten.data.lookup import as_numbers, find_entry, label_names, offer_names
from carten.data.read import Paths, read_structures
from carten.errors import DataError
from carten.math.arrays import Array
from carten.model.conditions import Category, Input
from carten.properties.routes import Property
from carten.units import conversion

if TYPE_CHECKING:
    from ase import Atoms

ASYMMETRY = 1e-3
"""Relative size of what violates an index symmetry and is more than round-off of a file."""
MAX_NUMBER = 118


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
    def keys(self) -> tuple[str, ...]:
        """Names under which it is looked up: the one given, or that of the row and then ASE's for it."""
        key = self.file_key
        return (key, self.row.ase) if self.row.ase and key == self.row.name else (key,)

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

    @cached_property
    def image_distance(self) -> float:
        """Distance in Å between an atom and its nearest periodic image, infinite without one."""
        periodic = self.pbc & (np.linalg.norm(self.cell, axis=1) > 0.0)
        if not periodic.any() or not np.isfinite(self.cell).all():
            return np.inf if not self.pbc.any() else 0.0
        reduced = minkowski_reduce(self.cell, periodic)[0]
        return float(np.linalg.norm(reduced[periodic], axis=1).min())

    def is_isolated(self, cutoff: float) -> bool:
        """Whether this is one atom whose periodic images, if any, are beyond a cutoff (Å)."""
        return len(self.numbers) == 1 and self.image_distance > cutoff

    @property
    def has_volume(self) -> bool:
        """Whether it is periodic and its cell has a volume: only then there is anything per volume."""
        return has_volume(self)


def has_volume(atoms: Atoms | Frame) -> bool:
    """Whether a structure is periodic and its cell has a volume."""
    return bool(np.any(atoms.pbc)) and abs(float(np.linalg.det(np.asarray(atoms.cell)))) > 0.0


def needs_volume(label: Label) -> bool:
    """Whether it is something per volume, by whatever route it comes: only what has a volume can have it."""
    return isinstance(label.row, Property) and (label.row.per_volume or label.name == "stress")


def is_meaningless(atoms: Atoms, label: Label) -> bool:
    """Whether a structure carries a label that it cannot have: something per volume of a cell that it lacks."""
    return needs_volume(label) and not has_volume(atoms) and carries(atoms, label)


def read_frames(paths: Paths, labels: Sequence[Label] = (), inputs: Sequence[Label] = ()) -> list[Frame]:
    """Frames of one or more files, with labels and inputs looked up by name and converted.

    A label is looked up in ``atoms.info``, ``atoms.arrays``, then the results of the calculator. Accepted shapes: that
    of the property, all Cartesian components in one row-major axis, everything flat, and six components in Voigt order
    (xx, yy, zz, yz, xz, xy) for each pair of indices that is symmetric: (6,) for stress, (3, 6) for a piezoelectric,
    (6, 6) for an elastic tensor, without factors. Properties of pairs of atoms are matrices, 3N x 3N for rank 2, flat
    or not. A structure without a label does not get it; a structure without an input gets the default of the input.
    What ASE has a name for is also found under that: moments as ``magmoms``, the input magmoms as ``initial_magmoms``.
    Labels per volume, as stress, are not read of structures that are not periodic or have no cell: programs write zeros
    or NaN there.

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
    values = [_value(atoms, label, where) for where, atoms in structures]
    weights = [1.0 if value is None else float(value) for value in values]
    for (where, _), weight in zip(structures, weights, strict=True):
        if weight < 0.0:
            raise DataError(f'{where}: label "{key}" of weight should be at least 0, found {weight:g}')
    return [replace(frame, weight=weight) for frame, weight in zip(frames, weights, strict=True)]


def carried(frames: Sequence[Frame], name: str) -> int:
    """Number of frames that carry the label of a property."""
    return sum(name in frame.labels for frame in frames)


def carries(atoms: Atoms, label: Label) -> bool:
    """Whether a structure has something under the name of a label."""
    return find_entry(atoms, label.keys) is not None


def _value(atoms: Atoms, label: Label, where: str) -> Array | None:
    """The label in the unit and shape of its row, float64; ``None`` where the structure does not carry it."""
    entry = find_entry(atoms, label.keys)
    if entry is None or is_meaningless(atoms, label):
        return None
    subject = f'{where}: label "{label.file_key}" of {label.name}'
    array = as_numbers(entry)
    if array is None:
        raise DataError(f"{subject} should be numbers, found {entry!r:.60}")
    array = shaped(array.astype(np.float64), label.row, len(atoms), subject)
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))[0]
        place = f" (atom {bad[0]})" if label.row.scope == "atom" else ""
        raise DataError(f"{subject} is {array[tuple(bad)]}{place}, not a finite number; correct or remove the frame")
    array = array * label.factor
    return obeying(label.row, array) if label.project else array


def _require_together(atoms: Atoms, inputs: Sequence[Label], where: str) -> None:
    """Check that inputs that go together are both there."""
    present = {label.name for label in inputs if carries(atoms, label)}
    rows = [label.row for label in inputs if isinstance(label.row, Input) and label.row.along_with]
    for row in rows:
        if row.name in present and row.along_with not in present:
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
    """A model takes all components of a tensor: what violates its index symmetry would act as something it is not."""
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
    row, names = label.row, offer_names(label_names(atoms), label.file_key)
    place = "arrays" if row.scope == "atom" else "info"
    return DataError(
        f'{where}: input {row.name} ("{label.file_key}") is missing and has no default; set '
        f'atoms.{place}["{label.file_key}"]{row.unit and f" in {row.unit}"}; {names}'
    )


def _category(atoms: Atoms, label: Label, kind: Category, n_rows: int, where: str) -> Array:
    entry = find_entry(atoms, label.keys)
    if entry is None:
        entry = label.row.default if isinstance(label.row, Input) else None
    if entry is None:
        raise _missing(atoms, label, where)
    values = [category(value) for value in np.broadcast_to(np.asarray(entry), (n_rows,)).tolist()]
    if unknown := [value for value in values if value not in kind.values]:
        known = ", ".join(map(repr, kind.values))
        raise DataError(f'{where}: input {label.name} ("{label.file_key}") is {unknown[0]!r}, expected one of {known}')
    return np.array([kind.values.index(value) for value in values], dtype=np.int64)


def _require_carried(structures: Sequence[tuple[str, Atoms]], label: Label) -> None:
    if any(carries(atoms, label) for _, atoms in structures):
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
        + offer_names(everything, label.file_key)
    )
