"""Structures from files: all ASE reads, ASE databases, ASE-LMDB. A damaged file is an error, never fewer frames."""

from __future__ import annotations

import difflib
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from carten.data.extra import restore
from carten.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

Paths = str | Path | Sequence[str | Path]

_DATABASES = (".db", ".aselmdb")
_XYZ = (".xyz", ".extxyz")
_COMPRESSED = (".gz", ".bz2", ".xz")
# what ASE's parsers raise on a damaged file
_DAMAGED = (
    ArithmeticError, AssertionError, AttributeError, EOFError, LookupError, OSError, RuntimeError, StopIteration,
    TypeError, ValueError, sqlite3.Error,
)  # fmt: skip


def read_structures(paths: Paths) -> list[tuple[str, Atoms]]:
    """All structures of one or more files, each with where it came from (``"train.extxyz, frame 12"``, counted from 0).

    Args:
        paths: a file, a directory of ``.aselmdb`` files, or a sequence of them. Labels end up in ``atoms.info``,
            ``atoms.arrays`` or the results of a single-point calculator, those of a database also in ``info``.

    Raises:
        DataError: a file is missing, empty, cut off, or in no format that ASE knows.
    """
    found: list[tuple[str, Atoms]] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for file in _files(Path(path)):
            structures = _read_database(file) if file.suffix in _DATABASES else _read_file(file)
            if not structures:
                raise DataError(f"{file}: no structure in it; check that the file is what you meant")
            for number, atoms in enumerate(structures):
                where = f"{file}, frame {number}"
                found.append((where, restore(atoms, where)))
    if not found:
        raise DataError("no data file given; expected at least one path")
    return found


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = sorted(path.glob("*.aselmdb"))
        if not files:
            raise DataError(f"{path}: is a directory without .aselmdb files; name the data file in it")
        return files
    if not path.exists():
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = difflib.get_close_matches(path.name, siblings, n=1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise DataError(f"{path}: no such file{hint}")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty")
    return [path]


def _read_file(path: Path) -> list[Atoms]:
    import ase.io
    from ase.io.formats import UnknownFileTypeError

    kind = Path(path.stem).suffix if path.suffix in _COMPRESSED else path.suffix
    options: dict[str, Any] = {}
    if kind in _XYZ:
        _require_whole(path)
        options = {"format": "extxyz", "properties_parser": parse_comment}
    try:
        frames = ase.io.read(path, index=":", do_not_split_by_at_sign=True, **options)
    except (UnknownFileTypeError, *_DAMAGED) as error:
        raise DataError(f"{path}: cannot be read, it is damaged or in no format ASE knows: {_why(error)}") from error
    return frames if isinstance(frames, list) else [frames]


def _read_database(path: Path) -> list[Atoms]:
    import ase.db

    options = {"readonly": True} if path.suffix == ".aselmdb" else {}
    if path.suffix == ".aselmdb":
        _require_whole_lmdb(path)
    connect: Callable[..., Any] = ase.db.connect
    try:
        database = connect(path, use_lock_file=False, **options)
        frames = []
        for row in database.select():
            atoms = row.toatoms()
            atoms.info.update(row.key_value_pairs)
            atoms.info.update(row.data)
            frames.append(atoms)
    except _DAMAGED as error:
        raise DataError(f"{path}: cannot be read as an ASE database, it is damaged: {_why(error)}") from error
    return frames


def _why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _require_whole_lmdb(path: Path) -> None:
    """Refuse what is no LMDB file, or a shortened one: reading beyond the end of a memory map kills the process."""
    import lmdb

    try:
        with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as environment:
            needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    except lmdb.Error as error:
        raise DataError(f"{path}: cannot be read as ASE-LMDB, it is damaged: {error}") from error
    if needed > path.stat().st_size:
        raise DataError(f"{path}: cut off: it has {path.stat().st_size} of {needed} bytes; copy it again")


# --- extended XYZ: ASE ends at a blank line and swallows empty values, both in silence ---

_QUOTED = r"""(?P<kept>"(?:[^"\\]|\\.)+"|'[^']+'|\{[^}]+\}|\[[^\]]+\])"""
_EMPTY = r"""(?P<key>[A-Za-z_][\w-]*)\s*=(?:\s*(?:""|''|\{\}|\[\])(?=\s|$)|(?=\s+[A-Za-z_][\w-]*\s*=|\s*$))"""
_QUOTED_OR_EMPTY = re.compile(f"{_QUOTED}|{_EMPTY}")


def parse_comment(line: str) -> dict[str, Any]:
    """Parse the comment line; ``group= energy=-1.0`` is an empty group and an energy (ASE: group = "energy=-1.0")."""
    from ase.io import extxyz

    empty: dict[str, Any] = {}

    def without_empty(match: re.Match[str]) -> str:
        if match["key"]:
            empty[match["key"]] = ""
        return match["kept"] or ""

    parse: Callable[[str], dict[str, Any]] = extxyz.key_val_str_to_dict
    return parse(_QUOTED_OR_EMPTY.sub(without_empty, line)) | empty


def _require_whole(path: Path) -> None:
    """Walk through the frames of an (extended) XYZ file; refuse one that ends early or has lines between frames."""
    from ase.io.formats import open_with_compression

    try:
        with open_with_compression(str(path), "r") as file:
            for frame, line in enumerate(_headers(file, path)):
                _require_frame(file, f"{path}: frame {frame} (line {line[0]})", line[1])
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read, it is damaged: {_why(error)}") from error


def _headers(file: IO[str], path: Path) -> Iterator[tuple[int, int]]:
    """Line number and number of atoms of every frame; the caller consumes the frame between two items."""
    number = 0
    while header := file.readline():
        number += 1
        if header.lstrip().startswith("VEC"):
            continue
        if not header.strip():
            if rest := file.read(4096).strip():
                raise DataError(
                    f"{path}: line {number} is blank but more follows ({rest[:20]!r}...); remove the blank line"
                )
            return
        if not header.strip().isdigit():
            raise DataError(
                f"{path}: line {number} should be the number of atoms of a frame, found {header.strip()[:40]!r}; "
                "the file is damaged, or not in (extended) XYZ format"
            )
        yield number, int(header)
        number += 1 + int(header)


def _require_frame(file: IO[str], where: str, n_atoms: int) -> None:
    lines = [file.readline() for _ in range(n_atoms + 1)]
    atoms = [line for line in lines[1:] if line.strip()]
    if len(atoms) < n_atoms:
        raise DataError(f"{where}: announces {n_atoms} atoms, found {len(atoms)}; the file is cut off or damaged")
    if atoms and not atoms[-1].endswith("\n"):
        _require_whole_line(atoms, where)


def _require_whole_line(atoms: list[str], where: str) -> None:
    """Refuse a file that ends within its last line: fewer columns, or shorter than all other lines of a fixed width."""
    widths = {len(line.rstrip("\n")) for line in atoms[:-1]}
    columns = {len(line.split()) for line in atoms[:-1]}
    shorter = len(widths) == 1 and len(atoms) > 2 and len(atoms[-1]) < min(widths)
    if shorter or (columns and len(atoms[-1].split()) < min(columns)):
        raise DataError(f"{where}: the file ends within its last line {atoms[-1][-40:]!r}; it is cut off")
