"""Models in OpenMM, through openmm-ml.

>>> potential = MLPotential("carten", model="run/best.carten")
>>> system = potential.createSystem(topology)
>>> mixed = potential.createMixedSystem(topology, mm_system, ml_atoms, interpolate=True)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ase
import numpy as np
import numpy.typing as npt
import openmm
from ase import units

from carten.interfaces.ase import Calculator

if TYPE_CHECKING:
    from carten.interfaces.openmm_potential import ModelPotential

KJ_PER_MOL = units.mol / units.kJ
"""1 eV in kJ/mol."""
PER_NM = units.nm
"""1 nm in Å."""


class Factory:
    """The entry point of openmm-ml, made while that is being imported itself: hence not derived from its classes."""

    def createImpl(self, name: str, model: str | Path, **arguments: Any) -> ModelPotential:
        """A potential from a model file."""
        from carten.interfaces.openmm_potential import ModelPotential

        if arguments:
            raise ValueError(
                f"MLPotential('carten', model=...) takes no argument {sorted(arguments)[0]!r}; dtype, device, "
                "energy_type and inputs are arguments of createSystem and createMixedSystem"
            )
        return ModelPotential(model)


class ModelForce:
    """Energy in kJ/mol and forces in kJ/mol/nm of a state of OpenMM; can be pickled, as XmlSerializer does."""

    def __init__(
        self,
        path: Path,
        numbers: Sequence[int],
        periodic: bool,
        offset: float,
        dtype: str | None,
        device: str | None,
        inputs: Mapping[str, npt.ArrayLike],
    ) -> None:
        self.path, self.numbers, self.periodic, self.offset = str(path), tuple(numbers), periodic, offset
        self.dtype, self.device, self.inputs = dtype, device, dict(inputs)
        self._atoms: ase.Atoms | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_atoms": None}

    def atoms(self) -> ase.Atoms:
        """The atoms with their calculator, made when they are first needed."""
        if self._atoms is None:
            calculator = Calculator(self.path, dtype=self.dtype, device=self.device, inputs=self.inputs)
            atoms = ase.Atoms(self.numbers, pbc=self.periodic)
            atoms.calc = calculator
            self._atoms = atoms
        return self._atoms

    def __call__(self, state: openmm.State) -> tuple[float, npt.NDArray[np.float64]]:
        atoms = self.atoms()
        if self.periodic:
            atoms.set_cell(state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(openmm.unit.angstrom))
        atoms.positions = state.getPositions(asNumpy=True).value_in_unit(openmm.unit.angstrom)
        forces = atoms.get_forces()
        energy = atoms.get_potential_energy() - self.offset
        return energy * KJ_PER_MOL, forces * (KJ_PER_MOL * PER_NM)
