"""Structures that a model comes to when it is used: dynamics, random cells, pairs of molecules."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from ase import Atoms

from carten.data.read import read_structures
from carten.data.structures import is_crystal
from carten.errors import ModelError
from carten.interfaces.ase import Calculator
from carten.learning.choice import read_model
from carten.learning.config import STOP_KEY, CellsConfig, DimersConfig, DynamicsConfig, Exploration, ProofConfig
from carten.learning.geometries import bare, is_one_molecule, pair, strained
from carten.train.files import write_text
from carten.uncertainty import model_header
from carten.workflows.limits import overlapping, trained_contacts
from carten.workflows.md import Settings, run_dynamics
from carten.workflows.records import RunFiles
from carten.workflows.stop import Criterion, parse_criterion


@dataclass(frozen=True)
class DynamicsOutcome:
    """What became of a run of dynamics.

    Args:
        temperature: K.
        picoseconds: that it lasted.
        complete: whether that is as long as was asked for.
        reason: why it ended before, a sentence: a criterion was met, or it exploded.
    """

    temperature: float
    picoseconds: float
    complete: bool
    reason: str = ""


def explore(
    model: Path, known: Sequence[Atoms], explorations: Sequence[Exploration], folder: Path, seed: int
) -> tuple[list[Atoms], list[DynamicsOutcome]]:
    """Structures of all explorations, without those whose atoms overlap, and the runs of dynamics.

    Args:
        model: file.
        known: structures with labels, to start from.
        explorations: what to do.
        folder: trajectories go there; dynamics that were interrupted go on.
        seed: of everything random.

    Raises:
        ConfigError: the model can't give what a criterion of dynamics is about.
    """
    folder.mkdir(exist_ok=True)
    frames: list[Atoms] = []
    runs: list[DynamicsOutcome] = []
    for number, section in enumerate(explorations):
        rng = np.random.default_rng([seed, number])
        match section:
            case DynamicsConfig():
                criteria = read_criteria(section.stop_at, model)
                for k, temperature in enumerate(section.temperatures):
                    settings = _settings(section, temperature, seed + number + k, criteria)
                    outcomes, visited = _branches(model, known, settings, folder / f"md_{number}_{k}", rng)
                    runs += outcomes
                    frames += visited
            case CellsConfig():
                frames += list(_cells(known, section, rng))
            case DimersConfig():
                frames += list(_dimers(known, section, rng))
    return [atoms for atoms in frames if not overlapping(atoms)], runs


def read_criteria(texts: Sequence[str], model: Path) -> tuple[Criterion, ...]:
    """Criteria of ``stop_at`` for a model from a file, see :func:`carten.workflows.stop.parse_criterion`.

    Raises:
        ConfigError: one has another form, or the model can't give what it is about.
    """
    if not texts:
        return ()
    loaded, trained = read_model(model), trained_contacts(model_header(model))
    return tuple(parse_criterion(text, loaded.properties, trained, loaded.cutoff, STOP_KEY) for text in texts)


def _settings(section: DynamicsConfig, temperature: float, seed: int, criteria: tuple[Criterion, ...]) -> Settings:
    steps = max(1, round(1000.0 * section.picoseconds / section.timestep))
    interval = max(1, steps // section.frames)
    return Settings(
        steps, section.timestep, "langevin", temperature, interval=interval, seed=seed, stop_at=criteria
    )


def _branches(
    model: Path, known: Sequence[Atoms], settings: Settings, path: Path, rng: np.random.Generator
) -> tuple[list[DynamicsOutcome], list[Atoms]]:
    """Dynamics of so many steps in all: where a run ends early, another one begins from another structure."""
    outcomes: list[DynamicsOutcome] = []
    frames: list[Atoms] = []
    left = settings.steps
    while left > 0:
        start = bare(known[int(rng.integers(len(known)))])
        branch = path.with_name(f"{path.name}_{len(outcomes)}.extxyz")
        part = replace(settings, steps=left, seed=settings.seed + 100 * len(outcomes))
        outcomes.append(run_until(model, start, part, branch))
        frames += [bare(atoms) for _, atoms in read_structures(branch)[1:]] if branch.exists() else []
        left = 0 if outcomes[-1].complete else left - max(settings.interval, _last_step(branch))
    return outcomes, frames


def run_until(model: Path, start: Atoms, settings: Settings, path: Path) -> DynamicsOutcome:
    """Dynamics to its end, until a criterion is met, or until it explodes; a run that was interrupted goes on."""
    over = path.with_suffix(".over.json")
    if over.exists():
        return DynamicsOutcome(**json.loads(over.read_text(encoding="utf-8")))
    start.calc = Calculator(model)
    try:
        summary = run_dynamics(start, settings, path, restart=RunFiles(path).state.exists())
        step, reason = summary.steps, summary.stopped
    except ModelError as error:
        step, reason = _last_step(path), str(error)
    run = DynamicsOutcome(settings.temperature, step * settings.timestep / 1000.0, not reason, reason)
    write_text(over, json.dumps(asdict(run)))
    return run


def prove(model: Path, known: Sequence[Atoms], proof: ProofConfig, folder: Path, seed: int) -> DynamicsOutcome:
    """Dynamics that has to last."""
    folder.mkdir(exist_ok=True)
    steps = max(1, round(1000.0 * proof.picoseconds / proof.timestep))
    settings = Settings(steps, proof.timestep, "langevin", proof.temperature, interval=max(1, steps // 200), seed=seed)
    return run_until(model, bare(known[0]), settings, folder / "proof.extxyz")


def _last_step(path: Path) -> int:
    return int(read_structures(path)[-1][1].info["step"]) if path.exists() and path.stat().st_size else 0


def _cells(known: Sequence[Atoms], section: CellsConfig, rng: np.random.Generator) -> Iterator[Atoms]:
    starts = [atoms for atoms in known if is_crystal(atoms)]
    for _ in range(section.number if starts else 0):
        start = bare(starts[int(rng.integers(len(starts)))])
        yield strained(start, rng, section.volumes, section.strain, section.rattle)


def _dimers(known: Sequence[Atoms], section: DimersConfig, rng: np.random.Generator) -> Iterator[Atoms]:
    starts = [atoms for atoms in known if is_one_molecule(atoms)]
    for _ in range(section.number if starts else 0):
        one, other = (starts[int(k)] for k in rng.integers(len(starts), size=2))
        yield pair(one, other, float(rng.uniform(*section.contacts)), rng)
