"""Viscosity and thermal conductivity by Green and Kubo: integrals of correlations of stress and of the flux of heat."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from ase import units
from matplotlib.figure import Figure
from scipy.fft import dct
from scipy.special import digamma, polygamma

from carten.errors import DataError
from carten.interfaces.ase import Calculator
from carten.math.arrays import Array, Floats
from carten.math.stf import from_cartesian
from carten.workflows.heat_flux import heat_flux
from carten.workflows.results import JobResult, Quantity
from carten.workflows.trajectory import Estimate, FrameSeries, kinetic_temperature

MORE = 2
"""Times the coefficients of Akaike's criterion: those it neglects hide in the noise, but add up to a bias."""
FEWEST = 200
"""Frames of a series whose spectrum is estimated."""
POISE = 1e3 / (units.kg / units.m / units.second)
"""mPa s of ASE's unit of viscosity, sqrt(amu eV)/Å^2."""
WATT = units.second * units.m / units.J
"""W/(m K) of eV/(t Å K), with ASE's unit of time t."""


class Zero(NamedTuple):
    """A spectrum at zero frequency by cepstral analysis.

    ``integral`` is that of the correlation from zero to infinity. ``coefficients`` are kept of the logarithm of the
    spectrum; ``frequencies`` (n,) in one over the unit of time, ``spectrum`` (n,) and ``smooth`` (n,) the integral's
    spectrum as it is and with these coefficients.
    """

    integral: Estimate
    coefficients: int
    frequencies: Floats
    spectrum: Floats
    smooth: Floats


@dataclass(frozen=True)
class Transport(JobResult):
    """A transport coefficient, and the spectrum whose value at zero it is.

    Args:
        coefficient: with its standard error.
        kept: coefficients of the cepstrum.
        terahertz: (n,) frequencies.
        spectrum: (n,) in the unit of the coefficient, as it is.
        smooth: (n,) and smoothed.
        temperature: K.
        notes: what a reader must know.
    """

    unit: ClassVar[str]
    coefficient: Estimate
    kept: int
    terahertz: Floats
    spectrum: Floats
    smooth: Floats
    temperature: float
    notes: tuple[str, ...] = ()

    def quantities(self) -> list[Quantity]:
        return [
            Quantity(self.job, self.coefficient.value, self.unit),
            Quantity(f"{self.job}, standard error", self.coefficient.error, self.unit),
            Quantity("temperature", self.temperature, "K"),
            Quantity("cepstral coefficients", self.kept),
        ]

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        columns = {f"spectrum_{self.unit}": self.spectrum, f"smooth_{self.unit}": self.smooth}
        return {"spectrum": {"frequency_THz": self.terahertz, **columns}}

    def warnings(self) -> list[str]:
        if self.coefficient.error > 0.3 * self.coefficient.value:
            return [*self.notes, f"the {self.job} has not converged: run longer dynamics, or several (--runs)"]
        return list(self.notes)

    def draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        axes.semilogy(self.terahertz[1:], self.spectrum[1:], color="C0", linewidth=0.5, alpha=0.5)
        axes.semilogy(self.terahertz, self.smooth, color="C1", linewidth=1.4)
        axes.set(xlabel="frequency (THz)", ylabel=f"{self.job} ({self.unit})")


class Viscosity(Transport):
    """Of shear."""

    job: ClassVar[str] = "viscosity"
    unit: ClassVar[str] = "mPa·s"


class Conductivity(Transport):
    """Of heat."""

    job: ClassVar[str] = "conductivity"
    unit: ClassVar[str] = "W/(m·K)"


def viscosity(trajectory: FrameSeries) -> Viscosity:
    """Shear viscosity, ``V / (k T) int <P(0) P(t)> dt`` over the five components of the pressure without its trace.

    Args:
        trajectory: of a liquid or gas at constant volume, with stress and momenta, frames a few fs apart.

    Raises:
        DataError: there is no cell, stress or time, or too few frames.

    Source: P. J. Daivis and D. J. Evans, J. Chem. Phys. 100, 541 (1994).
    """
    _require_cell(trajectory, "viscosity")
    frames = trajectory.frames
    if not all(atoms.calc is not None and "stress" in atoms.calc.results for atoms in frames):
        raise DataError("viscosity needs the stress of every frame: dynamics with a model that has stress")
    velocities, masses = trajectory.velocities, frames[0].get_masses()
    stress = np.array([atoms.get_stress(voigt=False) for atoms in frames])
    volume = float(trajectory.volumes.mean())
    pressure = np.einsum("n,tna,tnb->tab", masses, velocities, velocities) / volume - stress
    shear = from_cartesian(pressure, 2) / math.sqrt(2.0)  # so that each varies as P_xy
    kelvin = kinetic_temperature(frames)
    return Viscosity(*_scaled(shear, trajectory.fs, volume / (units.kB * kelvin) * POISE), kelvin)


def conductivity(trajectory: FrameSeries, calculator: Calculator) -> Conductivity:
    """Thermal conductivity, ``1 / (V k T^2) int <J(0) J(t)> dt`` over three components of the flux of heat.

    Args:
        trajectory: at constant volume, with momenta, frames a few fs apart.
        calculator: of the model.

    Raises:
        DataError: there is no cell, momentum or time, or too few frames.
        ModelError: see :func:`carten.workflows.heat_flux.heat_virials`.
    """
    _require_cell(trajectory, "thermal conductivity")
    kelvin = kinetic_temperature(trajectory.frames)
    flux = np.array([heat_flux(atoms, calculator) for atoms in trajectory.frames]) / units.fs
    scale = WATT / (float(trajectory.volumes.mean()) * units.kB * kelvin**2)
    notes: tuple[str, ...] = ()
    if len(set(trajectory.numbers.tolist())) > 1:
        notes = ("where atoms of several elements diffuse, heat that they carry along is part of this conductivity",)
    return Conductivity(*_scaled(flux, trajectory.fs, scale), kelvin, notes)


def integral_of_correlation(series: Floats, step: float) -> Zero:
    """``int_0^inf <x(0) x(t)> dt`` of a stationary series by cepstral analysis.

    The logarithm of the spectrum is smooth but for noise of known mean and variance: of its Fourier coefficients the
    first are kept, :data:`MORE` times as many as the criterion of Akaike says, and their sum is the logarithm at
    frequency zero.

    Args:
        series: (T, k) of k independent components of equal spectra and mean zero.
        step: of time.

    Raises:
        DataError: it is too short, or does not change.

    Source: L. Ercole, A. Marcolongo and S. Baroni, Sci. Rep. 7, 15835 (2017), eqs 14 to 19.
    """
    series = series[: len(series) - len(series) % 2]
    count, components = series.shape
    if count < FEWEST:
        raise DataError(f"a correlation needs at least {FEWEST} frames, found {count}: run longer dynamics")
    power = np.square(np.abs(np.fft.rfft(series, axis=0))).mean(axis=1) * step / count / 2.0
    power[0] = power[1]  # what the mean happens to be
    if not (power > 0.0).all():
        raise DataError("the series does not change from frame to frame: there is nothing to correlate")
    last = len(power) - 1
    cepstrum = dct(np.log(power), type=1) / (2.0 * last)
    cepstrum[0] -= digamma(components) - math.log(components)
    variance = float(polygamma(1, components)) / (2.0 * last)
    neglected = np.cumsum(np.square(cepstrum[:0:-1]))[::-1]  # [P - 1] is the sum from P
    akaike = 1 + int(np.argmin(neglected / variance + 2.0 * np.arange(1, last + 1)))
    kept = min(MORE * akaike, last)
    logarithm = cepstrum[0] + 2.0 * cepstrum[1:kept].sum()
    error = math.sqrt(variance * (4.0 * kept - 2.0))
    padded = np.concatenate([cepstrum[:kept], np.zeros(len(power) - kept)])
    smooth = np.exp(dct(padded, type=1))
    value = math.exp(logarithm)
    frequencies = np.fft.rfftfreq(count, step).astype(np.float64)
    return Zero(Estimate(value, value * error), kept, frequencies, power, smooth)


def _scaled(series: Floats, fs: float, scale: float) -> tuple[Estimate, int, Floats, Floats, Floats]:
    """A transport coefficient, coefficients that were kept, frequencies in THz, spectra."""
    zero = integral_of_correlation(series, fs * units.fs)
    coefficient = Estimate(scale * zero.integral.value, scale * zero.integral.error)
    terahertz = zero.frequencies * units.fs * 1000.0
    return coefficient, zero.coefficients, terahertz, scale * zero.spectrum, scale * zero.smooth


def _require_cell(trajectory: FrameSeries, name: str) -> None:
    if not trajectory.has_cells:
        raise DataError(f"{name} needs frames that are periodic in three directions")
    if np.ptp(trajectory.volumes) > 1e-6 * trajectory.volumes.mean():
        raise DataError(f"{name} needs dynamics at constant volume: use nve, or bussi with a long damping")
