"""Magnetic moments as variables: the energy of a structure and its derivatives in them, and their relaxation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from scipy.optimize import OptimizeResult, minimize

from carten.data.structures import find_label, read_inputs
from carten.errors import DataError, ModelError, require_positive
from carten.interfaces.ase import Calculator
from carten.math.arrays import Array, Floats
from carten.workflows.hessian import PairRows
from carten.workflows.results import Progress

NAMES = ("magmoms", "collinear_magmoms")
"""Inputs of models that are magnetic moments: vectors, and numbers along a common axis."""
NONE = 1e-3
"""μ_B, below which an atom has no moment; then it keeps none."""
STIFFNESS = 70.0
"""eV/Å^2, of atoms; that of moments is taken to be 1 eV/μ_B^2."""
Vary = Literal["none", "directions", "moments"]


@dataclass(frozen=True)
class MomentValues:
    """Of a structure with certain moments.

    Args:
        energy: eV.
        fields: (N, 3) or (N, 1) ``-dE/dm``, eV/μ_B.
        forces: (N, 3) eV/Å.
    """

    energy: float
    fields: Floats
    forces: Floats


class MagneticModel:
    """A structure and a model, as a function of magnetic moments.

    Args:
        atoms: with moments; constraints do not count.
        calculator: of a model that has moments as input.

    Attributes:
        moments: (N, 3) μ_B at first, or (N, 1) along a common axis.
        magnetic: (N,) which atoms have a moment.

    Raises:
        ModelError: the model does not know an element, or has no moments as input.
        DataError: the structure has no moments.
    """

    def __init__(self, atoms: ase.Atoms, calculator: BaseCalculator) -> None:
        if not len(atoms):
            raise DataError("the structure has no atoms")
        self.calculator, self.name = require_moments(calculator)
        prefix = self.name.removesuffix("magmoms")
        self.of_fields, self.of_pairs = f"{prefix}magnetic_forces", f"{prefix}magnetic_hessian"
        if self.of_pairs not in self.calculator.implemented_properties:
            raise ModelError("magnetic forces are derivatives of the energy, and the model does not predict energies")
        self._row = self.calculator.model.inputs[self.name]
        self.atoms: ase.Atoms = atoms.copy()
        self.atoms.set_constraint()
        values = read_inputs(atoms, self.calculator.model.inputs, self.calculator.inputs)
        self.moments: Floats = np.array(values[self.name], dtype=np.float64).reshape(len(atoms), -1)
        self.magnetic = np.linalg.norm(self.moments, axis=1) > NONE
        if not self.magnetic.any():
            formula = atoms.get_chemical_formula()
            raise DataError(f"{formula}: all magnetic moments are zero; set some in atoms.arrays['{self.name}']")

    def evaluate(self, moments: Floats, positions: Floats | None = None) -> MomentValues:
        """Energy and its derivatives."""
        if positions is not None:
            self.atoms.positions = positions
        fields = self.fields(moments)
        self.calculator.calculate(self.atoms, ["energy", "forces"])
        results = self.calculator.results
        return MomentValues(float(results["energy"]), fields, results["forces"])

    def fields(self, moments: Floats) -> Floats:
        """The magnetic forces alone, (N, 3) or (N, 1) eV/μ_B, where the atoms are: at half the cost."""
        self._set(self.atoms, moments)
        fields: Floats = self.calculator.get_property(self.of_fields, self.atoms).reshape(moments.shape)
        if not np.isfinite(fields).all():
            raise ModelError(f"{self.atoms.get_chemical_formula()}: magnetic forces are not finite for these moments")
        return fields

    def with_moments(self, moments: Floats) -> ase.Atoms:
        """A copy of the structure that carries moments where ASE has them."""
        copy: ase.Atoms = self.atoms.copy()
        self._set(copy, moments)
        return copy

    def rows(self, moments: Floats, repeats: tuple[int, int, int]) -> tuple[ase.Atoms, PairRows]:
        """A supercell, the first cell of which comes first, and second derivatives of its energy in its moments."""
        atoms = self.with_moments(moments).repeat(repeats)
        return atoms, PairRows(atoms, self.calculator, self.of_pairs, len(self.atoms))

    def _set(self, atoms: ase.Atoms, moments: Floats) -> None:
        key = find_label(atoms, self._row, None).file_key
        for place in (atoms.arrays, atoms.info):
            place.pop(key, None)
        atoms.arrays[self._row.ase] = moments.reshape(len(atoms), *[3] * self._row.rank)


def require_moments(calculator: BaseCalculator) -> tuple[Calculator, str]:
    """A calculator of a model that has moments as input, and the name of the input.

    Raises:
        ModelError: it is another one.
    """
    if not isinstance(calculator, Calculator):
        raise ModelError(
            f"{type(calculator).__name__} has no derivatives in magnetic moments: use a model of carten that has them "
            "as input"
        )
    inputs = calculator.model.inputs
    for name in NAMES:
        if name in inputs:
            return calculator, name
    known = f"it has the inputs {', '.join(inputs)}" if inputs else "it has no inputs besides the atoms"
    raise ModelError(
        f"magnetic moments must be an input of the model, and {known}: train one with inputs: {{magmoms: {{embed: "
        "exchange}} (noncollinear), or collinear_magmoms"
    )


@dataclass(frozen=True)
class MomentGoal:
    """What varies in a relaxation of moments, and how far.

    Args:
        vary: of the moments: nothing, their directions at fixed size, or both.
        positions: whether atoms move too, but for those of ``FixAtoms``.
        mmax: largest magnetic force that may remain, eV/μ_B; across the moment where its size is fixed.
        fmax: largest force that may remain, eV/Å.
        steps: at most.
        tilt: degrees by which moments are turned at random first: those that are all parallel feel no torque.
        seed: of the turns.
    """

    vary: Vary = "directions"
    positions: bool = False
    mmax: float = 1e-3
    fmax: float = 0.01
    steps: int = 500
    tilt: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        require_positive(self, "mmax", "fmax", "steps")
        if not 0.0 <= self.tilt <= 180.0:
            raise ValueError(f"the tilt must be between 0 and 180 degrees, found {self.tilt}")


@dataclass(frozen=True)
class MomentRelaxation:
    """Moments, and perhaps atoms, after a relaxation.

    Args:
        moments: (N, 3) or (N, 1) μ_B.
        positions: (N, 3) Å.
        energies: eV, before and after.
        largest_field: on a moment, eV/μ_B, of what varies.
        largest_force: on an atom that may move, eV/Å; 0 where none may.
        steps: that were taken.
        converged: whether both are as small as was asked for.
    """

    moments: Floats
    positions: Floats
    energies: tuple[float, float]
    largest_field: float
    largest_force: float
    steps: int
    converged: bool


class _Descent:
    """Variables of a relaxation: vectors along the moments, and positions times a root of their stiffness."""

    def __init__(self, system: MagneticModel, goal: MomentGoal, free: Array) -> None:
        self.system, self.goal, self.free = system, goal, free
        self.scale = np.sqrt(STIFFNESS)
        self.sizes = np.linalg.norm(system.moments, axis=1, keepdims=True)[system.magnetic]
        self.moving = system.magnetic if goal.vary != "none" else np.zeros(len(free), dtype=bool)
        self.values = MomentValues(np.nan, np.zeros(0), np.zeros(0))

    def start(self, moments: Floats) -> Floats:
        positions = self.system.atoms.positions[self.free] * self.scale
        return np.concatenate([moments[self.moving].ravel(), positions.ravel()])

    def place(self, variables: Floats) -> tuple[Floats, Floats]:
        """Moments and positions."""
        moments, positions = self.system.moments.copy(), self.system.atoms.positions.copy()
        n_moments = int(self.moving.sum()) * moments.shape[1]
        vectors = variables[:n_moments].reshape(-1, moments.shape[1])
        if self.goal.vary == "directions":
            vectors = vectors * self.sizes / np.linalg.norm(vectors, axis=1, keepdims=True)
        moments[self.moving] = vectors
        positions[self.free] = variables[n_moments:].reshape(-1, 3) / self.scale
        return moments, positions

    def __call__(self, variables: Floats) -> tuple[float, Floats]:
        """Energy and gradient."""
        moments, positions = self.place(variables)
        self.values = self.system.evaluate(moments, positions)
        slopes = -self.fields(moments)
        if self.goal.vary == "directions":
            vectors = variables[: slopes.size].reshape(slopes.shape)
            slopes = slopes * self.sizes / np.linalg.norm(vectors, axis=1, keepdims=True)
        return self.values.energy, np.concatenate([slopes.ravel(), -self.values.forces[self.free].ravel() / self.scale])

    def fields(self, moments: Floats) -> Floats:
        """Magnetic forces on the moments that vary; across them where their size is fixed."""
        fields: Floats = self.values.fields[self.moving]
        if self.goal.vary != "directions":
            return fields
        return across(fields, moments[self.moving])

    def largest(self, moments: Floats) -> tuple[float, float]:
        fields = np.linalg.norm(self.fields(moments), axis=1)
        forces = np.linalg.norm(self.values.forces[self.free], axis=1)
        return float(fields.max(initial=0.0)), float(forces.max(initial=0.0))


def relax_moments(
    system: MagneticModel,
    goal: MomentGoal | None = None,
    chosen: Array | None = None,
    progress: Progress | None = None,
) -> MomentRelaxation:
    """Relax magnetic moments, and perhaps atoms with them, to a minimum of the energy.

    Args:
        system: a structure with moments, and a model; it is left as it ends.
        goal: what varies, and when to stop.
        chosen: indices of the atoms that may move, where atoms move; all by default.
        progress: called with steps taken and the most there can be.

    Raises:
        ModelError: moments along a common axis have no directions that could vary.
    """
    goal = goal or MomentGoal()
    if goal.vary == "directions" and system.moments.shape[1] == 1:
        raise ModelError("moments along a common axis have no directions: relax their sizes (vary moments)")
    free = np.zeros(len(system.atoms), dtype=bool)
    if goal.positions:
        free[slice(None) if chosen is None else chosen] = True
    descent = _Descent(system, goal, free)
    variables = descent.start(tilted(system.moments, goal.tilt, goal.seed))
    before = descent(variables)[0]
    steps = 0

    def check(intermediate_result: OptimizeResult) -> None:
        nonlocal steps
        steps += 1
        if progress is not None:
            progress(steps, goal.steps)
        descent(intermediate_result.x)
        if reached(*descent.largest(descent.place(intermediate_result.x)[0])):
            raise StopIteration

    def reached(field: float, force: float) -> bool:
        return field <= goal.mmax and force <= goal.fmax

    if not reached(*descent.largest(descent.place(variables)[0])):
        options: Any = {"maxiter": goal.steps, "maxfun": 20 * goal.steps, "ftol": 0.0, "gtol": 0.0, "maxcor": 20}
        end = minimize(descent, variables, method="L-BFGS-B", jac=True, callback=check, options=options)
        variables = end.x
    energy, _ = descent(variables)
    moments, positions = descent.place(variables)
    largest = descent.largest(moments)
    return MomentRelaxation(moments, positions, (before, energy), *largest, steps, reached(*largest))


def across(fields: Floats, moments: Floats) -> Floats:
    """The part of fields (n, 3) that turns moments (n, 3), none of which is zero."""
    along = np.sum(fields * moments, axis=1, keepdims=True) / np.sum(moments**2, axis=1, keepdims=True)
    turning: Floats = fields - along * moments
    return turning


def tilted(moments: Floats, degrees: float, seed: int) -> Floats:
    """Moments (N, 3) turned by an angle, each about an axis of its own at random; numbers stay as they are."""
    if degrees == 0.0 or moments.shape[1] == 1:
        return moments
    sizes = np.linalg.norm(moments, axis=1, keepdims=True)
    units = moments / np.maximum(sizes, NONE)
    across = np.cross(units, np.random.default_rng(seed).normal(size=moments.shape))
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-12)
    angle = np.radians(degrees)
    turned: Floats = sizes * (np.cos(angle) * units + np.sin(angle) * across)
    return turned
