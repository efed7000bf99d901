"""Trajectories: frames of one system at equal intervals, without jumps across the cell, and averages with errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import ase
import numpy as np
from ase import units

from carten.data.structures import is_crystal
from carten.errors import DataError
from carten.math.arrays import Array, Floats
from carten.math.lattice import complete_cell
from carten.text import html_table

BLOCKS = 5
"""Parts of a trajectory whose differences give the errors of averages."""


class Estimate(NamedTuple):
    """A mean and its standard error."""

    value: float
    error: float

    def __str__(self) -> str:
        return f"{self.value:.5g} ± {self.error:.1g}"


def estimate(values: Floats) -> Estimate:
    """Mean of a series and its standard error, from the means of consecutive blocks.

    Args:
        values: (T,), at least one for each block.

    Source: H. Flyvbjerg and H. G. Petersen, J. Chem. Phys. 91, 461 (1989).
    """
    means = np.array([block.mean() for block in np.array_split(values, BLOCKS)])
    return Estimate(float(values.mean()), float(means.std(ddof=1) / math.sqrt(BLOCKS)))


@dataclass(frozen=True)
class FrameSeries:
    """Frames of one system.

    Args:
        frames: T of them, with the same atoms.
        interval: between frames, fs; NaN where it is not known.
    """

    frames: Sequence[ase.Atoms]
    interval: float

    @classmethod
    def of(cls, frames: Sequence[ase.Atoms], timestep: float | None = None, skip: float = 0.0) -> FrameSeries:
        """A trajectory from frames.

        Args:
            frames: as ``carten md`` writes them, or any others of one system.
            timestep: between frames in fs; from their ``time_ps`` by default.
            skip: share of the frames at the beginning that is left out.

        Raises:
            DataError: the frames are not of one system, or there are fewer than ten.
            ValueError: ``skip`` is not within 0 and 1, or ``timestep`` not above 0.
        """
        if not 0.0 <= skip < 1.0:
            raise ValueError(f"skip: expected a share of the frames from 0 to below 1, found {skip:g}")
        if timestep is not None and not (math.isfinite(timestep) and timestep > 0.0):
            raise ValueError(f"timestep: expected fs above 0, found {timestep:g}")
        require_one_system(frames)
        for number, atoms in enumerate(frames):
            if (atoms.pbc != frames[0].pbc).any():
                raise DataError(f"frame {number} is periodic along {atoms.pbc}, the first along {frames[0].pbc}")
        used = frames[int(skip * len(frames)) :]
        if len(used) < 2 * BLOCKS:
            raise DataError(f"an analysis needs at least {2 * BLOCKS} frames, found {len(used)}: run longer dynamics")
        if timestep is None:
            try:
                timestep = frame_interval(used)
            except DataError:
                timestep = float("nan")  # an error where times are needed
        return cls(used, timestep)

    def _repr_html_(self) -> str:
        known = not math.isnan(self.interval)
        span = f"{(len(self.frames) - 1) * self.interval / 1000.0:g} ps" if known else "unknown"
        first = self.frames[0]
        rows = [
            ("structure", f"{first.get_chemical_formula()}, {len(first)} atoms"),
            ("frames", f"{len(self.frames):,}"),
            ("time", span),
            ("periodic", "in three directions" if self.has_cells else "no" if not first.pbc.any() else f"{first.pbc}"),
            ("velocities", "yes" if first.has("momenta") else "no"),
        ]
        return html_table(rows)

    @property
    def numbers(self) -> Array:
        """(N,) atomic numbers."""
        numbers: Array = self.frames[0].numbers
        return numbers

    @property
    def has_cells(self) -> bool:
        """Whether it is periodic in three directions."""
        return is_crystal(self.frames[0])

    @cached_property
    def volumes(self) -> Floats:
        """(T,) Å^3."""
        return np.array([atoms.cell.volume for atoms in self.frames])

    @property
    def fs(self) -> float:
        """Time between frames.

        Raises:
            DataError: the frames do not tell.
        """
        if math.isnan(self.interval):
            raise DataError("frames carry no time_ps at equal intervals: give the time between frames (--timestep)")
        return self.interval

    @cached_property
    def unwrapped(self) -> Floats:
        """(T, N, 3) Å: positions without jumps across the cell, about the centre of mass, in the mean cell."""
        pbc = self.frames[0].pbc
        cells = np.array([complete_cell(atoms.cell.array, pbc) for atoms in self.frames])
        fractional = np.array([atoms.positions for atoms in self.frames]) @ np.linalg.inv(cells)
        steps = np.diff(fractional, axis=0)
        steps -= np.where(pbc, np.round(steps), 0.0)
        path = np.concatenate([fractional[:1], fractional[0] + np.cumsum(steps, axis=0)]) @ cells.mean(axis=0)
        masses = self.frames[0].get_masses()
        positions: Floats = path - np.einsum("n,tnx->tx", masses / masses.sum(), path)[:, None]
        return positions

    @cached_property
    def velocities(self) -> Floats:
        """(T, N, 3) in ASE's units.

        Raises:
            DataError: a frame has none.
        """
        if not all(atoms.has("momenta") for atoms in self.frames):
            raise DataError("frames carry no momenta (velocities): write them, as carten md does")
        return np.array([atoms.get_velocities() for atoms in self.frames])


def require_one_system(frames: Sequence[ase.Atoms]) -> None:
    """Check that frames have the same atoms in the same order.

    Raises:
        DataError: one has others.
    """
    for number, atoms in enumerate(frames):
        if not np.array_equal(atoms.numbers, frames[0].numbers):
            raise DataError(
                f"frame {number} has other atoms ({atoms.get_chemical_formula()}) than the first "
                f"({frames[0].get_chemical_formula()}): expected the frames of one run of carten "
                "md, or of another program"
            )


def frame_interval(frames: Sequence[ase.Atoms]) -> float:
    """Fs between frames, from their ``time_ps``.

    Raises:
        DataError: they have none, or not at equal intervals.
    """
    times = np.array([_number(atoms.info.get("time_ps")) for atoms in frames], dtype=np.float64)
    steps = 1000.0 * np.diff(times)
    if not len(steps) or not np.isfinite(steps).all() or np.ptp(steps) > 1e-3 * abs(steps.mean()) or steps.mean() <= 0:
        raise DataError("frames carry no time_ps at equal intervals: give the time between frames (--timestep)")
    return float(steps.mean())


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float | np.number) else float("nan")


def kinetic_temperature(frames: Sequence[ase.Atoms]) -> float:
    """Mean temperature in K; without constraints, three degrees of freedom are those of the centre of mass.

    Raises:
        DataError: frames carry no momenta, or have a single atom.
    """
    kinetic = float(np.mean([atoms.get_kinetic_energy() for atoms in frames]))
    if not (math.isfinite(kinetic) and kinetic > 0.0):
        raise DataError("frames carry no momenta: give the temperature (--temperature)")
    freedom = frames[0].get_number_of_degrees_of_freedom() if frames[0].constraints else 3 * len(frames[0]) - 3
    if freedom < 1:
        raise DataError("a single atom has no temperature beside the motion of the centre of mass")
    return 2.0 * kinetic / (freedom * units.kB)
