"""Planning by name: which rows a model has, how each is obtained, and the derivatives that takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from carten.errors import ModelError
from carten.physics.names import CHARGE, ELECTRONEGATIVITIES, HARDNESSES, POLARIZABILITIES
from carten.properties.recipes import POSITIONS, STRAIN, PropertyRows, Recipe, Variable, recipe
from carten.properties.routes import (
    AtomicVirial,
    Balanced,
    Derivative,
    Equilibrated,
    Induced,
    Latent,
    Multipole,
    Permittivity,
    Positive,
    Property,
    Readout,
    Route,
    Sum,
)


def sources(row: Property) -> tuple[str, ...]:
    """Names of the properties that a property is obtained from."""
    match row.routes[0]:
        case Sum(of) | Derivative(of) | AtomicVirial(of) | Permittivity(of):
            return (of,)
        case Multipole(charges, dipoles) | Latent(charges, dipoles):
            return (charges, dipoles) if dipoles else (charges,)
        case Equilibrated():
            return (ELECTRONEGATIVITIES, HARDNESSES)
        case Induced(permanent, quadrupoles):
            return tuple(filter(None, ("latent_charges", POLARIZABILITIES, permanent, quadrupoles)))
    return ()


def has_readout(row: Property) -> bool:
    """Whether a property has its own parameters."""
    route = row.routes[0]
    return isinstance(route, Readout | Positive | Balanced) or (isinstance(route, Multipole) and row.rank > 1)


def responds(row: Property) -> bool:
    """Whether a property is how the polarization of latent charges changes when atoms move."""
    return isinstance(row.routes[0], Latent) and row.scope == "atom"


def needed_inputs(row: Property) -> tuple[str, ...]:
    """Names of the inputs without which a property can't be obtained from its sources."""
    match row.routes[0]:
        case Derivative(wrt=wrt):
            return tuple(dict.fromkeys(name for name in wrt if name not in (POSITIONS.name, STRAIN.name)))
        case Balanced(total) if total:
            return (total,)
        case Equilibrated():
            return (CHARGE,)
    return ()


def with_sources(names: Sequence[str], table: PropertyRows) -> dict[str, Property]:
    """The named rows and all that they are obtained from, sources first.

    Raises:
        ModelError: when a name is not in the table, or a property is obtained from itself.
    """
    ordered: dict[str, Property] = {}

    def visit(name: str, above: tuple[str, ...] = ()) -> None:
        if name in ordered:
            return
        if name in above:
            raise ModelError(f"a property can't be obtained from itself: {' from '.join((*above, name))}")
        if name not in table:
            raise ModelError(f"no property {name!r} here; there are: {', '.join(table)}")
        for source in sources(table[name]):
            visit(source, (*above, name))
        ordered[name] = table[name]

    for name in names:
        visit(name)
    return ordered


def settled(
    requested: Sequence[Property], table: PropertyRows, variables: Mapping[str, Variable]
) -> dict[str, Property]:
    """All rows of a model, sources first.

    Those requested, by their first route. Those they are obtained from, by the first route that takes no parameters of
    its own, else by the first. And every other row of the table that takes none: sums, and derivatives with respect to
    positions, strain and the inputs.

    Args:
        requested: rows to predict.
        table: all rows there are.
        variables: positions, strain and the inputs of the network.

    Raises:
        ModelError: see :func:`with_sources`.
    """
    requested_rows = {row.name: row for row in requested}
    table = {**table, **requested_rows}
    rows = with_sources(tuple(requested_rows), {**table, **_free(requested_rows, table, variables)})
    free_rows = _free(rows, table, variables)
    return with_sources((*rows, *free_rows), {**table, **free_rows, **rows})


def _free(present: PropertyRows, table: PropertyRows, variables: Mapping[str, Variable]) -> dict[str, Property]:
    """The other rows of the table that follow from those there without parameters, by the first such route."""
    free: dict[str, Property] = {}
    for _ in table:  # until nothing new is found
        reached = {
            name: replace(row, routes=(route, *(other for other in row.routes if other != route)))
            for name, row in table.items()
            if name not in present and (route := _free_route(row, {*present, *free}, variables)) is not None
        }
        if reached.keys() == free.keys():
            break
        free = reached
    return free


def _free_route(row: Property, present: Iterable[str], variables: Mapping[str, Variable]) -> Route | None:
    """The first route without parameters that the available properties and the variables allow."""
    for route in row.routes:
        tried = replace(row, routes=(route,))
        if has_readout(tried) or not all(name in present for name in sources(tried)):
            continue
        if isinstance(route, Multipole) and not route.dipoles:  # an approximation: only if asked for
            continue
        if isinstance(route, Latent) and row.scope == "structure":  # depends on the images given: only if asked for
            continue
        if all(name in variables for name in needed_inputs(tried)):
            return route
    return None


ENERGIES = "energies"
"""The property that energy terms add to."""

Partial = tuple[str, tuple[str, ...]]
"""A property, and the variables it was differentiated with respect to so far."""

Drawn = Mapping[Partial, Tensor]
"""Rows wanted of what is differentiated, others are NaN: of values of structures (k,) independent components, the same
for all structures, of values of atoms (S, k) rows as :func:`carten.properties.pairs.draw_rows` gives them."""

EDGES = "edges"
"""The variable of atomic virials: vectors of edges."""
SPATIAL = frozenset({POSITIONS.name, STRAIN.name, EDGES})
"""Variables on which the lengths of edges depend."""


@dataclass(frozen=True)
class DerivativePass:
    """One property or derivative, differentiated with respect to some variables at once.

    Args:
        source: what is differentiated.
        variables: with respect to these, in one pass over the network for each component of the source.
        into_pairs: whether values of atoms are differentiated into values of pairs of atoms.
    """

    source: Partial
    variables: tuple[str, ...]
    into_pairs: bool = False


@dataclass(frozen=True)
class DerivativePlan:
    """The steps that evaluate some properties.

    Args:
        rows: they and their sources, sources first.
        recipes: of the derivatives among them.
        early: steps up to what energy terms take, after which these are added to the energies.
        steps: the other passes, and names of rows once all that they follow from is there, in the order of evaluation.
    """

    rows: PropertyRows
    recipes: Mapping[str, Recipe]
    early: tuple[str | DerivativePass, ...]
    steps: tuple[str | DerivativePass, ...]

    @cached_property
    def passes(self) -> tuple[DerivativePass, ...]:
        """All that is differentiated."""
        return tuple(step for step in (*self.early, *self.steps) if isinstance(step, DerivativePass))

    @cached_property
    def sources(self) -> frozenset[Partial]:
        """Values and derivatives that the passes differentiate."""
        return frozenset(step.source for step in self.passes)

    @cached_property
    def variables(self) -> frozenset[str]:
        """All that is differentiated with respect to."""
        moved = {EDGES, POSITIONS.name} if any(responds(row) for row in self.rows.values()) else set()
        return frozenset(name for step in self.passes for name in step.variables).union(moved)

    @cached_property
    def last(self) -> str | DerivativePass | None:
        """The last step that goes back through the network, after which nothing leads there any more."""
        steps = (*self.early, *self.steps)
        backward = [step for step in steps if isinstance(step, DerivativePass) or responds(self.rows[step])]
        return backward[-1] if backward else None

    @cached_property
    def again(self) -> bool:
        """Whether derivatives are differentiated; those of values of atoms are, in what the values are weighted by."""
        return any(already or self.rows[base].scope == "atom" for base, already in self.sources)

    @cached_property
    def spatial_order(self) -> int | None:
        """How often features are differentiated in space: once at most, twice, or ``None``: more often or not known."""
        already = max((sum(name in SPATIAL for name in names) for _, names in self.sources), default=0)
        if already == 0:
            return 1
        return 2 if already == 1 and not any(responds(row) for row in self.rows.values()) else None


def plan_derivatives(
    names: Sequence[str], rows: PropertyRows, variables: Mapping[str, Variable], taken: Sequence[str] = ()
) -> DerivativePlan:
    """Plan the evaluation of some properties of a model.

    Args:
        names: the properties.
        rows: all of the model.
        variables: positions, strain and the inputs of the network.
        taken: properties that terms of the energy take, if the energy is evaluated.

    Raises:
        ModelError: see :func:`with_sources` and :func:`recipe`.
    """
    taken = taken if ENERGIES in with_sources(names, rows) else ()
    chosen = with_sources((*taken, *names), rows)
    recipes = {
        name: recipe(row, rows, variables) for name, row in chosen.items() if isinstance(row.routes[0], Derivative)
    }
    needed = {name: _passes(row, rows, recipes.get(name)) for name, row in chosen.items()}
    together: dict[Partial, dict[str, None]] = {}
    for step in (step for steps in needed.values() for step in steps if not step.into_pairs):
        together.setdefault(step.source, {}).update(dict.fromkeys(step.variables))
    steps: dict[str | DerivativePass, None] = {}
    for name, passes in needed.items():
        joined = [one if one.into_pairs else replace(one, variables=tuple(together[one.source])) for one in passes]
        steps.update(dict.fromkeys([*joined, name]))
    order = tuple(steps)
    n_early = 1 + max((order.index(name) for name in taken), default=-1)
    return DerivativePlan(chosen, recipes, order[:n_early], order[n_early:])


def _passes(row: Property, rows: PropertyRows, derivative: Recipe | None) -> list[DerivativePass]:
    """The passes that a row takes, each with respect to one variable."""
    if derivative is not None:
        ends = [row.scope == "pair" and k == len(derivative.wrt) - 1 for k in range(len(derivative.wrt))]
        sources = [(derivative.base, derivative.wrt[:k]) for k in range(len(derivative.wrt))]
        return [DerivativePass(*one) for one in zip(sources, zip(derivative.wrt, strict=True), ends, strict=True)]
    if not isinstance(route := row.routes[0], AtomicVirial):
        return []
    base = rows[route.of]
    if base.rank or base.scope != "structure" or isinstance(base.routes[0], Derivative):
        raise ModelError(f"property {row.name!r}: {route.of!r} is no energy of structures")
    return [DerivativePass((route.of, ()), (EDGES,))]
