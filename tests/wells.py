"""Barriers that tests know: a double well in closed form, and an adatom that hops."""

from typing import ClassVar

import numpy as np
from ase import Atoms
from ase.build import add_adsorbate, fcc100
from ase.calculators.calculator import Calculator
from ase.constraints import FixAtoms

HEIGHT, HALF, STIFF = 0.3, 0.8, 4.0
"""Of the double well: eV, Å, eV/Å^2."""
DISTANCE = np.array([0.0, 0.0, 2.0])
"""Of its middle from the first atom, Å."""


class DoubleWell(Calculator):
    """``h ((x/a)^2 - 1)^2 + k (y^2 + z^2) / 2`` of the second atom's place as seen from the middle."""

    implemented_properties: ClassVar = ["energy", "forces"]

    def __init__(self, stiffness=(STIFF, STIFF), tilt=0.0):
        super().__init__()
        self.stiffness, self.tilt = np.array(stiffness), tilt

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes)
        x, *across = self.atoms.positions[1] - self.atoms.positions[0] - DISTANCE
        across = np.array(across)
        well = (x / HALF) ** 2 - 1.0
        energy = HEIGHT * well**2 + 0.5 * self.stiffness @ across**2 + self.tilt * x
        force = -np.array([4.0 * HEIGHT * well * x / HALF**2 + self.tilt, *(self.stiffness * across)])
        self.results = {"energy": float(energy), "forces": np.array([-force, force])}


def well(x, y=0.0):
    return Atoms("CuH", positions=[[0.0, 0.0, 0.0], [x, y, DISTANCE[2]]], constraint=FixAtoms([0]))


def hop():
    """An adatom of copper on its (100) face, in two neighbouring hollows."""
    start = fcc100("Cu", (2, 2, 2), vacuum=6.0)
    start.set_constraint(FixAtoms(mask=start.positions[:, 2] < 7.0))
    end = start.copy()
    add_adsorbate(start, "Cu", 1.7, "hollow")
    add_adsorbate(end, "Cu", 1.7, "hollow", offset=(1, 0))
    return start, end
