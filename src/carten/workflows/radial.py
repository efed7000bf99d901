"""Structure of liquids and solids: radial distributions, coordination numbers, angles between bonds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import ClassVar

import ase
import numpy as np
from ase.data import chemical_symbols
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks

from carten.errors import DataError
from carten.math.arrays import Array, Floats
from carten.workflows.bonds import bonded_pairs, neighbour_vectors
from carten.workflows.results import JobResult, Quantity
from carten.workflows.trajectory import FrameSeries

SMOOTHING = 0.05
"""Å, width of the Gaussian with which peaks and minima are looked for."""


@dataclass(frozen=True)
class RadialDistribution(JobResult):
    """Radial distribution functions of all pairs of elements.

    Args:
        distances: (n,) middles of the bins, Å.
        distributions: (n,) by pair, as ``O-H``: density of the second element around the first over its mean.
        coordination: (n,) by pair: atoms of the second element within the end of the bin.
    """

    job: ClassVar[str] = "rdf"
    distances: Floats
    distributions: Mapping[str, Floats]
    coordination: Mapping[str, Floats]

    def quantities(self) -> list[Quantity]:
        numbers = []
        for pair, values in self.distributions.items():
            peak, minimum = self._extrema(values)
            if peak is None:
                continue
            numbers.append(Quantity(f"{pair} first peak", float(self.distances[peak]), "Å"))
            if minimum is not None:
                numbers.append(Quantity(f"{pair} first minimum", float(self.distances[minimum]), "Å"))
                numbers.append(Quantity(f"{pair} coordination number", float(self.coordination[pair][minimum])))
        return numbers

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        columns = {f"g {pair}": values for pair, values in self.distributions.items()}
        columns |= {f"n {pair}": values for pair, values in self.coordination.items()}
        return {"distances": {"distance_A": self.distances, **columns}}

    def draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        for pair, values in self.distributions.items():
            axes.plot(self.distances, values, linewidth=1.2, label=pair)
        axes.set(xlabel="distance (Å)", ylabel="radial distribution", ylim=(0.0, None))
        axes.legend(fontsize=8.0)

    def _extrema(self, values: Floats) -> tuple[int | None, int | None]:
        """Bins of the first peak above 1, and of the first minimum behind it."""
        smooth = gaussian_filter1d(values, SMOOTHING / (self.distances[1] - self.distances[0]))
        peaks = find_peaks(smooth, height=1.0, prominence=0.1)[0]
        if not len(peaks):
            return None, None
        minima = find_peaks(-smooth)[0]
        behind = minima[minima > peaks[0]]
        return int(peaks[0]), int(behind[0]) if len(behind) else None


@dataclass(frozen=True)
class Angles(JobResult):
    """Distributions of angles between bonds, by elements with the centre in the middle, as ``H-O-H``.

    Args:
        angles: (n,) middles of the bins, degrees.
        distributions: (n,) by triple, per degree: their sums times the width of a bin are 1.
        counts: angles per frame by triple.
    """

    job: ClassVar[str] = "angles"
    angles: Floats
    distributions: Mapping[str, Floats]
    counts: Mapping[str, float]

    def quantities(self) -> list[Quantity]:
        width = self.angles[1] - self.angles[0]
        numbers = []
        for triple, values in self.distributions.items():
            mean = float((values * self.angles).sum() * width)
            spread = float(np.sqrt((values * (self.angles - mean) ** 2).sum() * width))
            numbers.append(Quantity(f"{triple} mean", mean, "degrees"))
            numbers.append(Quantity(f"{triple} standard deviation", spread, "degrees"))
            numbers.append(Quantity(f"{triple} number per frame", self.counts[triple]))
        return numbers

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        return {"angles": {"angle_degrees": self.angles, **self.distributions}}

    def draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        for triple, values in self.distributions.items():
            axes.plot(self.angles, values, linewidth=1.2, label=triple)
        axes.set(xlabel="angle (degrees)", ylabel="distribution (1/degree)", ylim=(0.0, None))
        axes.legend(fontsize=8.0)


def radial_distribution(
    trajectory: FrameSeries, cutoff: float | None = None, width: float = 0.02
) -> RadialDistribution:
    """Radial distributions of a system that is periodic in three directions.

    ``g(r) = V n(r) / (4 pi r^2 dr N_a N_b)`` with n(r) pairs of atoms, images included, between r and r + dr.

    Args:
        trajectory: its frames.
        cutoff: largest distance in Å; half of the smallest height of the cells by default.
        width: of the bins, Å.

    Raises:
        DataError: the system has no cell.
        ValueError: the cutoff is not above the width of a bin, or that not above 0.
    """
    if not trajectory.has_cells:
        raise DataError("a radial distribution needs a density: frames that are periodic in three directions")
    cutoff = 0.5 * min(_smallest_height(atoms) for atoms in trajectory.frames) if cutoff is None else cutoff
    if not 0.0 < width < cutoff:
        raise ValueError(f"expected a cutoff above the width of a bin above 0, found {cutoff:g} Å and {width:g} Å")
    edges = np.arange(0.0, cutoff + 0.5 * width, width)
    shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
    numbers, kinds = trajectory.numbers, sorted(set(trajectory.numbers.tolist()))
    pairs = list(combinations_with_replacement(kinds, 2))
    counts = {pair: np.zeros(len(shells)) for pair in pairs}
    densities = dict.fromkeys(pairs, 0.0)
    for atoms in trajectory.frames:
        first, second, vectors = neighbour_vectors(atoms, edges[-1])
        lengths = np.linalg.norm(vectors, axis=1)
        for a, b in pairs:
            of_pair = (numbers[first] == a) & (numbers[second] == b)
            counts[a, b] += np.histogram(lengths[of_pair], edges)[0]
            others = np.count_nonzero(numbers == b) - (a == b)
            densities[a, b] += np.count_nonzero(numbers == a) * others / atoms.cell.volume
    names = {pair: "-".join(chemical_symbols[z] for z in pair) for pair in pairs}
    per_atom = {
        names[a, b]: counts[a, b] / np.count_nonzero(numbers == a) / len(trajectory.frames) for a, b in pairs
    }
    return RadialDistribution(
        0.5 * (edges[1:] + edges[:-1]),
        {names[pair]: counts[pair] / shells / densities[pair] for pair in pairs if densities[pair] > 0.0},
        {name: np.cumsum(values) for name, values in per_atom.items()},
    )


def bond_angles(trajectory: FrameSeries, width: float = 1.0) -> Angles:
    """Angles between the bonds of each atom, see :func:`carten.workflows.bonds.bonded_pairs`.

    Args:
        trajectory: its frames.
        width: of the bins, degrees.

    Raises:
        DataError: no atom has two bonds.
    """
    edges = np.linspace(0.0, 180.0, max(2, round(180.0 / width)) + 1)
    numbers = trajectory.numbers
    counts: dict[tuple[int, int, int], Floats] = {}
    for atoms in trajectory.frames:
        for triple, angles in _angles(atoms, numbers):
            counts[triple] = counts.get(triple, np.zeros(len(edges) - 1)) + np.histogram(angles, edges)[0]
    if not counts:
        raise DataError("no atom has two bonds: there are no angles")
    names = {triple: "-".join(chemical_symbols[z] for z in triple) for triple in sorted(counts)}
    return Angles(
        0.5 * (edges[1:] + edges[:-1]),
        {name: counts[triple] / counts[triple].sum() / (edges[1] - edges[0]) for triple, name in names.items()},
        {name: float(counts[triple].sum()) / len(trajectory.frames) for triple, name in names.items()},
    )


def _angles(atoms: ase.Atoms, numbers: Array) -> Iterator[tuple[tuple[int, int, int], Floats]]:
    """Triples of elements with the centre in the middle, and their angles in degrees."""
    centre, neighbour, vectors = bonded_pairs(atoms)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    degree = np.bincount(centre, minlength=len(atoms))
    starts = np.cumsum(degree) - degree
    first = np.repeat(np.arange(len(centre)), degree[centre])  # every bond with every bond of the same atom
    place = np.arange(len(first)) - np.repeat(np.cumsum(degree[centre]) - degree[centre], degree[centre])
    second = starts[centre[first]] + place
    once = first < second
    first, second = first[once], second[once]
    cosines = np.clip((units[first] * units[second]).sum(1), -1.0, 1.0)
    ends = np.sort(np.stack([numbers[neighbour[first]], numbers[neighbour[second]]]), axis=0)
    triples = np.stack([ends[0], numbers[centre[first]], ends[1]], axis=1)
    for triple in np.unique(triples, axis=0):
        a, b, c = map(int, triple)
        yield (a, b, c), np.degrees(np.arccos(cosines[(triples == triple).all(axis=1)]))


def _smallest_height(atoms: ase.Atoms) -> float:
    return float(1.0 / np.linalg.norm(np.linalg.inv(atoms.cell.array), axis=0).max())
