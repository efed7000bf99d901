"""How atoms move: mean square displacements and diffusion, vibrational density of states."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from ase import units
from ase.data import chemical_symbols
from matplotlib.figure import Figure
from scipy.fft import irfft, next_fast_len, rfft
from scipy.signal import welch

from carten.errors import DataError
from carten.math.arrays import Array, Floats
from carten.workflows.results import JobResult, Quantity
from carten.workflows.spectrum import LIGHT, segment_length
from carten.workflows.trajectory import BLOCKS, Estimate, FrameSeries

FITTED = (0.2, 0.6)
"""Lags that diffusion is fitted to, as shares of a block."""
NORMAL = (0.8, 1.2)
"""Exponents of the mean square displacement in time that count as diffusion."""


@dataclass(frozen=True)
class Diffusion(JobResult):
    """Mean square displacements, and diffusion coefficients by the relation of Einstein.

    Args:
        times: (n,) lags in ps.
        displacements: (n,) Å^2 by element, means over blocks of the trajectory.
        errors: (n,) standard errors of these.
        coefficients: Å^2/ps by element.
        exponents: of the mean square displacements in time, over the lags that are fitted; 1 is diffusion.
    """

    job: ClassVar[str] = "diffusion"
    times: Floats
    displacements: Mapping[str, Floats]
    errors: Mapping[str, Floats]
    coefficients: Mapping[str, Estimate]
    exponents: Mapping[str, float]

    def quantities(self) -> list[Quantity]:
        numbers = []
        for symbol, coefficient in self.coefficients.items():
            scaled = Estimate(10.0 * coefficient.value, 10.0 * coefficient.error)  # Å^2/ps are 1e-8 m^2/s
            numbers.append(Quantity(f"{symbol} diffusion coefficient", scaled.value, "1e-9 m²/s"))
            numbers.append(Quantity(f"{symbol} standard error", scaled.error, "1e-9 m²/s"))
            numbers.append(Quantity(f"{symbol} exponent", self.exponents[symbol]))
        return numbers

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        columns: dict[str, Array] = {"time_ps": self.times}
        for symbol, values in self.displacements.items():
            columns |= {f"{symbol} A^2": values, f"{symbol} error A^2": self.errors[symbol]}
        return {"displacements": columns}

    def warnings(self) -> list[str]:
        return [
            f"{symbol} does not diffuse at these times: its mean square displacement grows as t^{exponent:.2f}; run "
            "longer dynamics"
            for symbol, exponent in self.exponents.items()
            if not NORMAL[0] <= exponent <= NORMAL[1]
        ]

    def draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        for number, (symbol, values) in enumerate(self.displacements.items()):
            axes.plot(self.times, values, color=f"C{number}", linewidth=1.2, label=symbol)
            low, high = values - self.errors[symbol], values + self.errors[symbol]
            axes.fill_between(self.times, low, high, color=f"C{number}", alpha=0.25, linewidth=0.0)
        axes.set(xlabel="time (ps)", ylabel="mean square displacement (Å²)")
        axes.legend(fontsize=8.0)


@dataclass(frozen=True)
class VibrationalStates(JobResult):
    """Vibrational density of states from velocities; its integral is the number of degrees of freedom.

    Args:
        wavenumbers: (n,) cm^-1.
        states: (n,) per cm^-1, by element.
        times: (m,) lags in ps.
        autocorrelation: (m,) of the velocities by element, 1 at the beginning.
    """

    job: ClassVar[str] = "states"
    wavenumbers: Floats
    states: Mapping[str, Floats]
    times: Floats
    autocorrelation: Mapping[str, Floats]

    def quantities(self) -> list[Quantity]:
        total = np.sum(list(self.states.values()), axis=0)
        mean = float((total * self.wavenumbers).sum() / total.sum())
        return [
            Quantity("mean wavenumber", mean, "cm⁻¹"),
            Quantity("degrees of freedom", float(total.sum() * (self.wavenumbers[1] - self.wavenumbers[0]))),
        ]

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        return {
            "states": {"wavenumber_1/cm": self.wavenumbers, **self.states},
            "autocorrelation": {"time_ps": self.times, **self.autocorrelation},
        }

    def draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        for symbol, values in self.states.items():
            axes.plot(self.wavenumbers, values, linewidth=1.2, label=symbol)
        axes.set(xlabel="wavenumber (cm⁻¹)", ylabel="density of states (cm)", ylim=(0.0, None))
        axes.legend(fontsize=8.0)


def diffusion(trajectory: FrameSeries) -> Diffusion:
    """Mean square displacements by element about the centre of mass, and ``D = <r^2> / 6 t`` of the slope.

    The trajectory is cut into :data:`BLOCKS` blocks: their mean and spread are the values and errors. Displacements
    in cells whose shape changes are those of fractional coordinates in the mean cell. No correction for the size of
    the cell is made (I.-C. Yeh and G. Hummer, J. Phys. Chem. B 108, 15873, 2004).

    Args:
        trajectory: its frames.

    Raises:
        DataError: the time between frames is not known, or there are fewer than ten frames in a block.
    """
    step = trajectory.fs / 1000.0
    length = len(trajectory.frames) // BLOCKS
    if length < 2 * BLOCKS:
        raise DataError(
            f"diffusion needs at least {2 * BLOCKS**2} frames, found {len(trajectory.frames)}: run longer dynamics, or "
            "write frames more often"
        )
    blocks = trajectory.unwrapped[: length * BLOCKS].reshape(BLOCKS, length, -1, 3)
    first, last = (max(1, round(share * length)) for share in FITTED)
    times = step * np.arange(last + 1, dtype=np.float64)
    displacements, errors, coefficients, exponents = {}, {}, {}, {}
    for number in sorted(set(trajectory.numbers.tolist())):
        symbol, atoms = chemical_symbols[number], trajectory.numbers == number
        curves = np.array([_square_displacements(block[:, atoms])[: last + 1] for block in blocks])
        fitted = times[first:] - times[first:].mean()
        slopes = curves[:, first:] @ fitted / (fitted @ fitted)
        displacements[symbol] = curves.mean(axis=0)
        errors[symbol] = curves.std(axis=0, ddof=1) / math.sqrt(BLOCKS)
        coefficients[symbol] = Estimate(slopes.mean() / 6.0, slopes.std(ddof=1) / 6.0 / math.sqrt(BLOCKS))
        positive = np.maximum(displacements[symbol][first:], 1e-300)
        exponents[symbol] = float(np.polyfit(np.log(times[first:]), np.log(positive), 1)[0])
    return Diffusion(times, displacements, errors, coefficients, exponents)


def _square_displacements(path: Floats) -> Floats:
    """Mean over atoms and origins of ``|r(t0 + t) - r(t0)|^2``, (T,), of a path (T, N, 3) by Fourier transforms.

    Source: G. R. Kneller et al., Comput. Phys. Commun. 91, 191 (1995).
    """
    count = len(path)
    origins = np.arange(count, 0, -1)
    correlation = _correlation(path.reshape(count, -1)) / path.shape[1]
    squares = np.concatenate([[0.0], np.cumsum(np.square(path).sum(axis=2).mean(axis=1))])
    ends = squares[count : 0 : -1] + (squares[count] - squares[:count])
    displacement: Floats = ends / origins - 2.0 * correlation
    displacement[0] = 0.0
    return displacement


def _correlation(series: Floats) -> Floats:
    """``sum_k x_k(t0) x_k(t0 + t)``, mean over origins, (T,), of a series (T, K)."""
    count = len(series)
    padded = next_fast_len(2 * count, real=True)
    power = np.square(np.abs(rfft(series, padded, axis=0))).sum(axis=1)
    products: Floats = irfft(power, padded)[:count] / np.arange(count, 0, -1)
    return products


def vibrational_states(trajectory: FrameSeries, resolution: float = 10.0) -> VibrationalStates:
    """Power spectrum of the mass-weighted velocities by element, divided by kT, and autocorrelations of velocities.

    In harmonic systems every mode is a peak of area one; diffusion is what there is at zero.

    Args:
        trajectory: its frames, with momenta.
        resolution: cm^-1.

    Raises:
        DataError: frames carry no momenta or times, or are too few for the resolution.
        ValueError: the resolution is not above 0.
    """
    if not (math.isfinite(resolution) and resolution > 0.0):
        raise ValueError(f"resolution: expected cm^-1 above 0, found {resolution:g}")
    step = trajectory.fs * units.fs
    length = segment_length(len(trajectory.frames), trajectory.fs, resolution)
    weighted = trajectory.velocities * np.sqrt(trajectory.frames[0].get_masses())[:, None]
    freedom = 3 * len(trajectory.numbers) - 3 if len(trajectory.numbers) > 1 else 3
    energy = float(np.square(weighted).sum(axis=(1, 2)).mean()) / freedom  # kT
    states, correlations = {}, {}
    for number in sorted(set(trajectory.numbers.tolist())):
        values = weighted[:, trajectory.numbers == number].reshape(len(weighted), -1)
        frequencies, power = welch(values, 1.0 / step, "hann", nperseg=length, axis=0, detrend=False)
        states[chemical_symbols[number]] = power.sum(axis=1) * LIGHT / energy
        correlation = _correlation(values)[:length]
        correlations[chemical_symbols[number]] = correlation / correlation[0]
    times = trajectory.fs / 1000.0 * np.arange(length, dtype=np.float64)
    return VibrationalStates(frequencies / LIGHT, states, times, correlations)
