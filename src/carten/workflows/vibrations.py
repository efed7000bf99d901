"""Harmonic vibrations of a molecule: wavenumbers from the Hessian, infrared intensities and Raman activities."""

from __future__ import annotations

from dataclasses import dataclass

import ase
import numpy as np
from ase.optimize import BFGS
from ase.units import invcm
from ase.vibrations import VibrationsData

from carten.errors import ModelError
from carten.interfaces.ase import Calculator
from carten.math.arrays import Floats
from carten.properties.potential import Potential
from carten.workflows.predict import predict
from carten.workflows.spectrum import INFRARED, activity, isotropic_and_rest

STEP = 0.002  # Å sqrt(amu), along normal coordinates


@dataclass(frozen=True)
class Lines:
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


def lines(model: Potential, atoms: ase.Atoms, fmax: float = 1e-3, steps: int = 1000) -> Lines:
    """Relax a molecule; its harmonic lines without translations and rotations.

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
    relaxed.calc = Calculator(model)
    if not BFGS(relaxed, logfile=None).run(fmax=fmax, steps=steps):
        raise ModelError(f"forces stay above {fmax:g} eV/Å after {steps} steps: start nearer to a minimum")
    wavenumbers, modes = normal_modes(relaxed, relaxed.calc.get_property("hessian", relaxed))
    return Lines(wavenumbers, *intensities(model, relaxed, modes), relaxed)


def normal_modes(atoms: ase.Atoms, hessian: Floats) -> tuple[Floats, Floats]:
    """Wavenumbers (modes,) in cm^-1 and displacements dr/dQ (modes, N, 3) in amu^-1/2, Q mass-weighted.

    The 6 modes (5 of a linear molecule) nearest to zero are left out: translations and rotations.

    Args:
        atoms: a molecule at a stationary point.
        hessian: (3N, 3N) eV/Å^2.
    """
    energies, modes = VibrationsData.from_2d(atoms, 0.5 * (hessian + hessian.T)).get_energies_and_modes()
    signed = np.where(energies.imag > 0.0, -energies.imag, energies.real) / invcm
    kept = np.sort(np.argsort(np.abs(signed))[5 if _is_linear(atoms) else 6 :])
    return signed[kept], modes[kept]


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
    found = list(predict(model, moved, names))
    results = {name: np.array([values[name] for values in found]) for name in names}
    change = {name: (value[1::2] - value[::2]) / (2.0 * STEP) for name, value in results.items()}
    if "dipole" in change:
        slopes["dipole"] = INFRARED * np.sum(change["dipole"] ** 2, axis=1)
    if "polarizability" in change:
        mean, rest = isotropic_and_rest(change["polarizability"])
        slopes["polarizability"] = activity(mean**2, np.sum(rest**2, axis=1))
    return slopes["dipole"], slopes["polarizability"]


def _is_linear(atoms: ase.Atoms) -> bool:
    moments = atoms.get_moments_of_inertia()
    return bool(moments.min() < 1e-6 * moments.max())
