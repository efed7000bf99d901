"""Convex hull of energies over compositions of any number of elements."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import linprog

from carten.errors import ModelError
from carten.math.arrays import Floats

Composition = tuple[tuple[str, int], ...]
"""Elements in alphabetical order with the smallest whole numbers of atoms: ``(("Au", 1), ("Cu", 3))``."""

ROUND_OFF = 1e-9  # eV


def composition_of(symbols: Sequence[str]) -> Composition:
    """Of atoms."""
    counts = {symbol: list(symbols).count(symbol) for symbol in sorted(set(symbols))}
    divisor = math.gcd(*counts.values()) or 1
    return tuple((symbol, count // divisor) for symbol, count in counts.items())


def above_hull(phases: Sequence[tuple[Composition, float]], references: Mapping[str, float]) -> Floats:
    """How far each phase lies above the convex hull of all phases: what it gains by falling apart into others.

    For every composition the mixture of phases with the lowest energy is found by linear programming, which works for
    any number of elements.

    Args:
        phases: composition and energy in eV per atom; all finite.
        references: energies of elements, eV per atom, which take part as phases.

    Returns:
        (phases,) eV per atom; 0 on the hull.

    Source: A. R. Akbarzadeh, V. Ozolins and C. Wolverton, Adv. Mater. 19, 3233 (2007).
    """
    lowest = _lowest(phases, references)
    hull = {composition: _mixture(composition, lowest) for composition, _ in phases}
    distances = np.array([energy - hull[composition] for composition, energy in phases])
    return np.where(distances > ROUND_OFF, distances, 0.0)


def formation_energies(phases: Sequence[tuple[Composition, float]], references: Mapping[str, float]) -> Floats:
    """Energies relative to the elements, (phases,) eV per atom; NaN where an element has no reference.

    They are the corners of the hull: the lowest energies of elements, of phases and of ``references``.
    """
    lowest = _lowest(phases, references)
    elements = {composition[0][0]: energy for composition, energy in lowest.items() if len(composition) == 1}
    values = []
    for composition, energy in phases:
        total = sum(count for _, count in composition)
        values.append(energy - sum(count / total * elements.get(symbol, np.nan) for symbol, count in composition))
    return np.array(values)


def _lowest(phases: Sequence[tuple[Composition, float]], references: Mapping[str, float]) -> dict[Composition, float]:
    """The lowest energy of each composition, elements that are given among them."""
    lowest: dict[Composition, float] = {}
    for composition, energy in (*phases, *((((symbol, 1),), value) for symbol, value in references.items())):
        lowest[composition] = min(energy, lowest.get(composition, np.inf))
    return lowest


def _mixture(composition: Composition, lowest: Mapping[Composition, float]) -> float:
    """Lowest energy of a composition that phases can reach together, eV per atom."""
    symbols = [symbol for symbol, _ in composition]
    rivals = [other for other in lowest if all(symbol in symbols for symbol, _ in other)]
    if len(rivals) == 1:
        return lowest[composition]
    shares = np.stack([_shares(other, symbols) for other in rivals], axis=1)
    energies = np.array([lowest[other] for other in rivals])
    solution = linprog(energies - energies.mean(), A_eq=shares, b_eq=_shares(composition, symbols), method="highs")
    if not solution.success:
        raise ModelError(f"the convex hull could not be found at {composition}: {solution.message}")
    return float(energies @ solution.x)


def _shares(composition: Composition, symbols: Sequence[str]) -> Floats:
    counts = dict(composition)
    shares: Floats = np.array([counts.get(symbol, 0) for symbol in symbols]) / sum(counts.values())
    return shares
