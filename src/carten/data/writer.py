"""Writing ASE-LMDB files, which ASE's database tools and other programs read: rows of JSON, no pickles."""

from __future__ import annotations

import json
import re
import shutil
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from carten.data.store import decode
from carten.data.write import as_json, described_constraints
from carten.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

_LARGEST = 2**40  # bytes of a file; LMDB reserves addresses, not memory
_COMMIT = 1000  # rows
_LITTLE = 2**20  # bytes
_LEVEL = 1  # of the compression: half the time of the default for some percent more
_STANDARD = ("tags", "momenta", "masses", "initial_magmoms", "initial_charges")
_KEY = re.compile(r"[A-Za-z_]\w*")
_YEAR = 31557600.0
_TWO_THOUSAND = 946681200.0


class StoreWriter:
    """An ASE-LMDB file that is open for appending; what was committed survives the end of the process at any moment.

    Args:
        path: the file; rows are appended to one that exists.
        durable: whether commits wait until the disk has them.

    Raises:
        DataError: the file cannot be written.
    """

    def __init__(self, path: Path, durable: bool = True) -> None:
        import lmdb

        self.path = path
        self._error = lmdb.Error
        try:
            self._environment = lmdb.open(
                str(path), subdir=False, map_size=_LARGEST, lock=False, meminit=False, sync=durable
            )
        except (lmdb.Error, OSError) as error:
            raise DataError(f"{path}: cannot be written: {error}") from error
        self._transaction: Any = None
        self._pending = 0
        self._time = (time.time() - _TWO_THOUSAND) / _YEAR
        with self._environment.begin() as transaction:
            next_row, metadata = transaction.get(b"nextid"), transaction.get(b"metadata")
        self.count = int(decode(next_row, path)) - 1 if next_row is not None else 0
        self.metadata: dict[str, Any] = decode(metadata, path) if metadata is not None else {}

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.commit()
        finally:
            self._environment.close()

    def append(self, atoms: Atoms) -> None:
        """Write a structure with the results of its calculator and everything in ``info`` and ``arrays``.

        Raises:
            DataError: it carries something that no file can hold, or there is no space left.
        """
        content = encoded(_row(atoms, self.count + 1, self._time))
        try:
            if self._transaction is None:
                self._transaction = self._environment.begin(write=True)
            self._transaction.put(str(self.count + 1).encode(), content)
        except self._error as error:
            raise self._full(error) from error
        self.count += 1
        self._pending += 1
        if self._pending >= _COMMIT:
            self.commit()

    def commit(self) -> None:
        """Make what was appended, and :attr:`metadata`, last.

        Raises:
            DataError: there is no space left; what was committed before is kept.
        """
        try:
            if self._transaction is None:
                self._transaction = self._environment.begin(write=True)
            self._transaction.put(b"nextid", encoded(self.count + 1))
            self._transaction.put(b"metadata", encoded(self.metadata))
            self._transaction.commit()
        except (self._error, OSError) as error:
            raise self._full(error) from error
        self._transaction, self._pending = None, 0

    def _full(self, error: Exception) -> DataError:
        free = shutil.disk_usage(self.path.parent).free  # LMDB calls a full disk an "Input/output error"
        reason = "no space left on the disk" if free < _LITTLE else str(error).rpartition(": ")[2]
        return DataError(
            f"{self.path}: cannot be written further: {reason}; make space and repeat the command, which goes on "
            f"after the {self.count - self._pending:,} structures that are safe"
        )


def encoded(value: Any) -> bytes:
    """JSON of ASE, compressed."""
    try:
        text = orjson.dumps(value)
        if b"null" in text:  # NaN is null there, and NaN for ASE
            text = json.dumps(value).encode()
    except orjson.JSONEncodeError:  # integers beyond 64 bits
        text = json.dumps(value).encode()
    return zlib.compress(text, _LEVEL)


def _row(atoms: Atoms, number: int, now: float) -> dict[str, Any]:
    """A row as ASE's databases have it: results by name, single values as key-value pairs, the rest as data."""
    from ase.calculators.calculator import all_properties

    row: dict[str, Any] = {
        "numbers": _array(atoms.numbers),
        "positions": _array(atoms.positions),
        "cell": _array(np.asarray(atoms.cell)),
        "pbc": _array(atoms.pbc),
        "unique_id": f"{number:032x}",
        "ctime": now,
        "mtime": now,
        "user": "",
    }
    results = atoms.calc.results if atoms.calc is not None else {}
    known = {name: value for name, value in results.items() if name in all_properties and value is not None}
    if known:
        row.update(calculator="unknown", calculator_parameters={})
        row.update({name: _value(name, value) for name, value in known.items()})
    arrays = {name: array for name, array in atoms.arrays.items() if name not in ("numbers", "positions")}
    row.update({name: _array(arrays.pop(name)) for name in _STANDARD if name in arrays})
    if atoms.constraints:
        row["constraints"] = described_constraints(atoms)
    others = {**{name: value for name, value in results.items() if name not in known}, **arrays, **atoms.info}
    rest = {str(name): _value(str(name), value) for name, value in others.items() if value is not None}
    pairs = {name: value for name, value in rest.items() if _is_pair(name, value, row)}
    data = {name: value for name, value in rest.items() if name not in pairs}
    return {**row, "key_value_pairs": pairs, "data": data}


def _is_pair(name: str, value: Any, row: Mapping[str, Any]) -> bool:
    from ase.calculators.calculator import all_properties

    taken = name in row or name in all_properties or name in ("id", "data", "key_value_pairs", "constraints", "natoms")
    return isinstance(value, str | int | float) and bool(_KEY.fullmatch(name)) and not taken


def _array(array: Any) -> Any:
    array = np.asarray(array)
    return {"__ndarray__": [list(array.shape), array.dtype.name, array.ravel().tolist()]}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _array(value) if value.dtype.kind in "biuf" else as_json(value)
    plain = as_json(value)
    try:
        json.dumps(plain)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name!r} of the structure cannot be written to a file ({error}): remove it") from error
    return plain
