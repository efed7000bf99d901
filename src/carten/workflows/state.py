"""State and settings of a run of molecular dynamics, and whether the settings have changed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ase
import numpy as np

from carten.data.write import as_json, described_constraints
from carten.errors import DataError
from carten.math.arrays import Floats

RESULTS = ("energy", "forces", "stress")
"""Of the model, in frames."""
UNCERTAINTIES = ("energy_uncertainty", "forces_uncertainty")
"""Of ensembles, in frames where they were evaluated."""
MOVING = ("numbers", "positions", "momenta", "masses")
NOTES = ("step", "time_ps", "temperature_K")
"""Entries of a frame beside those of its structure."""


@dataclass(frozen=True)
class RunState:
    """Where a run is.

    Args:
        settings: that a restart may not change.
        structure: what it carries and dynamics does not change, see :func:`structure_facts`.
        step: number of steps made.
        positions: (N, 3) Å.
        momenta: (N, 3) in ASE's unit.
        transferred_energy: eV, taken by the thermostat.
        random: of the generator.
        sizes: of trajectory and log in bytes.
        cell: (3, 3) Å, where it moves.
        restraints: where the centre of mass is held, Å, and sizes of PLUMED's files in bytes.
    """

    settings: dict[str, Any]
    structure: dict[str, Any]
    step: int
    positions: Floats
    momenta: Floats
    transferred_energy: float
    random: dict[str, Any]
    sizes: tuple[int, int]
    cell: Floats | None = None
    restraints: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> RunState:
        """From JSON; a ``KeyError``, ``TypeError``, .. where it is not a state."""
        shape = (len(document["structure"]["numbers"]), 3)
        positions, momenta = (np.array(document[name], dtype=np.float64) for name in ("positions", "momenta"))
        if positions.shape != shape or momenta.shape != shape or not np.isfinite([positions, momenta]).all():
            raise ValueError(f"expected finite positions and momenta of shape {shape}")
        np.random.default_rng().bit_generator.state = document["random"]
        trajectory, log = map(int, document["sizes"])
        cell = document.get("cell")
        if cell is not None:
            cell = np.array(cell, dtype=np.float64)
            if cell.shape != (3, 3) or not np.isfinite(cell).all():
                raise ValueError(f"expected a finite cell of shape (3, 3), found {cell.shape}")
        restraints = dict(document.get("restraints", {}))
        if not np.isfinite([*restraints.get("centre", ()), *map(int, restraints.get("plumed", {}).values())]).all():
            raise ValueError(f"expected a finite centre of mass and sizes of files, found {restraints}")
        return cls(
            settings=dict(document["settings"]),
            structure=dict(document["structure"]),
            step=int(document["step"]),
            positions=positions,
            momenta=momenta,
            transferred_energy=float(document["transferred_energy"]),
            random=document["random"],
            sizes=(trajectory, log),
            cell=cell,
            restraints=restraints,
        )


def structure_facts(atoms: ase.Atoms) -> dict[str, Any]:
    """What a structure carries and dynamics does not change, ready for JSON."""
    arrays = {name: value for name, value in atoms.arrays.items() if name not in (*MOVING, *RESULTS, *UNCERTAINTIES)}
    info = {str(name): value for name, value in atoms.info.items() if name not in (*NOTES, *RESULTS, *UNCERTAINTIES)}
    facts = {
        "numbers": atoms.numbers,
        "masses": atoms.get_masses(),
        "cell": atoms.cell.array,
        "pbc": atoms.pbc,
        "constraints": described_constraints(atoms),
        **{f"arrays[{name!r}]": value for name, value in arrays.items()},
        **{f"info[{name!r}]": value for name, value in info.items()},
    }
    plain: dict[str, Any] = as_json(facts)
    for name, value in plain.items():
        try:
            json.dumps(value)
        except (TypeError, ValueError) as error:
            raise DataError(f"{name} of the structure cannot be written to a file ({error}): remove it") from error
    return plain


def require_unchanged(before: Mapping[str, Any], now: Mapping[str, Any], kind: str, trajectory: Path) -> None:
    """Check that a run is continued as it was started.

    Raises:
        DataError: something differs; the message names it.
    """
    state = trajectory.with_suffix(".restart.json")
    if before.get("numbers") != now.get("numbers"):
        raise DataError(f"{state} is of another structure: it has other atoms; give the structure of that run")
    changed = [name for name in {**before, **now} if not _alike(before.get(name), now.get(name))]
    if changed:
        shown = "; ".join(f"{name} was {_short(before.get(name))}, now {_short(now.get(name))}" for name in changed[:4])
        raise DataError(
            f"{state}: the run had another {kind}: {shown}; --restart continues a run as it was. Give the same, "
            f"or start a new run from its last frame: carten md MODEL {trajectory} -o NEW.extxyz"
        )


def _alike(before: Any, now: Any) -> bool:
    """Equal but for the round-off of a file."""
    if before == now:
        return True
    if before is None or now is None or isinstance(before, str) or isinstance(now, str):
        return False
    try:
        first, second = np.asarray(before, dtype=np.float64), np.asarray(now, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return first.shape == second.shape and bool(np.allclose(first, second, rtol=1e-7, atol=1e-7, equal_nan=True))


def _short(value: Any) -> str:
    text = "not set" if value is None else f"{value}"
    return text if len(text) <= 40 else text[:37] + "..."
