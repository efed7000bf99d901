"""Relaxation: many structures in one batch with a compiled model, or one by one with any ASE calculator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import GPa

from carten.data.structures import is_crystal, require_known
from carten.deploy import Deployed
from carten.errors import DataError, ModelError, require_positive
from carten.interfaces.ase import Calculator
from carten.math.arrays import Floats
from carten.text import html_table
from carten.workflows.crowd import Crowd, CrowdValues, Queue, Structures
from carten.workflows.lbfgs import ManyLBFGS
from carten.workflows.movable import Movable

SHRINK = 0.8
"""Structures that are done leave the batch when no more than this share is left."""


@dataclass(frozen=True)
class Relaxation:
    """A relaxed structure.

    Args:
        atoms: with energy, forces and, in a cell, stress as results, and its constraints.
        converged: whether forces and stress are as small as was asked for.
        steps: that were taken.
        energy_before: eV.
        energy: eV.
        largest_force: on an atom that may move, eV/Å.
        largest_stress: component of stress plus pressure, eV/Å^3; 0 where the cell was kept.
        problem: why the structure was given up, as it was before; empty if it was not.
    """

    atoms: ase.Atoms
    converged: bool
    steps: int
    energy_before: float
    energy: float
    largest_force: float
    largest_stress: float
    problem: str = ""

    def _repr_html_(self) -> str:
        rows = [
            ("structure", self.atoms.get_chemical_formula()),
            ("converged", "yes" if self.converged else "no"),
            ("steps", f"{self.steps}"),
            ("energy", f"{self.energy:.6f} eV, before {self.energy_before:.6f} eV"),
            ("largest force", f"{self.largest_force:.2g} eV/Å"),
        ]
        if self.largest_stress:
            rows.append(("largest stress", f"{self.largest_stress / GPa:.2g} GPa"))
        return html_table(rows)


@dataclass(frozen=True)
class Goal:
    """What a relaxation is to reach.

    Args:
        fmax: largest force, eV/Å.
        smax: largest component of stress plus pressure, GPa.
        cell: whether cells relax too.
        pressure: GPa.
        steps: at most.
    """

    fmax: float = 0.01
    smax: float = 0.05
    cell: bool = False
    pressure: float = 0.0
    steps: int = 500

    def __post_init__(self) -> None:
        require_positive(self, "fmax", "smax", "steps")
        if not np.isfinite(self.pressure):
            raise ValueError(f"the pressure must be a finite number of GPa, found {self.pressure}")


def relax(
    structures: ase.Atoms | Sequence[ase.Atoms],
    model: Deployed | BaseCalculator,
    goal: Goal | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Relaxation]:
    """Relax structures to a minimum of the energy, or of the enthalpy under pressure.

    Args:
        structures: one or many. They are not changed. Atoms of ``FixAtoms`` stay where they are; other constraints ask
            for an ASE calculator.
        model: a compiled model (:func:`carten.deploy.open_file`), which relaxes all structures in one batch; or any
            ASE calculator, one structure after the other.
        goal: when to stop.
        progress: called with how many of how many are done.

    Returns:
        One for each structure, in order; those that did not converge say so. Structures that become impossible on the
        way, because atoms coincide or forces are not finite, are given up, and the others go on.

    Raises:
        DataError: cells are to relax of a structure that is not periodic, a structure has no atoms or is impossible as
            it is, or it has constraints or inputs that a batch can't have.
        ModelError: an element that the model does not know.
    """
    goal = goal or Goal()
    several = [structures] if isinstance(structures, ase.Atoms) else list(structures)
    names = [f"structure {number} ({atoms.get_chemical_formula()})" for number, atoms in enumerate(several)]
    for name, atoms in zip(names, several, strict=True):
        _require(atoms, goal, name)
    members = [Movable(atoms.copy(), name, atoms.cell.array.copy()) for name, atoms in zip(names, several, strict=True)]
    if isinstance(model, Deployed):
        _require_batch(several, model)
        return _Batch(members, partial(Crowd, model), goal, progress).run() if several else []
    _require_stress(several, model, goal)
    results: list[Relaxation] = []
    for member in members:
        results += _Batch([member], partial(Queue, model), goal).run()
        if progress is not None:
            progress(len(results), len(several))
    return results


def choose_evaluator(calculator: BaseCalculator, structures: Sequence[ase.Atoms]) -> Deployed | BaseCalculator:
    """The compiled model of a calculator where it can evaluate the structures in one batch, else the calculator."""
    library = calculator.library if isinstance(calculator, Calculator) else None
    plain = all(isinstance(constraint, FixAtoms) for atoms in structures for constraint in atoms.constraints)
    if library is None or not plain or library.inputs or "forces" in library.readouts:
        return calculator
    return library


def _require(atoms: ase.Atoms, goal: Goal, name: str) -> None:
    if not len(atoms):
        raise DataError(f"{name} has no atoms")
    if goal.cell and not is_crystal(atoms):
        raise DataError(f"{name} is not periodic in three directions: its cell can't relax")


def _require_stress(structures: Sequence[ase.Atoms], calculator: BaseCalculator, goal: Goal) -> None:
    if structures and goal.cell and "stress" not in calculator.implemented_properties:
        raise DataError(f"{type(calculator).__name__} has no stress: cells can't relax")


def _require_batch(structures: Sequence[ase.Atoms], model: Deployed) -> None:
    if model.inputs:
        raise DataError(f"the model has the input {model.inputs[0]}: relax with carten.Calculator, one at a time")
    if "forces" in model.readouts:
        raise DataError("the model reads its forces directly: relax with carten.Calculator, one structure at a time")
    for number, atoms in enumerate(structures):
        if any(not isinstance(constraint, FixAtoms) for constraint in atoms.constraints):
            raise DataError(
                f"structure {number} has constraints other than FixAtoms: relax with carten.Calculator, one at a time"
            )
        require_known(atoms.numbers, model.elements, f"structure {number}")


class _Batch:
    """Relaxes structures together.

    Args:
        members: at least one.
        join: makes of structures what evaluates them.
        goal: when to stop.
        progress: called with structures done and all.
    """

    def __init__(
        self,
        members: Sequence[Movable],
        join: Callable[[Sequence[ase.Atoms]], Structures],
        goal: Goal,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.goal, self.progress = goal, progress
        self.every, self.members = members, list(members)
        self.results: dict[str, Relaxation] = {}
        self._join = join
        self.crowd = self._joined()
        self.optimizer = ManyLBFGS(self._problem())

    def run(self) -> list[Relaxation]:
        for step in range(self.goal.steps + 1):
            values = self._evaluate(step)
            if values is None:
                break
            finished = self._finish(values, step)
            if finished.all():
                break
            variables, gradient = self._variables(values)
            volumes = np.array([member.atoms.get_volume() if self.goal.cell else 0.0 for member in self.members])
            pulls = np.array([member.constraint_energy() for member in self.members])
            enthalpies = values.energies + pulls + self.goal.pressure * GPa * volumes
            change = self.optimizer.step(variables, gradient, enthalpies)
            self._move(variables + change)
            if (~finished).sum() <= SHRINK * len(self.members):
                self._shrink(~finished)
        return [self.results[member.name] for member in self.every]

    def _evaluate(self, step: int) -> CrowdValues | None:
        """Values of all members, without those that have become impossible; None if no member is left."""
        values = _evaluated(self.crowd)
        if isinstance(values, CrowdValues):
            return values
        outcomes = [_evaluated(self._join([member.atoms])) for member in self.members]
        for member, outcome in zip(self.members, outcomes, strict=True):
            if isinstance(outcome, CrowdValues):
                continue
            if not step:
                raise type(outcome)(f"{member.name}: {outcome}") from outcome
            self.results.setdefault(member.name, self._result(member, converged=False, problem=str(outcome)))
        possible = np.array([isinstance(outcome, CrowdValues) for outcome in outcomes])
        if not possible.any():
            return None
        self._shrink(possible)
        return self.crowd.evaluate()

    def _finish(self, values: CrowdValues, step: int) -> np.ndarray:
        """Which members are done; their results are kept the first time."""
        forces, stresses = self._largest(values)
        converged = (forces <= self.goal.fmax) & (stresses <= self.goal.smax * GPa)
        for k, member in enumerate(self.members):
            member.visit(step, values, k, slice(*self.crowd.first[k : k + 2]), (float(forces[k]), float(stresses[k])))
            if member.name not in self.results and (converged[k] or step == self.goal.steps):
                self.results[member.name] = self._result(member, bool(converged[k]))
        if self.progress is not None:
            self.progress(len(self.results), len(self.every))
        return np.array([member.name in self.results for member in self.members])

    def _largest(self, values: CrowdValues) -> tuple[Floats, Floats]:
        lengths = np.linalg.norm(self._forces(values), axis=1)
        forces = np.zeros(len(self.members))
        np.maximum.at(forces, self.crowd.structure, lengths)
        if not self.goal.cell:
            return forces, np.zeros(len(self.members))
        return forces, np.abs(self._stress(values)).max(axis=(1, 2))

    def _forces(self, values: CrowdValues) -> Floats:
        """Forces that may move atoms, (N, 3) eV/Å."""
        parts = np.split(values.forces, self.crowd.first[1:-1])
        return np.concatenate([m.constrained_forces(part) for m, part in zip(self.members, parts, strict=True)])

    def _stress(self, values: CrowdValues) -> Floats:
        """Stress plus pressure that may strain cells, (S, 3, 3) eV/Å^3."""
        volumes = np.array([member.atoms.get_volume() for member in self.members])
        stress = -values.virials / volumes[:, None, None] + self.goal.pressure * GPa * np.eye(3)
        return np.stack([m.constrained_stress(part) for m, part in zip(self.members, stress, strict=True)])

    @staticmethod
    def _result(member: Movable, converged: bool, problem: str = "") -> Relaxation:
        """Where the member was evaluated last."""
        last, atoms = member.last, member.atoms.copy()
        atoms.set_cell(last.cell, apply_constraint=False)
        atoms.positions = last.positions
        results: dict[str, float | Floats] = {"energy": last.energy, "forces": last.forces}
        if is_crystal(atoms) and np.isfinite(last.virial).all():
            results["stress"] = full_3x3_to_voigt_6_stress(-last.virial / atoms.get_volume())
        atoms.calc = SinglePointCalculator(atoms, **results)
        return Relaxation(atoms, converged, last.step, member.energy_before, last.energy, *last.largest, problem)

    def _variables(self, values: CrowdValues) -> tuple[Floats, Floats]:
        """All variables and the gradient: of atoms, then, if cells relax, of strains."""
        variables, gradients = [], []
        allowed, stresses = self._forces(values), self._stress(values) if self.goal.cell else None
        for k, member in enumerate(self.members):
            forces = allowed[self.crowd.first[k] : self.crowd.first[k + 1]]
            variables.append(np.linalg.solve(member.strain, member.atoms.positions.T).T.ravel())
            gradients.append(-(forces @ member.strain).ravel())
            if stresses is not None:
                n_atoms = len(member.atoms)
                virial = member.atoms.get_volume() * stresses[k]
                variables.append((member.strain * n_atoms).ravel())
                gradients.append(np.linalg.solve(member.strain, virial.T).T.ravel() / n_atoms)
        return np.concatenate(variables), np.concatenate(gradients)

    def _move(self, variables: Floats) -> None:
        start = 0
        for member in self.members:
            n_atoms = len(member.atoms)
            places = variables[start : start + 3 * n_atoms].reshape(-1, 3)
            start += 3 * n_atoms
            strain = None
            if self.goal.cell:
                strain = variables[start : start + 9].reshape(3, 3) / n_atoms
                start += 9
            member.move(places, strain)

    def _shrink(self, kept: np.ndarray) -> None:
        self.members = [member for member, keep in zip(self.members, kept, strict=True) if keep]
        self.optimizer.select(kept)
        self.crowd = self._joined()

    def _joined(self) -> Structures:
        return self._join([member.atoms for member in self.members])

    def _problem(self) -> np.ndarray:
        sizes = [3 * len(member.atoms) + (9 if self.goal.cell else 0) for member in self.members]
        return np.repeat(np.arange(len(self.members)), sizes)


def _evaluated(structures: Structures) -> CrowdValues | DataError | ModelError:
    """Values, or why there are none."""
    try:
        values = structures.evaluate()
    except (DataError, ModelError) as error:
        return error
    finite = np.isfinite(values.energies).all() and np.isfinite(values.forces).all()
    return values if finite else DataError("energy or forces are not finite")
