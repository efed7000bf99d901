"""Derivatives by name: with respect to what, in which order, and what then remains to be done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from carten.errors import ConfigError, ModelError
from carten.math.symmetry import Permutation, Symmetry, parse_indices
from carten.model.conditions import Category, Coupled, Input, Scope, rank_of
from carten.properties.routes import Derivative, Property
from carten.units import conversion

PropertyRows = Mapping[str, Property]


@dataclass(frozen=True)
class Variable:
    """A variable to differentiate with respect to."""

    name: str
    scope: Scope
    indices: str
    parity: int
    unit: str

    @property
    def rank(self) -> int:
        """Number of Cartesian indices."""
        return rank_of(self.indices)


POSITIONS = Variable("positions", "atom", "i", -1, "Angstrom")
STRAIN = Variable("strain", "structure", "ij=ji", +1, "")


def variables(inputs: Iterable[Input]) -> dict[str, Variable]:
    """Positions, strain and every input of the network, but categories, by name."""
    embedded = [row for row in inputs if not isinstance(row.embed, Category | Coupled)]
    return {
        "positions": POSITIONS,
        "strain": STRAIN,
        **{row.name: Variable(row.name, row.scope, row.indices, row.parity, row.unit) for row in embedded},
    }


@dataclass(frozen=True)
class Recipe:
    """``factor * d^n(base) / d(wrt_1) .. d(wrt_n)``, its component axes permuted, perhaps per volume.

    Args:
        base: the property that is differentiated; not a derivative itself.
        wrt: variables in the order of differentiation: those of structures before those of atoms.
        axes: the component axes of the result, as positions among those of the derivative.
        factor: sign and conversion of units.
        per_volume: whether to divide by the volume of the cell.
    """

    base: str
    wrt: tuple[str, ...]
    axes: tuple[int, ...]
    factor: float
    per_volume: bool


def recipe(row: Property, rows: PropertyRows, variables: Mapping[str, Variable]) -> Recipe:
    """How a derivative is obtained.

    Raises:
        ModelError: it is a derivative with respect to something that does not exist, or its scope, indices, parity or
            unit are not those of the derivative.
    """
    base, declared, sign, per_volume = _flat(row, rows)
    for name in declared:
        if name not in variables:
            raise ModelError(
                f"property {row.name!r} is a derivative with respect to {name!r}, which the model is not told: "
                f"expected one of {', '.join(variables)}; add it to the inputs"
            )
    wrt = sorted(declared, key=lambda name: _order(variables[name]))
    axes = _axes(rows[base], declared, wrt, variables)
    _require_fitting(row, rows[base], declared, variables)
    unit = _unit(rows[base].unit, [variables[name].unit for name in declared], per_volume)
    try:
        factor = sign * conversion(unit, row.unit)
    except ConfigError as error:
        raise ModelError(f"property {row.name!r} is a derivative in {unit}, its unit is another: {error}") from error
    exact = float(sign) if abs(abs(factor) - 1.0) < 1e-12 else factor
    return Recipe(base, tuple(wrt), axes, exact, per_volume)


def _unit(base: str, wrt: Sequence[str], per_volume: bool) -> str:
    """Unit of a derivative, spelt as people would: ``eV/Angstrom^2``."""
    counts = Counter(f"({unit})" if "/" in unit else unit for unit in wrt if unit)
    powers = [unit if power == 1 else f"{unit}^{power}" for unit, power in counts.items()]
    parts = [*powers, *["Angstrom^3"] * per_volume]
    return "/".join([base or "1", *parts]) if parts else base


def _flat(row: Property, rows: PropertyRows) -> tuple[str, tuple[str, ...], int, bool]:
    """Base, variables, sign and whether per volume, of a derivative, nested derivatives included."""
    route = row.routes[0]
    if not isinstance(route, Derivative):
        raise ModelError(f"property {row.name!r} is not a derivative")
    inner = rows[route.of]
    if not isinstance(inner.routes[0], Derivative):
        return route.of, route.wrt, route.sign, route.per_volume
    base, wrt, sign, per_volume = _flat(inner, rows)
    return base, (*wrt, *route.wrt), sign * route.sign, per_volume or route.per_volume


def _order(variable: Variable) -> tuple[int, int, str]:
    """Structures first, then few components first: fewest passes. Variables of atoms keep their order."""
    return (0, variable.rank, variable.name) if variable.scope == "structure" else (1, 0, "")


def _axes(
    base: Property, declared: Sequence[str], wrt: Sequence[str], variables: Mapping[str, Variable]
) -> tuple[int, ...]:
    first, remaining = base.rank, list(wrt)
    starts, places = {}, list(range(base.rank))
    for k, name in enumerate(wrt):
        starts[k] = first
        first += variables[name].rank
    for name in declared:
        k = remaining.index(name)
        remaining[k] = ""
        places += range(starts[k], starts[k] + variables[name].rank)
    return tuple(places)


def _require_fitting(row: Property, base: Property, wrt: Sequence[str], variables: Mapping[str, Variable]) -> None:
    """Check scope, rank, parity and symmetry of a derivative."""
    atoms = (base.scope == "atom") + sum(variables[name].scope == "atom" for name in wrt)
    if base.scope == "pair" or atoms > 2:
        raise ModelError(f"property {row.name!r}: derivatives of {base.name!r} involving three atoms are not supported")
    scopes: tuple[Scope, ...] = ("structure", "atom", "pair")
    rank = base.rank + sum(variables[name].rank for name in wrt)
    parity = base.parity
    for name in wrt:
        parity *= variables[name].parity
    declared_kind, derived_kind = (row.scope, row.rank, row.parity), (scopes[atoms], rank, parity)
    if declared_kind != derived_kind:
        raise ModelError(
            f"property {row.name!r} is a derivative with scope, rank and parity {derived_kind}, its row says "
            f"{declared_kind}"
        )
    group = index_symmetry(base, tuple(wrt), variables).group()
    symmetry = parse_indices(row.indices)
    if symmetry.traces or any(group.get(permutation) != sign for permutation, sign in symmetry.generators):
        raise ModelError(f"property {row.name!r}: derivatives do not have all of the symmetry {row.indices!r}")


def index_symmetry(base: Property, wrt: Sequence[str], variables: Mapping[str, Variable]) -> Symmetry:
    """The index symmetry of a derivative: that of its factors, and the order of equal variables of structures."""
    ranks = [base.rank, *(variables[name].rank for name in wrt)]
    starts = [sum(ranks[:k]) for k in range(len(ranks))]
    total = sum(ranks)
    generators: list[tuple[Permutation, int]] = []
    for start, indices in zip(starts, (base.indices, *(variables[name].indices for name in wrt)), strict=True):
        generators += [(_shifted(p, start, total), sign) for p, sign in parse_indices(indices).generators]
    for one in range(len(wrt)):
        for other in range(one + 1, len(wrt)):
            if wrt[one] == wrt[other] and variables[wrt[one]].scope == "structure":
                swap = list(range(total))
                for k in range(ranks[one + 1]):
                    a, b = starts[one + 1] + k, starts[other + 1] + k
                    swap[a], swap[b] = b, a
                generators.append((tuple(swap), 1))
    return Symmetry("", total, tuple(generators))


def _shifted(permutation: Permutation, start: int, rank: int) -> Permutation:
    inside = tuple(start + axis for axis in permutation)
    return (*range(start), *inside, *range(start + len(inside), rank))
