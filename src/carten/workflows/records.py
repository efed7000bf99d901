"""The files of a run of molecular dynamics: frames, log, and the state from which it can be continued."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import ase
import numpy as np
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.md.md import MolecularDynamics

from carten.data.write import as_json, write_structure
from carten.errors import DataError
from carten.math.arrays import Floats
from carten.workflows.lock import only_writer
from carten.workflows.restraints import Restraint
from carten.workflows.state import RESULTS, UNCERTAINTIES, RunState

COLUMNS = ("step", "time_ps", "temperature_K", "potential_eV", "kinetic_eV", "restraint_eV", "conserved_eV")


@dataclass(frozen=True)
class RunFiles:
    """The three files of a run."""

    trajectory: Path

    @property
    def log(self) -> Path:
        return self.trajectory.with_suffix(".csv")

    @property
    def state(self) -> Path:
        return self.trajectory.with_suffix(".restart.json")

    def require_writable(self) -> None:
        """Check name and folder.

        Raises:
            DataError: the name does not end in .extxyz.
            FileNotFoundError: there is no such folder.
        """
        if self.trajectory.suffix not in (".extxyz", ".xyz"):
            raise DataError(
                f"trajectories are extended XYZ: expected a name ending in .extxyz, found {self.trajectory}"
            )
        if not self.trajectory.parent.is_dir():
            raise FileNotFoundError(f"{self.trajectory.parent}: there is no such folder; make it first")

    def require_new(self) -> None:
        """Check that nothing is overwritten.

        Raises:
            FileExistsError: one of the files exists.
        """
        for path in (self.trajectory, self.log, self.state):
            if path.exists():
                advice = "continue that run with --restart, or choose" if self.state.exists() else "choose"
                raise FileExistsError(f"{path} exists already: {advice} another --output")

    def remove_if_not_begun(self) -> bool:
        """Remove the files of a run that ended before its second frame; whether it did."""
        try:
            state = self.read_state()
        except DataError:
            return False
        frames = self.trajectory.stat().st_size if self.trajectory.exists() else 0
        if state.step > 0 or frames > state.sizes[0] > 0:
            return False
        for path in (self.trajectory, self.log, self.state):
            path.unlink(missing_ok=True)
        return True

    def locked(self) -> AbstractContextManager[None]:
        """Keep other processes from writing the same files, see :func:`carten.workflows.lock.only_writer`."""
        return only_writer(self.trajectory)

    def write_state(self, state: RunState) -> None:
        """Replace the state in one piece."""
        temporary = self.state.with_suffix(".tmp")
        temporary.write_text(json.dumps(as_json(asdict(state))), encoding="utf-8")
        temporary.replace(self.state)

    def read_state(self) -> RunState:
        """The state that was written last.

        Raises:
            DataError: there is none, or it is damaged.
        """
        if not self.state.is_file():
            raise DataError(f"nothing to continue: there is no {self.state}; start without --restart")
        try:
            return RunState.parse(json.loads(self.state.read_text(encoding="utf-8")))
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise DataError(
                f"{self.state} is damaged or of another version of carten ({type(error).__name__}: {error}): start a "
                f"new run from the last frame of {self.trajectory}"
            ) from error

    def read_log(self) -> dict[str, Floats]:
        """Its columns."""
        with self.log.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: np.array([float(row[name]) for row in rows]) for name in COLUMNS}

    def truncate(self, sizes: tuple[int, int]) -> None:
        """Remove what was written after the state: a frame or a line may be incomplete.

        Raises:
            DataError: a file is missing or too short.
        """
        for path, size in zip((self.trajectory, self.log), sizes, strict=True):
            if (path.stat().st_size if path.exists() else 0) < size:
                raise DataError(f"{path} is missing or shorter than when {self.state} was written: start a new run")
        if sizes[1] and self.log.read_text(encoding="utf-8").partition("\n")[0].strip() != ",".join(COLUMNS):
            raise DataError(f"{self.log} has other columns than {', '.join(COLUMNS)}: start a new run")
        for path, size in zip((self.trajectory, self.log), sizes, strict=True):
            if path.exists():
                with path.open("r+") as file:
                    file.truncate(size)


@dataclass
class FrameRecorder:
    """Appends a frame and a line of the log, then replaces the state.

    Args:
        files: their names.
        frames: the trajectory, open for appending.
        log: the log, open for appending.
        constant: settings and structure, which every state repeats.
        constraints: of the structure, for the frames.
        restraints: that dynamics adds.
    """

    files: RunFiles
    frames: IO[str]
    log: IO[str]
    constant: dict[str, dict[str, Any]]
    constraints: Sequence[Any]
    restraints: Sequence[Restraint] = ()

    def record(self, dynamics: MolecularDynamics, random: np.random.Generator) -> dict[str, float]:
        """Write down where dynamics is, the model has been evaluated there; the line of the log."""
        atoms = dynamics.atoms
        results = atoms.calc.results
        potential, kinetic = float(results["energy"]), float(atoms.get_kinetic_energy())
        constrained = float(atoms.get_potential_energy())  # with the energy of restraints such as springs
        row = {
            "step": dynamics.nsteps,
            "time_ps": dynamics.nsteps * dynamics.dt / (1000.0 * units.fs),
            "temperature_K": float(atoms.get_temperature()),
            "potential_eV": potential,
            "kinetic_eV": kinetic,
            "restraint_eV": constrained - potential,
            "conserved_eV": constrained + kinetic - getattr(dynamics, "transferred_energy", 0.0),
        }
        if self.log.tell() == 0:
            csv.writer(self.log).writerow(COLUMNS)
        csv.writer(self.log).writerow([row["step"], *(f"{row[name]:.10g}" for name in COLUMNS[1:])])
        write_structure(self.frames, frame(atoms, row, self.constraints))
        for file in (self.frames, self.log):
            file.flush()
        self.save(dynamics, random)
        return row

    def save(self, dynamics: MolecularDynamics, random: np.random.Generator) -> None:
        """Replace the state, from which the run can be continued."""
        state = RunState(
            **self.constant,
            step=dynamics.nsteps,
            positions=dynamics.atoms.positions,
            momenta=dynamics.atoms.get_momenta(),
            transferred_energy=getattr(dynamics, "transferred_energy", 0.0),
            random=dict(random.bit_generator.state),
            sizes=(self.frames.tell(), self.log.tell()),
            restraints={name: value for each in self.restraints for name, value in each.state().items()},
            cell=None if "cell" in self.constant["structure"] else dynamics.atoms.cell.array,
        )
        self.files.write_state(state)


def frame(atoms: ase.Atoms, row: Mapping[str, float], constraints: Sequence[Any]) -> ase.Atoms:
    """A copy with energy, forces and stress of the model, uncertainties, step and time; everything else as it is."""
    copy: ase.Atoms = atoms.copy()
    copy.set_constraint(constraints)
    results = atoms.calc.results
    for name in (*RESULTS, *UNCERTAINTIES):
        copy.info.pop(name, None)
        copy.arrays.pop(name, None)
    copy.info.update(
        step=int(row["step"]), time_ps=round(row["time_ps"], 9), temperature_K=round(row["temperature_K"], 6)
    )
    for name in (name for name in UNCERTAINTIES if name in results):
        (copy.arrays if name == "forces_uncertainty" else copy.info)[name] = results[name]
    kept = {name: results[name] for name in RESULTS if name in results}
    copy.calc = SinglePointCalculator(copy, **kept)
    return copy
