"""Thermal expansion of a crystal in the quasi-harmonic approximation, by phonopy."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import ase
import numpy as np
from matplotlib.figure import Figure

from carten.errors import DataError
from carten.math.arrays import Floats
from carten.workflows.harmonic import TEMPERATURES, harmonic_crystal, run_thermal
from carten.workflows.phonons import IMAGINARY
from carten.workflows.relax import Goal, relax
from carten.workflows.results import JobResult, Model, Progress, Quantity, as_calculator, require_crystal

SHARES = (-0.03, 0.06)
"""Smallest and largest change of volume, as a share."""
_THERMAL = ("free_energy", "heat_capacity", "entropy")


@dataclass(frozen=True)
class ThermalExpansion(JobResult):
    """A crystal at temperatures.

    Args:
        atoms: the crystal.
        temperatures: (t,) K.
        volumes: (t,) Å^3/atom.
        expansion: (t,) volumetric, 1/K.
        bulk_moduli: (t,) isothermal, GPa.
        capacities: (t,) at constant pressure, J/(K mol) of atoms.
        imaginary: changes of volume, as shares, at which the crystal has imaginary modes.
        unrelaxed: at how many volumes the atoms did not relax.
    """

    job: ClassVar[str] = "qha"
    atoms: ase.Atoms
    temperatures: Floats = field(repr=False)
    volumes: Floats = field(repr=False)
    expansion: Floats = field(repr=False)
    bulk_moduli: Floats = field(repr=False)
    capacities: Floats = field(repr=False)
    imaginary: tuple[float, ...]
    unrelaxed: int

    def quantities(self) -> list[Quantity]:
        numbers = [Quantity("volume at 0 K", self.volumes[0], "Å³/atom")]
        columns = [
            ("volume", self.volumes, "Å³/atom"),
            ("volumetric thermal expansion", 1e6 * self.expansion, "10⁻⁶/K"),
            ("bulk modulus", self.bulk_moduli, "GPa"),
            ("heat capacity at constant pressure", self.capacities, "J/(K mol)"),
        ]
        for name, values, unit in columns:
            value = float(np.interp(300.0, self.temperatures, values, right=np.nan))
            numbers.append(Quantity(f"{name} at 300 K", value, unit))
        return numbers

    def tables(self) -> Mapping[str, Mapping[str, Floats]]:
        columns = {
            "temperature_K": self.temperatures,
            "volume_A^3/atom": self.volumes,
            "expansion_1/K": self.expansion,
            "bulk_modulus_GPa": self.bulk_moduli,
            "heat_capacity_J/K/mol": self.capacities,
        }
        return {"temperatures": columns}

    def warnings(self) -> list[str]:
        remarks, last = [], float(self.temperatures[-1])
        if self.imaginary:
            shares = ", ".join(f"{100 * share:+.1f} %" for share in self.imaginary)
            remarks.append(f"imaginary modes, which are left out, at volumes of {shares}: do not trust the numbers")
        if last < TEMPERATURES[1] - 2 * TEMPERATURES[2]:
            remarks.append(f"temperatures end at {last:g} K, above which the volume is outside of those computed")
        return remarks

    def failures(self) -> list[str]:
        return [f"at {self.unrelaxed} volumes the atoms did not relax"] if self.unrelaxed else []

    def draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(self.temperatures, 1e6 * self.expansion)
        axes.set(xlabel="temperature (K)", ylabel="volumetric thermal expansion (10⁻⁶/K)")


def qha(
    atoms: ase.Atoms,
    model: Model,
    supercell: Sequence[int] | None = None,
    points: int = 7,
    progress: Progress | None = None,
) -> ThermalExpansion:
    """Volumes that minimise the free energy, of crystals whose phonons depend on the volume but not on temperature.

    The cell is scaled, its shape is kept; atoms relax at each volume.

    Args:
        atoms: a crystal, relaxed.
        model: a model, its file, or any calculator of ASE.
        supercell: see :func:`carten.workflows.phonons.phonons`.
        points: volumes.
        progress: called with volumes done and all.

    Raises:
        DataError: the structure is no crystal, or no volume minimises the free energy at some temperature.
        ConfigError: phonopy is not installed.
        ValueError: less than five points.

    Source: A. Togo, L. Chaput, I. Tanaka and G. Hug, Phys. Rev. B 81, 174301 (2010).
    """
    require_crystal(atoms, "qha")
    if points < 5:
        raise ValueError(f"expected at least 5 points, found {points}")
    calculator, imaginary, unrelaxed = as_calculator(model), [], 0
    shares, columns = np.linspace(*SHARES, points), []
    for number, share in enumerate(shares):
        scaled = atoms.copy()
        scaled.set_cell(atoms.cell * (1.0 + share) ** (1.0 / 3.0), scale_atoms=True)
        (result,) = relax(scaled, calculator, Goal(fmax=1e-3))
        unrelaxed += not result.converged
        phonopy = harmonic_crystal(result.atoms, calculator, supercell)
        run_thermal(phonopy)
        if phonopy.mesh.frequencies.min() < -IMAGINARY:
            imaginary.append(float(share))
        n_atoms, thermal = len(phonopy.primitive), phonopy.thermal_properties
        columns.append((phonopy.primitive.volume, result.energy * n_atoms / len(atoms), thermal))
        if progress is not None:
            progress(number + 1, points)
    return _minimised(atoms, columns, n_atoms, (tuple(imaginary), unrelaxed))


def _minimised(
    atoms: ase.Atoms, columns: Sequence[tuple[float, float, Any]], n_atoms: int, remarks: tuple[tuple[float, ...], int]
) -> ThermalExpansion:
    """The result from volumes and energies of primitive cells and their thermal properties."""
    from phonopy import PhonopyQHA

    volumes, energies, thermal = (list(column) for column in zip(*columns, strict=True))
    by_volume = {name: np.array([getattr(x, name) for x in thermal]).T for name in _THERMAL}
    temperatures = np.asarray(thermal[0].temperatures)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # what takes its place is new in phonopy 4
            result = PhonopyQHA(
                volumes,
                energies,
                temperatures=temperatures,
                free_energy=by_volume["free_energy"],
                cv=by_volume["heat_capacity"],
                entropy=by_volume["entropy"],
            )
    except RuntimeError as error:
        raise DataError(f"the free energy has no minimum in the volume: {error}; relax the cell first") from error
    count = min(map(len, (result.thermal_expansion, result.heat_capacity_P_numerical)))
    minima = np.asarray(result.volume_temperature[:count])
    outside = (minima < min(volumes)) | (minima > max(volumes))
    if outside[0]:
        raise DataError("at 0 K the volume of the minimum is outside of those computed: relax the cell first")
    count = int(np.argmax(outside)) if outside.any() else count
    return ThermalExpansion(
        atoms.copy(),
        temperatures[:count],
        minima[:count] / n_atoms,
        np.asarray(result.thermal_expansion[:count]),
        np.asarray(result.bulk_modulus_temperature[:count]),
        np.asarray(result.heat_capacity_P_numerical[:count]) / n_atoms,
        *remarks,
    )
