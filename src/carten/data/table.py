"""A table of all structures of a data set: what is asked of them together, without reading each again."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from carten.data.labels import MAX_NUMBER, has_volume
from carten.data.lookup import label_names
from carten.math.arrays import Array

if TYPE_CHECKING:
    from ase import Atoms

MOST_TEXTS = 100_000
"""Different values of an entry of text beyond which it is no category, and left out."""
_COLUMNS = ("n_atoms", "composition", "compositions", "periodic", "layout")
VOLUME = 8  # bit of the column ``periodic``


@dataclass(frozen=True)
class Texts:
    """An entry of text, or of truth values, of all structures.

    Args:
        codes: (n,) position among the values, -1 where a structure has none.
        values: that occur, in the order in which they do.
    """

    codes: Array
    values: tuple[str, ...]


@dataclass(frozen=True)
class StructureTable:
    """One row for each structure.

    Args:
        n_atoms: (n,) numbers of atoms.
        composition: (n,) rows of ``compositions``.
        compositions: (c, 119) numbers of atoms by atomic number.
        periodic: (n,) bits: periodic directions, and 8 where a periodic cell has a volume.
        layout: (n,) positions in ``layouts``.
        layouts: names of the entries that a structure carries, in ``info``, ``arrays`` and results.
        numbers: (n,) entries that are single numbers, by name; NaN where a structure has none.
        texts: entries that are text.
    """

    n_atoms: Array
    composition: Array
    compositions: Array
    periodic: Array
    layout: Array
    layouts: tuple[tuple[str, ...], ...]
    numbers: Mapping[str, Array] = field(default_factory=dict)
    texts: Mapping[str, Texts] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.n_atoms)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        used = np.unique(self.composition)
        return tuple(np.flatnonzero(self.compositions[used].any(axis=0)).tolist())

    def has_element(self, number: int) -> Array:
        """(n,) whether an element occurs in each structure."""
        present: Array = self.compositions[self.composition, number] > 0
        return present

    def carries(self, names: Sequence[str]) -> Array:
        """(n,) whether each structure carries an entry of one of these names."""
        matching = np.array([not set(names).isdisjoint(layout) for layout in self.layouts], dtype=bool)
        carried: Array = matching[self.layout] if len(self.layouts) else np.zeros(len(self), dtype=bool)
        return carried

    @property
    def has_volume(self) -> Array:
        """(n,) whether each structure is periodic with a cell that has a volume."""
        volume: Array = (self.periodic & VOLUME) > 0
        return volume

    @property
    def kinds(self) -> Array:
        """(n,) equal where the composition and the periodic directions are."""
        kinds: Array = self.composition.astype(np.int64) * VOLUME + self.periodic % VOLUME
        return kinds

    @property
    def names(self) -> tuple[str, ...]:
        """All names of entries, sorted."""
        return tuple(sorted({name for layout in self.layouts for name in layout}))

    def values(self, name: str) -> Texts | None:
        """An entry as text: whole numbers as such; ``None`` where it is neither text nor one number."""
        carried = self.carries([name])
        text, number = self.texts.get(name), self.numbers.get(name)
        if text is not None and number is None and (text.codes[carried] >= 0).all():
            return text
        if number is not None and text is None and not np.isnan(number[carried]).any():
            unique, codes = np.unique(number[carried], return_inverse=True)
            column = np.full(len(self), -1, dtype=np.int32)
            column[carried] = codes
            names = (f"{value:.0f}" if value.is_integer() else str(value) for value in unique.tolist())
            return Texts(column, tuple(names))
        return None

    def arrays(self) -> dict[str, Array]:
        """All columns, by names under which :meth:`of_arrays` takes them."""
        return {
            **{name: np.ascontiguousarray(getattr(self, name)) for name in _COLUMNS},
            **{f"number {name}": column for name, column in self.numbers.items()},
            **{f"text {name}": column.codes for name, column in self.texts.items()},
        }

    def words(self) -> dict[str, Any]:
        """What belongs to the columns and is text, ready for JSON."""
        return {"layouts": self.layouts, "texts": {name: column.values for name, column in self.texts.items()}}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, Array], words: Mapping[str, Any]) -> StructureTable:
        """From what :meth:`arrays` and :meth:`words` give; ``KeyError`` or ``ValueError`` where they do not fit."""
        numbers = {name[7:]: column for name, column in arrays.items() if name.startswith("number ")}
        texts = {name: Texts(arrays[f"text {name}"], tuple(values)) for name, values in words["texts"].items()}
        layouts = tuple(tuple(layout) for layout in words["layouts"])
        table = cls(**{name: arrays[name] for name in _COLUMNS}, layouts=layouts, numbers=numbers, texts=texts)
        columns = [
            table.composition,
            table.periodic,
            table.layout,
            *numbers.values(),
            *(t.codes for t in texts.values()),
        ]
        if any(len(column) != len(table) for column in columns):
            raise ValueError("columns of different lengths")
        return table

    def take(self, rows: Array) -> StructureTable:
        """The table of some of the structures."""
        return StructureTable(
            self.n_atoms[rows],
            self.composition[rows],
            self.compositions,
            self.periodic[rows],
            self.layout[rows],
            self.layouts,
            {name: column[rows] for name, column in self.numbers.items()},
            {name: Texts(column.codes[rows], column.values) for name, column in self.texts.items()},
        )


class TableBuilder:
    """Makes an :class:`StructureTable` while structures pass by."""

    def __init__(self) -> None:
        self._n_atoms, self._periodic, self._composition, self._layout = (array("q") for _ in range(4))
        self._compositions: dict[bytes, int] = {}
        self._layouts: dict[tuple[str, ...], int] = {}
        self._numbers: dict[str, _Column] = {}
        self._texts: dict[str, _Column] = {}
        self._values: dict[str, dict[str, int]] = {}

    def add(self, atoms: Atoms) -> None:
        """Append a row."""
        row = len(self._n_atoms)
        self._n_atoms.append(len(atoms))
        numbers = atoms.numbers[(atoms.numbers >= 1) & (atoms.numbers <= MAX_NUMBER)]
        counts = np.bincount(numbers, minlength=MAX_NUMBER + 1).astype(np.int32)
        self._composition.append(self._compositions.setdefault(counts.tobytes(), len(self._compositions)))
        directions = atoms.pbc @ (1, 2, 4)
        self._periodic.append(int(directions) + VOLUME * has_volume(atoms))
        self._layout.append(self._layouts.setdefault(_names(atoms), len(self._layouts)))
        results = atoms.calc.results if atoms.calc is not None else {}
        for name, value in (*results.items(), *atoms.info.items()):
            self._add_entry(row, str(name), value)

    def _add_entry(self, row: int, name: str, value: Any) -> None:
        if isinstance(value, np.ndarray | np.generic) and value.ndim == 0:
            value = value.item()
        if isinstance(value, str | bool):
            codes = self._values.setdefault(name, {})
            self._texts.setdefault(name, _Column()).put(row, codes.setdefault(str(value), len(codes)))
        elif isinstance(value, int | float):
            self._numbers.setdefault(name, _Column()).put(row, float(value))

    def finish(self) -> StructureTable:
        """The table."""
        n = len(self._n_atoms)
        compositions = np.frombuffer(b"".join(self._compositions), dtype=np.int32).reshape(-1, MAX_NUMBER + 1)
        few = {name: column for name, column in self._texts.items() if len(self._values[name]) <= MOST_TEXTS}
        return StructureTable(
            np.array(self._n_atoms, dtype=np.int32),
            np.array(self._composition, dtype=np.int32),
            compositions,
            np.array(self._periodic, dtype=np.uint8),
            np.array(self._layout, dtype=np.int32),
            tuple(self._layouts),
            {name: column.filled(n, np.nan, np.float64) for name, column in self._numbers.items()},
            {name: Texts(column.filled(n, -1, np.int32), tuple(self._values[name])) for name, column in few.items()},
        )


class _Column:
    """Values of some rows."""

    def __init__(self) -> None:
        self._rows = array("q")
        self._values = array("d")

    def put(self, row: int, value: float) -> None:
        self._rows.append(row)
        self._values.append(value)

    def filled(self, n_rows: int, empty: float, dtype: Any) -> Array:
        column = np.full(n_rows, empty, dtype=dtype)
        column[np.asarray(self._rows)] = np.asarray(self._values)
        return column


def table_of(structures: Iterable[tuple[str, Atoms]]) -> StructureTable:
    """The table of structures in memory."""
    builder = TableBuilder()
    for _, atoms in structures:
        builder.add(atoms)
    return builder.finish()


def joined(tables: Sequence[StructureTable]) -> StructureTable:
    """One table after another."""
    if len(tables) == 1:
        return tables[0]
    starts = np.cumsum([0, *(len(table.compositions) for table in tables)])
    layouts = {layout: None for table in tables for layout in table.layouts}
    position = {layout: k for k, layout in enumerate(layouts)}
    numbers = {name: None for table in tables for name in table.numbers}
    texts = {name: None for table in tables for name in table.texts}
    recoded = [np.array([position[layout] for layout in table.layouts], dtype=np.int32) for table in tables]
    compositions, position_of = np.unique(
        np.concatenate([table.compositions for table in tables]), axis=0, return_inverse=True
    )
    rows = np.concatenate([table.composition + start for table, start in zip(tables, starts, strict=False)])
    return StructureTable(
        np.concatenate([table.n_atoms for table in tables]),
        position_of.ravel()[rows].astype(np.int32),
        compositions,
        np.concatenate([table.periodic for table in tables]),
        np.concatenate([codes[table.layout] for table, codes in zip(tables, recoded, strict=True)]),
        tuple(layouts),
        {name: np.concatenate([_numbers(table, name) for table in tables]) for name in numbers},
        {name: _joined_texts(tables, name) for name in texts},
    )


def _numbers(table: StructureTable, name: str) -> Array:
    return table.numbers.get(name, np.full(len(table), np.nan))


def _joined_texts(tables: Sequence[StructureTable], name: str) -> Texts:
    values: dict[str, int] = {}
    codes = []
    for table in tables:
        column = table.texts.get(name, Texts(np.full(len(table), -1, dtype=np.int32), ()))
        recoded = [values.setdefault(value, len(values)) for value in column.values]
        codes.append(np.array([*recoded, -1], dtype=np.int32)[column.codes])
    return Texts(np.concatenate(codes), tuple(values))


def _names(atoms: Atoms) -> tuple[str, ...]:
    """Names of what a structure carries: all of ``info``, else whatever is numeric."""
    return tuple(sorted({*(str(name) for name, value in atoms.info.items() if value is not None), *label_names(atoms)}))
