"""Thermochemistry of an ideal gas of molecules: rigid rotor, harmonic oscillator, by ASE."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import ase
import numpy as np
from ase import units
from ase.thermochemistry import IdealGasThermo

from carten.errors import require_positive
from carten.math.arrays import Floats
from carten.workflows.results import Quantity

LINEAR = 1e-4
"""Of the largest moment of inertia: below it, that of a linear molecule about its axis."""


@dataclass(frozen=True)
class GasConditions:
    """Of a gas.

    Args:
        temperature: K.
        pressure: Pa.
        symmetry_number: rotations that bring the molecule to itself: 2 for water, 12 for methane.
        spin: total electronic spin: 0 for singlets, 1/2 for doublets.
    """

    temperature: float = 298.15
    pressure: float = 101325.0
    symmetry_number: int = 1
    spin: float = 0.0

    def __post_init__(self) -> None:
        require_positive(self, "temperature", "pressure", "symmetry_number")
        if self.spin < 0 or (2 * self.spin) % 1:
            raise ValueError(f"spin must be 0, 1/2, 1, .., found {self.spin}")


@dataclass(frozen=True)
class IdealGas:
    """A gas under conditions.

    Args:
        conditions: of the gas.
        zero_point: energy of the vibrations at 0 K, eV.
        enthalpy: with the energy of the molecule, eV.
        entropy: eV/K.
        gibbs: free energy, eV.
    """

    conditions: GasConditions
    zero_point: float
    enthalpy: float
    entropy: float
    gibbs: float

    def quantities(self) -> list[Quantity]:
        """The numbers, with the conditions."""
        conditions = self.conditions
        return [
            Quantity("zero-point energy", self.zero_point, "eV"),
            Quantity("temperature", conditions.temperature, "K"),
            Quantity("pressure", conditions.pressure, "Pa"),
            Quantity("symmetry number", conditions.symmetry_number),
            Quantity("spin", conditions.spin),
            Quantity("enthalpy", self.enthalpy, "eV"),
            Quantity("entropy", self.entropy / units.J * units.mol, "J/(K mol)"),
            Quantity("Gibbs energy", self.gibbs, "eV"),
        ]


def ideal_gas(atoms: ase.Atoms, wavenumbers: Floats, energy: float, conditions: GasConditions) -> IdealGas:
    """Thermochemistry of molecules with an energy in eV and wavenumbers in cm^-1.

    Imaginary wavenumbers, which are negative, are left out.

    Source: C. J. Cramer, Essentials of Computational Chemistry, 2nd ed. (2004), chapter 10.
    """
    energies = [value * units.invcm if value > 0.0 else -1j * value * units.invcm for value in wavenumbers.tolist()]
    thermo = IdealGasThermo(
        energies,
        _geometry(atoms),
        potentialenergy=energy,
        atoms=atoms,
        symmetrynumber=conditions.symmetry_number,
        spin=conditions.spin,
        ignore_imag_modes=True,
    )
    temperature, pressure = conditions.temperature, conditions.pressure
    return IdealGas(
        conditions,
        float(thermo.get_ZPE_correction()),
        float(thermo.get_enthalpy(temperature, verbose=False)),
        float(thermo.get_entropy(temperature, pressure, verbose=False)),
        float(thermo.get_gibbs_energy(temperature, pressure, verbose=False)),
    )


def _geometry(atoms: ase.Atoms) -> Literal["linear", "nonlinear", "monatomic"]:
    if len(atoms) == 1:
        return "monatomic"
    moments = np.sort(atoms.get_moments_of_inertia())
    return "linear" if moments[0] < LINEAR * moments[-1] else "nonlinear"
