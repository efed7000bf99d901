"""Infrared and Raman spectra of a molecule from molecular dynamics.

The power spectrum of a fluctuating quantity is the Fourier transform of its autocorrelation (Wiener and Khinchin). For
the time derivatives of dipole and polarizability,

    infrared: A(v) = N_A / (12 eps0 c^2) / (k T) * S[d dipole/dt](v)
    Raman: R(v) = 1 / (k T) * (45 S[d a/dt](v) + 7 * 3/2 * S[d b/dt](v)),  a = tr alpha / 3,  b = alpha - a 1,

with S summed over components, one-sided, per wavenumber. In a harmonic molecule ``<(dQ/dt)^2> = k T`` for every normal
coordinate Q, so that the area of a band is the intensity of its line, ``N_A / (12 eps0 c^2) |d dipole/dQ|^2`` in
km/mol, or its Raman activity ``45 a'^2 + 7 gamma'^2`` in Å^4/amu, as quantum chemistry programs print them.

Source: the classical autocorrelation with the harmonic quantum correction ``h v / (k T) / (1 - exp(-h v / k T))``,
which makes the prefactor ``v (1 - exp(-h v / k T))`` of Fermi's golden rule the v^2 of the derivatives: R. Ramírez, T.
López-Ciudad, P. Kumar and D. Marx, J. Chem. Phys. 121, 3973 (2004); activities: P. L. Polavarapu, J. Phys. Chem. 94,
8106 (1990); both together: M. Thomas et al., Phys. Chem. Chem. Phys. 15, 6608 (2013).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase import units
from scipy import constants
from scipy.signal import find_peaks, welch

from carten.data.labels import Label
from carten.errors import DataError, ModelError
from carten.math.arrays import Floats
from carten.properties.potential import Potential
from carten.workflows.predict import predict
from carten.workflows.trajectory import frame_interval, kinetic_temperature, require_one_system

INFRARED = constants.N_A * constants.e**2 / (12 * constants.epsilon_0 * constants.c**2 * constants.atomic_mass) / 1e3
"""km/mol of a line with ``|d dipole/dQ|^2`` of 1 e^2/amu."""
LIGHT = 100.0 * constants.c / units.second
"""cm in ASE's unit of time, Å sqrt(amu/eV)."""
NOISE_BANDWIDTH = 1.5
"""Of the Hann window, in bins."""


@dataclass(frozen=True)
class Spectrum:
    """Bands from dynamics.

    Args:
        wavenumbers: (n,) cm^-1.
        infrared: (n,) km/mol per cm^-1.
        raman: (n,) Å^4/amu per cm^-1, if the model has polarizabilities.
        temperature: K.
    """

    wavenumbers: Floats
    infrared: Floats
    raman: Floats | None
    temperature: float


def spectrum(
    model: Potential,
    frames: Sequence[ase.Atoms],
    timestep: float | None = None,
    temperature: float | None = None,
    resolution: float = 10.0,
    inputs: Mapping[str, Label] | None = None,
) -> Spectrum:
    """The spectra of a trajectory, rotation removed: dipoles and polarizabilities are turned as onto the first frame.

    Args:
        model: predicts ``dipole``, and perhaps ``polarizability``.
        frames: of one molecule at equal intervals, as ``carten md`` writes them.
        timestep: between frames in fs; from their ``time_ps`` by default.
        temperature: in K; from their momenta by default.
        resolution: cm^-1.
        inputs: where else to look for inputs of the model: names and units of the files.

    Raises:
        ModelError: the model has no dipole.
        DataError: the frames are of several molecules or of a crystal, time or temperature are unknown, or the frames
            are too few for the resolution.
    """
    names = [name for name in ("dipole", "polarizability") if name in model.properties]
    if "dipole" not in names:
        raise ModelError("an infrared spectrum needs a model that predicts dipole: train on dipoles")
    _require_one_molecule(frames)
    interval = frame_interval(frames) if timestep is None else timestep
    kelvin = kinetic_temperature(frames) if temperature is None else temperature
    predictions = list(predict(model, frames, names, inputs=inputs))
    rotations = [rotation_onto(atoms, frames[0]) for atoms in frames]
    dipoles = np.array([values["dipole"] @ turn for values, turn in zip(predictions, rotations, strict=True)])
    wavenumbers, absorbed = infrared(dipoles, interval, kelvin, resolution)
    if "polarizability" not in names:
        return Spectrum(wavenumbers, absorbed, None, kelvin)
    polarizabilities = np.array(
        [turn.T @ values["polarizability"] @ turn for values, turn in zip(predictions, rotations, strict=True)]
    )
    return Spectrum(wavenumbers, absorbed, raman(polarizabilities, interval, kelvin, resolution)[1], kelvin)


def infrared(dipoles: Floats, timestep: float, temperature: float, resolution: float) -> tuple[Floats, Floats]:
    """Wavenumbers in cm^-1 and absorption in km/mol per cm^-1 from dipoles (T, 3) in e Å at steps in fs."""
    wavenumbers, power = _power(dipoles, timestep, resolution)
    return wavenumbers, INFRARED / (units.kB * temperature) * power


def raman(polarizabilities: Floats, timestep: float, temperature: float, resolution: float) -> tuple[Floats, Floats]:
    """Wavenumbers in cm^-1 and activity in Å^4/amu per cm^-1 from polarizabilities (T, 3, 3) in Å^3 at steps in fs."""
    mean, rest = isotropic_and_rest(polarizabilities)
    wavenumbers, isotropic = _power(mean[:, None], timestep, resolution)
    _, anisotropic = _power(rest, timestep, resolution)
    return wavenumbers, activity(isotropic, anisotropic) / (units.kB * temperature)


def isotropic_and_rest(polarizabilities: Floats) -> tuple[Floats, Floats]:
    """A third of the trace (n,) and the components without it (n, 9), of tensors (n, 3, 3)."""
    mean = np.trace(polarizabilities, axis1=1, axis2=2) / 3.0
    rest = polarizabilities - mean[:, None, None] * np.eye(3)
    return mean, rest.reshape(-1, 9)


def activity(isotropic: Floats, rest: Floats) -> Floats:
    """``45 a^2 + 7 gamma^2`` from a^2 and ``sum_ij b_ij^2``, where ``gamma^2 = 3/2 sum_ij b_ij^2``."""
    return 45.0 * isotropic + 7.0 * 1.5 * rest


def nearest_peaks(wavenumbers: Floats, curve: Floats, where: Floats, width: float = 60.0) -> Floats:
    """Position of the highest maximum of a curve within ``width`` cm^-1 of each line; NaN if it has none."""
    peaks, _ = find_peaks(curve)
    positions = np.full(len(where), np.nan)
    for k, line in enumerate(where):
        near = peaks[np.abs(wavenumbers[peaks] - line) <= width]
        if len(near):
            positions[k] = wavenumbers[near[np.argmax(curve[near])]]
    return positions


def segment_length(n_frames: int, timestep: float, resolution: float) -> int:
    """Frames of the segments of a power spectrum.

    Args:
        n_frames: of the trajectory.
        timestep: between frames, fs.
        resolution: cm^-1.

    Raises:
        DataError: the trajectory is shorter than a segment.
    """
    length = math.ceil(NOISE_BANDWIDTH / (resolution * LIGHT * timestep * units.fs))
    if length > n_frames:
        needed, present = (count * timestep / 1000.0 for count in (length, n_frames))
        raise DataError(
            f"a resolution of {resolution:g} cm^-1 needs {needed:.3g} ps, found {present:.3g} ps: run longer dynamics, "
            "or ask for less"
        )
    return length


def _power(values: Floats, timestep: float, resolution: float) -> tuple[Floats, Floats]:
    """Power spectrum of the time derivatives of (T, components), summed over components, per cm^-1, in ASE's units."""
    step = timestep * units.fs
    length = segment_length(len(values), timestep, resolution)
    frequencies, power = welch(values, fs=1.0 / step, window="hann", nperseg=length, axis=0)
    derivative = (2.0 * np.pi * frequencies) ** 2 * power.sum(axis=1)
    return frequencies / LIGHT, derivative * LIGHT


def rotation_onto(atoms: ase.Atoms, reference: ase.Atoms) -> Floats:
    """The rotation R that brings ``r @ R`` nearest to the reference, weighted with the masses (Kabsch, 1976)."""
    target = reference.positions - reference.get_center_of_mass()
    positions = atoms.positions - atoms.get_center_of_mass()
    left, _, right = np.linalg.svd(positions.T @ (atoms.get_masses()[:, None] * target))
    left[:, 2] *= np.linalg.det(left) * np.linalg.det(right)  # a rotation, no reflection
    rotation: Floats = left @ right
    return rotation


def _require_one_molecule(frames: Sequence[ase.Atoms]) -> None:
    require_one_system(frames)
    for number, atoms in enumerate(frames):
        if atoms.pbc.any():
            raise DataError(
                f"frame {number} is periodic: this spectrum is that of one molecule, without periodic directions"
            )
