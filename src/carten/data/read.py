"""Structures from files. A damaged file is an error, never fewer frames; no file runs code."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from carten.data.databases import read_database, read_lmdb, require_plausible
from carten.data.extra import restore
from carten.data.formats import (
    EXTXYZ,
    JSON,
    LMDB,
    SQLITE,
    TRAJECTORY,
    opened,
    read_with_ase,
    recognised,
    require_format,
)
from carten.data.xyz import read_xyz
from carten.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

Paths = str | Path | Sequence[str | Path]


def read_structures(paths: Paths, format: str | None = None) -> list[tuple[str, Atoms]]:
    """All structures of one or more files, each with where it came from (``"train.extxyz, frame 12"``, counted from 0).

    Files are recognised by their names or contents and may be compressed (gzip, bzip2, xz). Only formats whose readers
    run no code are read unasked (:data:`carten.data.formats.SAFE`); naming another one says that the file is trusted.

    Args:
        paths: a file, a directory of ``.aselmdb`` files, or a sequence of them. Labels end up in ``atoms.info``,
            ``atoms.arrays`` or the results of a single-point calculator, those of a database also in ``info``.
        format: ASE's name of the format of all files, for files that you trust.

    Raises:
        DataError: a file is missing, empty, cut off or damaged, or in no format that is read unasked.
    """
    structures: list[tuple[str, Atoms]] = []
    for path in [paths] if isinstance(paths, str | Path) else paths:
        for file in _files(Path(path)):
            frames = _read(file, format)
            if not frames:
                raise DataError(f"{file}: no structure in it; check that the file is what you meant")
            for number, atoms in enumerate(frames):
                where = f"{file}, frame {number}"
                structures.append((where, _with_moments(restore(atoms, where))))
    if not structures:
        raise DataError("no data file given; expected at least one path")
    return structures


def _files(path: Path) -> list[Path]:
    try:
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
        if not path.is_file():
            raise DataError(f"{path}: is neither a file nor a directory")
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
    except (OSError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{str(path)!r:.200}: cannot be opened: {error}") from error
    return [path]


def _read(path: Path, format: str | None) -> list[Atoms]:
    if format is None:
        format = recognised(path)
    else:
        require_format(format, path)
    if format in (EXTXYZ, "xyz"):
        return read_xyz(path)
    if format in (SQLITE, JSON):
        return read_database(path, format)
    if format == LMDB:
        return read_lmdb(path)
    if format == TRAJECTORY:
        with opened(path) as file:
            require_plausible(file.read(), path)
    return read_with_ase(path, format)


def _with_moments(atoms: Atoms) -> Atoms:
    """Magnetic moments among the results become the initial ones where a structure has no others and they are not zero.

    Results are lost as soon as a structure gets another calculator or is copied; what a model reads has to stay.
    """
    moments = atoms.calc.results.get("magmoms") if atoms.calc is not None else None
    if moments is None or {"magmoms", "initial_magmoms"} & set(atoms.arrays) or len(moments) != len(atoms):
        return atoms
    if np.any(moments):
        atoms.arrays["initial_magmoms"] = np.array(moments, dtype=float)
    return atoms
