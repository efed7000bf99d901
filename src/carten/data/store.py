"""Structures in ASE-LMDB files, read one by one: nothing is unpickled, and memory does not grow with their number."""

from __future__ import annotations

import hashlib
import json
import math
import re
import zlib
from bisect import bisect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from carten.data.extra import constraint, restore, with_moments
from carten.data.formats import third_party
from carten.data.pages import Pages, Place
from carten.data.sequences import LazySequence
from carten.errors import DataError
from carten.math.arrays import Array

if TYPE_CHECKING:
    from ase import Atoms

_LARGEST = 2**30  # bytes of an entry that is decompressed
_ARRAY = re.compile(rb'"__ndarray__"\s*:\s*\[\s*\[([\d\s,]*)\]')
_PICKLES = (b"\x80", b"(", b"ccopy_reg")
_RARE = (b'"__complex', b'"__datetime__"', b'"__ase_objtype__"', b':int"')
"""Marks of what only ASE's decoder knows."""
_SAMPLED = 64  # pages of a file that identify it
_DIGITS = 18  # of a number of a row


class Store(LazySequence["tuple[str, Atoms]"]):
    """All rows of an ASE-LMDB file, each with where it is.

    Args:
        path: the file.
        places: of the rows, (rows, 2): offset and size; they are looked for by default.
        origins: first row and name of each file that rows are from; this one by default.

    Raises:
        DataError: the file is damaged or cut off, or lacks rows that it announces. What is wrong with a row, pickles
            too, is an error when it is read.
    """

    def __init__(
        self, path: Path, places: Array | None = None, origins: Sequence[tuple[int, str]] | None = None
    ) -> None:
        self.path = path
        self.origins = [(0, str(path))] if origins is None else origins
        self._pages = Pages(path)
        self.places = self._find() if places is None else places

    def __len__(self) -> int:
        return len(self.places)

    def item(self, number: int) -> tuple[str, Atoms]:
        """A row."""
        where = self.where(number)
        start, size = self.places[number].tolist()
        with third_party(where):
            atoms = _atoms(decode(self._pages.read(start, size), where))
        return where, with_moments(restore(atoms, where))

    def __reduce__(self) -> tuple[type[Store], tuple[Any, ...]]:
        return Store, (self.path, self.places, self.origins)

    def where(self, number: int) -> str:
        """File and frame, for messages."""
        first, name = self.origins[bisect(self.origins, number, key=lambda origin: origin[0]) - 1]
        return f"{name}, frame {number - first}"

    def metadata(self) -> Mapping[str, Any]:
        """What the file says of itself."""
        return next((self._decoded(place) for place in self._pages.places() if place.key == b"metadata"), {})

    def _decoded(self, place: Place) -> Any:
        with third_party(self.path):
            return decode(self._pages.read(place.start, place.size), self.path)

    def _find(self) -> Array:
        announced, n_deleted = None, 0
        rows = np.empty((self._pages.entries, 3), dtype=np.int64)
        count = 0
        for place in self._pages.places():
            if not place.key.isascii():
                raise DataError(f"{self.path}: is no ASE-LMDB database: its keys are no text")
            if place.key.isdigit() and len(place.key) <= _DIGITS:
                rows[count] = int(place.key), place.start, place.size
                count += 1
            elif place.key == b"nextid":
                announced = self._number(self._decoded(place)) - 1
            elif place.key == b"deleted_ids":
                n_deleted = len({*np.ravel(self._decoded(place)).tolist()})
        if announced is not None and announced - n_deleted != count:
            raise DataError(f"{self.path}: announces {announced - n_deleted} structures, found {count}; it is damaged")
        ordered = rows[:count][np.argsort(rows[:count, 0], kind="stable"), 1:]
        return np.ascontiguousarray(ordered)

    def _number(self, value: Any) -> int:
        if not isinstance(value, int):
            raise DataError(f"{self.path}: is damaged: the number of its next row is {value!r:.40}")
        return value


def stamp(path: Path) -> str:
    """Identifies the content of an ASE-LMDB file: every change that LMDB makes, and nearly every other file, differs.

    Raises:
        DataError: it is no such file, or cut off.
    """
    pages = Pages(path)
    size = path.stat().st_size
    total = hashlib.sha256(f"{size} {pages.entries} {pages.transaction}".encode())
    for start in np.unique(np.linspace(0, max(size - 4096, 0), _SAMPLED).astype(np.int64) // 4096 * 4096).tolist():
        total.update(pages.read(start, 4096))
    return total.hexdigest()


def decode(value: bytes, where: str | Path) -> Any:
    """The content of an entry: JSON of ASE, compressed.

    Raises:
        DataError: it is a pickle, or announces more numbers than it has.
    """
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
    if any(mark in text for mark in _RARE):
        from ase.io.jsonio import decode as decode_any

        return decode_any(text.decode())
    try:
        return _revived(orjson.loads(text))
    except orjson.JSONDecodeError:  # NaN and Infinity are no JSON, but ASE writes them
        return _revived(json.loads(text))


def require_plausible(text: bytes, where: str | Path) -> None:
    """Check that no array in ASE's JSON has more numbers than the text has room for: it would be allocated unseen.

    Raises:
        DataError: there is one.
    """
    for match in _ARRAY.finditer(text):
        size = math.prod(int(length[:18]) for length in match[1].replace(b",", b" ").split())
        if size > len(text):
            raise DataError(f"{where}: an array of {size} numbers stands in {len(text)} bytes; the file is damaged")


def _revived(value: Any) -> Any:
    """Arrays from their descriptions, and from lists of numbers, as ASE reads them."""
    if isinstance(value, dict):
        if "__ndarray__" in value:
            shape, dtype, numbers = value["__ndarray__"]
            array = np.empty(shape, dtype=dtype)
            if array.dtype.kind not in "biuf":
                raise ValueError(f"no array of type {dtype!r}")
            array.ravel()[:] = numbers
            return array
        return {key: _revived(item) for key, item in value.items()}
    if isinstance(value, list):
        items = [_revived(item) for item in value]
        return _as_array(items) if items else items
    return value


def _as_array(items: list[Any]) -> Any:
    try:
        array = np.asarray(items)
    except ValueError:  # ragged
        return items
    return array if array.dtype.kind in "biuf" else items


def _atoms(row: Mapping[str, Any]) -> Atoms:
    """A structure with its labels as the results of a calculator, and further entries in ``info``."""
    from ase import Atoms
    from ase.calculators.calculator import all_properties
    from ase.calculators.singlepoint import SinglePointCalculator

    optional = {name: row[name] for name in ("tags", "masses", "momenta") if row.get(name) is not None}
    atoms = Atoms(
        numbers=row["numbers"],
        positions=row["positions"],
        cell=row.get("cell"),
        pbc=row.get("pbc"),
        magmoms=row.get("initial_magmoms"),
        charges=row.get("initial_charges"),
        **optional,
    )
    if (constraints := row.get("constraints")) is not None and len(constraints):
        described = json.loads(constraints) if isinstance(constraints, str) else constraints
        atoms.set_constraint([constraint(dict(description)) for description in described])
    atoms.info.update(row.get("key_value_pairs") or {})
    atoms.info.update(row.get("data") or {})
    results = {name: row[name] for name in all_properties if row.get(name) is not None}
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms
