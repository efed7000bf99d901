r"""Models in a LAMMPS without plugins, through ``fix external`` and its Python module: slower, but nothing is compiled.

Every step, one process evaluates the model for all atoms, while the others wait.

>>> lammps.commands_string("fix model all external pf/callback 1 1\nfix_modify model energy yes virial yes")
>>> attach(lammps, "model", "best.carten", ["O", "H"])
>>> lammps.command("run 100")
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ase
import numpy as np
import numpy.typing as npt
from ase.data import atomic_numbers

from carten.data.structures import require_known
from carten.errors import ModelError
from carten.interfaces.ase import Calculator
from carten.math.arrays import Floats

ENERGY_UNITS = {"metal": 1.0, "real": 23.060549}
"""1 eV in units of LAMMPS, by its style of units, as LAMMPS has it; lengths are Å in both."""
VOIGT = ([0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2])
"""Order of components in LAMMPS: xx, yy, zz, xy, xz, yz."""

_Integers = npt.NDArray[np.integer[Any]]


def attach(lammps: Any, fix: str, model: str | Path | Calculator, symbols: Sequence[str]) -> None:
    """Let a ``fix external`` of LAMMPS have the forces, energy and virial of a model.

    Args:
        lammps: a ``lammps.lammps`` with atoms and ``fix ID all external pf/callback 1 1``.
        fix: ID of the fix. ``fix_modify ID energy yes virial yes`` adds its energy and virial to those of LAMMPS.
        model: a ``.carten`` file, a library, or a calculator.
        symbols: element of each atom type.

    Raises:
        ModelError: the model does not know an element, or LAMMPS has units, types or processes that don't fit.
    """
    units = str(lammps.extract_global("units"))
    if units not in ENERGY_UNITS:
        raise ModelError(f"models need units metal or real, found units {units}")
    n_types = int(lammps.extract_setting("ntypes"))
    if len(symbols) != n_types:
        raise ModelError(
            f"expected an element for each of the {n_types} atom types, found {len(symbols)}: {list(symbols)}"
        )
    if unknown := [symbol for symbol in symbols if symbol not in atomic_numbers]:
        raise ModelError(f"{unknown[0]!r} is no element")
    comm = lammps.comm
    if comm is None and int(lammps.extract_setting("world_size")) > 1:
        raise ModelError("LAMMPS on several processes needs mpi4py here: pip install mpi4py")
    calculator = model if isinstance(model, Calculator) else Calculator(model)
    numbers = np.array([0, *(atomic_numbers[symbol] for symbol in symbols)])
    require_known(numbers[1:], calculator.elements, "symbols")
    lammps.set_fix_external_callback(fix, _External(lammps, fix, calculator, numbers, ENERGY_UNITS[units]), None)


class _External:
    """What LAMMPS calls at each step."""

    def __init__(self, lammps: Any, fix: str, calculator: Calculator, numbers: _Integers, energy_unit: float) -> None:
        self.lammps, self.fix, self.calculator = lammps, fix, calculator
        self.numbers, self.energy_unit = numbers, energy_unit
        self.atoms: ase.Atoms | None = None

    def __call__(self, _: Any, step: int, n_own: int, tags: _Integers, positions: Floats, forces: Floats) -> None:
        """Set forces of own atoms. Errors end all processes: LAMMPS would go on without forces."""
        finished = False
        try:
            self._set(tags.ravel()[:n_own], positions[:n_own], forces)
            finished = True
        finally:
            if not finished:
                traceback.print_exc(file=sys.stderr)
                self._abort()

    def _abort(self) -> None:
        sys.stderr.flush()
        if self.lammps.comm is not None:
            self.lammps.comm.Abort(1)
        os._exit(1)

    def _set(self, tags: _Integers, positions: Floats, forces: Floats) -> None:
        types = self.lammps.numpy.extract_atom("type")[: len(tags)] if len(tags) else np.empty(0, dtype=int)
        parts = (np.array(tags), np.array(types), np.array(positions).reshape(-1, 3))
        all_tags, energy, all_forces, virial = self._shared(parts)
        forces[: len(tags)] = self.energy_unit * all_forces[np.searchsorted(all_tags, tags)]
        self.lammps.fix_external_set_energy_global(self.fix, self.energy_unit * energy)
        self.lammps.fix_external_set_virial_global(self.fix, (self.energy_unit * virial[VOIGT]).tolist())

    def _shared(self, parts: tuple[_Integers, _Integers, Floats]) -> tuple[_Integers, float, Floats, Floats]:
        """Tags in ascending order, energy, forces in their order, virial; evaluated on one process, known to all."""
        comm = self.lammps.comm
        if comm is None:
            return self._evaluated([parts])
        gathered = comm.gather(parts)
        result: tuple[_Integers, float, Floats, Floats] = comm.bcast(self._evaluated(gathered) if gathered else None)
        return result

    def _evaluated(
        self, parts: Sequence[tuple[_Integers, _Integers, Floats]]
    ) -> tuple[_Integers, float, Floats, Floats]:
        tags, types, positions = (np.concatenate(column) for column in zip(*parts, strict=True))
        order = np.argsort(tags)
        low, high, xy, yz, xz, periodic, _ = self.lammps.extract_box()
        lx, ly, lz = np.subtract(high, low)
        if self.atoms is None or len(self.atoms) != len(tags):
            self.atoms = ase.Atoms(self.numbers[types[order]], pbc=np.array(periodic, dtype=bool))
            self.atoms.calc = self.calculator
        self.atoms.numbers = self.numbers[types[order]]
        self.atoms.set_cell([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])
        self.atoms.positions = positions[order]
        self.calculator.calculate(self.atoms, ["energy", "forces", "virial"])
        forces = self.atoms.get_forces()
        virial = self.calculator.get_property("virial", self.atoms).reshape(3, 3)
        return tags[order], float(self.atoms.get_potential_energy()), forces, virial
