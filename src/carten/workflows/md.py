"""Molecular dynamics: NVE by velocity Verlet, NVT by Langevin or Bussi's velocity rescaling, NPT by cell rescaling."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import ase
import numpy as np
from ase import units
from ase.constraints import FixCom
from ase.md.bussi import Bussi
from ase.md.langevin import Langevin
from ase.md.md import MolecularDynamics
from ase.md.verlet import VelocityVerlet

from carten.data.extra import require_fitting_constraints
from carten.errors import ConfigError, DataError, ModelError
from carten.math.arrays import Floats
from carten.workflows.barostat import Barostat, CellRescaling, require_cell_to_move
from carten.workflows.limits import Limits
from carten.workflows.records import FrameRecorder, RunFiles
from carten.workflows.restraints import CentreRestraint, PlumedBias, Restraint, restrained
from carten.workflows.state import RunState, require_unchanged, structure_facts
from carten.workflows.stop import Criterion
from carten.workflows.summary import DynamicsSummary, summarise

Ensemble = Literal["nve", "langevin", "bussi", "npt"]
TINY = 1e-12  # eV
Advance = Callable[[Mapping[str, float]], None]
"""Called with the line of the log, by column, whenever a frame is written."""


@dataclass(frozen=True)
class Settings:
    """What to run.

    Args:
        steps: number of steps in all, those before a restart included.
        timestep: in fs.
        ensemble: ``nve``, ``langevin``, ``bussi``, or ``npt``: Bussi's thermostat and a barostat.
        temperature: in K, of the initial velocities (unless the structure has some) and of the thermostat.
        final_temperature: in K, which that of the thermostat reaches at the last step, linearly; it stays by default.
        damping: in fs, time in which the thermostat acts: the inverse friction of Langevin, tau of Bussi.
        barostat: of npt.
        interval: steps between frames and lines of the log.
        seed: of velocities and thermostat.
        centre_spring: eV/Å^2, of a harmonic restraint of the centre of mass to where it is at first; by default the
            centre of mass of a structure without constraints does not move at all.
        plumed: input of PLUMED, such as for metadynamics.
        limits: beyond which the run has failed.
        stop_at: criteria by which it ends early, looked at whenever a frame is written.
        model: identifies the model, so that a run is not continued with another one.

    Raises:
        ConfigError: a number is not finite or out of range.
    """

    steps: int
    timestep: float = 0.5
    ensemble: Ensemble = "nve"
    temperature: float = 300.0
    damping: float = 100.0
    interval: int = 10
    seed: int = 0
    barostat: Barostat | None = None
    final_temperature: float | None = None
    centre_spring: float | None = None
    plumed: str = ""
    limits: Limits = field(default_factory=Limits)
    stop_at: tuple[Criterion, ...] = ()
    model: str = ""

    def __post_init__(self) -> None:
        least = {"steps": 1, "interval": 1, "seed": 0, "temperature": 0.0}
        for name in ("steps", "interval", "seed", "temperature", "timestep", "damping"):
            value = getattr(self, name)
            if not math.isfinite(value) or value < least.get(name, 0.0) or (name not in least and value == 0.0):
                expected = f"at least {least[name]:g}" if name in least else "above 0"
                raise ConfigError(f"{name}: expected a number {expected}, found {value}")
        if self.ensemble not in get_args(Ensemble):
            raise ConfigError(f"ensemble: expected nve, langevin, bussi or npt, found {self.ensemble!r}")
        if self.ensemble == "langevin" and self.damping < self.timestep:
            raise ConfigError(f"damping: expected at least the time step of {self.timestep} fs, found {self.damping}")
        if self.ensemble in ("bussi", "npt") and 0.0 in (self.temperature, self.final_temperature):
            raise ConfigError("temperature: bussi rescales velocities to a temperature above 0 K; cool with langevin")
        if self.barostat is not None and self.ensemble != "npt":
            raise ConfigError(f"barostat: {self.ensemble} keeps the volume; a pressure needs the ensemble npt")
        if self.final_temperature is not None:
            if self.ensemble == "nve":
                raise ConfigError("final temperature: nve has no thermostat; choose langevin, bussi or npt")
            if not math.isfinite(self.final_temperature) or self.final_temperature < 0.0:
                raise ConfigError(f"final temperature: expected K, at least 0, found {self.final_temperature}")
        self._check_restraints()

    def _check_restraints(self) -> None:
        spring = self.centre_spring
        if spring is not None and not (math.isfinite(spring) and spring > 0.0):
            raise ConfigError(f"spring of the centre of mass: expected eV/Å^2 above 0, found {spring}")
        if self.ensemble == "npt" and (spring is not None or self.plumed):
            raise ConfigError(
                "restraints: their pressure is not known, and npt moves the centre of mass with the cell: use bussi "
                "or langevin"
            )

    def fixed(self) -> dict[str, Any]:
        """What a restart may not change: of a ramp of the temperature its length as well."""
        free = ("limits", "stop_at", *(("steps",) if self.final_temperature is None else ()))
        return {name: value for name, value in asdict(self).items() if name not in free}

    def temperature_at(self, step: int) -> float:
        """Of the thermostat, K."""
        if self.final_temperature is None:
            return self.temperature
        return self.temperature + (self.final_temperature - self.temperature) * min(1.0, step / self.steps)


def run_dynamics(
    atoms: ase.Atoms,
    settings: Settings,
    trajectory: str | Path,
    restart: bool = False,
    advance: Advance | None = None,
) -> DynamicsSummary:
    """Run molecular dynamics; ``atoms`` moves.

    A run that ended before its second frame can be started again, or restarted, with whatever settings.
    The centre of mass stays where it is, unless the structure has constraints of its own or it is on a spring. Frames
    carry whatever the structure carries, and energy, forces and stress of the model, without those of restraints, which
    are in the log; the last one continues the run.

    Args:
        atoms: the structure, with a calculator.
        settings: what to run.
        trajectory: an ``.extxyz`` file; the log (``.csv``) and the state (``.restart.json``) lie beside it.
        restart: continue the run of these files up to ``settings.steps``.
        advance: called with the line of the log, by column, whenever a frame is written.

    Raises:
        FileExistsError: a file exists and this is no restart.
        DataError: the structure cannot move, or the run cannot be continued: no state, or another structure, time
            step, thermostat or model.
        ModelError: the dynamics has exploded (see :class:`Limits`); the last good frame is in the trajectory.
    """
    files = RunFiles(Path(trajectory))
    constraints = list(atoms.constraints)
    files.require_writable()
    _require_masses(atoms)
    facts = structure_facts(atoms)
    if settings.ensemble == "npt":
        require_cell_to_move(atoms)
        del facts["cell"]
    constant = {"settings": settings.fixed(), "structure": facts}
    if restart:
        files.read_state()  # before a lock is made where there is nothing
    try:
        if not constraints and len(atoms) > 1 and settings.centre_spring is None:
            atoms.set_constraint(FixCom())
        with files.locked():
            state = None
            if not files.remove_if_not_begun():
                if not restart:
                    files.require_new()
                state = files.read_state() if restart else None
            if state is not None:
                require_unchanged(state.settings, constant["settings"], "setting", files.trajectory)
                require_unchanged(state.structure, constant["structure"], "structure", files.trajectory)
            return _run(atoms, settings, files, state, (constant, constraints), advance)
    finally:
        atoms.set_constraint(constraints)


def _run(
    atoms: ase.Atoms,
    settings: Settings,
    files: RunFiles,
    state: RunState | None,
    facts: tuple[dict[str, Any], list[Any]],
    advance: Advance | None,
) -> DynamicsSummary:
    random = np.random.default_rng(settings.seed)
    _set_motion(atoms, settings, random, state)
    restraints = _restraints(atoms, settings, files, state)
    with restrained(atoms, restraints):
        dynamics = _dynamics(atoms, settings, random)
        if state is not None:
            _restore(dynamics, random, state, files)
        guard = _Guard(dynamics, settings, files)
        guard.check()
        with files.trajectory.open("a", newline="") as frames, files.log.open("a", newline="") as log:
            recorder = FrameRecorder(files, frames, log, *facts, restraints)
            if frames.tell() == 0:
                recorder.save(dynamics, random)  # so that a run that is stopped from here on can be continued

            def record() -> str:
                """Write a frame; why to end the run, if there is a reason."""
                reasons = [criterion.reason(atoms) for criterion in settings.stop_at]
                line = recorder.record(dynamics, random)
                guard.last = dynamics.nsteps
                if advance is not None:
                    advance(line)
                return next((reason for reason in reasons if reason), "")

            stopped = record() if frames.tell() == 0 else ""
            first, started = dynamics.nsteps, time.perf_counter()
            for _ in guard.steps(0 if stopped else max(0, settings.steps - first)):
                if dynamics.nsteps % settings.interval == 0 or dynamics.nsteps == settings.steps:
                    stopped = record()
                if stopped:
                    break
            seconds = time.perf_counter() - started
    conserves = settings.ensemble in ("nve", "bussi") and not settings.plumed
    columns = files.read_log()
    return summarise(columns, len(atoms), conserves, (dynamics.nsteps - first, seconds, settings.timestep), stopped)


def _restraints(
    atoms: ase.Atoms, settings: Settings, files: RunFiles, state: RunState | None
) -> Sequence[Restraint]:
    before = {} if state is None else state.restraints
    restraints: list[Restraint] = []
    if settings.centre_spring is not None:
        restraints.append(CentreRestraint(settings.centre_spring, before.get("centre", atoms.get_center_of_mass())))
    if settings.plumed:
        timestep, log = settings.timestep * units.fs, files.trajectory.with_suffix(".plumed.log")
        step, sizes = (0, {}) if state is None else (state.step, before.get("plumed", {}))
        restraints.append(PlumedBias(settings.plumed, atoms, timestep, settings.temperature, log, step, sizes))
    return restraints


class _Guard:
    """Makes steps and stops when something is absurd."""

    def __init__(self, dynamics: MolecularDynamics, settings: Settings, files: RunFiles) -> None:
        self.dynamics = dynamics
        self.settings = settings
        self.files = files
        self.last: int | None = None if dynamics.nsteps == 0 else dynamics.nsteps

    def steps(self, count: int) -> Iterator[None]:
        """Make steps, one for each item."""
        for _ in range(count):
            before = self.dynamics.atoms.positions.copy()
            if self.settings.final_temperature is not None:
                _set_temperature(self.dynamics, self.settings.temperature_at(self.dynamics.nsteps))
            try:
                self.dynamics.step()  # type: ignore[attr-defined]  # of every subclass
            except (DataError, FloatingPointError) as error:
                reason = str(error).partition(";")[0]  # what follows is advice for files
                raise self._exploded(self.dynamics.nsteps + 1, reason) from error
            self.dynamics.nsteps += 1
            self.check(before)
            yield

    def check(self, before: Floats | None = None) -> None:
        """Evaluate the model, and compare with the limits.

        Raises:
            ModelError: one is exceeded.
        """
        thermostat = max(self.settings.temperature, self.settings.final_temperature or 0.0)
        self.dynamics.atoms.get_forces()
        if (reason := self.settings.limits.exceeded(self.dynamics, before, thermostat)) is not None:
            raise self._exploded(self.dynamics.nsteps, reason)

    def _exploded(self, step: int, reason: str) -> ModelError:
        if self.last is None and step == 0:
            return ModelError(
                f"dynamics cannot start from this structure: {reason}; relax it first, or look for overlapping atoms"
            )
        kept = f"the last good frame, step {self.last}, is in {self.files.trajectory}"
        return ModelError(
            f"dynamics has exploded at step {step}: {reason}; {kept}. Reduce --timestep ({self.settings.timestep:g} "
            "fs), relax the structure, or train on structures like this one"
        )


def _require_masses(atoms: ase.Atoms) -> None:
    """Check what would make nonsense of motion; positions and elements are checked where neighbours are found."""
    if len(atoms) == 0:
        raise DataError("the structure has no atoms: nothing can move")
    masses = atoms.get_masses()
    if not (np.isfinite(masses) & (masses > 0.0)).all():
        bad = int(np.argmin(np.isfinite(masses) & (masses > 0.0)))
        raise DataError(f"the mass of atom {bad} ({atoms.symbols[bad]}) is {masses[bad]:g} amu, expected above 0")
    if not np.isfinite(atoms.get_momenta()).all():
        raise DataError("the structure has velocities that are not finite: remove them, or correct the file")
    require_fitting_constraints(atoms, "the structure")
    if atoms.get_number_of_degrees_of_freedom() < 1:
        raise DataError("all atoms are fixed: nothing can move; remove constraints (move_mask)")


def _set_motion(
    atoms: ase.Atoms, settings: Settings, random: np.random.Generator, state: RunState | None
) -> None:
    if state is not None:
        if state.cell is not None:
            atoms.set_cell(state.cell)
        atoms.set_positions(state.positions, apply_constraint=False)
        atoms.set_momenta(state.momenta, apply_constraint=False)
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
        case "npt":
            _require_motion(atoms)
            barostat = settings.barostat or Barostat()
            return CellRescaling(atoms, timestep, settings.temperature, damping, barostat, random)
        case "bussi":
            _require_motion(atoms)
            return Bussi(atoms, timestep, temperature_K=settings.temperature, taut=damping, rng=random)


def _require_motion(atoms: ase.Atoms) -> None:
    if atoms.get_kinetic_energy() < TINY:
        raise DataError("bussi rescales velocities, and all are zero; start with langevin")


def _set_temperature(dynamics: MolecularDynamics, temperature: float) -> None:
    """Of the thermostat, in K."""
    if isinstance(dynamics, Langevin):
        dynamics.set_temperature(temperature_K=temperature)
    elif isinstance(dynamics, Bussi):
        dynamics.temp = units.kB * temperature
        dynamics.target_kinetic_energy = 0.5 * dynamics.temp * dynamics.ndof


def _restore(dynamics: MolecularDynamics, random: np.random.Generator, state: RunState, files: RunFiles) -> None:
    """Continue where the state was written; frames and lines written after it go."""
    dynamics.nsteps = state.step
    if isinstance(dynamics, Bussi):
        dynamics.transferred_energy = state.transferred_energy
    random.bit_generator.state = state.random
    files.truncate(state.sizes)
