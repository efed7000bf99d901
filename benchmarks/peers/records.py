"""The file of results: a list of records, written after every change."""

from __future__ import annotations

import json
import platform
from os import cpu_count
from pathlib import Path
from typing import Any

Record = dict[str, Any]
"""What is known of one code at one task; ``us_per_atom`` when it was measured, else ``error`` says why not."""

KEY = ("model", "system", "task", "kind", "dtype", "threads", "n_atoms", "settings")
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "asimd": "NEON"}


class Records:
    """The records of a file, one for each value of :data:`KEY`.

    Args:
        path: ``results.json``; need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.all = self._read()

    def find(self, record: Record) -> Record:
        """What is known of the same code at the same task; the record itself if nothing is."""
        return next((known for known in self.all if _key(known) == _key(record)), record)

    def put(self, record: Record) -> None:
        """Add a record, or replace the one there is, and write the file."""
        self.all = [*self._others(record), record]
        self._write()

    def drop(self, record: Record) -> None:
        """Forget what is known of the same code at the same task."""
        self.all = self._others(record)
        self._write()

    def _others(self, record: Record) -> list[Record]:
        return [known for known in self._read() if _key(known) != _key(record)]

    def _read(self) -> list[Record]:
        found: list[Record] = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else []
        return found

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        made = self.path.with_name(f".{self.path.name}")
        made.write_text(json.dumps(self.all, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        made.replace(self.path)


def done(record: Record) -> bool:
    """Whether a record has a result, if only that it failed."""
    return "us_per_atom" in record or "error" in record


def machine() -> str:
    """The number of cores and the widest vectors they compute with."""
    information = Path("/proc/cpuinfo")
    flags = set(information.read_text().split()) if information.exists() else set()
    vectors = next((name for flag, name in VECTORS.items() if flag in flags), "")
    return f"{cpu_count()} {platform.machine()} cores{vectors and ' with '}{vectors}"


def _key(record: Record) -> tuple[str, ...]:
    return tuple(json.dumps(record[name], sort_keys=True) for name in KEY)
