"""Harmonic vibrations of a molecule: wavenumbers from the Hessian, infrared intensities and Raman activities."""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from ase.optimize import BFGS

from carten.errors import ModelError
from carten.interfaces.ase import Calculator
from carten.math.arrays import Floats
from carten.properties.potential import Potential
from carten.workflows.predict import predict
from carten.workflows.spectrum import INFRARED, LIGHT, activity, isotropic_and_rest

STEP = 0.002  # Å sqrt(amu), along normal coordinates
EXTERNAL = 1e-2  # of the largest: below it, the turn of a linear molecule about its axis


@dataclass(frozen=True)
class HarmonicLines:
    """Lines of a relaxed molecule.

    Args:
        wavenumbers: (modes,) cm^-1, ascending; imaginary ones negative.
        infrared: (modes,) ``N_A / (12 eps0 c^2) |d dipole/dQ|^2``, km/mol; NaN without dipoles.
        raman: (modes,) ``45 a'^2 + 7 gamma'^2``, Å^4/amu; NaN without polarizabilities.
        atoms: relaxed.
    """

    wavenumbers: Floats
    infrared: Floats
    raman: Floats
    atoms: ase.Atoms


def harmonic_lines(model: Potential, atoms: ase.Atoms, fmax: float = 1e-3, steps: int = 1000) -> HarmonicLines:
    """Relax a molecule, without its constraints; its harmonic lines without translations and rotations.

    Args:
        model: predicts energies, best in float64; lines have intensities if it predicts dipole, activities if
            polarizability.
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
    wavenumbers, modes = normal_modes(relaxed, relaxed.calc.get_property("hessian", relaxed))
    return HarmonicLines(wavenumbers, *intensities(model, relaxed, modes), relaxed)


def no_harmonic_lines(atoms: ase.Atoms) -> HarmonicLines:
    """Of a molecule whose modes are not known."""
    return HarmonicLines(np.empty(0), np.empty(0), np.empty(0), atoms)


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
    roots = np.repeat(np.sqrt(atoms.get_masses()), 3)
    weighted = 0.5 * (hessian + hessian.T) / np.outer(roots, roots)
    _, singular, space = np.linalg.svd(_external_motions(atoms))
    internal = space[int(np.sum(singular > EXTERNAL * singular[0])) :]
    squares, vectors = np.linalg.eigh(internal @ weighted @ internal.T)
    wavenumbers = np.sign(squares) * np.sqrt(np.abs(squares)) / (2.0 * np.pi * LIGHT)
    return wavenumbers, (vectors.T @ internal / roots).reshape(-1, len(atoms), 3)


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


def intensities(model: Potential, atoms: ase.Atoms, modes: Floats) -> tuple[Floats, Floats]:
    """Infrared intensities and Raman activities by central differences along modes (modes, N, 3) = dr/dQ."""
    names = [name for name in ("dipole", "polarizability") if name in model.properties]
    slopes = {name: np.full(len(modes), np.nan) for name in ("dipole", "polarizability")}
    if not names:
        return slopes["dipole"], slopes["polarizability"]
    moved = []
    for mode in modes:
        for sign in (-1.0, 1.0):
            moved.append(atoms.copy())
            moved[-1].positions += sign * STEP * mode
    predictions = list(predict(model, moved, names))
    results = {name: np.array([values[name] for values in predictions]) for name in names}
    change = {name: (value[1::2] - value[::2]) / (2.0 * STEP) for name, value in results.items()}
    if "dipole" in change:
        slopes["dipole"] = INFRARED * np.sum(change["dipole"] ** 2, axis=1)
    if "polarizability" in change:
        mean, rest = isotropic_and_rest(change["polarizability"])
        slopes["polarizability"] = activity(mean**2, np.sum(rest**2, axis=1))
    return slopes["dipole"], slopes["polarizability"]
