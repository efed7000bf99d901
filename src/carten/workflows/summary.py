"""What a run of molecular dynamics, or several of the same system, found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import uniform_filter1d

from carten.math.arrays import Floats
from carten.workflows.results import JobResult, Quantity

PARTS = 50
"""Of a run, over which running means are drawn."""


@dataclass(frozen=True)
class DynamicsSummary(JobResult):
    """Results of a run of molecular dynamics.

    Speeds are of the ``new_steps`` of the last call, without the first evaluation.

    Args:
        steps: in all.
        new_steps: of the last call.
        temperature: mean over the log, K.
        temperature_spread: standard deviation, K.
        potential: mean potential energy of the model, eV.
        drift: slope of a linear fit to the conserved energy per atom, meV/atom/ps; None for Langevin, npt and PLUMED,
            which conserve nothing, and for fewer than three lines of the log. The conserved energy of Bussi includes
            what the thermostat has taken, and that of restraints their energy.
        fluctuation: root mean square about the fit, meV/atom; None where there is no drift.
        steps_per_second: speed.
        ns_per_day: speed.
        stopped: the criterion that ended the run early, with the last frame in the trajectory; else empty.
        log: (lines,) by column.
    """

    job: ClassVar[str] = "md"
    size: ClassVar[tuple[float, float]] = (5.2, 6.2)
    steps: int
    new_steps: int
    temperature: float
    temperature_spread: float
    potential: float
    drift: float | None
    fluctuation: float | None
    steps_per_second: float
    ns_per_day: float
    stopped: str = ""
    log: Mapping[str, Floats] = field(default_factory=dict, repr=False)

    def quantities(self) -> list[Quantity]:
        numbers = [
            Quantity("steps", self.steps),
            Quantity("time", float(self.log["time_ps"][-1]), "ps"),
            Quantity("temperature", self.temperature, "K"),
            Quantity("standard deviation of the temperature", self.temperature_spread, "K"),
            Quantity("potential energy", self.potential, "eV"),
        ]
        if self.log["restraint_eV"].any():
            numbers.append(Quantity("energy of restraints", float(self.log["restraint_eV"].mean()), "eV"))
        if self.drift is not None and self.fluctuation is not None:
            numbers.append(Quantity("energy drift", self.drift, "meV/atom/ps"))
            numbers.append(Quantity("fluctuation of the conserved energy", self.fluctuation, "meV/atom"))
        return numbers

    def draw(self, figure: Figure) -> None:
        upper, lower = figure.subplots(2, sharex=True)
        draw_log(upper, lower, self.log)
        if self.drift is not None:
            conserved = self.log["conserved_eV"]
            lower.plot(self.log["time_ps"], conserved - conserved[0], color="C1", linewidth=1.0, label="conserved")
        lower.legend(fontsize=8.0)


def draw_log(upper: Axes, lower: Axes, log: Mapping[str, Floats], number: int = 0, name: str = "potential") -> None:
    """Temperature above, changes of the potential energy below; running means stand out of long runs."""
    times, potential, color = log["time_ps"], log["potential_eV"], f"C{number}"
    window = len(times) // PARTS
    for axes, values in ((upper, log["temperature_K"]), (lower, potential - potential[0])):
        if window > 1:
            axes.plot(times, values, color=color, linewidth=0.5, alpha=0.3)
            values = uniform_filter1d(values, window)
        axes.plot(times, values, color=color, linewidth=1.2, label=name)
    upper.set_ylabel("temperature (K)")
    lower.set(xlabel="time (ps)", ylabel="energy − first (eV)")


def summarise(
    log: Mapping[str, Floats],
    n_atoms: int,
    conserves: bool,
    speed: tuple[int, float, float],
    stopped: str,
) -> DynamicsSummary:
    """The summary of a run.

    Args:
        log: by column.
        n_atoms: of the structure.
        conserves: whether there is a conserved energy.
        speed: steps of the last call, seconds they took, and the time step in fs.
        stopped: why it ended early.
    """
    drift, fluctuation = None, None
    if conserves and len(log["step"]) > 2:
        picoseconds, energy = log["time_ps"], 1000.0 * log["conserved_eV"] / n_atoms
        slope, start = np.polyfit(picoseconds, energy, 1)
        drift, fluctuation = float(slope), float(np.std(energy - slope * picoseconds - start))
    new_steps, seconds, timestep = speed
    rate = new_steps / seconds if seconds > 0.0 else 0.0
    return DynamicsSummary(
        int(log["step"][-1]),
        new_steps,
        float(log["temperature_K"].mean()),
        float(log["temperature_K"].std()),
        float(log["potential_eV"].mean()),
        drift,
        fluctuation,
        rate,
        rate * timestep * 86400.0e-6,
        stopped,
        log,
    )
