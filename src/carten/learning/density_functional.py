"""Density-functional theory of molecules by PySCF, as a calculator of ASE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ase
import numpy as np
from ase import units
from ase.calculators.calculator import (
    CalculationFailed,
    Calculator,
    InputError,
    PropertyNotImplementedError,
    all_changes,
)


class MolecularDFT(Calculator):
    """Energies, forces and dipoles of molecules with density fitting; Hartree-Fock with ``xc="hf"``.

    Forces contain the response of the integration grid: they are derivatives of the energy.

    Keyword Arguments:
        xc: functional as PySCF names it.
        basis: basis set as PySCF names it.
        grid: level of the integration grid, 0 to 9.
        tolerance: of the energy at which iterations end, Hartree.
        charge: in e.
        multiplicity: 2S + 1; the lowest that the electrons allow when omitted.
    """

    implemented_properties = ["energy", "forces", "dipole"]  # noqa: RUF012  # as ASE has it
    default_parameters = {  # noqa: RUF012
        "xc": "pbe",
        "basis": "def2-svp",
        "grid": 3,
        "tolerance": 1e-9,
        "charge": 0,
        "multiplicity": None,
    }

    def calculate(
        self,
        atoms: ase.Atoms | None = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(all_changes),
    ) -> None:
        """Compute all properties that are asked for.

        Raises:
            PropertyNotImplementedError: the structure is periodic.
            CalculationFailed: the density did not converge.
        """
        Calculator.calculate(self, atoms, properties, system_changes)
        if atoms is None:
            raise ValueError("calculate() needs a structure")
        if atoms.pbc.any():
            raise PropertyNotImplementedError("pyscf labels molecules: set pbc to false, or use another labeller")
        field = self._field(atoms)
        energy = field.kernel()
        if not field.converged:
            raise CalculationFailed("the density did not converge")
        dipole = np.asarray(field.dip_moment(unit="AU", verbose=0)) * units.Bohr
        self.results = {"energy": float(energy) * units.Hartree, "dipole": dipole}
        if "forces" in properties:
            gradient = field.nuc_grad_method()
            gradient.grid_response = True
            self.results["forces"] = -np.asarray(gradient.kernel()) * units.Hartree / units.Bohr

    def _field(self, atoms: ase.Atoms) -> Any:
        from pyscf import dft, gto

        options: Any = self.parameters
        electrons = int(atoms.numbers.sum() - options.charge)
        spin = electrons % 2 if options.multiplicity is None else options.multiplicity - 1
        geometry = list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True))
        try:
            system = gto.M(atom=geometry, basis=options.basis, charge=int(options.charge), spin=int(spin), verbose=0)
        except (KeyError, RuntimeError) as error:
            raise InputError(f"pyscf: {error}") from error
        field = (dft.UKS if spin else dft.RKS)(system, xc=options.xc).density_fit()
        field.grids.level = options.grid
        field.conv_tol = options.tolerance
        return field
