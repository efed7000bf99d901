"""Do stress labels have ASE's sign and unit? Decided from the labels themselves, or said to be undecidable."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.stats import spearmanr

from carten.data.labels import Frame
from carten.math.arrays import Array

Verdict = Literal["as expected", "opposite sign", "other unit", "undecided"]

_NEAREST = 5  # frames of similar volume each frame is compared with
_STRAIN = (1e-3, 0.1)  # of a pair: the largest component lies in between
_SHIFT = 0.02  # Å, largest rms displacement beyond the strain
_WORK = 1e-4  # eV, smallest work that tells something
_ALIGNED = 0.3  # smallest cosine between stress and strain: otherwise contributions cancel
_PAIRS = 5
_UNITS = {"GPa": 1 / 160.21766, "kbar": 1 / 1602.1766, "Hartree/Bohr^3": 183.6315}


@dataclass(frozen=True)
class StressCheck:
    """What the labels say about the convention of the stress.

    Args:
        verdict: ``as expected`` (ASE: stress = (1/V) dE/d strain in eV/Å^3, positive under tension), or what is wrong.
        reason: what was compared, in words.
        pairs: pairs of related frames compared; 0 when there are too few.
        ratio: median of energy difference over work of the stress; 1 for a correct label.
    """

    verdict: Verdict
    reason: str
    pairs: int = 0
    ratio: float | None = None


def check_stress(frames: Sequence[Frame]) -> StressCheck:
    """Check sign and unit of the stress labels.

    1. *Work.* Pairs of frames of the same atoms that differ by a small strain e and very small displacements u have
       ``E_b - E_a = V s:e - sum_i F_i u_i`` with V, s and F averaged over the two (trapezoidal rule). The median of
       ``(E_b - E_a + sum F u) / (V s:e)`` is 1; -1 means the opposite sign, other values another unit.
    2. Without such pairs, *compression.* Among frames of one composition, the pressure ``-tr s / 3`` falls with the
       volume per atom (a positive bulk modulus). This tests the sign only, and only if the rank correlation is clear.

    Args:
        frames: with ``stress`` (3, 3) in eV/Å^3, ``energy`` in eV and ``forces`` in eV/Å; those without are ignored.
    """
    used = [frame for frame in frames if "stress" in frame.labels and frame.pbc.all() and _volume(frame) > 0.0]
    ratios = [ratio for a, b in _pairs(used) if (ratio := _ratio(a, b)) is not None]
    return _from_ratios(np.array(ratios)) if len(ratios) >= _PAIRS else _from_compression(used)


def _pairs(frames: Sequence[Frame]) -> Iterator[tuple[Frame, Frame]]:
    """Frames of the same atoms in the same order, each with the next larger ones."""
    groups: dict[bytes, list[Frame]] = defaultdict(list)
    for frame in frames:
        if "energy" in frame.labels:
            groups[frame.numbers.tobytes()].append(frame)
    for group in groups.values():
        ascending = sorted(group, key=_volume)
        for step in range(1, _NEAREST + 1):
            yield from zip(ascending[:-step], ascending[step:], strict=True)


def _volume(frame: Frame) -> float:
    return float(abs(np.linalg.det(frame.cell)))


def _ratio(a: Frame, b: Frame) -> float | None:
    """Energy difference over work of the stress; ``None`` for frames that are not related by a small strain."""
    strain = _strain(a, b)
    if strain is None:
        return None
    fractional = b.positions @ np.linalg.inv(b.cell) - a.positions @ np.linalg.inv(a.cell)
    fractional -= np.round(fractional)
    shift = (fractional - fractional.mean(axis=0)) @ (0.5 * (a.cell + b.cell))
    forces = [frame.labels["forces"] for frame in (a, b) if "forces" in frame.labels]
    distance = float(np.sqrt(np.mean(np.sum(shift**2, axis=1))))
    if distance > _SHIFT or (distance > 1e-4 and len(forces) < 2):
        return None
    by_forces = sum(0.5 * float(np.sum(force * shift)) for force in forces)
    stress, volume = 0.5 * (a.labels["stress"] + b.labels["stress"]), 0.5 * (_volume(a) + _volume(b))
    work = volume * float(np.sum(stress * strain))
    largest = volume * float(np.linalg.norm(stress) * np.linalg.norm(strain))
    if abs(work) < max(_WORK, _ALIGNED * largest):
        return None
    return (float(b.labels["energy"] - a.labels["energy"]) + by_forces) / work


def _strain(a: Frame, b: Frame) -> Array | None:
    """Symmetric strain from a to b about their midpoint, if it is small."""
    deformation = np.linalg.solve(a.cell, b.cell)  # cell_b = cell_a @ deformation
    sum_of_both = deformation + np.eye(3)
    if np.abs(deformation - np.eye(3)).max() > _STRAIN[1]:
        return None
    gradient = 2.0 * (deformation - np.eye(3)) @ np.linalg.inv(sum_of_both)
    strain: Array = 0.5 * (gradient + gradient.T)
    return strain if np.abs(strain).max() > _STRAIN[0] else None


def _from_ratios(ratios: Array) -> StressCheck:
    low, ratio, high = (float(value) for value in np.percentile(ratios, (25, 50, 75)))
    comparison = (
        f"energy difference over V stress:strain in {len(ratios)} pairs of strained frames: median {ratio:.3g}, "
        f"quartiles {low:.3g} and {high:.3g} (expected 1)"
    )
    if low * high <= 0.0 or max(abs(low), abs(high)) > 3.0 * min(abs(low), abs(high)):
        return StressCheck("undecided", f"{comparison}; no clear relation", len(ratios), ratio)
    if 0.8 < abs(ratio) < 1.25:
        return StressCheck("as expected" if ratio > 0 else "opposite sign", comparison, len(ratios), ratio)
    near = [unit for unit, factor in _UNITS.items() if 0.8 < abs(ratio) / factor < 1.25]
    guess = f"; the label is probably in {near[0]}" if near else "; the unit of the label is not the one given"
    return StressCheck("other unit", comparison + guess + (" and of opposite sign" * (ratio < 0)), len(ratios), ratio)


def _from_compression(frames: Sequence[Frame]) -> StressCheck:
    groups: dict[bytes, list[tuple[float, float]]] = defaultdict(list)
    for frame in frames:
        numbers, counts = np.unique(frame.numbers, return_counts=True)
        composition = np.stack([numbers, np.round(1e6 * counts / len(frame)).astype(int)])
        pressure = -float(np.trace(frame.labels["stress"])) / 3.0
        groups[composition.tobytes()].append((_volume(frame) / len(frame), pressure))
    volumes, pressures = np.array(max(groups.values(), key=len, default=[(1.0, 0.0)])).T
    undecided = f"fewer than {_PAIRS} pairs of related frames with energies; {len(volumes)} frames of one composition"
    if len(volumes) < 10:
        return StressCheck("undecided", f"{undecided} are too few to see pressure fall with volume")
    if np.ptp(volumes) < 0.03 * volumes.mean():
        return StressCheck("undecided", f"{undecided} have volumes within 3 %, too close to see a trend")
    correlation = float(spearmanr(volumes, pressures).statistic)
    comparison = (
        f"rank correlation of pressure with volume per atom over {len(volumes)} frames of one composition: "
        f"{correlation:.2f} (expected clearly negative; this tests the sign, not the unit)"
    )
    if not abs(correlation) > 0.6:
        return StressCheck("undecided", f"{comparison}; no clear relation")
    return StressCheck("as expected" if correlation < 0 else "opposite sign", comparison)
