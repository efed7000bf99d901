"""Extended XYZ, frame by frame: ASE reads each from the lines it announces; what it cannot read is an error."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from io import StringIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from carten.data.formats import opened, third_party
from carten.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

_LONGEST = 2**28  # characters of a line
_DIGITS = 12  # of a number of atoms
_QUOTED = r"""(?P<kept>"(?:[^"\\]|\\.)+"|'[^']+'|\{[^}]+\}|\[[^\]]+\])"""
_EMPTY = r"""(?P<key>[A-Za-z_][\w-]*)\s*=(?:\s*(?:""|''|\{\}|\[\])(?=\s|$)|(?=\s+[A-Za-z_][\w-]*\s*=|\s*$))"""
_QUOTED_OR_EMPTY = re.compile(f"{_QUOTED}|{_EMPTY}")
_KEY = re.compile(r"(?<!\S)([A-Za-z_][\w-]*)\s*=")
_COLUMNS = re.compile(r"\w+:[RISL]:\d+(:\w+:[RISL]:\d+)*")
_STRUCTURAL = {"lattice": "Lattice", "properties": "Properties", "pbc": "pbc"}
_CELLS = ("lattice", "cell", "unitcell", "cellvectors", "latticevectors", "cellparameters", "box")
_PERIODIC = ("pbc", "pcb", "periodic", "periodicity", "periodicboundaryconditions", "boundary", "boundaries")
_TRUTH = {"t": True, "true": True, "1": True, "f": False, "false": False, "0": False}


def iterate_xyz(path: Path) -> Iterator[Atoms]:
    """All frames of an (extended) XYZ file, which may be compressed.

    Raises:
        DataError: a frame ends early or is damaged, lines stand between frames, or a key of the comment line that is
            misspelt would change the structure.
    """
    count = 0
    with opened(path, "rt") as file:
        lines = _Lines(file, path)
        while (line := lines.peek()).strip():
            yield _frame(lines, f"{path}, frame {count} (line {lines.number + 1})")
            count += 1
        blank = lines.number + 1
        while line and not line.strip():
            lines.take()
            line = lines.peek()
        if line:
            raise DataError(
                f"{path}: line {blank} is blank but more follows ({line.strip()[:20]!r}...); remove the blank line"
            )


class _Lines:
    """The lines of a file, of which the next can be looked at before it is taken."""

    def __init__(self, file: IO[str], path: Path) -> None:
        self._file, self._path = file, path
        self._next: str | None = None
        self.number = 0
        """Of the line taken last, from 1."""

    def peek(self) -> str:
        """The next line, empty at the end of the file."""
        if self._next is None:
            self._next = self._file.readline(_LONGEST)
            if len(self._next) == _LONGEST:
                raise DataError(f"{self._path}: line {self.number + 1} is longer than {_LONGEST} characters; damaged")
        return self._next

    def take(self) -> str:
        """The next line, which is then behind us."""
        line = self.peek()
        self._next = None
        self.number += 1
        return line


def _frame(lines: _Lines, where: str) -> Atoms:
    from ase.io import extxyz

    header = lines.take()
    count = header.strip()
    if not (count.isascii() and count.isdigit() and len(count) <= _DIGITS):
        raise DataError(
            f"{where}: line {lines.number} should be the number of atoms of a frame, found {count[:40]!r}; the file is "
            "damaged, or not in (extended) XYZ format"
        )
    comment = lines.take()
    atom_lines = _take_atoms(lines, int(count), where)
    vectors = []
    while lines.peek().lstrip().startswith("VEC"):
        vectors.append(lines.take())
    with third_party(where):
        values = {} if vectors else parse_comment(comment, where)
        _require_columns(atom_lines, values.get("Properties"), where)
        text = "".join([header, comment, *(f"{line.rstrip()}\n" for line in (*atom_lines, *vectors))])
        atoms: Atoms = next(extxyz.read_xyz(StringIO(text), 0, lambda _: values))
    return atoms


def _take_atoms(lines: _Lines, n_atoms: int, where: str) -> list[str]:
    taken: list[str] = []
    while len(taken) < n_atoms and lines.peek().strip():
        taken.append(lines.take())
    if len(taken) < n_atoms:
        raise DataError(f"{where}: announces {n_atoms} atoms, found {len(taken)}; the file is cut off or damaged")
    if taken and not taken[-1].endswith("\n"):
        _require_whole_line(taken, where)
    return taken


def _require_whole_line(atom_lines: Sequence[str], where: str) -> None:
    """Refuse a file that ends within its last line: that has fewer columns, or its last number fewer digits."""
    *others, last = (line.split() for line in atom_lines)
    decimals = [_decimals(word) for word in last]
    above = [_decimals(line[-1]) for line in others]
    if others:
        shorter = max(decimals[:-1], default=0) > decimals[-1] < min(above)
    else:
        shorter = min((count for count in decimals[:-1] if count), default=0) > max(1, decimals[-1])
    widths = {len(line.rstrip("\n")) for line in atom_lines[:-1]}
    if len(widths) == 1 and all("  " in line.strip() for line in atom_lines[:-1]):  # columns of a fixed width
        shorter = shorter or len(atom_lines[-1].rstrip()) < min(widths)
    if shorter or len(last) < min(map(len, others), default=0):
        raise DataError(f"{where}: the file ends within its last line {atom_lines[-1][-40:]!r}; it is cut off")


def _decimals(text: str) -> int:
    return len(text.partition(".")[2])


def _require_columns(atom_lines: Sequence[str], declared: str | None, where: str) -> None:
    """Check that every line of an atom has the columns that the comment line declares."""
    if declared is None:
        return
    fields = str(declared).split(":")
    if not _COLUMNS.fullmatch(str(declared)):
        raise DataError(
            f"{where}: Properties should be name:type:columns, with the types R, I, S and L, found {declared!r:.80}"
        )
    names, columns = fields[::3], sum(int(count[:_DIGITS]) for count in fields[2::3])
    if not {"pos", "positions"} & set(names) or not {"species", "symbols", "Z", "numbers"} & set(names):
        raise DataError(f'{where}: Properties should have "species" (or "Z") and "pos", found {", ".join(names)[:80]}')
    for number, line in enumerate(atom_lines):
        if len(line.split()) != columns:
            raise DataError(
                f"{where}: atom {number} has {len(line.split())} columns, Properties ({declared}) declare {columns}; "
                "the file is cut off or damaged, or Properties are wrong"
            )


def parse_comment(comment: str, where: str = "structure") -> dict[str, Any]:
    """Keys and values of a comment line; ``group= energy=-1.0`` is an empty group and an energy.

    Raises:
        DataError: a key stands twice, or the keys of the structure are misspelt or have impossible values.
    """
    from ase.io import extxyz

    empty: dict[str, Any] = {}

    def without_empty(match: re.Match[str]) -> str:
        if match["key"]:
            empty[match["key"]] = ""
        return match["kept"] or ""

    parse: Callable[[str], dict[str, Any]] = extxyz.key_val_str_to_dict
    cleaned = _QUOTED_OR_EMPTY.sub(without_empty, comment.strip())
    keys = _KEY.findall(re.sub(_QUOTED, '""', cleaned))
    if twice := [key for key in dict.fromkeys(keys) if keys.count(key) > 1]:
        raise DataError(f"{where}: the comment line has the key {twice[0]!r} more than once; remove one")
    values = (parse(cleaned) if cleaned.strip() else {}) | empty
    for key in list(values):
        _spell(key, values, where)
    if "pbc" in values:
        values["pbc"] = _periodic(values["pbc"], where)
    _require_spelling(values, where)
    return values


def _spell(key: str, values: dict[str, Any], where: str) -> None:
    """Give a key of the structure its spelling: ``lattice`` is ``Lattice``."""
    name = _STRUCTURAL.get(key.lower())
    if name is None or name == key:
        return
    value = values[key]
    if name == "Lattice":
        numbers = value.size if isinstance(value, np.ndarray) else None
        if numbers is None and isinstance(value, str) and not re.search(r"\d", value):
            return  # the name of a lattice: lattice=fcc
        if numbers != 9:
            raise DataError(f'{where}: "{key}" should be Lattice="..." with nine numbers, found {value!r:.60}')
        value = np.array(value, dtype=float).reshape(3, 3).T
    if name in values:
        raise DataError(f"{where}: the comment line has {key!r} and {name!r}; remove one")
    del values[key]
    values[name] = value


def _periodic(value: Any, where: str) -> list[bool]:
    """Three truth values."""
    words = value.replace(",", " ").split() if isinstance(value, str) else np.ravel(np.asarray(value)).tolist()
    truth = [_TRUTH.get(str(word).lower()) for word in words]
    flags = [flag for flag in truth if flag is not None]
    if len(flags) not in (1, 3) or len(flags) < len(truth):
        raise DataError(f'{where}: pbc should be three of T and F, as in pbc="T T F", found {value!r:.60}')
    return flags * (3 // len(flags))


def _require_spelling(values: dict[str, Any], where: str) -> None:
    """Refuse keys that were probably meant to be those of the structure."""
    for key, value in values.items():
        plain = _plain(key)
        size = value.size if isinstance(value, np.ndarray) else len(value) if isinstance(value, list) else 0
        if size in (3, 6, 9) and "Lattice" not in values and any(values.get("pbc", [True])) and _is_cell(plain):
            meant = 'Lattice="ax ay az bx by bz cx cy cz"'
        elif "Properties" not in values and isinstance(value, str) and _COLUMNS.fullmatch(value):
            meant = "Properties=..."
        elif "pbc" not in values and plain in _PERIODIC and size == 3:
            meant = 'pbc="T T T"'
        else:
            continue
        raise DataError(f"{where}: has the key {key!r}, which nothing reads; write {meant}, or remove it")


def _plain(key: str) -> str:
    return key.lower().replace("_", "").replace("-", "")


@lru_cache(maxsize=1024)
def _is_cell(plain: str) -> bool:
    return plain in _CELLS or bool(difflib.get_close_matches(plain, ["lattice"], cutoff=0.8))
