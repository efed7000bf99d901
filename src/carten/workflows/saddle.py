"""Saddle points: what the Hessian says of a stationary point, where some atoms may be held."""

from __future__ import annotations

from dataclasses import dataclass, field

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.constraints import FixAtoms

from carten.data.layouts import matrix
from carten.errors import DataError
from carten.math.arrays import Array, Floats
from carten.workflows.hessian import force_constants, hessian
from carten.workflows.results import Progress, Quantity
from carten.workflows.vibrations import modes_within, normal_modes

SOFT = 10.0
"""cm^-1, below which an imaginary wavenumber can't be told from zero."""


@dataclass(frozen=True)
class StationaryModes:
    """Harmonic modes at a stationary point.

    Args:
        wavenumbers: (modes,) cm^-1, ascending; imaginary ones negative.
        lowest: (N, 3) displacements of the lowest mode, the largest one 1.
    """

    wavenumbers: Floats
    lowest: Floats = field(repr=False)

    @property
    def imaginary(self) -> Floats:
        """Wavenumbers of the imaginary modes, cm^-1, negative."""
        return self.wavenumbers[self.wavenumbers < -SOFT]

    def quantities(self) -> list[Quantity]:
        """The imaginary wavenumbers, negative, and the lowest real one."""
        imaginary = self.imaginary
        numbers = [Quantity("imaginary modes of the saddle", imaginary, "cm⁻¹")]
        if len(rest := self.wavenumbers[len(imaginary) :]):
            numbers.append(Quantity("lowest real mode", float(rest[0]), "cm⁻¹"))
        return numbers

    def failures(self) -> list[str]:
        """Unless exactly one mode is imaginary."""
        count = len(self.imaginary)
        if count == 1:
            return []
        if not count:
            return ["no mode is imaginary: this is a minimum, not a saddle"]
        names = ", ".join(f"{-wavenumber:.0f}i" for wavenumber in self.imaginary)
        return [
            f"{count} modes are imaginary ({names} cm⁻¹): this is no saddle of first order; move it along the second "
            "one, and search again"
        ]


def stationary_modes(atoms: ase.Atoms, calculator: BaseCalculator, progress: Progress | None = None) -> StationaryModes:
    """Modes of the atoms that are not held; translations and rotations of free structures are projected out.

    Args:
        atoms: at a stationary point; ``FixAtoms`` holds atoms.
        calculator: see :func:`carten.workflows.hessian.hessian`.
        progress: called with rows of the Hessian done and all.

    Raises:
        DataError: other constraints.
        ModelError: an element that the model does not know.
    """
    free = moving_atoms(atoms)
    bare = atoms.copy()
    bare.set_constraint()
    lowest = np.zeros((len(atoms), 3))
    if len(free) == len(atoms):
        wavenumbers, modes = normal_modes(bare, hessian(bare, calculator, progress))
    else:
        constants = constants_of(bare, free, calculator, progress)
        wavenumbers, modes = modes_within(np.eye(3 * len(free)), bare.get_masses()[free], constants)
    if len(modes):
        lowest[free] = modes[0] / np.linalg.norm(modes[0], axis=1).max()
    return StationaryModes(wavenumbers, lowest)


def constants_of(
    atoms: ase.Atoms, chosen: Array, calculator: BaseCalculator, progress: Progress | None = None
) -> Floats:
    """The block of the Hessian that belongs to the chosen atoms, (3n, 3n) eV/Å^2, symmetric."""
    blocks = force_constants(atoms, chosen.tolist(), calculator, progress)[:, chosen]
    constants = matrix(blocks.reshape(-1, 3, 3))
    symmetric: Floats = (constants + constants.T) / 2.0
    return symmetric


def moving_atoms(atoms: ase.Atoms) -> Array:
    """Indices of atoms that are not held.

    Raises:
        DataError: constraints other than ``FixAtoms``, or all atoms are held.
    """
    free = np.ones(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise DataError(
                f"{atoms.get_chemical_formula()} has the constraint {type(constraint).__name__}: only FixAtoms can "
                "hold atoms here"
            )
        free[constraint.get_indices()] = False
    if not free.any():
        formula = atoms.get_chemical_formula()
        raise DataError(f"{formula}: no atom may move" if len(atoms) else "the structure has no atoms")
    return np.flatnonzero(free)
