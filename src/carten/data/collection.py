"""Structures of any number of files as one sequence with a table: in memory where they are few, else on disk."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from carten.data.archives import is_packed
from carten.data.formats import LMDB, recognised
from carten.data.geometry import SIGNATURE, Closest, add_contacts, surroundings
from carten.data.labels import Frame, frame_from
from carten.data.progress import Say, counted, silent
from carten.data.read import Paths, data_files, iterate_file
from carten.data.sequences import Chained
from carten.data.sidecar import is_outdated, read_sidecar, sidecar, write_sidecar
from carten.data.store import Store, stamp
from carten.data.table import StructureTable, TableBuilder, joined, table_of
from carten.data.writer import StoreWriter
from carten.errors import DataError
from carten.math.arrays import Array

if TYPE_CHECKING:
    from ase import Atoms

MOST_ATOMS = 1_000_000
"""Atoms of files that are not ASE-LMDB up to which they are kept in memory."""
FRAMES = "frames"
"""Name of the kept table."""
Structures = Sequence[tuple[str, "Atoms"]]


class Geometry(NamedTuple):
    """What the neighbours tell of structures.

    Args:
        n_edges: (n,) within the cutoff.
        signatures: (n, 17) see :class:`carten.data.geometry.Surroundings`.
        contacts: (pairs of elements, 6) the closest of all structures: elements, distance, atoms, structure.
    """

    n_edges: Array
    signatures: Array
    contacts: Array

    @property
    def closest(self) -> Closest:
        """The contacts."""
        rows = self.contacts.tolist()
        return {(int(a), int(b)): (distance, int(i), int(j), int(n)) for a, b, distance, i, j, n in rows}


@dataclass(frozen=True)
class _Part:
    """Some of the structures.

    Args:
        structures: in memory or on disk.
        table: of them.
        path: of the file that geometries are kept beside, and its stamp.
        held: what has to live as long.
    """

    structures: Structures
    table: StructureTable
    path: tuple[Path, str] | None = None
    held: object = None


class Collection(Chained["tuple[str, Atoms]"]):
    """All structures of some files, each with where it is.

    Attributes:
        table: the index of all of them.
        in_memory: whether all of them are.
    """

    def __init__(self, parts: Sequence[_Part]) -> None:
        super().__init__(*(part.structures for part in parts))
        self._parts = parts
        self.table = joined([part.table for part in parts])
        self.in_memory = all(isinstance(part.structures, list) for part in parts)

    def where(self, number: int) -> str:
        """File and frame of a structure, for messages."""
        structures, inner = self.place(number)
        return structures.where(inner) if isinstance(structures, Store) else structures[inner][0]

    def files(self) -> tuple[Array, tuple[str, ...]]:
        """(n,) the file of each structure, and their names."""
        origins = [
            (start + first, name)
            for part, start in zip(self._parts, self.starts, strict=False)
            for first, name in _origins(part.structures)
        ]
        names = {name: None for _, name in origins}
        codes = [list(names).index(name) for _, name in origins]
        lengths = np.diff([*(first for first, _ in origins), len(self)])
        return np.repeat(codes, lengths), tuple(names)

    def geometry(self, cutoff: float, say: Say = silent) -> Geometry:
        """Neighbours within a cutoff (Å) of all structures; those of ASE-LMDB files are kept beside them.

        Raises:
            DataError: a structure is impossible; the message names it.
        """
        return self._together([_geometry(part, cutoff, say) for part in self._parts])

    def kept_geometry(self, cutoff: float) -> Geometry | None:
        """The same where it is kept for all of them."""
        kept = [table for part in self._parts if (table := _kept_geometry(part, cutoff)) is not None]
        return self._together(kept) if len(kept) == len(self._parts) else None

    def _together(self, tables: Sequence[Geometry]) -> Geometry:
        closest: Closest = {}
        for start, table in zip(self.starts, tables, strict=False):
            for pair, (distance, i, j, number) in table.closest.items():
                add_contacts(closest, int(start) + number, {pair: (distance, i, j)})
        edges, signatures, _ = (np.concatenate(arrays) for arrays in zip(*tables, strict=True))
        return Geometry(edges, signatures, _rows(closest))


def open_collection(paths: Paths, format: str | None = None, say: Say = silent) -> Collection:
    """All structures of some files.

    ASE-LMDB files stay where they are; of others those beyond :data:`MOST_ATOMS` are moved to a temporary one.

    Args:
        paths: as :func:`carten.data.read.read_structures`.
        format: the same.
        say: takes lines on what takes long.

    Raises:
        DataError: the same; and rows of ASE-LMDB files are read where their tables are made.
    """
    parts: list[_Part] = []
    others: list[Path] = []
    for file in data_files(paths):
        if not is_packed(file) and (format or recognised(file)) == LMDB:
            parts += [*_read(others, format, say), open_store(file, say)]
            others = []
        else:
            others.append(file)
    return Collection([*parts, *_read(others, format, say)])


def collection_of(structures: Structures) -> Collection:
    """Structures in memory, each with where it is."""
    return Collection([_Part(list(structures), table_of(structures))])


def open_store(path: Path, say: Say = silent) -> _Part:
    """An ASE-LMDB file and its table, which is kept beside it."""
    mark = stamp(path)
    if (kept := read_sidecar(path, FRAMES, mark)) is not None:
        arrays, words = kept
        places = arrays.pop("places")
        try:
            return _Part(Store(path, places), StructureTable.of_arrays(arrays, words), (path, mark))
        except (KeyError, TypeError, ValueError):  # damaged: it is made anew
            pass
    if is_outdated(path, FRAMES):
        say(f"{sidecar(path)} is older than {path} or damaged: it is made anew")
    store = Store(path)
    if not len(store):
        raise DataError(f"{path}: no structure in it; check that the file is what you meant")
    index = table_of(counted(store, f"looking through {path}", len(store), say))
    if problem := keep_table(store, index, mark):
        say(f"{problem}: {path} is looked through at every start")
    return _Part(store, index, (path, mark))


def keep_table(store: Store, index: StructureTable, mark: str) -> str:
    """Keep a table beside its file; returns why not, if it could not be written."""
    return write_sidecar(store.path, FRAMES, mark, {**index.arrays(), "places": store.places}, index.words())


def keep_geometry(path: Path, mark: str, cutoff: float, table: Geometry) -> str:
    """Keep neighbours beside a file; returns why not, if they could not be written."""
    return write_sidecar(path, _neighbours(cutoff), mark, table._asdict())


def _neighbours(cutoff: float) -> str:
    return f"neighbours-{cutoff:.6g}"


def _kept_geometry(part: _Part, cutoff: float) -> Geometry | None:
    kept = read_sidecar(part.path[0], _neighbours(cutoff), part.path[1]) if part.path is not None else None
    if kept is None or set(kept[0]) != set(Geometry._fields):
        return None
    geometry = Geometry(**kept[0])
    n = len(part.structures)
    shapes = (geometry.n_edges.shape, geometry.signatures.shape, geometry.contacts.shape[1:])
    return geometry if shapes == ((n,), (n, SIGNATURE), (6,)) else None


def _rows(closest: Closest) -> Array:
    """Contacts as an array."""
    rows = [(*pair, *contact) for pair, contact in closest.items()]
    return np.array(rows, dtype=np.float64).reshape(-1, 6)


def _geometry(part: _Part, cutoff: float, say: Say) -> Geometry:
    if (kept := _kept_geometry(part, cutoff)) is not None:
        return kept
    builder = GeometryBuilder(cutoff)
    title = f"looking for neighbours within {cutoff:g} Å"
    for where, atoms in counted(part.structures, title, len(part.structures), say):
        builder.add(frame_from(atoms, where=where))
    if part.path is not None:
        keep_geometry(*part.path, cutoff, builder.finish())
    return builder.finish()


class GeometryBuilder:
    """Makes a :class:`Geometry` while structures pass by."""

    def __init__(self, cutoff: float) -> None:
        self.cutoff = cutoff
        self._edges, self._signatures = array("i"), array("f")
        self._closest: Closest = {}

    def add(self, frame: Frame) -> None:
        """Append a row.

        Raises:
            DataError: the structure is impossible.
        """
        try:
            around = surroundings(frame, self.cutoff)
        except DataError as error:
            raise DataError(f"{frame.where}: {error}") from error
        add_contacts(self._closest, len(self._edges), around.closest)
        self._edges.append(around.n_edges)
        self._signatures.extend(around.signature.tolist())

    def finish(self) -> Geometry:
        """The table."""
        signatures = np.array(self._signatures, dtype=np.float32).reshape(-1, SIGNATURE)
        return Geometry(np.array(self._edges, dtype=np.int32), signatures, _rows(self._closest))


def _read(files: Sequence[Path], format: str | None, say: Say) -> Iterator[_Part]:
    """Files that are not ASE-LMDB: in memory, or beyond a size in a temporary file that is."""
    if not files:
        return
    title = f"reading {files[0]}" + (f" and {len(files) - 1} others" if len(files) > 1 else "")
    incoming = counted(chain.from_iterable(iterate_file(file, format) for file in files), title, None, say)
    few, n_atoms = [], 0
    for where, atoms in incoming:
        few.append((where, atoms))
        n_atoms += len(atoms)
        if n_atoms > MOST_ATOMS:
            say(f"{title}: more than {MOST_ATOMS:,} atoms, they go to a temporary file; carten convert keeps it")
            yield _spooled(chain(few, _emptied(few), incoming))
            return
    yield _Part(few, table_of(few))


def _emptied(items: list[tuple[str, Atoms]]) -> Iterator[tuple[str, Atoms]]:
    """Nothing; frees a list once what stands before is consumed."""
    items.clear()
    yield from islice(items, 0)


def _spooled(structures: Iterable[tuple[str, Atoms]]) -> _Part:
    folder = TemporaryDirectory(prefix="carten-")
    path = Path(folder.name, "structures.aselmdb")
    builder = TableBuilder()
    origins: list[tuple[int, str]] = []
    with StoreWriter(path, durable=False) as writer:
        for where, atoms in structures:
            name = where.rpartition(", frame ")[0]
            if not origins or origins[-1][1] != name:
                origins.append((writer.count, name))
            writer.append(atoms)
            builder.add(atoms)
    return _Part(Store(path, origins=origins), builder.finish(), (path, stamp(path)), folder)


def _origins(structures: Structures) -> list[tuple[int, str]]:
    if isinstance(structures, Store):
        return list(structures.origins)
    origins: list[tuple[int, str]] = []
    for number, (where, _) in enumerate(structures):
        name = where.rpartition(", frame ")[0] or where
        if not origins or origins[-1][1] != name:
            origins.append((number, name))
    return origins
