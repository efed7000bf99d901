"""Two atoms alone: energy and force over the distance, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.data import atomic_numbers, covalent_radii
from scipy.signal import find_peaks

from carten.math.arrays import Floats
from carten.workflows.criteria import Check, judged, skipped
from carten.workflows.points import single_points

STEP = 0.02  # Å
SHORTEST, WALL = 0.3, 0.55
"""Of the sum of covalent radii: where curves begin, and below which no pair attracts."""
LONGEST = 12.0
"""Å; end of the curves of calculators that do not say their cutoff."""
FAR = 50.0  # Å
TINY = 1e-9  # eV and eV/Å
MAX_PAIRS = 55


@dataclass(frozen=True)
class DimerCurve:
    """Of two atoms.

    Args:
        pair: symbols.
        distances: (n,) Å.
        energies: (n,) relative to atoms far apart, eV.
        forces: (n,) along the bond, eV/Å; positive where atoms repel.
    """

    pair: tuple[str, str]
    distances: Floats
    energies: Floats
    forces: Floats

    @property
    def name(self) -> str:
        return "–".join(self.pair)

    @property
    def radii(self) -> float:
        """Sum of the covalent radii, Å."""
        return sum(float(covalent_radii[atomic_numbers[symbol]]) for symbol in self.pair)


def pairs_of(symbols: Sequence[str]) -> list[tuple[str, str]]:
    """All pairs of elements; where there are more than :data:`MAX_PAIRS`, those of equal atoms."""
    pairs = list(combinations_with_replacement(sorted(set(symbols)), 2))
    return pairs if len(pairs) <= MAX_PAIRS else [(symbol, symbol) for symbol in sorted(set(symbols))]


def dimer_curve(pair: tuple[str, str], calculator: BaseCalculator) -> DimerCurve:
    """Energy and force of two atoms, from :data:`SHORTEST` to a little beyond the cutoff."""
    curve = DimerCurve(pair, *(np.empty(0) for _ in range(3)))
    end = float(getattr(calculator, "cutoff", LONGEST - 0.5)) + 0.5
    return _at(curve, np.arange(SHORTEST * curve.radii, end, STEP), calculator)


def dimer_checks(curve: DimerCurve, calculator: BaseCalculator) -> list[Check]:
    """What is wrong with a curve."""
    checks = [judged("wall", curve.name, *_collapse(curve)), judged("wells", curve.name, *_wells(curve))]
    checks.append(judged("smooth", curve.name, *_jump(curve, calculator)))
    acting = np.flatnonzero((np.abs(curve.energies) > TINY) | (np.abs(curve.forces) > TINY))
    last = int(acting[-1]) if len(acting) else -1
    if last < 0 or last == len(curve.distances) - 1:
        reason = "the atoms do not interact" if last < 0 else f"they interact beyond {curve.distances[-1]:.1f} Å"
        return checks + [skipped(key, curve.name, reason) for key in ("end_energy", "end_force")]
    place, energy, force = _end(curve, last, calculator)
    remark = f"interaction ends at {place:.2f} Å"
    ends = [judged("end_energy", curve.name, 1000.0 * abs(energy), remark)]
    return [*checks, *ends, judged("end_force", curve.name, 1000.0 * abs(force), remark)]


def _at(curve: DimerCurve, distances: Floats, calculator: BaseCalculator) -> DimerCurve:
    dimers = [ase.Atoms(list(curve.pair), [[0.0, 0.0, 0.0], [r, 0.0, 0.0]]) for r in (FAR, *distances)]
    far, *points = single_points(dimers, calculator)
    energies = np.array([atoms.get_potential_energy() for atoms in points]) - far.get_potential_energy()
    forces = np.array([atoms.get_forces()[1, 0] - atoms.get_forces()[0, 0] for atoms in points]) / 2.0
    return DimerCurve(curve.pair, np.asarray(distances), energies, forces)


def _collapse(curve: DimerCurve) -> tuple[float, str]:
    """Distance below which the atoms attract, in sums of covalent radii."""
    rises = np.diff(curve.energies) > TINY
    inside = np.flatnonzero(rises & (curve.distances[:-1] < WALL * curve.radii))
    if not len(inside):
        return SHORTEST, f"repulsive down to {curve.distances[0]:.2f} Å"
    k = int(inside[-1])
    while k < len(rises) and rises[k]:
        k += 1
    barrier = curve.energies[k] - min(0.0, curve.energies[k:].min())
    return curve.distances[k] / curve.radii, f"at {curve.distances[k]:.2f} Å, behind a barrier of {barrier:.1f} eV"


def _wells(curve: DimerCurve) -> tuple[float, str]:
    """Depth of the deepest minimum but one."""
    outside = curve.distances > WALL * curve.radii
    energies, distances = curve.energies[outside], curve.distances[outside]
    minima, facts = find_peaks(np.concatenate([-energies, [-np.inf]]), prominence=1e-3)
    if not len(minima):
        return 0.0, "no minimum"
    best = int(np.argmin(energies[minima]))
    remark = f"minimum {energies[minima[best]]:.2f} eV at {distances[minima[best]]:.2f} Å"
    if len(minima) == 1:
        return 0.0, remark
    depths = np.delete(facts["prominences"], best)
    places = np.delete(distances[minima], best)
    return float(depths.max()), f"{remark}; another at {places[depths.argmax()]:.2f} Å"


def _jump(curve: DimerCurve, calculator: BaseCalculator) -> tuple[float, str]:
    """Largest jump of the energy in meV: what is left of an interval's change beyond its forces as it gets smaller."""
    kept = curve.distances > WALL * curve.radii
    part = DimerCurve(curve.pair, *(x[kept] for x in (curve.distances, curve.energies, curve.forces)))
    residuals = _residuals(part)
    usual = np.array([np.median(residuals[max(0, k - 3) : k + 4]) for k in range(len(residuals))])
    k = int(np.argmax(residuals / (usual + 1e-7)))
    for _ in range(3):
        part = _at(curve, np.linspace(part.distances[k], part.distances[k + 1], 21), calculator)
        residuals = _residuals(part)
        k = int(np.argmax(residuals))
    return 1000.0 * float(residuals[k]), f"at {part.distances[k]:.2f} Å" if residuals[k] > 1e-5 else ""


def _residuals(curve: DimerCurve) -> Floats:
    changes = np.diff(curve.energies)
    works = [0.5 * (one + other) for one, other in pairwise(curve.forces)] * np.diff(curve.distances)
    residuals: Floats = np.abs(changes + works)
    return residuals


def _end(curve: DimerCurve, last: int, calculator: BaseCalculator) -> tuple[float, float, float]:
    """Distance where interaction ends; energy and force just inside of it."""
    low, high = curve.distances[last], curve.distances[last + 1]
    energy, force = curve.energies[last], curve.forces[last]
    for _ in range(4):
        points = _at(curve, np.linspace(low, high, 21), calculator)
        acting = np.flatnonzero((np.abs(points.energies) > TINY) | (np.abs(points.forces) > TINY))
        k = int(acting[-1]) if len(acting) else 0
        low, high = points.distances[k], points.distances[min(k + 1, 20)]
        energy, force = points.energies[k], points.forces[k]
    return float(low), float(energy), float(force)
