"""Saddle points from one structure, by Sella with the Hessians of the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from matplotlib.figure import Figure

from carten.errors import ConfigError
from carten.math.arrays import Floats
from carten.workflows.results import JobResult, Model, Progress, Quantity, as_calculator
from carten.workflows.saddle import StationaryModes, constants_of, moving_atoms, stationary_modes

REFRESH = 3
"""Steps from one Hessian to the next; in between it is updated by gradients."""
SWING = 0.1
"""Å, largest displacement of an atom in the structures on both sides of the saddle."""


@dataclass(frozen=True)
class SaddleSearch:
    """When a search for a saddle stops.

    Args:
        fmax: largest force on an atom that may move, eV/Å.
        steps: at most.
    """

    fmax: float = 0.01
    steps: int = 200

    def __post_init__(self) -> None:
        for name in ("fmax", "steps"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, found {getattr(self, name)}")


@dataclass(frozen=True)
class SaddlePoint(JobResult):
    """A saddle point.

    Args:
        atoms: with energy and forces.
        converged: whether forces are as small as was asked for.
        energies: (steps + 1,) eV.
        forces: (steps + 1,) the largest one, eV/Å.
        modes: there; ``None`` where the search did not converge.
    """

    job: ClassVar[str] = "ts"
    size: ClassVar[tuple[float, float]] = (4.0, 6.0)
    atoms: ase.Atoms
    converged: bool
    energies: Floats
    forces: Floats
    modes: StationaryModes | None = field(default=None)

    def quantities(self) -> list[Quantity]:
        return [
            Quantity("energy", float(self.energies[-1]), "eV"),
            Quantity("energy relative to the start of the search", float(self.energies[-1] - self.energies[0]), "eV"),
            *([] if self.modes is None else self.modes.quantities()),
            Quantity("largest force", float(self.forces[-1]), "eV/Å"),
            Quantity("steps", len(self.energies) - 1),
        ]

    def tables(self) -> Mapping[str, Mapping[str, Floats]]:
        return {"steps": {"energy_eV": self.energies, "force_eV/A": self.forces}}

    def structures(self) -> list[ase.Atoms]:
        """The saddle, and one structure on each side of it along the imaginary mode."""
        if self.modes is None:
            return [self.atoms]
        sides = [self.atoms.copy() for _ in range(2)]
        for side, sign in zip(sides, (-1.0, 1.0), strict=True):
            side.positions += sign * SWING * self.modes.lowest
        return [self.atoms, *sides]

    def failures(self) -> list[str]:
        if not self.converged:
            steps = len(self.energies) - 1
            return [f"the largest force is {self.forces[-1]:.2g} eV/Å after {steps} steps: start nearer to a saddle"]
        return [] if self.modes is None else self.modes.failures()

    def draw(self, figure: Figure) -> None:
        upper, lower = figure.subplots(2, sharex=True)
        upper.plot(self.energies - self.energies[0], "o-", color="C0", markersize=3.0, linewidth=1.1)
        upper.set(ylabel="energy (eV)")
        lower.semilogy(np.maximum(self.forces, 1e-12), "o-", color="C1", markersize=3.0, linewidth=1.1)
        lower.set(xlabel="step", ylabel="largest force (eV/Å)")


def ts(
    atoms: ase.Atoms, model: Model, search: SaddleSearch | None = None, progress: Progress | None = None
) -> SaddlePoint:
    """A saddle point of first order near a structure, and its check by the Hessian: one imaginary mode.

    Args:
        atoms: near the saddle, e.g. the highest image of a path. It is not changed; atoms held by ``FixAtoms`` stay.
        model: a model, its file, or any calculator of ASE. Hessians of models are exact.
        search: when to stop.
        progress: called with steps done and allowed.

    Raises:
        DataError: constraints other than ``FixAtoms``, or no atom may move.
        ModelError: an element that the model does not know, or there is only a library, which has no Hessian.
        ConfigError: Sella is not installed.

    Source: E. D. Hermes, K. Sargsyan, H. N. Najm and J. Zádor, J. Chem. Theory Comput. 18, 6974 (2022).
    """
    try:
        from sella import Sella
    except ImportError as error:
        raise ConfigError("saddle searches need Sella: pip install 'carten[workflows]'") from error
    search, calculator = search or SaddleSearch(), as_calculator(model)
    free = moving_atoms(atoms)
    moving = atoms.copy()
    moving.calc = calculator

    def second_derivatives(current: ase.Atoms) -> Floats:
        bare = current.copy()
        bare.set_constraint()
        full = np.zeros((3 * len(bare), 3 * len(bare)))
        rows = (3 * free[:, None] + np.arange(3)).ravel()
        full[np.ix_(rows, rows)] = constants_of(bare, free, calculator)
        return full

    turns = len(free) == len(atoms) and not atoms.pbc.any()
    options: dict[str, Any] = {"hessian_function": second_derivatives, "diag_every_n": REFRESH, "proj_rot": turns}
    optimizer: Any = Sella(moving, **options, logfile=None)
    history: list[tuple[float, float]] = []
    converged = False
    for reached in optimizer.irun(fmax=search.fmax, steps=search.steps):
        forces = moving.get_forces()
        history.append((float(moving.get_potential_energy()), float(np.linalg.norm(forces, axis=1).max())))
        converged = bool(reached)
        if progress is not None:
            progress(len(history) - 1, search.steps)
    energies, largest = np.array(history).T
    saddle = moving.copy()
    saddle.calc = SinglePointCalculator(saddle, energy=energies[-1], forces=moving.get_forces(apply_constraint=False))
    modes = stationary_modes(saddle, calculator) if converged else None
    return SaddlePoint(saddle, converged, energies, largest, modes)
