"""Structures from databases of ASE: SQLite, JSON and LMDB. Nothing is unpickled, nothing is written."""

from __future__ import annotations

import math
import re
import sqlite3
import zlib
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from carten.data.formats import JSON, SQLITE, opened, third_party
from carten.data.pages import entries
from carten.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

_LARGEST = 2**30  # bytes of an entry that is decompressed
_ARRAY = re.compile(rb'"__ndarray__"\s*:\s*\[\s*\[([\d\s,]*)\]')
_PICKLES = (b"\x80", b"(", b"ccopy_reg")


def read_database(path: Path, format: str) -> list[Atoms]:
    """All rows of a SQLite or JSON database of ASE.

    Raises:
        DataError: the file is damaged, or no such database.
    """
    import ase.db

    if format == SQLITE:
        _require_plain_tables(path)
    if format == JSON:
        with opened(path) as file:
            require_plausible(file.read(), path)
    with third_party(path):
        database = ase.db.connect(path.absolute(), type=format, use_lock_file=False)
        return _structures(database.select())


def read_lmdb(path: Path) -> list[Atoms]:
    """All rows of an ASE-LMDB file.

    Raises:
        DataError: the file is damaged or cut off, lacks rows that it announces, or holds pickles.
    """
    stored = dict(entries(path))
    if any(not key.isascii() for key in stored):
        raise DataError(f"{path}: is no ASE-LMDB database: its keys are no text")
    numbers = sorted(int(key) for key in stored if key.isdigit() and len(key) <= 18)
    with third_party(path):
        rows = [_row(stored, number, path) for number in numbers]
        announced = int(_decode(stored[b"nextid"], path)) - 1 if b"nextid" in stored else len(numbers)
        deleted = len(set(_decode(stored[b"deleted_ids"], path))) if b"deleted_ids" in stored else 0
        if announced - deleted != len(numbers):
            raise DataError(f"{path}: announces {announced - deleted} structures, found {len(numbers)}; it is damaged")
        return _structures(rows)


def _row(stored: dict[bytes, bytes], number: int, path: Path) -> Any:
    from ase.calculators.calculator import all_properties
    from ase.db.row import AtomsRow

    row = _decode(stored[str(number).encode()], f"{path}, row {number}")
    results = {name: np.array(row[name]) for name in all_properties if isinstance(row.get(name), list)}
    return AtomsRow({**row, **results, "id": number})


def _decode(value: bytes, where: str | Path) -> Any:
    from ase.io.jsonio import decode

    if value.startswith(_PICKLES):
        raise DataError(
            f"{where}: holds pickles, which carten does not read, since they can run any code; convert the file to "
            "ASE-LMDB (.aselmdb) with the program that wrote it"
        )
    decompressor = zlib.decompressobj()
    text = decompressor.decompress(value, _LARGEST)
    if decompressor.unconsumed_tail:
        raise DataError(f"{where}: an entry has more than {_LARGEST} bytes; it is damaged")
    require_plausible(text, where)
    return decode(text.decode())


def _structures(rows: Iterable[Any]) -> list[Atoms]:
    structures = []
    for row in rows:
        atoms = row.toatoms()
        atoms.info.update(row.key_value_pairs)
        atoms.info.update(row.data)
        structures.append(atoms)
    return structures


def require_plausible(text: bytes, where: str | Path) -> None:
    """Check that no array in ASE's JSON has more numbers than the text has room for: it would be allocated unseen.

    Raises:
        DataError: there is one.
    """
    for match in _ARRAY.finditer(text):
        size = math.prod(int(length[:18]) for length in match[1].replace(b",", b" ").split())
        if size > len(text):
            raise DataError(f"{where}: an array of {size} numbers stands in {len(text)} bytes; the file is damaged")


def _require_plain_tables(path: Path) -> None:
    """Refuse what ASE would write into, or what SQLite would compute: files without its tables, views and triggers."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as database:
            kinds = database.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
            computed = [name for kind, name, sql in kinds if _is_computed(kind, sql)]
            if computed or ("table", "systems") not in {(kind, name) for kind, name, _ in kinds}:
                content = f"a view, trigger or virtual table {computed[0]!r}" if computed else "no table of structures"
                raise DataError(f"{path}: is no ASE database: it has {content}")
            for (text,) in database.execute("SELECT data FROM systems WHERE typeof(data) = 'text'"):
                require_plausible(text.encode(), path)
            for text in database.execute("SELECT constraints || calculator_parameters || key_value_pairs FROM systems"):
                require_plausible(str(text[0]).encode(), path)
    except (sqlite3.Error, UnicodeError) as error:
        raise DataError(f"{path}: cannot be read as an ASE database, it is damaged: {error}") from error


def _is_computed(kind: str, statement: str | None) -> bool:
    return kind in ("view", "trigger") or "VIRTUAL" in str(statement).upper()
