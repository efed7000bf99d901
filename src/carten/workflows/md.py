"""Molecular dynamics: NVE by velocity Verlet, NVT by Langevin or by Bussi's velocity rescaling, all as ASE has them."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import ase
import ase.io
import numpy as np
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixCom
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet

from carten.errors import DataError, ModelError

Ensemble = Literal["nve", "langevin", "bussi"]
COLUMNS = ("step", "time_ps", "temperature_K", "potential_eV", "kinetic_eV", "conserved_eV")


@dataclass(frozen=True)
class Settings:
    """What to run.

    Args:
        steps: number of steps in all, those before a restart included.
        timestep: in fs.
        ensemble: ``nve``, ``langevin`` or ``bussi``.
        temperature: in K, of the initial velocities (unless the structure has some) and of the thermostat.
        damping: in fs, time in which the thermostat acts: the inverse friction of Langevin, tau of Bussi.
        interval: steps between frames and lines of the log.
        seed: of velocities and thermostat.
    """

    steps: int
    timestep: float = 0.5
    ensemble: Ensemble = "nve"
    temperature: float = 300.0
    damping: float = 100.0
    interval: int = 10
    seed: int = 0


@dataclass(frozen=True)
class Summary:
    """What came out.

    ``drift`` is the slope of a linear fit to the conserved energy per atom, in meV/atom/ps, ``fluctuation`` the root
    mean square about the fit in meV/atom; both None for Langevin, which conserves nothing. Temperatures are means over
    the log in K. Speeds are of the steps made now, without the first evaluation.
    """

    steps: int
    temperature: float
    temperature_spread: float
    drift: float | None
    fluctuation: float | None
    steps_per_second: float
    ns_per_day: float


@dataclass(frozen=True)
class Files:
    """The three files of a run: frames, log, and the state it can be continued from."""

    trajectory: Path

    @property
    def log(self) -> Path:
        return self.trajectory.with_suffix(".csv")

    @property
    def state(self) -> Path:
        return self.trajectory.with_suffix(".restart.json")

    def require_new(self) -> None:
        """Check that nothing is overwritten.

        Raises:
            FileExistsError: one of the files is there.
        """
        for path in (self.trajectory, self.log, self.state):
            if path.exists():
                raise FileExistsError(
                    f"{path} exists already: continue that run with --restart, or choose another --output"
                )


def run(
    atoms: ase.Atoms,
    settings: Settings,
    trajectory: str | Path,
    restart: bool = False,
    advance: Callable[[int], None] | None = None,
) -> Summary:
    """Run molecular dynamics; ``atoms`` moves.

    The centre of mass stays where it is, unless the structure has constraints of its own.

    Args:
        atoms: the structure, with a calculator.
        settings: what to run.
        trajectory: an ``.extxyz`` file; the log (``.csv``) and the state (``.restart.json``) lie beside it.
        restart: continue the run of these files up to ``settings.steps``.
        advance: called with the number of the step whenever a frame is written.

    Raises:
        FileExistsError: a file exists and this is no restart.
        DataError: the run cannot be continued: no state, or another structure.
        ModelError: the energy is no longer finite; the last good frame is in the trajectory.
    """
    files = Files(Path(trajectory))
    if files.trajectory.suffix not in (".extxyz", ".xyz"):
        raise DataError(f"trajectories are extended XYZ: expected a name ending in .extxyz, found {files.trajectory}")
    random = np.random.default_rng(settings.seed)
    state = _read_state(files, atoms) if restart else None
    if state is None:
        files.require_new()
    _prepare(atoms, settings, random, state)
    dynamics = _dynamics(atoms, settings, random)
    if state is not None:
        _restore(dynamics, random, state, files)
    with files.trajectory.open("a") as frames, files.log.open("a", newline="") as log:
        recorder = _Recorder(dynamics, random, files, frames, log, advance)
        seconds = recorder.run(settings)
    return _summary(files.log, settings, len(atoms), dynamics.nsteps - recorder.first, seconds)


class _Recorder:
    """Writes a frame, a line of the log and the state, in this order."""

    def __init__(
        self,
        dynamics: MolecularDynamics,
        random: np.random.Generator,
        files: Files,
        frames: IO[str],
        log: IO[str],
        advance: Callable[[int], None] | None,
    ) -> None:
        self.dynamics = dynamics
        self.random = random
        self.files = files
        self.frames = frames
        self.log = log
        self.advance = advance
        self.first = dynamics.nsteps
        if self.first == 0:
            csv.writer(log).writerow(COLUMNS)

    def run(self, settings: Settings) -> float:
        """Make the steps; seconds they took."""
        self.dynamics.attach(self.record, interval=settings.interval)
        steps = self.dynamics.irun(max(0, settings.steps - self.first))
        next(steps)
        started = time.perf_counter()
        for _ in steps:
            pass
        seconds = time.perf_counter() - started
        if self.dynamics.nsteps % settings.interval:
            self.record()
        return seconds

    def record(self) -> None:
        step, atoms = self.dynamics.nsteps, self.dynamics.atoms
        potential, kinetic = atoms.get_potential_energy(), atoms.get_kinetic_energy()
        if not np.isfinite(potential + kinetic):
            raise ModelError(
                f"the energy at step {step} is not finite: the structure left what the model was trained on; "
                f"the last good frame is in {self.files.trajectory}; try a smaller --timestep or more training data"
            )
        conserved = potential + kinetic - getattr(self.dynamics, "transferred_energy", 0.0)
        picoseconds = step * self.dynamics.dt / (1000.0 * units.fs)
        row = (picoseconds, atoms.get_temperature(), potential, kinetic, conserved)
        csv.writer(self.log).writerow((step, *(f"{value:.10g}" for value in row)))
        self._write_frame(atoms, step, picoseconds)
        for file in (self.frames, self.log):
            file.flush()
        _write_state(self.files, self.dynamics, self.random, (self.frames.tell(), self.log.tell()))
        if self.advance is not None:
            self.advance(step)

    def _write_frame(self, atoms: ase.Atoms, step: int, picoseconds: float) -> None:
        frame = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        frame.set_momenta(atoms.get_momenta())
        frame.info.update(step=step, time_ps=round(picoseconds, 9))
        results = atoms.calc.results
        kept = {name: results[name] for name in ("energy", "forces", "stress") if name in results}
        frame.calc = SinglePointCalculator(frame, **kept)
        ase.io.write(self.frames, frame, format="extxyz")


def _prepare(atoms: ase.Atoms, settings: Settings, random: np.random.Generator, state: dict[str, Any] | None) -> None:
    if not atoms.constraints and len(atoms) > 1:
        atoms.set_constraint(FixCom())
    if state is not None:
        atoms.set_cell(state["cell"])
        atoms.set_positions(state["positions"], apply_constraint=False)
        atoms.set_momenta(state["momenta"], apply_constraint=False)
    elif not atoms.get_momenta().any():
        spread = np.sqrt(atoms.get_masses() * units.kB * settings.temperature)[:, None]
        atoms.set_momenta(spread * random.standard_normal((len(atoms), 3)))


def _dynamics(atoms: ase.Atoms, settings: Settings, random: np.random.Generator) -> MolecularDynamics:
    timestep, damping = settings.timestep * units.fs, settings.damping * units.fs
    match settings.ensemble:
        case "nve":
            return VelocityVerlet(atoms, timestep)
        case "langevin":
            return Langevin(
                atoms, timestep, temperature_K=settings.temperature, friction=1.0 / damping, fixcm=False, rng=random
            )
        case "bussi":
            return Bussi(atoms, timestep, temperature_K=settings.temperature, taut=damping, rng=random)


def _write_state(
    files: Files, dynamics: MolecularDynamics, random: np.random.Generator, sizes: tuple[int, int]
) -> None:
    atoms = dynamics.atoms
    state = {
        "step": dynamics.nsteps,
        "numbers": atoms.numbers.tolist(),
        "cell": atoms.cell.array.tolist(),
        "positions": atoms.positions.tolist(),
        "momenta": atoms.get_momenta().tolist(),
        "transferred_energy": getattr(dynamics, "transferred_energy", 0.0),
        "random": random.bit_generator.state,
        "sizes": sizes,
    }
    temporary = files.state.with_suffix(".tmp")
    temporary.write_text(json.dumps(state))
    temporary.replace(files.state)


def _read_state(files: Files, atoms: ase.Atoms) -> dict[str, Any]:
    if not files.state.exists():
        raise DataError(f"nothing to continue: there is no {files.state}; start without --restart")
    try:
        state: dict[str, Any] = json.loads(files.state.read_text())
        numbers = state["numbers"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{files.state} is damaged ({error}): start a new run") from error
    if numbers != atoms.numbers.tolist():
        raise DataError(f"{files.state} is of another structure: its atoms are not those of {atoms.symbols}")
    return state


def _restore(dynamics: MolecularDynamics, random: np.random.Generator, state: dict[str, Any], files: Files) -> None:
    """Continue where the state was written; frames and lines written after it go."""
    dynamics.nsteps = state["step"]
    if isinstance(dynamics, Bussi):
        dynamics.transferred_energy = state["transferred_energy"]
    random.bit_generator.state = state["random"]
    for path, size in zip((files.trajectory, files.log), state["sizes"], strict=True):
        if not path.exists() or path.stat().st_size < size:
            raise DataError(f"{path} is missing or shorter than when {files.state} was written: start a new run")
        with path.open("r+") as file:
            file.truncate(size)


def _summary(log: Path, settings: Settings, n_atoms: int, steps: int, seconds: float) -> Summary:
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: np.array([float(row[name]) for row in rows]) for name in COLUMNS}
    drift, fluctuation = None, None
    if settings.ensemble != "langevin" and len(rows) > 2:
        picoseconds, energy = columns["time_ps"], 1000.0 * columns["conserved_eV"] / n_atoms
        slope, start = np.polyfit(picoseconds, energy, 1)
        drift, fluctuation = float(slope), float(np.std(energy - slope * picoseconds - start))
    rate = steps / seconds if seconds > 0.0 else 0.0
    return Summary(
        steps=int(columns["step"][-1]),
        temperature=float(columns["temperature_K"].mean()),
        temperature_spread=float(columns["temperature_K"].std()),
        drift=drift,
        fluctuation=fluctuation,
        steps_per_second=rate,
        ns_per_day=rate * settings.timestep * 86400.0e-6,
    )
