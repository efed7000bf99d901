"""Do labels agree with the slopes of other labels? Energies with forces, dipoles with Born charges, and so on.

Every route of the property table that is a derivative with respect to positions or an input says what to compare: along
a small change u of all variables between two frames of the same atoms ``f(b) - f(a) = sum_v (df/dv) . u_v``, with the
slopes averaged over the two (trapezoidal rule, error of third order in u).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from carten.data.labels import Frame
from carten.errors import ConfigError
from carten.math.arrays import Array
from carten.math.lattice import nearest_images
from carten.properties.recipes import POSITIONS, Variable, variables
from carten.properties.routes import Derivative, Property
from carten.properties.spec import input_table
from carten.units import conversion

_FAR = 0.5  # Å, largest displacement of an atom along one axis; of inputs, in units of their scale
_NEAR = 1e-3  # Å, smallest displacement that tells something
_PAIRS = 5
_NEXT = 5  # frames each one is compared with
_SCALES = {POSITIONS.name: 1.0, **{row.name: row.scale for row in input_table().values()}}


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


@dataclass(frozen=True)
class _Slope:
    """A labelled row that is the derivative of another with respect to one variable.

    Args:
        row: the row.
        of: the other one.
        variable: with respect to this.
        first: the first of the component axes that are the variable's.
        factor: sign and units.
    """

    row: Property
    of: str
    variable: Variable
    first: int
    factor: float

    def predict(self, slope: Array, moved: Array) -> Array:
        """The change of the other one."""
        lead = {"structure": 0, "atom": 1, "pair": 2}[self.row.scope]
        if lead == 2:
            slope = slope.reshape(len(moved), len(moved), *slope.shape[1:])
        axes = [lead + self.first + k for k in range(self.variable.rank)]
        of_atoms = [lead - 1] if self.variable.scope == "atom" else []
        change: Array = self.factor * np.tensordot(slope, moved, axes=([*of_atoms, *axes], list(range(moved.ndim))))
        return change.ravel()


def agreements(frames: Sequence[Frame], rows: Mapping[str, Property]) -> tuple[Agreement, ...]:
    """Every comparison that the labels allow.

    Args:
        frames: with labels; pairs of the same atoms and cell with displacements up to 0.5 Å are compared, and where
            inputs differ that are labelled with a slope too.
        rows: the labelled properties.
    """
    variable_table = variables(input_table().values())
    pairs = list(_pairs(frames, variable_table))
    every = [slope for row in rows.values() for slope in _slopes(row, rows, variable_table)]
    slopes = {(slope.row.name, slope.of, slope.variable.name): slope for slope in every}
    compared = []
    for slope in slopes.values():
        others = {s.variable.name: s for s in slopes.values() if s.of == slope.of and s.variable != slope.variable}
        compared.append(_compare([slope, *others.values()], rows[slope.of], pairs))
    return tuple(agreement for agreement in compared if agreement is not None)


def _slopes(row: Property, rows: Mapping[str, Property], variable_table: Mapping[str, Variable]) -> Iterator[_Slope]:
    """What a row is a slope of among the labelled rows."""
    for route in row.routes:
        if not isinstance(route, Derivative) or route.per_volume:
            continue
        ranks = [variable_table[name].rank for name in route.wrt if name in variable_table]
        for k, name in enumerate(route.wrt):
            if name == "strain" or len(ranks) < len(route.wrt) or (row.scope == "pair" and k < len(ranks) - 1):
                continue
            rest = route.wrt[:k] + route.wrt[k + 1 :]
            for other in rows.values():
                sign = _sign(other, route.of, rest)
                factor = None if sign is None else _factor(row.unit, variable_table[name].unit, other.unit)
                if sign is not None and factor is not None:
                    first = row.rank - sum(ranks[k:])
                    yield _Slope(row, other.name, variable_table[name], first, route.sign * sign * factor)


def _sign(row: Property, of: str, wrt: tuple[str, ...]) -> int | None:
    """Sign with which a row is the derivative, if it is: ``of`` itself where there are no variables."""
    if row.name == of and not wrt:
        return 1
    for route in row.routes:
        if isinstance(route, Derivative) and not route.per_volume and (route.of, route.wrt) == (of, wrt):
            return route.sign
    return None


def _factor(slope: str, variable: str, of: str) -> float | None:
    try:
        return conversion("*".join(f"({unit})" for unit in (slope, variable) if unit), of)
    except ConfigError:
        return None


_Pair = tuple[Frame, Frame, Mapping[str, Array]]


def _pairs(frames: Sequence[Frame], variable_table: Mapping[str, Variable]) -> Iterator[_Pair]:
    """Close frames of the same atoms in the same cell, and what has changed between them."""
    groups: dict[bytes, list[Frame]] = defaultdict(list)
    for frame in frames:
        kinds = [name.encode() + value.tobytes() * (name not in variable_table) for name, value in frame.inputs.items()]
        parts = (frame.numbers.tobytes(), frame.cell.tobytes(), frame.pbc.tobytes(), *kinds)
        groups[b"".join(parts)].append(frame)
    for group in groups.values():
        for step in range(1, _NEXT + 1):
            for one, other in zip(group[:-step], group[step:], strict=True):
                moved = _moved(one, other, variable_table)
                sizes = {name: np.abs(change).max() / _SCALES.get(name, 1.0) for name, change in moved.items()}
                if max(sizes.values()) < _FAR:
                    changed = {name: moved[name] for name, size in sizes.items() if size > _NEAR}
                    if changed:
                        yield one, other, changed


def _moved(one: Frame, other: Frame, variable_table: Mapping[str, Variable]) -> dict[str, Array]:
    """Changes of positions and of inputs, by name, each in the shape of one structure."""
    moved = {POSITIONS.name: nearest_images(other.positions - one.positions, one.cell[one.pbc])}
    for name in one.inputs:
        if name in variable_table:
            change = other.inputs[name] - one.inputs[name]
            moved[name] = change if variable_table[name].scope == "atom" else change[0]
    return moved


def _compare(slopes: Sequence[_Slope], of: Property, pairs: Sequence[_Pair]) -> Agreement | None:
    """The first slope, where its variable changes; what the others predict is left out, in the shares that fit best."""
    changes, columns = [], []
    for one, other, moved in pairs:
        used = [slope for slope in slopes if slope.variable.name in moved]
        names = [of.name, *(slope.row.name for slope in used)]
        carried = all(name in frame.labels for frame in (one, other) for name in names)
        if slopes[0] not in used or len(used) < len(moved) or not carried:
            continue
        change = np.ravel(other.labels[of.name] - one.labels[of.name])
        changes.append(folded(change, one) if of.modulo else change)
        columns.append(np.zeros((len(change), len(slopes))))
        for slope in used:
            mean = 0.5 * (one.labels[slope.row.name] + other.labels[slope.row.name])
            columns[-1][:, slopes.index(slope)] = slope.predict(mean, moved[slope.variable.name])
    if len(changes) < _PAIRS:
        return None
    y, x = np.concatenate(changes), np.concatenate(columns)
    y = y - x[:, 1:] @ np.linalg.lstsq(x, y, rcond=None)[0][1:]
    along, square = float(x[:, 0] @ y), float(x[:, 0] @ x[:, 0])
    if square == 0.0 or not y.any():
        return None
    correlation = along / float(np.sqrt(square * (y @ y)))
    return Agreement(slopes[0].row.name, of.name, len(changes), along / square, correlation)


def folded(change: Array, frame: Frame) -> Array:
    """A dipole of a cell, or its change, e Å, up to e times lattice vectors: the branch nearest to zero."""
    return nearest_images(change, frame.cell[frame.pbc])
