"""A structure that relaxes: where it may go, and how its atoms and its cell are moved."""

from __future__ import annotations

from dataclasses import dataclass, field

import ase
import numpy as np
from ase.stress import full_3x3_to_voigt_6_stress, voigt_6_to_full_3x3_stress

from carten.math.arrays import Floats
from carten.workflows.crowd import CrowdValues


@dataclass(frozen=True)
class Visited:
    """Where a structure was evaluated.

    Args:
        step: of the relaxation.
        positions: (N, 3) Å.
        cell: (3, 3) Å.
        energy: eV.
        forces: (N, 3) eV/Å.
        virial: (3, 3) eV.
        largest: force that may move an atom, eV/Å, and component of stress plus pressure, eV/Å^3.
    """

    step: int
    positions: Floats
    cell: Floats
    energy: float
    forces: Floats
    virial: Floats
    largest: tuple[float, float]


@dataclass
class Movable:
    """A structure in the coordinates of ASE's UnitCellFilter, places in its first cell and a strain.

    Args:
        atoms: with constraints, whose say on forces, stress, energy and steps is asked here.
        name: of the structure, unlike all others.
        cell: the first one, (3, 3) Å.
        strain: ``cell = first cell @ strain^T``.
        energy_before: of the first evaluation, eV.
    """

    atoms: ase.Atoms
    name: str
    cell: Floats
    strain: Floats = field(default_factory=lambda: np.eye(3))
    energy_before: float = np.nan
    last: Visited = field(init=False, repr=False)

    def visit(
        self, step: int, values: CrowdValues, number: int, atoms: slice, largest: tuple[float, float]
    ) -> None:
        """Keep the values of one of the structures, whose atoms are these."""
        energy = float(values.energies[number])
        if not step:
            self.energy_before = energy
        cell, forces, virial = self.atoms.cell.array.copy(), values.forces[atoms].copy(), values.virials[number]
        self.last = Visited(step, self.atoms.positions.copy(), cell, energy, forces, virial, largest)

    def constrained_forces(self, forces: Floats) -> Floats:
        """Forces (N, 3) that may move atoms."""
        allowed = forces.copy()
        for constraint in self.atoms.constraints:
            constraint.adjust_forces(self.atoms, allowed)
        return allowed

    def constrained_stress(self, stress: Floats) -> Floats:
        """Stress (3, 3) that may strain the cell."""
        components = full_3x3_to_voigt_6_stress(stress)
        for constraint in self.atoms.constraints:
            if hasattr(constraint, "adjust_stress"):
                constraint.adjust_stress(self.atoms, components)
        allowed: Floats = voigt_6_to_full_3x3_stress(components)
        return allowed

    def constraint_energy(self) -> float:
        """What constraints that pull add to the energy."""
        pulls = [constraint for constraint in self.atoms.constraints if hasattr(constraint, "adjust_potential_energy")]
        return sum(float(constraint.adjust_potential_energy(self.atoms)) for constraint in pulls)

    def move(self, places: Floats, strain: Floats | None) -> None:
        """To new places (N, 3) in the first cell and a new strain, as far as constraints allow."""
        if strain is not None:
            self.atoms.set_cell(self.cell @ strain.T, scale_atoms=True)
            self.strain = np.linalg.solve(self.cell, self.atoms.cell.array).T
        self.atoms.set_positions(places @ self.strain.T)
