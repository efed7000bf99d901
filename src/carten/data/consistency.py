"""Do labels agree with the slopes of other labels? Energies with forces, dipoles with Born charges, and so on.

Every route of the property table that is a derivative with respect to positions says what to compare: along a small
displacement u between two frames of the same atoms, ``f(b) - f(a) = sum_i (df/dr_i) . u_i`` with the slope averaged
over the two (trapezoidal rule, error of third order in u).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from carten.data.labels import Frame
from carten.errors import ConfigError
from carten.math.lattice import nearest
from carten.properties.spec import Derivative, Property
from carten.units import conversion

Array = npt.NDArray[Any]

_FAR = 0.5  # Å, largest displacement of an atom along one axis
_NEAR = 1e-3  # Å, smallest displacement that tells something
_PAIRS = 5
_NEXT = 5  # frames each one is compared with


@dataclass(frozen=True)
class Agreement:
    """How well a label is the slope of another.

    Args:
        slope: the property that is a derivative.
        of: the property it is the derivative of.
        pairs: of frames that are close enough.
        ratio: ``sum change * predicted / sum predicted^2``: near 1 for labels that agree, -1 for the opposite sign,
            other values for another unit.
        correlation: between changes and what the slopes predict; near 1 unless something is wrong.
        needed: correlation below which nothing is said.
        among: what was compared.
    """

    slope: str
    of: str
    pairs: int
    ratio: float
    correlation: float
    needed: float = 0.9
    among: str = "pairs of close frames"

    @property
    def verdict(self) -> str:
        """In words."""
        if abs(self.correlation) < self.needed:
            return "undecided"
        sign = ["opposite sign"] if self.ratio < 0.0 else []
        unit = [] if 0.75 < abs(self.ratio) < 1.33 else ["other unit"]
        return " and ".join(sign + unit) or "as expected"


def agreements(frames: Sequence[Frame], rows: Mapping[str, Property]) -> tuple[Agreement, ...]:
    """Every comparison that the labels allow.

    Args:
        frames: with labels; pairs of the same atoms and cell with displacements up to 0.5 Å are compared.
        rows: the labelled properties.
    """
    pairs = list(_pairs(frames))
    found = [_compare(row, of, sign, pairs, rows) for row in rows.values() for of, sign in _slopes(row, rows)]
    return tuple(agreement for agreement in found if agreement is not None)


def _slopes(row: Property, rows: Mapping[str, Property]) -> Iterator[tuple[str, float]]:
    """What a row is a slope of among the labelled rows, with the sign and the factor of units."""
    for route in row.routes:
        if not isinstance(route, Derivative) or route.per_volume or "positions" not in route.wrt:
            continue
        rest = list(route.wrt)
        rest.remove("positions")
        for other in rows.values():
            for lower in other.routes:
                same = isinstance(lower, Derivative) and (lower.of, sorted(lower.wrt)) == (route.of, sorted(rest))
                plain = other.name == route.of and not rest
                if row.scope == "atom" and other.scope == "structure" and (same or plain):
                    sign = route.sign * (lower.sign if isinstance(lower, Derivative) and same else 1)
                    factor = _factor(row.unit, other.unit)
                    if factor is not None:
                        yield other.name, sign * factor
                    break


def _factor(slope: str, of: str) -> float | None:
    try:
        return conversion(f"({slope})*Angstrom" if slope else "Angstrom", of)
    except ConfigError:
        return None


def _pairs(frames: Sequence[Frame]) -> Iterator[tuple[Frame, Frame, Array]]:
    """Close frames of the same atoms in the same cell under the same conditions, and the displacements."""
    groups: dict[bytes, list[Frame]] = defaultdict(list)
    for frame in frames:
        told = b"".join(value.tobytes() for value in frame.inputs.values())
        groups[frame.numbers.tobytes() + frame.cell.tobytes() + frame.pbc.tobytes() + told].append(frame)
    for group in groups.values():
        for step in range(1, _NEXT + 1):
            for one, other in zip(group[:-step], group[step:], strict=True):
                moved = _displacements(one, other)
                if _NEAR < np.abs(moved).max() < _FAR:
                    yield one, other, moved


def _displacements(one: Frame, other: Frame) -> Array:
    return nearest(other.positions - one.positions, one.cell[one.pbc])


def _compare(
    row: Property, of: str, factor: float, pairs: Sequence[tuple[Frame, Frame, Array]], rows: Mapping[str, Property]
) -> Agreement | None:
    changes, predicted = [], []
    for one, other, moved in pairs:
        if all(name in frame.labels for frame in (one, other) for name in (row.name, of)):
            slope = 0.5 * (one.labels[row.name] + other.labels[row.name])
            predicted.append(factor * np.einsum("i...x,ix->...", slope, moved).ravel())
            change = np.ravel(other.labels[of] - one.labels[of])
            changes.append(folded(change, one) if rows[of].modulo else change)
    if len(changes) < _PAIRS:
        return None
    x, y = np.concatenate(predicted), np.concatenate(changes)
    square = float(x @ x)
    if square == 0.0 or not y.any():
        return None
    return Agreement(row.name, of, len(changes), float(x @ y) / square, float(x @ y) / float(np.sqrt(square * (y @ y))))


def folded(change: Array, frame: Frame) -> Array:
    """A dipole of a cell, or its change, e Å, up to e times lattice vectors: the branch nearest to zero."""
    return nearest(change, frame.cell[frame.pbc])
