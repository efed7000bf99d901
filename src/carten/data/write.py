"""Structures to extended XYZ, such that :func:`carten.data.read.read_structures` returns all they carry.

ASE's format has no place for some of it: constraints other than fixed atoms, arrays with more than two axes, integers
beyond 32 bits, text with spaces, ``celldisp``. That goes as JSON under one more key of the comment line
(:mod:`carten.data.extra`), and only where it is needed; other programs read the rest of the file as ever.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from carten.data.extra import CONSTRAINTS, EXTRA
from carten.data.xyz import parse_comment
from carten.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

_NAME = re.compile(r"[A-Za-z_][\w-]*")
_COLUMNS = ("species", "pos", "Z", "charge", "symbols", "move_mask")  # of the format itself
_ENTRIES = ("Lattice", "Properties", "pbc", EXTRA)
_SPECIAL = ("virial", "stress")  # ASE insists on nine numbers
_INT32 = 2**31


@contextmanager
def replacing(path: str | Path) -> Iterator[IO[str]]:
    """A text file that takes the place of ``path`` once all is written; after an error what was there is untouched."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("x", newline="", encoding="utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_structure(file: IO[str], atoms: Atoms) -> None:
    """Append one structure, with the results of its calculator, to an open extended XYZ file.

    Raises:
        DataError: it carries something that no file can hold; the message names it.
    """
    from ase.io import write

    try:
        write(file, writable(atoms), format="extxyz")
    except IndexError as error:
        raise DataError(f"its constraints name atoms that the structure does not have ({error})") from error


def writable(atoms: Atoms) -> Atoms:
    """A copy that ASE's writer of extended XYZ loses nothing of; errors as :func:`write_structure`."""
    from ase.calculators.singlepoint import SinglePointCalculator

    copy: Atoms = atoms.copy()
    extra: dict[str, Any] = {}
    results = _move_results(atoms, copy)
    for name in [name for name, array in copy.arrays.items() if not _is_column(name, array)]:
        extra.setdefault("arrays", {})[name] = _packed(name, copy.arrays.pop(name))
    for key, value in list(copy.info.items()):
        del copy.info[key]
        if (text := _comment_value(key, value)) is not None:
            copy.info[key] = text
        else:
            extra.setdefault("info", {})[str(key)] = _packed(str(key), value)
    if not _is_move_mask(atoms):
        extra["constraints"] = described_constraints(atoms)
    if np.any(atoms.get_celldisp()):
        extra["celldisp"] = np.ravel(atoms.get_celldisp()).tolist()
    if extra:
        copy.info[EXTRA] = _json_text(extra)
    copy.calc = SinglePointCalculator(copy, **results) if results else None
    return copy


def _move_results(atoms: Atoms, copy: Atoms) -> dict[str, Any]:
    """Results of the calculator that the format knows; the others are put into the copy's ``info`` and ``arrays``."""
    from ase.io.extxyz import per_atom_properties, per_config_properties

    results = {} if atoms.calc is None else dict(atoms.calc.results)
    known = {}
    for name, value in results.items():
        if name in copy.info or name in copy.arrays or value is None:
            continue  # labels are looked up there first
        if name in per_config_properties or (name in per_atom_properties and np.ndim(value) <= 2):
            known[name] = value
        elif np.ndim(value) > 0 and len(value) == len(atoms):
            copy.arrays[name] = np.asarray(value)
        else:
            copy.info[name] = value
    return known


def _is_column(name: str, array: np.ndarray[Any, Any]) -> bool:
    """Whether ASE writes an array as columns that it reads back as they were."""
    if name in ("numbers", "positions"):
        return True
    if name in _COLUMNS or not _NAME.fullmatch(name) or array.ndim > 2 or (array.ndim == 2 and array.shape[1] < 2):
        return False
    if array.dtype.kind == "i":
        return bool((np.abs(array.astype(np.float64)) < _INT32).all())
    if array.dtype.kind in "UO":
        return all(isinstance(text, str) and text and not re.search(r"\s", text) for text in array.ravel())
    return array.dtype.kind in "fb"


def _comment_value(key: Any, value: Any) -> Any:
    """An entry of the comment line that is read back as this value; None where there is no such entry."""
    from ase.io.extxyz import key_val_dict_to_str

    if not isinstance(key, str) or key in _ENTRIES or not _NAME.fullmatch(key):
        return None
    vector = isinstance(value, np.ndarray) and value.dtype == np.float64 and value.ndim == 1 and value.size > 1
    if vector and key not in _SPECIAL:
        return value  # as most large ones: parsing them would take long
    value = as_json(value) if not isinstance(value, np.ndarray) else value
    as_text = _json_or_none(value)
    if as_text is None:
        return None
    for entry in (as_text,) if isinstance(value, str) and not value else (value, as_text):
        try:
            line = key_val_dict_to_str({key: entry})
            if len(line.splitlines()) == 1 and _same(parse_comment(line).get(key), value):
                return entry
        except (AttributeError, TypeError, ValueError):
            continue
    return None


def _json_or_none(value: Any) -> str | None:
    try:
        return _json_text(as_json(value))
    except (TypeError, ValueError):
        return None


def _same(reread: Any, value: Any) -> bool:
    """Equal, where lists, tuples and arrays of the same numbers are; text is no number, and true is not 1."""
    if isinstance(value, dict):
        return bool(isinstance(reread, dict) and json.dumps(as_json(reread)) == json.dumps(as_json(value)))
    first, second = np.asarray(reread), np.asarray(value)
    kinds = {"u": "i", "S": "U"}
    if first.shape != second.shape or first.dtype.kind != kinds.get(second.dtype.kind, second.dtype.kind):
        return False
    return bool(np.array_equal(first, second, equal_nan=second.dtype.kind == "f"))


def _json_text(value: Any) -> str:
    """JSON as ASE reads it in a comment line, which takes one backslash of each pair away."""
    return "_JSON " + json.dumps(value).replace("\\", "\\\\")


def as_json(value: Any) -> Any:
    """Arrays and NumPy's numbers as lists and Python's, whatever they are nested in."""
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return as_json(value.tolist()) if value.dtype.kind == "O" else value.tolist()
    if type(value).__name__ == "Spacegroup":  # ASE's, of CIF files
        return str(value.symbol)
    return value


def _packed(name: str, value: Any) -> Any:
    try:
        packed: dict[str, Any] = {"value": as_json(value)}
        if isinstance(value, np.ndarray):
            packed.update(dtype=value.dtype.str if value.dtype.kind != "O" else "O", shape=list(value.shape))
        json.dumps(packed)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name!r} of the structure cannot be written to a file ({error}): remove it") from error
    return packed


def _is_move_mask(atoms: Atoms) -> bool:
    """Whether the constraints are none, or fixed atoms, for which the format has a column."""
    return not atoms.constraints or [type(constraint).__name__ for constraint in atoms.constraints] == ["FixAtoms"]


def described_constraints(atoms: Atoms) -> list[dict[str, Any]]:
    """The constraints of a structure as dictionaries, ready for JSON.

    Raises:
        DataError: there is one that no file may bring (:data:`carten.data.extra.CONSTRAINTS` are those that may).
    """
    for constraint in atoms.constraints:
        if type(constraint).__name__ not in CONSTRAINTS:
            raise DataError(
                f"the constraint {type(constraint).__name__} cannot be written to a file: remove it, or express it by "
                f"one of {', '.join(CONSTRAINTS)}"
            )
    return [as_json(constraint.todict()) for constraint in atoms.constraints]
