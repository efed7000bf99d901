"""The database of a screening: an ASE database whose rows are structures, written batch by batch."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase
import ase.db
import numpy as np

from carten.errors import DataError
from carten.workflows.hull import composition_of
from carten.workflows.screening import ScreenedStructure
from carten.workflows.state import structure_facts

SUFFIX = ".db"
KEY = "carten_screen"
"""Of the settings in the metadata."""


@dataclass(frozen=True)
class ScreenOutcome:
    """Of one structure.

    Args:
        atoms: relaxed or not, with results; as it was given where it failed.
        values: name, fingerprint, energy_before, steps, converged, error: entries of the row.
    """

    atoms: ase.Atoms
    values: Mapping[str, Any]


class ScreenDatabase:
    """An SQLite database of ASE that knows which structures it has.

    Args:
        path: is created where there is none.
        settings: what the energies depend on, ready for JSON.

    Raises:
        DataError: the file is something else, or has energies of another model or other settings.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        if path.suffix != SUFFIX:
            raise DataError(f"{path}: a screening writes an SQLite database of ASE, expected a name in {SUFFIX}")
        self.path, is_new = path, not path.exists()
        self._database = ase.db.connect(path.absolute(), type="db", use_lock_file=False)
        try:
            metadata = dict(self._database.metadata)
            if is_new or (not metadata and not len(self._database)):  # killed before its first row
                self._database.metadata = {KEY: dict(settings)}
            else:
                _require_same(metadata.get(KEY), settings, path)
        except sqlite3.DatabaseError as error:
            raise DataError(f"{path}: is no SQLite database: {error}; choose another output") from error

    def fingerprints(self) -> set[str]:
        """Of all structures in it."""
        return {row.fingerprint for row in self._database.select(include_data=False)}

    def write(self, outcomes: Iterable[ScreenOutcome]) -> None:
        """Add rows: all of them, or, when the process is killed, none."""
        with self._database:
            for outcome in outcomes:
                info = {str(key): value for key, value in outcome.atoms.info.items() if _is_plain(value)}
                data = {"info": info, "source": outcome.values["name"], "error": outcome.values["error"]}
                keys = {key: value for key, value in outcome.values.items() if key not in ("name", "error")}
                self._database.write(outcome.atoms, data=data, failed=bool(outcome.values["error"]), **keys)

    def rows(self) -> list[ScreenedStructure]:
        """All rows, in the order in which they were written."""
        return [_screened(row) for row in self._database.select()]

    def atoms(self, ids: Iterable[int]) -> list[ase.Atoms]:
        """Structures of rows with their results."""
        structures = []
        for number in ids:
            row = self._database.get(id=number)
            structures.append(row.toatoms())
            structures[-1].info.update(row.data["info"])
        return structures


def structure_key(atoms: ase.Atoms) -> str:
    """Of all that a structure is and carries, except results.

    Raises:
        DataError: it carries something that is neither a number nor a text.
    """
    facts = [structure_facts(atoms), atoms.positions.tolist(), atoms.get_momenta().tolist()]
    return f"s{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]}"


def _require_same(before: Any, now: Mapping[str, Any], path: Path) -> None:
    if not isinstance(before, Mapping):
        raise DataError(f"{path}: is a database, but not of a screening by carten: choose another output")
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed:
        listed = "; ".join(f"{name} was {before.get(name)}, now {now.get(name)}" for name in changed)
        raise DataError(
            f"{path} has energies of another screening ({listed}): give the same model and settings to go on with it, "
            "or choose another output"
        )


def _screened(row: Any) -> ScreenedStructure:
    n_atoms = int(row.natoms)
    solid = row.pbc.all() and abs(np.linalg.det(row.cell)) > 0.0
    head = (int(row.id), str(row.data["source"]), str(row.formula), composition_of(list(row.symbols)), n_atoms)
    if row.failed:
        return ScreenedStructure(*head, error=str(row.data["error"]))
    return ScreenedStructure(
        *head,
        energy=float(row.energy) / n_atoms,
        energy_before=float(row.energy_before) / n_atoms,
        volume=float(row.volume) / n_atoms if solid else np.nan,
        steps=int(row.steps),
        converged=bool(row.converged),
    )


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
