"""Models in i-PI: path-integral and other dynamics, all beads of a request in one call.

i-PI loads this file by its path (hence a name that no package has), which ``carten path ipi`` prints::

    <ffdirect name="carten"><pes>custom</pes><pes_path>.../ipi_driver.py</pes_path><batch_size>8</batch_size>
        <parameters>{template: start.xyz, model: best.carten}</parameters></ffdirect>

    i-pi-py_driver -u -a ADDRESS -m custom -P $(carten path ipi) -o template=start.xyz,model=best.carten
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import ase.io
import numpy as np
from ipi.pes.dummy import Dummy_driver
from ipi.utils.units import unit_to_internal, unit_to_user

from carten.errors import DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.math.arrays import Floats

__DRIVER_NAME__ = "carten"
__DRIVER_CLASS__ = "CartenDriver"

BeadResult = tuple[float, Floats, Floats, str]
"""Energy, forces, virial -dE/dstrain, and properties as JSON; in atomic units."""


class CartenDriver(Dummy_driver):  # type: ignore[misc]
    """A potential of i-PI.

    Args:
        template: a structure file: elements, inputs of the model, and which axes are periodic.
        model: a ``.carten`` file.
        dtype: ``"float32"`` or ``"float64"``, as the model is by default.
        device: as for :class:`carten.Calculator`.
        properties: further properties of the model for ``extras``, joined by ``+``, e.g. ``dipole+polarizability``, in
            the model's units.

    Raises:
        DataError: the template can't be read, or does not fit the model.
        ModelError: a property that the model does not have.
    """

    def __init__(
        self,
        template: str,
        model: str,
        dtype: str | None = None,
        device: str | None = None,
        properties: str = "",
        **driver_options: Any,
    ) -> None:
        self.atoms = _read(template)
        self.properties = [name for name in properties.split("+") if name]
        self._calculator: Callable[[], Calculator] = partial(Calculator, model, dtype=dtype, device=device)
        self._beads: list[ase.Atoms] = []
        super().__init__(**driver_options)

    def check_parameters(self) -> None:
        """Look whether the model has what is wanted."""
        calculator = self._bead(0).calc
        for name in ("energy", "forces", *self.properties):
            if name not in calculator.implemented_properties:
                available = ", ".join(calculator.implemented_properties)
                raise ModelError(f"the model does not predict {name}, it has {available}")

    def compute(self, cell: Any, pos: Any) -> Any:
        """One structure, or several at once where cells and positions are lists (``batch_size``)."""
        if isinstance(cell, list):
            if not isinstance(pos, list) or len(pos) != len(cell):
                raise ValueError(f"there are {len(cell)} cells, positions have to be a list of as many")
            return self.batch(cell, pos)
        return self.batch([cell], [pos])[0]

    def batch(self, cells: Sequence[Floats], positions: Sequence[Floats]) -> list[BeadResult]:
        """Results of all beads; each keeps its own list of neighbours.

        Args:
            cells: (3, 3) in bohr, columns are lattice vectors.
            positions: (N, 3) in bohr.
        """
        return [self._result(bead, *beads) for bead, beads in enumerate(zip(cells, positions, strict=True))]

    def _result(self, bead: int, cell: Floats, positions: Floats) -> BeadResult:
        atoms = self._bead(bead)
        atoms.positions = unit_to_user("length", "angstrom", positions)
        if atoms.pbc.any():
            atoms.set_cell(unit_to_user("length", "angstrom", np.asarray(cell).T))
        periodic = bool(atoms.pbc.any())
        names = ["energy", "forces", *(["virial"] if periodic else []), *self.properties]
        atoms.calc.calculate(atoms, names)  # all at once
        forces = atoms.get_forces()
        virial = np.zeros((3, 3))
        if periodic:
            virial = atoms.calc.get_property("virial", atoms)
        extras = {name: np.asarray(atoms.calc.get_property(name, atoms)).tolist() for name in self.properties}
        return (
            unit_to_internal("energy", "electronvolt", atoms.get_potential_energy()),
            unit_to_internal("force", "ev/ang", forces),
            unit_to_internal("energy", "electronvolt", virial),
            json.dumps(extras),
        )

    def _bead(self, bead: int) -> ase.Atoms:
        """A copy of the template with its own calculator."""
        while len(self._beads) <= bead:
            atoms = self.atoms.copy()
            atoms.calc = self._calculator()
            self._beads.append(atoms)
        return self._beads[bead]


def _read(template: str) -> ase.Atoms:
    try:
        atoms = ase.io.read(template)
    except (OSError, ValueError, ase.io.formats.UnknownFileTypeError) as error:
        raise DataError(f"the template {template} can't be read: {error}") from error
    if not isinstance(atoms, ase.Atoms) or not len(atoms):
        raise DataError(f"the template {template} has no atoms")
    return atoms
