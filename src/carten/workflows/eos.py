"""Equation of state: energies of a crystal at several volumes, and what several equations make of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.eos import EquationOfState
from ase.units import GPa
from matplotlib.figure import Figure

from carten.errors import DataError
from carten.math.arrays import Floats
from carten.workflows.relax import Goal, relax
from carten.workflows.results import JobResult, Model, Progress, Quantity, as_calculator, require_crystal

EQUATIONS = {
    "birchmurnaghan": "Birch-Murnaghan",
    "vinet": "Vinet",
    "murnaghan": "Murnaghan",
    "pouriertarantola": "Poirier-Tarantola",
}
"""Equations by the names ASE has for them; the first one gives the numbers that are quoted."""


@dataclass(frozen=True)
class VolumeFit:
    """An equation fitted to energies and volumes of a cell.

    Args:
        equation: its name.
        volume: of the minimum, Å^3.
        energy: of the minimum, eV.
        bulk_modulus: at the minimum, eV/Å^3.
        slope: derivative of the bulk modulus in the pressure.
        rmse: of the energies, eV.
        curve: of the equation, (200, 2) Å^3 and eV.
    """

    equation: str
    volume: float
    energy: float
    bulk_modulus: float
    slope: float
    rmse: float
    curve: Floats = field(repr=False)


@dataclass(frozen=True)
class VolumeScan(JobResult):
    """Energies at several volumes, and equations fitted to them.

    Args:
        atoms: the structure at the volume of the minimum.
        volumes: (n,) of the cell, Å^3.
        energies: (n,) of the cell, eV.
        fits: by :data:`EQUATIONS`, in their order.
        scan: the structures of the volumes.
        unrelaxed: at how many volumes the atoms did not relax; 0 where they were not to.
    """

    job: ClassVar[str] = "eos"
    atoms: ase.Atoms
    volumes: Floats
    energies: Floats
    fits: tuple[VolumeFit, ...]
    scan: list[ase.Atoms] = field(repr=False)
    unrelaxed: int = 0

    def quantities(self) -> list[Quantity]:
        fit, n_atoms = self.fits[0], len(self.atoms)
        numbers = [
            Quantity("volume", fit.volume / n_atoms, "Å³/atom"),
            Quantity("energy", fit.energy / n_atoms, "eV/atom"),
            Quantity("bulk modulus", fit.bulk_modulus / GPa, "GPa"),
            Quantity("pressure derivative of the bulk modulus", fit.slope),
            Quantity("cell lengths", self.atoms.cell.lengths(), "Å"),
        ]
        numbers += [
            Quantity(f"bulk modulus ({EQUATIONS[other.equation]})", other.bulk_modulus / GPa, "GPa")
            for other in self.fits[1:]
        ]
        return numbers + [
            Quantity(f"RMSE ({EQUATIONS[each.equation]})", 1000 * each.rmse / n_atoms, "meV/atom") for each in self.fits
        ]

    def tables(self) -> Mapping[str, Mapping[str, Floats]]:
        n_atoms = len(self.atoms)
        return {"scan": {"volume_A^3/atom": self.volumes / n_atoms, "energy_eV/atom": self.energies / n_atoms}}

    def structures(self) -> list[ase.Atoms]:
        return [self.atoms, *self.scan]

    def warnings(self) -> list[str]:
        moduli = np.array([fit.bulk_modulus for fit in self.fits])
        if np.ptp(moduli) > 0.05 * abs(moduli[0]):
            low, high = moduli.min() / GPa, moduli.max() / GPa
            return [f"the equations disagree on the bulk modulus, {low:.1f} to {high:.1f} GPa: look at the curve"]
        return []

    def failures(self) -> list[str]:
        if self.unrelaxed:
            return [f"at {self.unrelaxed} of {len(self.volumes)} volumes the atoms did not relax"]
        return []

    def draw(self, figure: Figure) -> None:
        axes, n_atoms = figure.subplots(), len(self.atoms)
        for number, fit in enumerate(self.fits):
            label = f"{EQUATIONS[fit.equation]}, {fit.bulk_modulus / GPa:.1f} GPa"
            axes.plot(*(fit.curve / n_atoms).T, color=f"C{number}", linewidth=1.2, label=label)
        axes.plot(self.volumes / n_atoms, self.energies / n_atoms, "o", color="C0", markersize=4.0)
        axes.set(xlabel="volume (Å³/atom)", ylabel="energy (eV/atom)")
        axes.legend(fontsize=8.0)


def eos(
    atoms: ase.Atoms,
    model: Model,
    width: float = 0.06,
    points: int = 9,
    relaxed: bool = False,
    progress: Progress | None = None,
) -> VolumeScan:
    """Energies of a crystal whose cell is scaled, and the bulk modulus B0 and its derivative B0' by several equations.

    Args:
        atoms: near the minimum of the energy; the shape of the cell is kept.
        model: a model, its file, or any calculator of ASE.
        width: the largest change of volume, as a share.
        points: volumes.
        relaxed: whether atoms relax at each volume.
        progress: called with volumes done and all.

    Raises:
        DataError: the structure is no crystal, or its minimum is outside of the volumes.
        ValueError: less than five points, or a width outside of 0 to 0.5.
    """
    require_crystal(atoms, "eos")
    if points < 5 or not 0.0 < width < 0.5:
        raise ValueError(f"expected at least 5 points and a width between 0 and 0.5, found {points} and {width:g}")
    calculator = as_calculator(model)
    scan, unrelaxed = [], 0
    for number, share in enumerate(np.linspace(-width, width, points)):
        scaled = _at_volume(atoms, (1.0 + share) * atoms.get_volume())
        if relaxed:
            (result,) = relax(scaled, calculator, Goal(fmax=1e-3))
            scaled, unrelaxed = result.atoms, unrelaxed + (not result.converged)
        else:
            scaled.calc = calculator
            scaled.calc = SinglePointCalculator(scaled, energy=float(scaled.get_potential_energy()))
        scan.append(scaled)
        if progress is not None:
            progress(number + 1, points)
    volumes = np.array([scaled.get_volume() for scaled in scan])
    energies = np.array([scaled.get_potential_energy() for scaled in scan])
    _require_minimum(volumes, energies)
    fits = tuple(fit_volumes(volumes, energies, equation) for equation in EQUATIONS)
    return VolumeScan(_at_volume(atoms, fits[0].volume), volumes, energies, fits, scan, unrelaxed)


def fit_volumes(volumes: Floats, energies: Floats, equation: str) -> VolumeFit:
    """Fit an equation of :data:`EQUATIONS` to volumes in Å^3 and energies in eV."""
    state = EquationOfState(volumes, energies, eos=equation)
    state.fit()
    energy, modulus, slope, volume = map(float, state.eos_parameters)
    residuals = np.asarray(state.func(volumes, *state.eos_parameters)) - energies
    grid = np.linspace(volumes.min(), volumes.max(), 200)
    curve = np.stack([grid, state.func(grid, *state.eos_parameters)], axis=1)
    return VolumeFit(equation, volume, energy, modulus, slope, float(np.sqrt(np.mean(residuals**2))), curve)


def _at_volume(atoms: ase.Atoms, volume: float) -> ase.Atoms:
    scaled: ase.Atoms = atoms.copy()
    scaled.set_cell(atoms.cell * (volume / atoms.get_volume()) ** (1.0 / 3.0), scale_atoms=True)
    return scaled


def _require_minimum(volumes: Floats, energies: Floats) -> None:
    lowest = int(np.argmin(energies))
    if lowest in (0, len(volumes) - 1):
        side = "smaller" if lowest == 0 else "larger"
        raise DataError(
            f"the energy is lowest at the end of the volumes, {volumes[lowest]:.2f} Å³, so the minimum is at {side} "
            "ones: relax the cell first (carten relax --cell), or make the width larger"
        )
