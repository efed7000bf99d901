"""Constant pressure: stochastic cell rescaling beside Bussi's thermostat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ase
import numpy as np
from ase import units
from ase.constraints import FixCom
from ase.md.bussi import Bussi

from carten.data.structures import is_crystal
from carten.errors import ConfigError, DataError
from carten.math.arrays import Floats


@dataclass(frozen=True)
class Barostat:
    """How the volume follows the pressure.

    Args:
        pressure: GPa.
        damping: fs, time in which the volume relaxes if the compressibility is right.
        compressibility: isothermal, 1/GPa, about: of water 0.46, of silicon 0.01. It changes how fast the volume
            relaxes, not its distribution.

    Raises:
        ConfigError: a number is not finite, or damping or compressibility not above 0.
    """

    pressure: float = 0.0
    damping: float = 1000.0
    compressibility: float = 0.1

    def __post_init__(self) -> None:
        for name in ("pressure", "damping", "compressibility"):
            value = getattr(self, name)
            if not math.isfinite(value) or (name != "pressure" and value <= 0.0):
                bound = "" if name == "pressure" else " above 0"
                raise ConfigError(f"barostat, {name}: expected a finite number{bound}, found {value}")


class CellRescaling(Bussi):
    """Velocity Verlet with Bussi's thermostat and an isotropic stochastic barostat: the ensemble NPT.

    The logarithm of the volume moves by ``-(beta / tau) (P0 - P) dt + sqrt(2 k T beta / (V tau)) dW`` at each step,
    positions are scaled along, momenta against.

    Args:
        atoms: periodic in three directions, with a calculator that has stress.
        timestep: in ASE's unit.
        temperature: K.
        damping: of the thermostat, in ASE's unit.
        barostat: pressure and time constant.
        random: generator of both.

    Source: M. Bernetti and G. Bussi, J. Chem. Phys. 153, 114107 (2020).
    """

    def __init__(
        self,
        atoms: ase.Atoms,
        timestep: float,
        temperature: float,
        damping: float,
        barostat: Barostat,
        random: np.random.Generator,
    ) -> None:
        super().__init__(atoms, timestep, temperature_K=temperature, taut=damping, rng=random)  # type: ignore[no-untyped-call]
        self.pressure = barostat.pressure * units.GPa
        self.rate = barostat.compressibility / units.GPa / (barostat.damping * units.fs)

    def step(self, forces: Any = None) -> Floats:
        """One step: thermostat, half a kick, drift and scaling of the cell, half a kick."""
        self.scale_velocities()  # type: ignore[no-untyped-call]
        atoms = self.atoms
        forces = atoms.get_forces(md=True) if forces is None else forces
        factor = self._factor()
        atoms.set_momenta(atoms.get_momenta() + 0.5 * self.dt * forces)
        atoms.set_positions(atoms.positions + self.dt * atoms.get_momenta() / self._masses)
        atoms.set_cell(atoms.cell.array * factor, scale_atoms=True)
        forces = atoms.get_forces(md=True)
        atoms.set_momenta(atoms.get_momenta() / factor + 0.5 * self.dt * forces)
        return np.asarray(forces)

    def _factor(self) -> float:
        """By which lengths change in this step."""
        volume = self.atoms.get_volume()
        stress = self.atoms.get_stress(voigt=False, apply_constraint=False)
        kinetic = 2.0 * self.atoms.get_kinetic_energy() / (3.0 * volume)
        pressure = kinetic - float(np.trace(stress)) / 3.0
        noise = math.sqrt(2.0 * self.temp * self.rate * self.dt / volume) * self.rng.standard_normal()
        return math.exp((self.rate * (pressure - self.pressure) * self.dt + noise) / 3.0)


def require_cell_to_move(atoms: ase.Atoms) -> None:
    """Check that the volume of a structure can change.

    Raises:
        DataError: it has no cell, no stress, or atoms that are held in place.
    """
    if not is_crystal(atoms):
        raise DataError("constant pressure needs a structure that is periodic in three directions")
    if atoms.calc is not None and "stress" not in atoms.calc.implemented_properties:
        raise DataError("constant pressure needs a model that predicts stress; this one does not: use bussi")
    if held := [each for each in atoms.constraints if not isinstance(each, FixCom)]:
        raise DataError(
            f"constant pressure moves all atoms with the cell, but the structure has {type(held[0]).__name__}: remove "
            "the constraint, or use bussi"
        )
