"""Averages over a trajectory: temperature, energy, density, compressibility, dielectric constant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from ase import units
from matplotlib.figure import Figure
from scipy import constants

from carten.errors import DataError
from carten.math.arrays import Array, Floats
from carten.workflows.results import JobResult, Quantity
from carten.workflows.trajectory import Estimate, FrameSeries, estimate, kinetic_temperature

DENSITY = constants.atomic_mass * 1e3 / 1e-24
"""g/cm^3 of 1 amu/Å^3."""


@dataclass(frozen=True)
class Averages(JobResult):
    """Means of what frames carry, with standard errors.

    Args:
        means: by name and unit.
        series: (T,) of each, by name.
        times: (T,) ps, or numbers of frames where times are not known.
        compressibility: isothermal, 1/GPa, where the volume changes and the temperature is known.
    """

    job: ClassVar[str] = "averages"
    means: Mapping[tuple[str, str], Estimate]
    series: Mapping[str, Floats]
    times: Floats
    compressibility: float | None = None

    def quantities(self) -> list[Quantity]:
        numbers = []
        for (name, unit), mean in self.means.items():
            numbers += [Quantity(name, mean.value, unit), Quantity(f"{name}, standard error", mean.error, unit)]
        if self.compressibility is not None:
            numbers.append(Quantity("isothermal compressibility", self.compressibility, "1/GPa"))
        return numbers

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        return {"series": {"time": self.times, **self.series}}

    def draw(self, figure: Figure) -> None:
        panels = figure.subplots(len(self.series), 1, sharex=True, squeeze=False)[:, 0]
        for axes, ((name, unit), mean) in zip(panels, self.means.items(), strict=True):
            axes.plot(self.times, self.series[name], linewidth=0.8)
            axes.axhline(mean.value, color="C1", linewidth=1.0)
            axes.set_ylabel(f"{name}\n({unit})", fontsize=7.5)
        panels[-1].set_xlabel("time (ps)")


def trajectory_averages(trajectory: FrameSeries) -> Averages:
    """Temperature, potential energy, density and volume, as far as frames carry them.

    The compressibility follows from fluctuations of the volume, ``<dV^2> / (kT <V>)``: of a run at constant pressure.

    Args:
        trajectory: its frames.

    Raises:
        DataError: frames carry none of these.
    """
    frames, columns = trajectory.frames, dict[tuple[str, str], Floats]()
    moving = len(trajectory.numbers) > 1 and all(atoms.has("momenta") for atoms in frames)
    if moving and any(atoms.get_momenta().any() for atoms in frames):
        columns["temperature", "K"] = np.array([kinetic_temperature([atoms]) for atoms in frames])
    if all(atoms.calc is not None and "energy" in atoms.calc.results for atoms in frames):
        energies = np.array([atoms.calc.results["energy"] for atoms in frames]) / len(trajectory.numbers)
        columns["potential energy", "eV/atom"] = energies
    if trajectory.has_cells:
        columns["density", "g/cm³"] = DENSITY * frames[0].get_masses().sum() / trajectory.volumes
    if not columns:
        raise DataError("frames carry no momenta, energies or cells: there is nothing to average")
    compressibility = None
    if np.ptp(trajectory.volumes) > 1e-9 * trajectory.volumes.max() and ("temperature", "K") in columns:
        kt = units.kB * columns["temperature", "K"].mean()
        compressibility = float(trajectory.volumes.var() / (kt * trajectory.volumes.mean()) * units.GPa)
    step = 1.0 if np.isnan(trajectory.interval) else trajectory.interval / 1000.0
    times = step * np.arange(len(frames), dtype=np.float64)
    series = {name: values for (name, _), values in columns.items()}
    return Averages({key: estimate(values) for key, values in columns.items()}, series, times, compressibility)
