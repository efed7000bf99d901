"""Spin dynamics at fixed positions: the stochastic Landau-Lifshitz-Gilbert equation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import ase
import numpy as np
from ase import units
from ase.calculators.singlepoint import SinglePointCalculator
from matplotlib.figure import Figure

from carten.errors import ConfigError, ModelError
from carten.math.arrays import Array, Floats
from carten.physics.constants import BOHR_MAGNETON, GYROMAGNETIC
from carten.workflows.moments import NONE, MagneticModel, across
from carten.workflows.results import JobResult, Model, Progress, Quantity, as_calculator

TURN = 0.25
"""rad, root mean square turn of a moment in a step above which the time step is too long."""
EVALUATIONS = 4
"""Of the fields in a step: two are as many as the scheme needs, four drift far less at the same cost."""
Fields = Callable[[Floats], Floats]
"""Magnetic forces (N, 3) in eV/μ_B from moments (N, 3) in μ_B."""


@dataclass(frozen=True)
class SpinSettings:
    """What to run.

    Args:
        steps: number of steps.
        timestep: fs.
        damping: Gilbert's, without unit.
        temperature: K.
        field: magnetic, T, besides that of the model.
        interval: steps between frames.
        seed: of the thermal fields.

    Raises:
        ConfigError: a number is out of range, or a temperature without damping.
    """

    steps: int
    timestep: float = 1.0
    damping: float = 0.1
    temperature: float = 0.0
    field: tuple[float, float, float] = (0.0, 0.0, 0.0)
    interval: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        least = {"steps": 1, "interval": 1, "damping": 0.0, "temperature": 0.0, "seed": 0}
        for name in ("timestep", *least):
            value = getattr(self, name)
            if not math.isfinite(value) or value < least.get(name, 0.0) or (name == "timestep" and value == 0.0):
                expected = f"at least {least[name]:g}" if name in least else "above 0"
                raise ConfigError(f"{name}: expected a number {expected}, found {value}")
        if np.shape(self.field) != (3,) or not np.isfinite(self.field).all():
            raise ConfigError(f"field: expected three numbers in T, found {self.field}")
        if self.temperature > 0.0 and self.damping == 0.0:
            raise ConfigError("damping: without it moments do not feel a temperature; set one above 0, such as 0.1")


@dataclass(frozen=True)
class SpinRun(JobResult):
    """Spin dynamics.

    Args:
        settings: of the run.
        frames: structures with moments and energies, every ``settings.interval`` steps, the first and the last one.
        times: (n,) of the frames, fs.
        energies: (n,) with that of the field, eV.
        moments: (n, N, 3) μ_B.
        turn: root mean square in a step, of the moment that turns fastest, rad.
    """

    job: ClassVar[str] = "spins"
    size: ClassVar[tuple[float, float]] = (5.2, 6.2)
    settings: SpinSettings
    frames: list[ase.Atoms] = field(repr=False)
    times: Floats = field(repr=False)
    energies: Floats = field(repr=False)
    moments: Floats = field(repr=False)
    turn: float = 0.0

    @property
    def totals(self) -> Floats:
        """(n, 3) sum of all moments, μ_B."""
        totals: Floats = self.moments.sum(axis=1)
        return totals

    @property
    def order(self) -> Floats:
        """(n,) 1 where all moments are as at the start, up to a common rotation, about 0 where they are disordered.

        The norm of ``C = sum_i e_i(0) e_i(t)^T`` divided by that at the start.
        """
        present = np.linalg.norm(self.moments[0], axis=1) > NONE
        now = self.moments[:, present] / np.linalg.norm(self.moments[:, present], axis=2, keepdims=True)
        correlation = np.linalg.norm(np.einsum("ia,tib->tab", now[0], now), axis=(1, 2))
        order: Floats = correlation / correlation[0]
        return order

    def quantities(self) -> list[Quantity]:
        settings, half = self.settings, len(self.times) // 2
        numbers = [
            Quantity("steps", settings.steps),
            Quantity("time", float(self.times[-1]), "fs"),
            Quantity("energy before", float(self.energies[0]), "eV"),
            Quantity("energy after", float(self.energies[-1]), "eV"),
            Quantity("mean energy, second half", float(self.energies[half:].mean()), "eV"),
            Quantity("total moment, second half", self.totals[half:].mean(axis=0), "μ_B"),
            Quantity("order, second half", float(self.order[half:].mean())),
            Quantity("turn of the fastest moment in a step", math.degrees(self.turn), "degrees"),
        ]
        if settings.damping == 0.0:
            worst = float(np.abs(self.energies - self.energies[0]).max()) / self.moments.shape[1]
            numbers.append(Quantity("largest deviation of the conserved energy", 1000.0 * worst, "meV/atom"))
        return numbers

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        totals = {f"M{axis}_mu_B": column for axis, column in zip("xyz", self.totals.T, strict=True)}
        return {"log": {"time_fs": self.times, "energy_eV": self.energies, "order": self.order, **totals}}

    def structures(self) -> list[ase.Atoms]:
        return self.frames

    def failures(self) -> list[str]:
        if self.turn <= TURN:
            return []
        return [
            f"moments turn by {math.degrees(self.turn):.0f} degrees in a step: make the time step "
            f"({self.settings.timestep:g} fs) shorter"
        ]

    def draw(self, figure: Figure) -> None:
        upper, lower = figure.subplots(2, sharex=True)
        upper.plot(self.times, 1000.0 * (self.energies - self.energies[0]) / self.moments.shape[1], color="C0")
        upper.set_ylabel("energy change (meV/atom)")
        lower.plot(self.times, self.order, color="C0", label="order")
        present = np.linalg.norm(self.moments[0], axis=1).sum()
        for number, (axis, total) in enumerate(zip("xyz", self.totals.T, strict=True), start=1):
            lower.plot(self.times, total / present, color=f"C{number}", linewidth=1.0, label=f"M{axis}/M max")
        lower.set(xlabel="time (fs)", ylim=(-1.05, 1.05))
        lower.legend(fontsize=8.0, ncols=4)


def spins(atoms: ase.Atoms, model: Model, settings: SpinSettings, progress: Progress | None = None) -> SpinRun:
    """Spin dynamics of a structure: moments of fixed size turn in the magnetic forces of the model, atoms stay.

    ``dm/dt = -g/(1 + a^2) [m x B + a m/|m| x (m x B)]`` with ``B = -dE/dm`` and the damping a; at a temperature T, B
    has a random part of variance ``2 a k T / (g |m| dt)`` in each step, so that moments come to be distributed as
    ``exp(-E / k T)``.

    Args:
        atoms: with moments in ``arrays["initial_magmoms"]`` (or ``"magmoms"``), μ_B.
        model: a model that has moments as input, or its file.
        settings: what to run.
        progress: called with steps done and all.

    Raises:
        ModelError: the model does not know an element, has no moments as input, or has them along an axis only.
        DataError: the structure has no moments.

    Source: W. F. Brown, Phys. Rev. 130, 1677 (1963).
    """
    system = MagneticModel(atoms, as_calculator(model))
    if system.moments.shape[1] == 1:
        raise ModelError("moments along a common axis do not turn: spin dynamics needs a model with the input magmoms")
    external = BOHR_MAGNETON * np.array(settings.field)
    present, moments = system.magnetic, system.moments
    random = np.random.default_rng(settings.seed)
    steps, frames, energies = [], [], []
    squares = np.zeros(int(present.sum()))

    def fields(chosen: Floats) -> Floats:
        """Without forces on sizes: often large, they would only disturb the integrator."""
        complete = moments.copy()
        complete[present] = chosen
        return across(system.fields(complete)[present], chosen) + external

    def record(step: int) -> None:
        values = system.evaluate(moments)
        frame = system.with_moments(moments)
        frame.arrays[system.of_fields] = values.fields
        frame.info["time_fs"] = step * settings.timestep
        frame.calc = SinglePointCalculator(frame, energy=values.energy, forces=values.forces)
        steps.append(step)
        frames.append(frame)
        energies.append(values.energy - float(moments.sum(axis=0) @ external))

    record(0)
    for step in range(1, settings.steps + 1):
        before = moments[present]
        after = semi_implicit_step(before, fields, thermal_fields(before, settings, random), settings)
        moments = moments.copy()
        moments[present] = after
        cosines = np.sum(before * after, axis=1) / np.sum(before * before, axis=1)
        squares += np.arccos(np.clip(cosines, -1.0, 1.0)) ** 2
        if step % settings.interval == 0 or step == settings.steps:
            record(step)
        if progress is not None:
            progress(step, settings.steps)
    sequence = np.array([frame.arrays["initial_magmoms"] for frame in frames])
    times = settings.timestep * np.array(steps, dtype=np.float64)
    turn = math.sqrt(squares.max() / settings.steps)
    return SpinRun(settings, frames, times, np.array(energies), sequence, turn)


def thermal_fields(moments: Floats, settings: SpinSettings, random: np.random.Generator) -> Floats:
    """Random fields of one step, (N, 3) eV/μ_B."""
    sizes = np.linalg.norm(moments, axis=1, keepdims=True)
    kelvin, rate = settings.temperature, GYROMAGNETIC * settings.timestep
    deviation = np.sqrt(2.0 * settings.damping * units.kB * kelvin / (rate * sizes))
    noise: Floats = deviation * random.standard_normal(moments.shape)
    return noise


def semi_implicit_step(moments: Floats, fields: Fields, noise: Floats, settings: SpinSettings) -> Floats:
    """Moments (N, 3) after one step; their sizes stay exactly the same.

    The implicit midpoint, iterated a few times; noise is that of Stratonovich.

    Args:
        moments: none of them zero.
        fields: magnetic forces from moments.
        noise: (N, 3) eV/μ_B, added to them.
        settings: time step and damping.

    Source: J. H. Mentink et al., J. Phys.: Condens. Matter 22, 176001 (2010).
    """
    sizes = np.linalg.norm(moments, axis=1, keepdims=True)
    factor = -GYROMAGNETIC / (1.0 + settings.damping**2)

    def turned(at: Floats) -> Floats:
        total = fields(at) + noise
        axis = factor * (total + settings.damping / sizes * np.cross(at, total))
        return _cayley(moments, 0.5 * settings.timestep * axis)

    after = moments
    for _ in range(EVALUATIONS):
        after = turned((moments + after) / 2.0)
    return after


def _cayley(moments: Floats, axis: Floats) -> Floats:
    """The solution m' of ``m' - m = (m + m') x a``: a rotation about a."""
    square = np.sum(axis * axis, axis=1, keepdims=True)
    along = np.sum(moments * axis, axis=1, keepdims=True)
    rotated: Floats = ((1.0 - square) * moments + 2.0 * along * axis + 2.0 * np.cross(moments, axis)) / (1.0 + square)
    return rotated
