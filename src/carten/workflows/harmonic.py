"""Harmonic crystals in phonopy: exact force constants, Born charges, thermal properties."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ase
import numpy as np
from ase import units
from ase.calculators.calculator import BaseCalculator

from carten.errors import ConfigError
from carten.interfaces.ase import Calculator
from carten.math.arrays import Floats
from carten.workflows.hessian import force_constants
from carten.workflows.results import Progress

LENGTH = 10.0
"""Å, the least distance between images of an atom in a supercell chosen for a crystal."""
RIGID = 1e-3
"""THz, below which modes are translations: they have no part in thermal properties."""
MESH = 60.0
"""Of phonopy: larger is denser."""
TEMPERATURES = (0.0, 1000.0, 10.0)
"""First, last and step, K."""
KJ_PER_MOL = units.kJ / units.mol


def harmonic_crystal(
    atoms: ase.Atoms,
    calculator: BaseCalculator,
    supercell: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Any:
    """The object of phonopy with the force constants of a crystal.

    Arguments and errors are those of :func:`carten.workflows.phonons.phonons`.
    """
    try:
        from phonopy import Phonopy
        from phonopy.structure.atoms import PhonopyAtoms
        from phonopy.structure.cells import guess_primitive_matrix
    except ImportError as error:
        raise ConfigError("phonons need phonopy: pip install 'carten[workflows]'") from error
    multiples = wide_multiples(atoms) if supercell is None else supercell
    cell = PhonopyAtoms(
        numbers=atoms.numbers,
        cell=atoms.cell.array,
        scaled_positions=atoms.get_scaled_positions(),
        masses=atoms.get_masses(),
    )
    phonopy = Phonopy(cell, np.diag(multiples), primitive_matrix=guess_primitive_matrix(cell), log_level=0)
    large = ase_atoms(phonopy.supercell)
    large.info.update(atoms.info)
    phonopy.force_constants = force_constants(large, phonopy.primitive.p2s_map.tolist(), calculator, progress)
    phonopy.symmetrize_force_constants()
    phonopy.nac_params = _born(ase_atoms(phonopy.primitive), calculator)
    return phonopy


def ase_atoms(cell: Any) -> ase.Atoms:
    """A cell of phonopy as ASE's."""
    return ase.Atoms(cell.numbers, cell=cell.cell, scaled_positions=cell.scaled_positions, masses=cell.masses, pbc=True)


def run_thermal(phonopy: Any) -> None:
    """Thermal properties from a mesh, in the object."""
    phonopy.run_mesh(MESH)
    first, last, step = TEMPERATURES
    phonopy.run_thermal_properties(t_min=first, t_max=last, t_step=step, cutoff_frequency=RIGID)


def thermal_table(phonopy: Any) -> Floats:
    """(t, 4) K, free energy in eV/atom, entropy and heat capacity in J/(K mol) of atoms."""
    thermal, n_atoms = phonopy.thermal_properties, len(phonopy.primitive)
    columns = [thermal.free_energy * KJ_PER_MOL / n_atoms, thermal.entropy / n_atoms, thermal.heat_capacity / n_atoms]
    table: Floats = np.stack([thermal.temperatures, *columns], axis=1)
    return table


def energy_of(atoms: ase.Atoms, calculator: BaseCalculator) -> float:
    """Of a structure as it is, eV."""
    crystal = atoms.copy()
    crystal.calc = calculator
    return float(crystal.get_potential_energy())


def largest_force(atoms: ase.Atoms, calculator: BaseCalculator) -> float:
    """On an atom, eV/Å; constraints do not count."""
    free = atoms.copy()
    free.set_constraint()
    free.calc = calculator
    return float(np.linalg.norm(free.get_forces(), axis=1).max())


def _born(atoms: ase.Atoms, calculator: BaseCalculator) -> Any:
    names = ("born_charges", "dielectric")
    if not isinstance(calculator, Calculator) or any(name not in calculator.implemented_properties for name in names):
        return None
    born, dielectric = (calculator.get_property(name, atoms) for name in names)
    return {"born": born, "dielectric": dielectric, "factor": units.Hartree * units.Bohr}


def wide_multiples(atoms: ase.Atoms) -> list[int]:
    """Multiples of a cell that keep images of an atom :data:`LENGTH` apart; 1 where it is not periodic."""
    heights = 1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.complete()), axis=0)
    counts = np.where(atoms.pbc, np.ceil(LENGTH / heights), 1.0)
    return [int(count) for count in counts]
