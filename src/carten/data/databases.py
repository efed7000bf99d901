"""Structures from databases of ASE in SQLite and JSON. Nothing is unpickled, nothing is written."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from carten.data.formats import JSON, SQLITE, opened, third_party
from carten.data.store import require_plausible
from carten.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms


def iterate_database(path: Path, format: str) -> Iterator[Atoms]:
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
        yield from _structures(database.select())


def _structures(rows: Iterable[Any]) -> Iterator[Atoms]:
    for row in rows:
        atoms = row.toatoms()
        atoms.info.update(row.key_value_pairs)
        atoms.info.update(row.data)
        yield atoms


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
