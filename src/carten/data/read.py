"""Structures from files. A damaged file is an error, never fewer frames; no file runs code."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

from carten.data.archives import is_packed, unpacked
from carten.data.databases import iterate_database
from carten.data.extra import restore, with_moments
from carten.data.formats import (
    EXTXYZ,
    JSON,
    LMDB,
    SQLITE,
    TRAJECTORY,
    iterate_with_ase,
    opened,
    recognised,
    require_format,
)
from carten.data.store import Store, require_plausible
from carten.data.xyz import iterate_xyz
from carten.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

Paths = str | Path | Sequence[str | Path]


def read_structures(paths: Paths, format: str | None = None) -> list[tuple[str, Atoms]]:
    """All structures of one or more files, each with where it came from (``"train.extxyz, frame 12"``, counted from 0).

    Files are recognised by their names or contents and may be compressed (gzip, bzip2, xz, Zstandard) or packed (tar).
    Only formats whose readers run no code are read unasked (:data:`carten.data.formats.SAFE`); naming another one says
    that the file is trusted.

    Args:
        paths: a file, a directory of ``.aselmdb`` files, a pattern (``runs/*/vasprun.xml``), or a sequence of them.
            Labels end up in ``atoms.info``, ``atoms.arrays`` or the results of a single-point calculator, those of a
            database also in ``info``.
        format: ASE's name of the format of all files, for files that you trust.

    Raises:
        DataError: a file is missing, empty, cut off or damaged, or in no format that is read unasked.
    """
    return list(iterate_structures(paths, format))


def iterate_structures(paths: Paths, format: str | None = None) -> Iterator[tuple[str, Atoms]]:
    """As :func:`read_structures`, one after another."""
    for path in data_files(paths):
        yield from iterate_file(path, format)


def data_files(paths: Paths) -> list[Path]:
    """The files that paths stand for: patterns and directories are looked up.

    Raises:
        DataError: one is missing, empty, or no file.
    """
    files = [file for path in ([paths] if isinstance(paths, str | Path) else paths) for file in _files(Path(path))]
    if not files:
        raise DataError("no data file given; expected at least one path")
    return files


def iterate_file(path: Path, format: str | None = None) -> Iterator[tuple[str, Atoms]]:
    """All structures of one file, one after another; arguments and errors as :func:`read_structures`."""
    if not is_packed(path):
        yield from _numbered(path, str(path), format)
        return
    for label, copy in unpacked(path):
        try:
            yield from _numbered(copy, label, format)
        except DataError as error:
            raise DataError(str(error).replace(str(copy), label)) from error


def _numbered(path: Path, label: str, format: str | None) -> Iterator[tuple[str, Atoms]]:
    number = -1
    for number, atoms in enumerate(_iterate(path, format)):
        where = f"{label}, frame {number}"
        yield where, with_moments(restore(atoms, where))
    if number < 0:
        raise DataError(f"{label}: no structure in it; check that the file is what you meant")


def _files(path: Path) -> list[Path]:
    try:
        if path.is_dir():
            files = sorted(path.glob("*.aselmdb"))
            if not files:
                raise DataError(f"{path}: is a directory without .aselmdb files; name the data file in it")
            return files
        if not path.exists():
            if files := _matching(path):
                return files
            siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
            near = difflib.get_close_matches(path.name, siblings, n=1)
            hint = f"; did you mean {path.parent / near[0]}?" if near else ""
            raise DataError(f"{path}: no such file{hint}")
        if not path.is_file():
            raise DataError(f"{path}: is neither a file nor a directory")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{str(path)!r:.200}: cannot be opened: {error}") from error
    return [path]


def _matching(pattern: Path) -> list[Path]:
    """Files whose names match a pattern."""
    if not set(str(pattern)) & set("*?["):
        return []
    return sorted(Path(name) for name in glob(str(pattern), recursive=True) if Path(name).is_file())


def _iterate(path: Path, format: str | None) -> Iterator[Atoms]:
    if format is None:
        format = recognised(path)
    else:
        require_format(format, path)
    if format in (EXTXYZ, "xyz"):
        return iterate_xyz(path)
    if format in (SQLITE, JSON):
        return iterate_database(path, format)
    if format == LMDB:
        return (atoms for _, atoms in Store(path))
    if format == TRAJECTORY:
        with opened(path) as file:
            require_plausible(file.read(), path)
    return iterate_with_ase(path, format)
