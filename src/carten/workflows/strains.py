"""Second derivatives of a crystal's energy in strain and positions: exact, or differences of any calculator."""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator

from carten.interfaces.ase import Calculator
from carten.math.arrays import Floats
from carten.workflows.hessian import hessian
from carten.workflows.results import Progress

STEP = 1e-3
"""Strain of central differences."""


@dataclass(frozen=True)
class StrainDerivatives:
    """Derivatives at one structure, in the symmetric strain e of ``r (1 + e)`` and in positions before the strain.

    Args:
        volume: Å^3.
        stress: (3, 3) eV/Å^3.
        largest_force: eV/Å.
        clamped: (3, 3, 3, 3) second derivative of the energy in the strain, per volume, eV/Å^3.
        coupling: (3N, 3, 3) of forces in the strain, eV/Å.
        hessian: (3N, 3N) eV/Å^2.
    """

    volume: float
    stress: Floats
    largest_force: float
    clamped: Floats
    coupling: Floats
    hessian: Floats

    @property
    def curvatures(self) -> Floats:
        """(3N - 3,) eigenvalues of the Hessian without translations, ascending, eV/Å^2."""
        return self._internal()[1]

    def response(self, forces: Floats) -> Floats:
        """Displacements (3N, ..) that balance forces (3N, ..), translations left out."""
        space, values, vectors = self._internal()
        basis = space @ vectors
        scaled = (basis.T @ forces.reshape(len(forces), -1)) / values[:, None]
        displacements: Floats = (basis @ scaled).reshape(forces.shape)
        return displacements

    @property
    def relaxed(self) -> Floats:
        """As ``clamped``, of atoms that follow the strain."""
        flat = self.coupling.reshape(-1, 9)
        shift: Floats = (flat.T @ self.response(flat)).reshape(3, 3, 3, 3) / self.volume
        result: Floats = self.clamped - shift
        return result

    def _internal(self) -> tuple[Floats, Floats, Floats]:
        """A basis without translations (3N, 3N - 3), and eigenvalues and vectors of the Hessian in it."""
        size = len(self.hessian)
        translations = np.tile(np.eye(3), (size // 3, 1)) / np.sqrt(size / 3)
        space = np.linalg.svd(translations)[0][:, 3:]
        values, vectors = np.linalg.eigh(space.T @ (0.5 * (self.hessian + self.hessian.T)) @ space)
        return space, values, vectors


def strain_derivatives(
    atoms: ase.Atoms, calculator: BaseCalculator, progress: Progress | None = None
) -> StrainDerivatives:
    """Derivatives of a crystal; constraints do not count."""
    free = atoms.copy()
    free.set_constraint()
    free.calc = calculator
    names = ("elastic", "internal_strain", "hessian")
    exact = isinstance(calculator, Calculator) and all(name in calculator.implemented_properties for name in names)
    clamped, coupling = _exact(free, calculator) if exact else _differences(free, calculator)
    force = float(np.linalg.norm(free.get_forces(), axis=1).max())
    stress = free.get_stress(voigt=False)
    return StrainDerivatives(
        free.get_volume(), stress, force, clamped, coupling, hessian(free, calculator, progress)
    )


def _exact(atoms: ase.Atoms, calculator: BaseCalculator) -> tuple[Floats, Floats]:
    clamped = calculator.get_property("elastic", atoms)
    return clamped, calculator.get_property("internal_strain", atoms).reshape(-1, 3, 3)


def _differences(atoms: ase.Atoms, calculator: BaseCalculator) -> tuple[Floats, Floats]:
    """Central differences of the derivatives of the energy in strain and in positions before the strain."""
    clamped, coupling = np.empty((3, 3, 3, 3)), np.empty((3 * len(atoms), 3, 3))
    for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        slopes, forces = [], []
        for sign in (1.0, -1.0):
            deformation = np.eye(3)
            deformation[i, j] += 0.5 * sign * STEP
            deformation[j, i] += 0.5 * sign * STEP
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
            strained.calc = calculator
            slope = strained.get_volume() * np.linalg.solve(deformation, strained.get_stress(voigt=False))
            slopes.append(0.5 * (slope + slope.T))
            forces.append(strained.get_forces() @ deformation)
        clamped[..., i, j] = clamped[..., j, i] = (slopes[0] - slopes[1]) / (2.0 * STEP * atoms.get_volume())
        coupling[..., i, j] = coupling[..., j, i] = (forces[0] - forces[1]).ravel() / (2.0 * STEP)
    return clamped, coupling
