"""Structures that a model comes to when it is used: dynamics, random cells, pairs of molecules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from ase import Atoms

from carten.data.read import read_structures
from carten.errors import ModelError
from carten.interfaces.ase import Calculator
from carten.learning.config import CellsConfig, DimersConfig, DynamicsConfig, Exploration, ProofConfig
from carten.learning.geometries import bare, is_one_molecule, pair, strained
from carten.train.files import write_text
from carten.workflows.limits import overlapping
from carten.workflows.md import Settings, run_dynamics
from carten.workflows.records import RunFiles


@dataclass(frozen=True)
class Trajectory:
    """A run of dynamics that is over.

    Args:
        temperature: K.
        picoseconds: that it lasted.
        complete: whether that is as long as was asked for.
        reason: why it ended before, a sentence.
    """

    temperature: float
    picoseconds: float
    complete: bool
    reason: str = ""


def explore(
    model: Path, known: Sequence[Atoms], explorations: Sequence[Exploration], folder: Path, seed: int
) -> tuple[list[Atoms], list[Trajectory]]:
    """Structures of all explorations, without those whose atoms overlap, and the runs of dynamics.

    Args:
        model: file.
        known: structures with labels, to start from.
        explorations: what to do.
        folder: trajectories go there; dynamics that were interrupted go on.
        seed: of everything random.
    """
    folder.mkdir(exist_ok=True)
    frames: list[Atoms] = []
    runs: list[Trajectory] = []
    for number, section in enumerate(explorations):
        rng = np.random.default_rng([seed, number])
        match section:
            case DynamicsConfig():
                for k, temperature in enumerate(section.temperatures):
                    path = folder / f"md_{number}_{k}.extxyz"
                    start = bare(known[int(rng.integers(len(known)))])
                    steps = max(1, round(1000.0 * section.picoseconds / section.timestep))
                    interval = max(1, steps // section.frames)
                    settings = Settings(
                        steps, section.timestep, "langevin", temperature, interval=interval, seed=seed + number + k
                    )
                    runs.append(run_until(model, start, settings, path))
                    frames += [bare(atoms) for _, atoms in read_structures(path)[1:]] if path.exists() else []
            case CellsConfig():
                frames += list(_cells(known, section, rng))
            case DimersConfig():
                frames += list(_dimers(known, section, rng))
    return [atoms for atoms in frames if not overlapping(atoms)], runs


def run_until(model: Path, start: Atoms, settings: Settings, path: Path) -> Trajectory:
    """Dynamics to its end, or until it explodes; a run that was interrupted goes on."""
    over = path.with_suffix(".over.json")
    if over.exists():
        return Trajectory(**json.loads(over.read_text(encoding="utf-8")))
    start.calc = Calculator(model)
    reason = ""
    try:
        run_dynamics(start, settings, path, restart=RunFiles(path).state.exists())
        step = settings.steps
    except ModelError as error:
        reason = str(error)
        step = _last_step(path)
    run = Trajectory(settings.temperature, step * settings.timestep / 1000.0, not reason, reason)
    write_text(over, json.dumps(asdict(run)))
    return run


def prove(model: Path, known: Sequence[Atoms], proof: ProofConfig, folder: Path, seed: int) -> Trajectory:
    """Dynamics that has to last."""
    folder.mkdir(exist_ok=True)
    steps = max(1, round(1000.0 * proof.picoseconds / proof.timestep))
    settings = Settings(steps, proof.timestep, "langevin", proof.temperature, interval=max(1, steps // 200), seed=seed)
    return run_until(model, bare(known[0]), settings, folder / "proof.extxyz")


def _last_step(path: Path) -> int:
    return int(read_structures(path)[-1][1].info["step"]) if path.exists() and path.stat().st_size else 0


def _cells(known: Sequence[Atoms], section: CellsConfig, rng: np.random.Generator) -> Iterator[Atoms]:
    starts = [atoms for atoms in known if atoms.pbc.all() and atoms.cell.rank == 3]
    for _ in range(section.number if starts else 0):
        start = bare(starts[int(rng.integers(len(starts)))])
        yield strained(start, rng, section.volumes, section.strain, section.rattle)


def _dimers(known: Sequence[Atoms], section: DimersConfig, rng: np.random.Generator) -> Iterator[Atoms]:
    starts = [atoms for atoms in known if is_one_molecule(atoms)]
    for _ in range(section.number if starts else 0):
        one, other = (starts[int(k)] for k in rng.integers(len(starts), size=2))
        yield pair(one, other, float(rng.uniform(*section.contacts)), rng)
