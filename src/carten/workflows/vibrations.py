"""Harmonic vibrations of a molecule: wavenumbers from the Hessian, infrared and Raman intensities, thermochemistry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.optimize import BFGS
from matplotlib.figure import Figure

from carten.errors import DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.math.arrays import Floats
from carten.properties.potential import Potential
from carten.workflows.hessian import hessian
from carten.workflows.results import JobResult, Model, Progress, Quantity, as_calculator, require_relaxed
from carten.workflows.spectrum import INFRARED, LIGHT, activity, isotropic_and_rest
from carten.workflows.thermochemistry import GasConditions, IdealGas, ideal_gas

STEP = 0.002  # Å sqrt(amu), along normal coordinates
EXTERNAL = 1e-2  # of the largest: below it, the turn of a linear molecule about its axis
FRAMES = 20
"""Of the animation of a mode: one period."""
SWING = 0.3
"""Å, largest displacement of an atom in it."""
WIDTH = 10.0
"""cm^-1, half width at half maximum of drawn lines."""


@dataclass(frozen=True)
class Vibrations(JobResult):
    """Vibrations of a molecule.

    Args:
        atoms: the molecule.
        wavenumbers: (modes,) cm^-1, ascending; imaginary ones negative.
        infrared: (modes,) ``N_A / (12 eps0 c^2) |d dipole/dQ|^2``, km/mol; NaN without dipoles.
        raman: (modes,) ``45 a'^2 + 7 gamma'^2``, Å^4/amu; NaN without polarizabilities.
        modes: (modes, N, 3) displacements dr/dQ, amu^-1/2.
        largest_force: eV/Å.
        gas: thermochemistry of the ideal gas; ``None`` where it was not computed.
    """

    job: ClassVar[str] = "vibrations"
    size: ClassVar[tuple[float, float]] = (4.0, 7.0)
    atoms: ase.Atoms
    wavenumbers: Floats
    infrared: Floats
    raman: Floats
    modes: Floats = field(repr=False)
    largest_force: float = 0.0
    gas: IdealGas | None = None

    def quantities(self) -> list[Quantity]:
        columns = [("cm⁻¹", self.wavenumbers), ("km/mol", self.infrared), ("Å⁴/amu", self.raman)]
        present = [(unit, column) for unit, column in columns if not np.isnan(column).all()]
        units = ", ".join(unit for unit, _ in present)
        lines = [
            Quantity(f"mode {k + 1}", np.array([column[k] for _, column in present]), units)
            for k in range(len(self.wavenumbers))
        ]
        gas = [] if self.gas is None else self.gas.quantities()
        return [*lines, Quantity("largest force", self.largest_force, "eV/Å"), *gas]

    def tables(self) -> Mapping[str, Mapping[str, Floats]]:
        columns = {"wavenumber_1/cm": self.wavenumbers, "infrared_km/mol": self.infrared, "raman_A^4/amu": self.raman}
        return {"modes": {name: column for name, column in columns.items() if not np.isnan(column).all()}}

    def structures(self) -> list[ase.Atoms]:
        """One period of each mode, one after the other; ``info`` says which."""
        frames = []
        for number, (wavenumber, mode) in enumerate(zip(self.wavenumbers, self.modes, strict=True)):
            swing = SWING * mode / np.linalg.norm(mode, axis=1).max()
            for phase in 2.0 * np.pi * np.arange(FRAMES) / FRAMES:
                frames.append(self.atoms.copy())
                frames[-1].positions += np.sin(phase) * swing
                frames[-1].info = {"mode": number + 1, "wavenumber": float(wavenumber)}
        return frames or [self.atoms.copy()]

    def warnings(self) -> list[str]:
        imaginary = [f"{-value:.0f}i" for value in self.wavenumbers if value < 0.0]
        if not imaginary:
            return []
        modes = "1 imaginary mode" if len(imaginary) == 1 else f"{len(imaginary)} imaginary modes"
        return [
            f"{modes} ({', '.join(imaginary)} cm⁻¹): the molecule is no minimum, and "
            "thermochemistry leaves them out. Relax it further, or move it along the mode"
        ]

    def failures(self) -> list[str]:
        return require_relaxed(self.largest_force)

    def draw(self, figure: Figure) -> None:
        curves = self._curves() or {"modes": np.ones(len(self.wavenumbers))}
        grid = np.linspace(0.0, 1.1 * max(100.0, self.wavenumbers.max(initial=0.0)), 2000)
        panels = np.atleast_1d(figure.subplots(len(curves), sharex=True))
        for number, (axes, (name, heights)) in enumerate(zip(panels, curves.items(), strict=True)):
            lorentzian = WIDTH / np.pi / ((grid[:, None] - self.wavenumbers) ** 2 + WIDTH**2)
            axes.plot(grid, lorentzian @ heights * np.pi * WIDTH, color=f"C{number}", linewidth=1.1)
            axes.vlines(self.wavenumbers, 0.0, heights, color=f"C{number}", linewidth=1.1, alpha=0.5)
            axes.set(ylabel=name, xlim=(0.0, grid[-1]), ylim=(0.0, None))
        panels[-1].set_xlabel("wavenumber (cm⁻¹)")

    def _curves(self) -> dict[str, Floats]:
        curves = {"infrared (km/mol)": self.infrared, "Raman (Å⁴/amu)": self.raman}
        return {name: heights for name, heights in curves.items() if len(heights) and not np.isnan(heights).all()}


def vibrations(
    atoms: ase.Atoms, model: Model, conditions: GasConditions | None = None, progress: Progress | None = None
) -> Vibrations:
    """Harmonic vibrations of a molecule where it is, and the thermochemistry of its ideal gas.

    Args:
        atoms: a molecule, relaxed; constraints do not count.
        model: a model, its file, or any calculator of ASE. Lines have intensities if it has a dipole, activities if it
            has a polarizability.
        conditions: of the gas.
        progress: called with rows of the Hessian done and all.

    Raises:
        DataError: the structure is periodic or has no atoms.
        ModelError: an element that the model does not know.
    """
    if atoms.pbc.any() or not len(atoms):
        formula = atoms.get_chemical_formula()
        problem = f"{formula} is periodic: use phonons" if len(atoms) else "the structure has no atoms"
        raise DataError(f"vibrations are those of a molecule, {problem}")
    calculator = as_calculator(model)
    free = atoms.copy()
    free.set_constraint()
    free.calc = calculator
    force = float(np.linalg.norm(free.get_forces(), axis=1).max())
    wavenumbers, modes = normal_modes(free, hessian(free, calculator, progress))
    lines = intensities(calculator, free, modes)
    gas = ideal_gas(free, wavenumbers, float(free.get_potential_energy()), conditions or GasConditions())
    return Vibrations(atoms.copy(), wavenumbers, *lines, modes, force, gas)


def harmonic_lines(model: Potential, atoms: ase.Atoms, fmax: float = 1e-3, steps: int = 1000) -> Vibrations:
    """Relax a molecule, without its constraints; its vibrations there.

    Args:
        model: see :func:`vibrations`, best in float64.
        atoms: near a minimum.
        fmax: largest force that remains, eV/Å.
        steps: of the relaxation, at most.

    Raises:
        ModelError: the molecule does not relax.
    """
    relaxed = atoms.copy()
    relaxed.set_constraint()
    relaxed.calc = Calculator(model)
    if not BFGS(relaxed, logfile=None).run(fmax=fmax, steps=steps):
        raise ModelError(f"forces stay above {fmax:g} eV/Å after {steps} steps: start nearer to a minimum")
    return vibrations(relaxed, relaxed.calc)


def no_harmonic_lines(atoms: ase.Atoms) -> Vibrations:
    """Of a molecule whose modes are not known."""
    return Vibrations(atoms, np.empty(0), np.empty(0), np.empty(0), np.empty((0, len(atoms), 3)))


def normal_modes(atoms: ase.Atoms, hessian: Floats) -> tuple[Floats, Floats]:
    """Wavenumbers (modes,) in cm^-1 and displacements dr/dQ (modes, N, 3) in amu^-1/2, Q mass-weighted.

    Translations and, of a molecule, rotations are projected out of the mass-weighted Hessian (Eckart's conditions), so
    that they do not mix with soft vibrations where forces are not quite zero: 3N - 6 modes remain, 3N - 5 of a linear
    molecule, 3N - 3 of a periodic structure.

    Args:
        atoms: near a stationary point.
        hessian: (3N, 3N) eV/Å^2.

    Source: W. H. Miller, N. C. Handy and J. E. Adams, J. Chem. Phys. 72, 99 (1980), section II.
    """
    _, singular, space = np.linalg.svd(_external_motions(atoms))
    return modes_within(space[int(np.sum(singular > EXTERNAL * singular[0])) :], atoms.get_masses(), hessian)


def modes_within(space: Floats, masses: Floats, hessian: Floats) -> tuple[Floats, Floats]:
    """As :func:`normal_modes`, within orthonormal directions (modes, 3N) of mass-weighted coordinates."""
    roots = np.repeat(np.sqrt(masses), 3)
    weighted = 0.5 * (hessian + hessian.T) / np.outer(roots, roots)
    squares, vectors = np.linalg.eigh(space @ weighted @ space.T)
    wavenumbers = np.sign(squares) * np.sqrt(np.abs(squares)) / (2.0 * np.pi * LIGHT)
    return wavenumbers, (vectors.T @ space / roots).reshape(-1, len(masses), 3)


def _external_motions(atoms: ase.Atoms) -> Floats:
    """Mass-weighted translations and, where no direction is periodic, rotations: (3 or 6, 3N), of unit length or less.

    Rotations are about the principal axes, so that the one about the axis of a linear molecule is zero.
    """
    roots = np.sqrt(atoms.get_masses())[:, None]
    motions = [np.tile(axis, (len(atoms), 1)) for axis in np.eye(3)]
    if not atoms.pbc.any():
        arms = atoms.positions - atoms.get_center_of_mass()
        _, axes = atoms.get_moments_of_inertia(vectors=True)
        size = float(np.linalg.norm(roots * arms)) or 1.0
        motions += [np.cross(axis, arms) * np.linalg.norm(roots) / size for axis in axes]
    weighted: Floats = np.array([(roots * motion).ravel() for motion in motions]) / np.linalg.norm(roots)
    return weighted


def intensities(calculator: BaseCalculator, atoms: ase.Atoms, modes: Floats) -> tuple[Floats, Floats]:
    """Infrared intensities and Raman activities by central differences along modes (modes, N, 3) = dr/dQ."""
    lines = {name: np.full(len(modes), np.nan) for name in ("dipole", "polarizability")}
    changes: dict[str, Floats] = {}
    for name in [name for name in lines if len(modes) and name in calculator.implemented_properties]:
        values = []
        for displacement in np.concatenate([STEP * modes, -STEP * modes]):
            moved = atoms.copy()
            moved.positions += displacement
            values.append(calculator.get_property(name, moved))
        changes[name] = (np.array(values[: len(modes)]) - np.array(values[len(modes) :])) / (2.0 * STEP)
    if "dipole" in changes:
        lines["dipole"] = INFRARED * np.sum(changes["dipole"] ** 2, axis=1)
    if "polarizability" in changes:
        mean, rest = isotropic_and_rest(changes["polarizability"])
        lines["polarizability"] = activity(mean**2, np.sum(rest**2, axis=1))
    return lines["dipole"], lines["polarizability"]
