"""A battery of physical checks of a model: pairs, consistency, crystals, molecules, dynamics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import ase
import numpy as np
from ase.build import bulk, molecule
from ase.calculators.calculator import BaseCalculator
from ase.collections import g2
from ase.data import chemical_symbols, reference_states
from matplotlib.figure import Figure

from carten.data.structures import is_crystal, require_known
from carten.errors import DataError, ModelError
from carten.math.arrays import Array
from carten.workflows.battery import (
    FAULTS,
    DynamicsRun,
    Findings,
    crystal_checks,
    dynamics_checks,
    molecule_checks,
)
from carten.workflows.consistency import consistency_checks
from carten.workflows.criteria import CRITERIA, PAIRS, Check, Light, not_run, skipped
from carten.workflows.dimers import DimerCurve, dimer_checks, dimer_curve, pairs_of
from carten.workflows.results import JobResult, Model, Progress, Quantity, as_calculator

LATTICES = ("fcc", "bcc", "hcp", "diamond")
"""Elements that crystallise in these are checked where no structures are given."""
MOLECULES = 3
"""That are checked where no structures are given."""
DRAWN = 10
"""Pairs in the picture."""
DEEP = 6.0
"""eV; the picture does not show the bottom of holes that are deeper than any bond."""


@dataclass(frozen=True)
class Benchmark(JobResult):
    """Checks of a model.

    Args:
        subject: name of the model.
        checks: in the order of :data:`carten.workflows.criteria.SECTIONS`.
        curves: of pairs.
        results: equations of state, elastic tensors, phonons and vibrations by structure.
        runs: of dynamics.
        chosen: whether the structures were chosen by carten.
    """

    job: ClassVar[str] = "benchmark"
    subject: str
    checks: tuple[Check, ...]
    curves: tuple[DimerCurve, ...] = field(repr=False)
    results: tuple[tuple[str, JobResult], ...] = field(repr=False)
    runs: tuple[DynamicsRun, ...] = field(repr=False)
    chosen: bool = False

    @property
    def subjects(self) -> tuple[str, ...]:
        """Names of the structures."""
        names = (check.subject for check in self.checks if check.criterion.section != PAIRS and check.subject)
        return tuple(dict.fromkeys(names))

    def count(self, light: Light) -> int:
        """Checks with a light."""
        return sum(check.light is light for check in self.checks)

    def quantities(self) -> list[Quantity]:
        counts = [Quantity(str(light), self.count(light), "checks") for light in Light if self.count(light)]
        worst = [check for check in self.checks if check.light in (Light.RED, Light.AMBER)]
        worst.sort(key=lambda check: check.light is Light.AMBER)
        lines = [
            Quantity(f"{check.light}: {check.criterion.name}, {check.subject}", _number(check), check.criterion.unit)
            for check in worst
        ]
        return [*counts, *lines]

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        checks = self.checks
        columns = {
            "section": [check.criterion.section for check in checks],
            "subject": [check.subject for check in checks],
            "check": [check.criterion.name for check in checks],
            "light": [str(check.light) for check in checks],
            "value": np.array([check.value for check in checks]),
            "unit": [check.criterion.unit for check in checks],
            "green_up_to": np.array([check.criterion.green for check in checks]),
            "amber_up_to": np.array([check.criterion.amber for check in checks]),
            "remark": [check.remark for check in checks],
        }
        pairs = {
            "pair": np.array([x.name for x in self.curves for _ in x.distances], dtype=object),
            "distance_A": _joined([x.distances for x in self.curves]),
            "energy_eV": _joined([x.energies for x in self.curves]),
            "force_eV/A": _joined([x.forces for x in self.curves]),
        }
        table = {name: x if isinstance(x, np.ndarray) else np.array(x, dtype=object) for name, x in columns.items()}
        return {"checks": table, "pairs": pairs}

    def warnings(self) -> list[str]:
        if not self.chosen:
            return []
        return ["the structures were chosen by carten: give those that the model is for, and the checks will mean more"]

    def failures(self) -> list[str]:
        """Checks that could not be run; a red light is a result."""
        return [
            f"{check.criterion.name}, {check.subject}: {check.remark}"
            for check in self.checks
            if check.light is Light.FAILED
        ]

    def draw(self, figure: Figure) -> None:
        draw_pairs(figure, self.curves[:DRAWN])


def benchmark(
    model: Model, structures: Sequence[ase.Atoms] = (), name: str = "model", progress: Progress | None = None
) -> Benchmark:
    """Check a model: curves of all pairs of elements, consistency, crystals, molecules, dynamics.

    Args:
        model: a model, its file, or any calculator of ASE.
        structures: crystals and molecules that it is for; by default the lattices of its elements, or, where it
            knows hydrogen, a few small molecules.
        name: of the model.
        progress: called with parts done and all.

    Raises:
        DataError: a calculator that does not say its elements, and no structures.
        ModelError: a structure has an element that the model does not know.
    """
    calculator = as_calculator(model)
    known = tuple(getattr(calculator, "elements", ()))
    subjects = list(structures) or _usual(known)
    for atoms in subjects:
        if known:
            require_known(atoms.numbers, known, atoms.get_chemical_formula())
    numbers = {int(number) for atoms in structures for number in atoms.numbers} or set(known)
    pairs = pairs_of([chemical_symbols[number] for number in sorted(numbers)])
    findings, curves = Findings(), []
    total = len(pairs) + 3 * len(subjects)
    report = progress or (lambda *_: None)
    for number, pair in enumerate(pairs):
        curves += _pair(pair, calculator, findings)
        report(number + 1, total)
    labels = _labels(subjects)
    for part, run in enumerate((_consistency, _minima, dynamics_checks)):
        for number, (label, atoms) in enumerate(zip(labels, subjects, strict=True)):
            run(label, atoms, calculator, findings)
            report(len(pairs) + part * len(subjects) + number + 1, total)
    findings.checks += _absent(subjects)
    checks = tuple(sorted(findings.checks, key=lambda check: _ORDER[check.criterion.section]))
    return Benchmark(name, checks, tuple(curves), tuple(findings.results), tuple(findings.runs), not structures)


_ORDER = {section: k for k, section in enumerate(dict.fromkeys(x.section for x in CRITERIA.values()))}


def draw_pairs(figure: Figure, curves: Sequence[DimerCurve]) -> None:
    """Energies of pairs over their distance."""
    axes = figure.subplots()
    deepest = min((float(x.energies[x.distances > 0.55 * x.radii].min(initial=0.0)) for x in curves), default=0.0)
    for curve in curves:
        axes.plot(curve.distances, curve.energies, label=curve.name, linewidth=1.3)
    scale = min(DEEP, max(1.0, -deepest))
    axes.set(xlabel="distance (Å)", ylabel="energy of the pair (eV)", ylim=(-1.3 * scale, 2.5 * scale))
    axes.axhline(0.0, color="C5", linewidth=0.6)
    if curves:
        axes.legend(fontsize=8.0, ncols=2 if len(curves) > 5 else 1)


def draw_run(figure: Figure, run: DynamicsRun) -> None:
    """Conserved energy, or temperature where a thermostat changes it, over time."""
    axes = figure.subplots()
    if run.name.endswith("heating"):
        axes.plot(run.times, run.temperatures, color="C1")
        axes.set(xlabel="time (ps)", ylabel="temperature (K)")
    else:
        axes.plot(run.times, run.energies, color="C0")
        axes.set(xlabel="time (ps)", ylabel="conserved energy (meV/atom)")
    axes.set_title(run.name)


def _pair(pair: tuple[str, str], calculator: BaseCalculator, findings: Findings) -> list[DimerCurve]:
    try:
        curve = dimer_curve(pair, calculator)
        findings.checks += dimer_checks(curve, calculator)
    except (DataError, ModelError, *FAULTS) as error:
        findings.checks.append(not_run("wall", "–".join(pair), f"{type(error).__name__}: {error}"))
        return []
    return [curve]


def _consistency(label: str, atoms: ase.Atoms, calculator: BaseCalculator, findings: Findings) -> None:
    try:
        findings.checks += consistency_checks(label, atoms, calculator)
    except (DataError, ModelError, *FAULTS) as error:
        findings.checks.append(not_run("gradient", label, f"{type(error).__name__}: {error}"))


def _minima(label: str, atoms: ase.Atoms, calculator: BaseCalculator, findings: Findings) -> None:
    if is_crystal(atoms):
        crystal_checks(label, atoms, calculator, findings)
    elif not atoms.pbc.any():
        molecule_checks(label, atoms, calculator, findings)


def _absent(subjects: Sequence[ase.Atoms]) -> list[Check]:
    """What is not checked for want of a structure."""
    checks = []
    if not any(map(is_crystal, subjects)):
        checks.append(skipped("volume", "", "no crystals among the structures"))
    if all(atoms.pbc.any() for atoms in subjects):
        checks.append(skipped("minimum", "", "no molecules among the structures"))
    return checks


def _usual(elements: Sequence[int]) -> list[ase.Atoms]:
    """Molecules of the elements where hydrogen is among them, else their lattices."""
    if 1 in elements:
        symbols = {chemical_symbols[number] for number in elements}
        fitting = [atoms for atoms in map(molecule, g2.names) if set(atoms.symbols) <= symbols and _is_closed(atoms)]
        fitting.sort(key=lambda atoms: (-len(set(atoms.numbers)), len(atoms)))
        chosen = [atoms for atoms in fitting if len(atoms) > 2][:MOLECULES]
    else:
        lattices = {number: (reference_states[number] or {}).get("symmetry") for number in elements}
        chosen = [bulk(chemical_symbols[number]) for number, lattice in lattices.items() if lattice in LATTICES]
    if not chosen:
        raise DataError("give structures to check this model with: crystals or molecules that it is for")
    return chosen


def _is_closed(atoms: ase.Atoms) -> bool:
    """Whether all electrons can be paired."""
    return int(atoms.numbers.sum()) % 2 == 0 and not atoms.get_initial_magnetic_moments().any()


def _labels(subjects: Sequence[ase.Atoms]) -> list[str]:
    """Formulas, numbered where they repeat."""
    formulas = [atoms.get_chemical_formula(empirical=is_crystal(atoms)) for atoms in subjects]
    return [
        formula if formulas.count(formula) == 1 else f"{formula} #{formulas[: k + 1].count(formula)}"
        for k, formula in enumerate(formulas)
    ]


def _number(check: Check) -> float | str:
    return check.remark if np.isnan(check.value) else check.value


def _joined(columns: Sequence[Array]) -> Array:
    return np.concatenate(columns) if columns else np.empty(0)
