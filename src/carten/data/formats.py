"""Which formats are read, and how a file is recognised: only formats whose readers run no code and no program."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

from carten.errors import DataError

EXTXYZ, SQLITE, JSON, LMDB, TRAJECTORY = "extxyz", "db", "json", "aselmdb", "traj"
PATTERNS: tuple[tuple[str, str], ...] = (
    ("*.xyz", EXTXYZ),
    ("*.extxyz", EXTXYZ),
    ("*.db", SQLITE),
    ("*.json", JSON),
    ("*.aselmdb", LMDB),
    ("*.lmdb", LMDB),
    ("*.mdb", LMDB),
    ("*.traj", TRAJECTORY),
    ("*poscar*", "vasp"),
    ("*contcar*", "vasp"),
    ("*.vasp", "vasp"),
    ("*outcar*", "vasp-out"),
    ("*xdatcar*", "vasp-xdatcar"),
    ("*vasp*.xml", "vasp-xml"),
    ("*.cif", "cif"),
    ("*.pdb", "proteindatabank"),
    ("*.gro", "gromacs"),
    ("*.mol", "mol"),
    ("*.sdf", "sdf"),
    ("*.xsf", "xsf"),
    ("*.cube", "cube"),
    ("*.gen", "gen"),
    ("*.pwi", "espresso-in"),
    ("*.pwo", "espresso-out"),
    ("*.lammpstrj", "lammps-dump-text"),
    ("*.shelx", "res"),
    ("*.res", "res"),
    ("*.castep", "castep-castep"),
    ("*.geom", "castep-geom"),
    ("coord", "turbomole"),
)
"""Formats by the name of a file, in lower case and without the suffix of a compression; ASE's names of formats."""

_BY_CONTENT = {
    "aims-output", "espresso-out", "gaussian-out", "lammps-dump-text", "nwchem-out", "orca-output", "runnerdata",
    "turbomole", "xsf",
}  # fmt: skip
_BEGINNINGS = ((b"SQLite format 3\0", SQLITE), (b"- of UlmASE-Trajectory", TRAJECTORY), (b"AFFormatASE-", TRAJECTORY))
SAFE = frozenset({format for _, format in PATTERNS} | _BY_CONTENT)
"""Formats that are read unasked. Others need to be named: ASE's readers of some start programs (``castep-cell``)."""

_COMPRESSED: tuple[tuple[bytes, Any], ...] = ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open))
_LMDB_MAGIC = (16, b"\xde\xc0\xef\xbe")  # offset and value


@contextmanager
def third_party(source: str | Path) -> Iterator[None]:
    """Turn whatever a reader raises on a damaged file into a :class:`carten.errors.DataError`.

    The readers of ASE document no errors; on damaged files they raise nearly every exception of Python.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        raise DataError(f"{source}: cannot be read, it is damaged or in another format: {reason[:300]}") from error


@contextmanager
def opened(path: Path, mode: str = "rb") -> Iterator[IO[Any]]:
    """Open a file that may be compressed by gzip, bzip2 or xz, whatever its name.

    Raises:
        DataError: it cannot be read, its compressed data are damaged or cut off, or it is not text where ``mode`` is
            ``"rt"``.
    """
    try:
        with path.open("rb") as file:
            beginning = file.read(8)
        opener: Any = next((opener for magic, opener in _COMPRESSED if beginning.startswith(magic)), open)
        with opener(path, mode, encoding="utf-8-sig" if mode == "rt" else None) as file:
            yield file
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read, it is damaged or cut off: {error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: cannot be read, it is damaged or no text: {error}") from error


def recognised(path: Path) -> str:
    """The format of a file, by its name, else by its beginning.

    Raises:
        DataError: it is in none of the formats that are read unasked.
    """
    name = path.name.lower()
    for suffix in (".gz", ".bz2", ".xz", ".zst"):
        name = name.removesuffix(suffix)
    for pattern, format in PATTERNS:
        if fnmatchcase(name, pattern):
            return format
    with opened(path) as file:
        beginning = file.read(4096)
    return _by_content(beginning) or _refuse(path)


def _by_content(beginning: bytes) -> str | None:
    from ase.io.formats import UnknownFileTypeError, match_magic

    for magic, format in _BEGINNINGS:
        if beginning.startswith(magic):
            return format
    offset, magic = _LMDB_MAGIC
    if beginning[offset : offset + len(magic)] == magic:
        return LMDB
    lines = beginning.removeprefix(b"\xef\xbb\xbf").split(maxsplit=1)
    if lines and lines[0].isdigit() and beginning.splitlines()[0].split() == lines[:1]:
        return EXTXYZ
    try:
        guessed: str = match_magic(beginning).name
    except UnknownFileTypeError:
        return None
    return guessed if guessed in _BY_CONTENT else None


def _refuse(path: Path) -> str:
    from ase.io.formats import UnknownFileTypeError, filetype

    named = ""
    try:
        guessed = filetype(str(path.absolute()), guess=False)
        named = f"; if you trust the file, name its format, which may be {guessed} (--format, data.format)"
    except (UnknownFileTypeError, OSError, EOFError, lzma.LZMAError, zlib.error):
        named = "; name its format (--format, data.format), or write it as extended XYZ"
    raise DataError(
        f"{path}: is not in a format read by default (extended XYZ, .traj, ASE's .db, .json and .aselmdb, VASP, "
        f"CIF, PDB, outputs of common programs){named}"
    )


def require_format(format: str, path: Path) -> None:
    """Check the name of a format that a user gave.

    Raises:
        DataError: ASE reads no such format.
    """
    from ase.io.formats import ioformats

    if format not in SAFE and not (format in ioformats and ioformats[format].can_read):
        import difflib

        near = difflib.get_close_matches(format, [*SAFE, *ioformats], n=1)
        hint = f"; did you mean {near[0]}?" if near else "; ase info --formats lists those there are"
        raise DataError(f"{path}: format {format!r} is not known{hint}")


def iterate_with_ase(path: Path, format: str) -> Iterator[Any]:
    """All frames of a file by ASE's reader of a format."""
    import ase.io

    with third_party(path):  # an absolute path: ASE takes "-", "postgres.." and names with wildcards for other things
        yield from ase.io.iread(path.absolute(), index=":", format=format, do_not_split_by_at_sign=True)
