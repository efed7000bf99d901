"""The checks of a benchmark that are jobs of their own: crystals, molecules and dynamics."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.units import GPa

from carten.errors import ConfigError, DataError, ModelError
from carten.math.arrays import Floats
from carten.workflows.criteria import Check, judged, not_run, skipped
from carten.workflows.defects import defects
from carten.workflows.elastic import elastic
from carten.workflows.eos import eos
from carten.workflows.limits import overlapping
from carten.workflows.md import Settings, run_dynamics
from carten.workflows.phonons import phonons
from carten.workflows.relax import Goal, relax
from carten.workflows.results import JobResult
from carten.workflows.surface import J_PER_M2, surface
from carten.workflows.vibrations import vibrations

TIGHT = Goal(fmax=1e-3, smax=0.01, cell=True)
LEAST = 32
"""Atoms of a crystal in dynamics."""
STEPS = 500
"""Of dynamics without a thermostat; heating takes twice as many."""
HOT_CRYSTAL, HOT_MOLECULE = 2500.0, 1000.0
"""K, at the end of heating."""
FAULTS = (RuntimeError, ValueError, ArithmeticError, LookupError, NotImplementedError, np.linalg.LinAlgError)
"""What keeps a check from being run; errors of carten about data and models are verdicts."""


@dataclass(frozen=True)
class DynamicsRun:
    """Columns of the log of a run.

    Args:
        name: of the structure, and what was done.
        times: (n,) ps.
        temperatures: (n,) K.
        energies: (n,) conserved, relative to the first, meV per atom.
    """

    name: str
    times: Floats
    temperatures: Floats
    energies: Floats


@dataclass
class Findings:
    """Checks, and results to be drawn, as they come."""

    checks: list[Check] = field(default_factory=list)
    results: list[tuple[str, JobResult]] = field(default_factory=list)
    runs: list[DynamicsRun] = field(default_factory=list)

    def attempt(self, key: str, subject: str, measure: Callable[[], Check]) -> None:
        """Add a check; what the model makes impossible is red, what could not be run says so."""
        try:
            self.checks.append(measure())
        except ConfigError as error:
            self.checks.append(skipped(key, subject, str(error)))
        except (DataError, ModelError) as error:
            self.checks.append(judged(key, subject, np.nan, str(error)))
        except FAULTS as error:
            self.checks.append(not_run(key, subject, f"{type(error).__name__}: {error}"))


def crystal_checks(name: str, atoms: ase.Atoms, calculator: BaseCalculator, findings: Findings) -> None:
    """Minimum, equation of state, elastic tensor, phonons, vacancies and surfaces of a crystal."""
    keys = ("volume", "eos", "elastic", "phonons", "vacancy", "surface")
    if "stress" not in calculator.implemented_properties:
        findings.checks += [skipped(key, name, "the model has no stress: cells can't relax") for key in keys]
        return
    relaxed: list[ase.Atoms] = []
    findings.attempt("volume", name, lambda: _volume(name, atoms, calculator, relaxed))
    if not relaxed:
        findings.checks += [skipped(key, name, "the cell did not relax") for key in keys[1:]]
        return
    minimum = relaxed[0]
    findings.attempt("eos", name, lambda: _eos(name, minimum, calculator, findings))
    findings.attempt("elastic", name, lambda: _elastic(name, minimum, calculator, findings))
    findings.attempt("phonons", name, lambda: _phonons(name, minimum, calculator, findings))
    findings.attempt("vacancy", name, lambda: _vacancy(name, minimum, calculator, findings))
    findings.attempt("surface", name, lambda: _surfaces(name, minimum, calculator, findings))


def molecule_checks(name: str, atoms: ase.Atoms, calculator: BaseCalculator, findings: Findings) -> None:
    """Minimum and vibrations of a molecule."""
    relaxed: list[ase.Atoms] = []
    findings.attempt("minimum", name, lambda: _minimum(name, atoms, calculator, relaxed))
    if not relaxed:
        findings.checks.append(skipped("modes", name, "the molecule did not relax"))
        return
    findings.attempt("modes", name, lambda: _modes(name, relaxed[0], calculator, findings))


def dynamics_checks(name: str, atoms: ase.Atoms, calculator: BaseCalculator, findings: Findings) -> None:
    """Energy without a thermostat, and heating."""
    start = _enlarged(atoms) if atoms.pbc.any() else atoms.copy()
    findings.attempt("drift", name, lambda: _drift(name, start, calculator, findings))
    findings.attempt("heat", name, lambda: _heat(name, start, calculator, findings))


def _volume(name: str, atoms: ase.Atoms, calculator: BaseCalculator, relaxed: list[ase.Atoms]) -> Check:
    (result,) = relax(atoms, calculator, TIGHT)
    change = 100.0 * (result.atoms.get_volume() / atoms.get_volume() - 1.0)
    lengths = ", ".join(f"{length:.3f}" for length in result.atoms.cell.lengths())
    remark = f"{change:+.2f} %; cell lengths {lengths} Å"
    if not result.converged:
        return judged("volume", name, np.nan, f"not relaxed after {result.steps} steps: {remark}")
    relaxed.append(result.atoms)
    return judged("volume", name, abs(change), remark)


def _eos(name: str, atoms: ase.Atoms, calculator: BaseCalculator, findings: Findings) -> Check:
    result = eos(atoms, calculator, width=0.09, points=9)
    findings.results.append((name, result))
    moduli = np.array([fit.bulk_modulus for fit in result.fits]) / GPa
    return judged("eos", name, 100.0 * float(np.ptp(moduli) / abs(moduli[0])), f"bulk modulus {moduli[0]:.1f} GPa")


def _elastic(name: str, atoms: ase.Atoms, calculator: BaseCalculator, findings: Findings) -> Check:
    result = elastic(atoms, calculator)
    findings.results.append((name, result))
    stiffness = result.stiffness
    remark = f"C11, C12, C44: {stiffness[0, 0]:.0f}, {stiffness[0, 1]:.0f}, {stiffness[3, 3]:.0f} GPa"
    return judged("elastic", name, max(0.0, -float(result.eigenvalues[0])), remark)


def _phonons(name: str, atoms: ase.Atoms, calculator: BaseCalculator, findings: Findings) -> Check:
    result = phonons(atoms, calculator)
    findings.results.append((name, result))
    frequencies = np.concatenate([segment.frequencies.ravel() for segment in result.path])
    remark = f"highest {frequencies.max():.1f} THz, supercell {' × '.join(map(str, result.supercell))}"
    return judged("phonons", name, max(0.0, -float(frequencies.min())), remark)


def _vacancy(name: str, atoms: ase.Atoms, calculator: BaseCalculator, findings: Findings) -> Check:
    if len(set(atoms.numbers)) > 1:
        return skipped("vacancy", name, "several elements: the energy depends on where the atom goes")
    result = defects(atoms, calculator)
    findings.results.append((name, result))
    lowest = min(result.defects, key=lambda defect: defect.energy)
    remark = f"vacancy {lowest.energy:.2f} eV in {len(lowest.relaxation.atoms) + 1} atoms"
    return judged("vacancy", name, max(0.0, -lowest.energy) if not result.failures() else np.nan, remark)


def _surfaces(name: str, atoms: ase.Atoms, calculator: BaseCalculator, findings: Findings) -> Check:
    result = surface(atoms, calculator)
    findings.results.append((name, result))
    remark = ", ".join(f"{facet.name} {facet.energy * J_PER_M2:.2f} J/m²" for facet in result.facets[:6])
    lowest = min(facet.energy for facet in result.facets) * J_PER_M2
    return judged("surface", name, max(0.0, -lowest) if not result.failures() else np.nan, remark)


def _minimum(name: str, atoms: ase.Atoms, calculator: BaseCalculator, relaxed: list[ase.Atoms]) -> Check:
    (result,) = relax(atoms, calculator, Goal(fmax=1e-3))
    if result.largest_force <= 0.1:
        relaxed.append(result.atoms)
    return judged("minimum", name, result.largest_force, f"{result.steps} steps")


def _modes(name: str, atoms: ase.Atoms, calculator: BaseCalculator, findings: Findings) -> Check:
    result = vibrations(atoms, calculator)
    findings.results.append((name, result))
    low, high = result.wavenumbers.min(initial=0.0), result.wavenumbers.max(initial=0.0)
    return judged("modes", name, max(0.0, -float(low)), f"{len(result.wavenumbers)} modes up to {high:.0f} cm⁻¹")


def _drift(name: str, atoms: ase.Atoms, calculator: BaseCalculator, findings: Findings) -> Check:
    settings = Settings(STEPS, _timestep(atoms), "nve", temperature=300.0, interval=5)
    run, failure = _run(f"{name}, NVE", atoms, calculator, settings)
    findings.runs.append(run)
    if failure:
        return judged("drift", name, np.nan, failure)
    slope, start = np.polyfit(run.times, run.energies, 1)
    noise = float(np.std(run.energies - slope * run.times - start))
    remark = f"{run.times[-1]:.2f} ps, {len(atoms)} atoms, fluctuation {noise:.2g} meV/atom"
    return judged("drift", name, abs(float(slope)), remark)


def _heat(name: str, atoms: ase.Atoms, calculator: BaseCalculator, findings: Findings) -> Check:
    hot = HOT_CRYSTAL if atoms.pbc.any() else HOT_MOLECULE
    settings = Settings(
        2 * STEPS, _timestep(atoms), "langevin", 300.0, damping=50.0, interval=10, final_temperature=hot
    )
    run, failure = _run(f"{name}, heating", atoms, calculator, settings)
    findings.runs.append(run)
    lost = 100.0 * (1.0 - run.times[-1] / (2 * STEPS * settings.timestep / 1000.0))
    reached = f"to {hot:.0f} K in {2 * STEPS * settings.timestep / 1000.0:.1f} ps"
    return judged("heat", name, max(round(lost, 6), 1.0) if failure else 0.0, failure or reached)


def _run(name: str, atoms: ase.Atoms, calculator: BaseCalculator, settings: Settings) -> tuple[DynamicsRun, str]:
    """The log of a run, and why it failed if it did."""
    moving, failure = atoms.copy(), ""
    moving.set_constraint()
    moving.set_momenta(np.zeros((len(moving), 3)))
    moving.calc = calculator
    with tempfile.TemporaryDirectory() as folder:
        trajectory = Path(folder) / "run.extxyz"
        try:
            run_dynamics(moving, settings, trajectory)
        except ModelError as error:
            failure = str(error).partition("; the last good frame")[0]
        log = trajectory.with_suffix(".csv")
        rows = list(csv.DictReader(log.read_text().splitlines())) if log.exists() else []
    if not failure and overlapping(moving):
        failure = "atoms overlap at the end"
    columns = (np.array([float(row[key]) for row in rows]) for key in ("time_ps", "temperature_K", "conserved_eV"))
    times, temperatures, energies = (column if rows else np.zeros(1) for column in columns)
    return DynamicsRun(name, times, temperatures, 1000.0 * (energies - energies[0]) / len(atoms)), failure


def _timestep(atoms: ase.Atoms) -> float:
    """In fs: short where there is hydrogen."""
    return 0.5 if 1 in atoms.numbers else 1.0


def _enlarged(atoms: ase.Atoms) -> ase.Atoms:
    """A supercell of at least :data:`LEAST` atoms, as long along all vectors that repeat as can be."""
    repeats = np.ones(3, dtype=int)
    lengths = atoms.cell.lengths()
    while len(atoms) * repeats.prod() < LEAST:
        repeats[int(np.argmin(np.where(atoms.pbc, lengths * repeats, np.inf)))] += 1
    enlarged: ase.Atoms = atoms.repeat(repeats)
    return enlarged
