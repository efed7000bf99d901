"""Energies that dynamics adds to those of the model: a spring on the centre of mass, and whatever PLUMED knows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, Self

import ase
import numpy as np
from ase import units
from ase.calculators.plumed import Plumed

from carten.errors import ConfigError, DataError
from carten.math.arrays import Floats

INSTALL = "pip install plumed, and a PLUMED library (conda install -c conda-forge plumed, or PLUMED_KERNEL)"


class Restraint(Protocol):
    """What ASE asks of a constraint that adds an energy, and what a restart must know."""

    def adjust_forces(self, atoms: ase.Atoms, forces: Floats) -> None:
        """Add its forces."""

    def adjust_potential_energy(self, atoms: ase.Atoms) -> float:
        """Its energy, eV."""

    def state(self) -> dict[str, Any]:
        """By which a run is continued, ready for JSON."""


class _Restraint:
    """It holds nothing. Copies of atoms, as calculators keep them, share it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def get_removed_dof(self, atoms: ase.Atoms) -> int:
        return 0

    def adjust_positions(self, atoms: ase.Atoms, positions: Floats) -> None:
        pass

    def adjust_momenta(self, atoms: ase.Atoms, momenta: Floats) -> None:
        pass


class CentreRestraint(_Restraint):
    """``k/2 |R - R0|^2`` of the centre of mass R: each atom is pulled by its share of the mass.

    Args:
        spring: k, eV/Å^2.
        centre: R0, (3,) Å.
    """

    def __init__(self, spring: float, centre: Floats) -> None:
        self.spring = spring
        self.centre = np.array(centre, dtype=np.float64)

    def adjust_forces(self, atoms: ase.Atoms, forces: Floats) -> None:
        masses = atoms.get_masses()
        forces -= self.spring * (masses / masses.sum())[:, None] * (atoms.get_center_of_mass() - self.centre)

    def adjust_potential_energy(self, atoms: ase.Atoms) -> float:
        return 0.5 * self.spring * float(np.square(atoms.get_center_of_mass() - self.centre).sum())

    def state(self) -> dict[str, Any]:
        return {"centre": self.centre.tolist()}


class PlumedBias(_Restraint):
    """Biases of PLUMED, metadynamics among them; new positions are a new step.

    Args:
        text: input of PLUMED; files that it names are those of the working directory.
        atoms: that move, with a calculator.
        timestep: in ASE's unit.
        temperature: K.
        log: what PLUMED says.
        step: of the atoms.
        sizes: of PLUMED's files in bytes when that step was written, of a run that is continued.

    Raises:
        ConfigError: PLUMED is not installed, or refuses the input.
        DataError: a file of a run that is continued is missing or shorter.

    Source: The PLUMED consortium, Nat. Methods 16, 670 (2019).
    """

    def __init__(
        self,
        text: str,
        atoms: ase.Atoms,
        timestep: float,
        temperature: float,
        log: Path,
        step: int = 0,
        sizes: dict[str, int] | None = None,
    ) -> None:
        if find_spec("plumed") is None:
            raise ConfigError(f"PLUMED is not installed: {INSTALL}")
        _truncate(sizes or {})
        system = atoms.copy()
        if not atoms.pbc.any():
            system.cell[:] = 0.0  # PLUMED would take distances to images in a box that is not periodic
        self.files = _outputs(text)
        try:
            self._plumed = Plumed(
                atoms.calc, [], timestep, system, units.kB * temperature, str(log), restart=step > 0
            )
            self._plumed.plumed.cmd("readInputLines", f"{text}\nFLUSH STRIDE=1\n")
        except RuntimeError as error:  # the base of all errors of PLUMED
            reason = " ".join(str(error).split())
            advice = INSTALL if "not available" in reason else f"correct the input; {log} says more"
            raise ConfigError(f"PLUMED: {reason}: {advice}") from error
        self._step = step - 1
        self._positions: Floats | None = None
        self._energy, self._forces = 0.0, np.zeros((len(atoms), 3))

    def adjust_forces(self, atoms: ase.Atoms, forces: Floats) -> None:
        self._evaluate(atoms)
        forces += self._forces

    def adjust_potential_energy(self, atoms: ase.Atoms) -> float:
        self._evaluate(atoms)
        return self._energy

    def state(self) -> dict[str, Any]:
        return {"plumed": {name: Path(name).stat().st_size for name in self.files if Path(name).is_file()}}

    def close(self) -> None:
        """End PLUMED, which closes its files."""
        self._plumed.plumed.finalize()

    def _evaluate(self, atoms: ase.Atoms) -> None:
        if self._positions is not None and np.array_equal(self._positions, atoms.positions):
            return
        self._step += 1
        self._positions = atoms.positions.copy()
        energy = float(atoms.calc.results["energy"])
        bias, self._forces, _ = self._plumed.compute_bias(self._positions, self._step, energy)
        self._energy = float(bias)


@contextmanager
def restrained(atoms: ase.Atoms, restraints: Sequence[Restraint]) -> Iterator[None]:
    """Atoms that feel restraints besides their constraints."""
    constraints = list(atoms.constraints)
    atoms.set_constraint([*restraints, *constraints])
    try:
        yield
    finally:
        atoms.set_constraint(constraints)
        for restraint in restraints:
            if isinstance(restraint, PlumedBias):
                restraint.close()


def _outputs(text: str) -> list[str]:
    """Files that PLUMED writes as time goes on."""
    plain = re.sub(r"#.*", "", text)
    names = re.findall(r"\bFILE=(\S+)", plain)
    if "METAD" in plain:
        names.append("HILLS")
    return list(dict.fromkeys(names))


def _truncate(sizes: dict[str, int]) -> None:
    """Remove what PLUMED wrote after the state, such as hills that will be built again."""
    for name, size in sizes.items():
        if not Path(name).is_file() or Path(name).stat().st_size < size:
            raise DataError(
                f"{name}, a file of PLUMED, is missing or shorter than when the run was interrupted: continue in the "
                "folder in which it was started, with this file"
            )
    for name, size in sizes.items():
        with Path(name).open("r+") as file:
            file.truncate(size)
