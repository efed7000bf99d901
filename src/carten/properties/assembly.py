"""The design of a model, as data, from rows, inputs and terms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from torch import nn

from carten.errors import ModelError
from carten.math.symmetry import decompose
from carten.model.conditions import Coupled, Fidelity, Input, Tensor
from carten.model.config import NetworkConfig
from carten.ops.space import SCALAR, Part, Space
from carten.physics.names import CHARGE, FIELD
from carten.physics.term import TermConfig, require_distinct
from carten.properties.heads import parts_of
from carten.properties.planning import (
    ENERGIES,
    DerivativePlan,
    has_readout,
    needed_inputs,
    plan_derivatives,
    responds,
    settled,
    sources,
    with_sources,
)
from carten.properties.recipes import Variable, variables
from carten.properties.routes import AtomicVirial, Balanced, Derivative, Latent, Property, Route
from carten.properties.size import require_feasible
from carten.properties.spec import TOTALS, input_table, property_table

MAX_Z = 118


@dataclass(frozen=True)
class Levels:
    """Levels of theory.

    Args:
        name: the input that says which.
        values: their names.
        mode: what depends on them, see :class:`carten.model.conditions.Fidelity`.
    """

    name: str
    values: tuple[str | int, ...]
    mode: str


@dataclass(frozen=True)
class Design:
    """What a model is made of.

    Args:
        config: hyperparameters of the network.
        elements: atomic numbers, ascending.
        neighbours: average number of neighbours within the cutoff.
        requested: names of the properties that were asked for.
        properties: all that the model predicts by name, each by its first route, sources first.
        usual: names of those requested and all that take at most one derivative.
        inputs: of the model besides the atoms, by name.
        terms: physics that is added to the energies of atoms.
        pulls_ions: whether a field pulls on charged structures as a whole; models of older files did without.
    """

    config: NetworkConfig
    elements: tuple[int, ...]
    neighbours: float
    requested: tuple[str, ...]
    properties: Mapping[str, Property]
    usual: tuple[str, ...]
    inputs: Mapping[str, Input]
    terms: tuple[TermConfig, ...]
    pulls_ions: bool = True

    @cached_property
    def variables(self) -> dict[str, Variable]:
        """All that properties may be differentiated with respect to."""
        return variables(self.inputs.values())

    @cached_property
    def levels(self) -> Levels | None:
        """Levels of theory, where an input tells them."""
        embeds = [(name, row.embed) for name, row in self.inputs.items() if isinstance(row.embed, Fidelity)]
        return Levels(embeds[0][0], embeds[0][1].values, embeds[0][1].mode) if embeds else None

    @property
    def taken(self) -> tuple[str, ...]:
        """Names of the properties that terms take."""
        return taken_by(self.terms)

    @cached_property
    def readouts(self) -> dict[str, Property]:
        """Rows that are read from the features of atoms.

        What changes sign with time is read from features that do, if the network is told something that does: else only
        positions tell it.
        """
        rows = {name: row for name, row in self.properties.items() if has_readout(row)}
        return rows if self.reverses else {name: replace(row, time_parity=1) for name, row in rows.items()}

    @property
    def embedded(self) -> list[Input]:
        """Inputs of the network."""
        return [row for row in self.inputs.values() if not isinstance(row.embed, Coupled)]

    @property
    def coupled(self) -> frozenset[str]:
        """Names of inputs that formulas depend on, not the network."""
        return frozenset(name for name, row in self.inputs.items() if isinstance(row.embed, Coupled))

    @cached_property
    def reverses(self) -> bool:
        """Whether the network has features that change sign when time is reversed."""
        return _reversing(self.config, self.embedded)

    @cached_property
    def has_pull(self) -> bool:
        """Whether a field that the network is told pulls on charged structures as a whole."""
        is_embedded = FIELD in self.inputs and FIELD not in self.coupled
        return self.pulls_ions and is_embedded and CHARGE in self.inputs and ENERGIES in self.readouts

    @property
    def target(self) -> Space:
        """Parts that the last layer must deliver; scalars always, since they gate the others."""
        needed = {part for row in self.readouts.values() for part in parts_of(row)}
        return Space.of({SCALAR, *needed})

    def plan(self, names: Sequence[str]) -> DerivativePlan:
        """The steps that evaluate some properties, and those that terms need for them.

        Raises:
            ModelError: for an unknown property.
        """
        return plan_derivatives(names, self.properties, self.variables, self.taken)

    def with_fixed(self, terms: Sequence[TermConfig]) -> Design:
        """The design with further terms that are functions of the structure alone.

        Raises:
            ModelError: a kind of term is there already or must be there in training, or a property that was requested
                is not to be had with it.
        """
        together = (*self.terms, *terms)
        require_distinct(together)
        for config in terms:
            if not config.fixed:
                raise ModelError(f"{config.kind} must be there in training: list it under terms in the configuration")
        _require_available([self.properties[name] for name in self.requested], together)
        kept = {name: row for name, row in self.properties.items() if not _refusal(row.routes[0], together)}
        usual = tuple(name for name in self.usual if name in kept)
        return replace(self, properties=kept, usual=usual, terms=together)


def assemble(
    config: NetworkConfig,
    elements: Sequence[int],
    properties: Sequence[Property],
    neighbours: float = 10.0,
    inputs: Sequence[Input] = (),
    terms: Sequence[TermConfig] = (),
) -> Design:
    """The design of a model, see :class:`carten.properties.potential.Potential` for the arguments.

    Raises:
        ModelError: the network lacks tensors that a property needs, the message names the option to change; or rows,
            inputs and terms do not fit each other.
    """
    numbers = tuple(sorted(set(elements)))
    if not numbers or not 0 < numbers[0] <= numbers[-1] <= MAX_Z:
        raise ModelError(f"elements are atomic numbers from 1 to {MAX_Z}, found {list(numbers)}")
    sized = config.model_copy(update={"time_reversal": _reversing(config, inputs)})
    require_feasible(sized, len(numbers), float(neighbours))
    require_distinct(terms)
    for name in (*(row.name for row in properties), *(row.name for row in inputs)):
        _require_usable(name)
    rows = [_as_terms_take_it(row, terms) for row in (*properties, *_rows_of_terms(terms, properties))]
    all_inputs = _with_needed(inputs, rows, terms)
    _require_available(rows, terms)
    all_rows = settled(rows, _available_table(terms), variables(all_inputs.values()))
    requested = tuple(row.name for row in properties)
    usual = _usual(all_rows, requested)
    design = Design(config, numbers, float(neighbours), requested, all_rows, usual, all_inputs, tuple(terms))
    _require_consistent(design, properties)
    design.plan(requested)
    return design


def _reversing(config: NetworkConfig, inputs: Sequence[Input]) -> bool:
    """Whether the network is told something that changes sign with time, and keeps account of it."""
    odd = any(row.time_parity < 0 and isinstance(row.embed, Tensor) for row in inputs)
    return config.odd_products and config.time_reversal and odd


def taken_by(terms: Sequence[TermConfig]) -> tuple[str, ...]:
    """Names of the properties that terms take."""
    return tuple(source.name for term in terms for source in term.sources)


def _require_usable(name: str) -> None:
    """Check that modules can have this name: it becomes part of the names of weights.

    Raises:
        ModelError: they can not.
    """
    if not name or "." in name or hasattr(nn.ModuleDict, name) or name in vars(nn.ModuleDict()):
        raise ModelError(
            f"a property or input can't be called {name!r}: names have no dots and differ from {_EXAMPLES} and other "
            "words of PyTorch's modules; choose another name"
        )


_EXAMPLES = "'type', 'keys', 'forward'"


# --- what terms take --------------------------------------------------------------------------------------------------


def _as_terms_take_it(row: Property, terms: Sequence[TermConfig]) -> Property:
    """The row with options of its routes as the term has them that takes it."""
    options = next((source.options for term in terms for source in term.sources if source.name == row.name), {})
    routes: list[Route] = []
    for route in row.routes:
        changes: dict[str, Any] = {field.name: options[field.name] for field in fields(route) if field.name in options}
        routes.append(replace(route, **changes))
    return replace(row, routes=tuple(routes))


def _rows_of_terms(terms: Sequence[TermConfig], properties: Sequence[Property]) -> list[Property]:
    """Rows that terms take and that are not among the properties.

    Raises:
        ModelError: a property is obtained in a way that a term has no use for.
    """
    table, predicted = property_table(), {row.name: row for row in properties}
    rows: dict[str, Property] = {}
    for term in terms:
        for source in term.sources:
            row = predicted.get(source.name, table[source.like or source.name])
            if source.name in predicted and row.routes[0].name not in source.routes:
                raise ModelError(
                    f"the term {term.kind} takes {source.name} by the route {' or '.join(source.routes)}, found "
                    f"{row.routes[0].name}: set properties.{source.name}.route"
                )
            if source.name not in predicted:
                route = next(route for route in row.routes if route.name == source.routes[0])
                rows[source.name] = replace(row, name=source.name, routes=(route,))
    return list(rows.values())


# --- inputs -----------------------------------------------------------------------------------------------------------


def _with_needed(
    inputs: Sequence[Input], properties: Sequence[Property], terms: Sequence[TermConfig]
) -> dict[str, Input]:
    """The inputs by name, and those of the table that properties and terms need.

    Raises:
        ModelError: nothing couples to an input that the network is not told, or it is of a kind that does not fit.
    """
    table, rows = input_table(), {row.name: row for row in inputs}
    needed = [name for row in properties for name in needed_inputs(row)]
    rows.update({name: table[name] for name in needed if name not in rows and name in table})
    coupled = {name: replace(table[name], embed=Coupled()) for term in terms for name in term.inputs}
    coupled.update({name: table[name] for total in needed for name in TOTALS.get(total, ())})
    rows.update({name: row for name, row in coupled.items() if name not in rows})
    for row in rows.values():
        if isinstance(row.embed, Coupled) and row.name not in {*coupled, *needed}:
            raise ModelError(
                f"input {row.name!r} has embed: coupled but no term or property uses it; {_use_of(row.name)}"
            )
    for prop in properties:
        if isinstance(route := prop.routes[0], Balanced) and route.total and rows[route.total].rank:
            raise ModelError(f"property {prop.name!r} can't be balanced to {route.total!r}, which is no number")
    if len(fidelities := [row.name for row in rows.values() if isinstance(row.embed, Fidelity)]) > 1:
        raise ModelError(f"at most one input is a fidelity, found {', '.join(fidelities)}")
    return rows


def _use_of(name: str) -> str:
    """What would make use of an input: routes of properties, or terms."""
    totals = {name, *(total for total, others in TOTALS.items() if name in others)}
    for row in property_table().values():
        tried = [replace(row, routes=(route,)) for route in row.routes]
        routes = [one.routes[0].name for one in tried if totals.intersection(needed_inputs(one))]
        if routes and not any(isinstance(one.routes[0], Derivative) for one in tried):
            return f"set properties.{row.name}.route to {', '.join(routes)}"
    return "list terms: les or charges, or embed it otherwise"


# --- routes -----------------------------------------------------------------------------------------------------------


def _available_table(terms: Sequence[TermConfig]) -> dict[str, Property]:
    """Rows of the property table by the routes that models with these terms have."""
    rows = {}
    for name, row in property_table().items():
        if routes := tuple(route for route in row.routes if not _refusal(route, terms)):
            rows[name] = replace(row, routes=routes)
    return rows


def _require_available(rows: Sequence[Property], terms: Sequence[TermConfig]) -> None:
    for row in rows:
        if refusal := _refusal(row.routes[0], terms):
            raise ModelError(f"property {row.name!r}: {refusal}")


def _refusal(route: Route, terms: Sequence[TermConfig]) -> str:
    """Why models with these terms do not have a route; nothing where they do."""
    match route:
        case AtomicVirial() if beyond := [term.kind for term in terms if not term.local]:
            return (
                f"the energy of {beyond[0]} does not divide into virials of atoms; "
                f"remove terms: {beyond[0]}, or the property (virial and stress of structures are there)"
            )
        case Latent(charges, dipoles):
            table, taken = property_table(), [source for term in terms for source in term.sources]
            vectors = [source.name for source in taken if table[source.like or source.name].rank == 1]
            names = [source.name for source in taken]
            if charges not in names or vectors != [name for name in (dipoles,) if name]:
                return (
                    f"follows from all charges and dipoles that interact, which are {', '.join(names) or 'none'}, but "
                    f"its route takes {', '.join(filter(None, (charges, dipoles)))}: list terms: les of one channel, "
                    "with dipoles: true for the route latent_multipoles, without for latent"
                )
    return ""


def _usual(rows: Mapping[str, Property], requested: Sequence[str]) -> tuple[str, ...]:
    """Rows that are requested, or take at most one derivative."""
    orders: dict[str, int] = {}
    for name, row in rows.items():
        route = row.routes[0]
        order = len(route.wrt) if isinstance(route, Derivative) else int(isinstance(route, AtomicVirial))
        order = 2 if responds(row) else order
        orders[name] = order + max((orders[source] for source in sources(row)), default=0)
    return tuple(name for name in rows if name in requested or orders[name] <= 1)


# --- checks of the whole ----------------------------------------------------------------------------------------------


def _require_consistent(design: Design, properties: Sequence[Property]) -> None:
    if ENERGIES in with_sources(design.taken, design.properties):
        raise ModelError(f"terms take {', '.join(design.taken)}, which follow from the energy that they add to")
    if ENERGIES in design.properties:
        _require_influence(design)
    latent = any(isinstance(row.routes[0], Latent) for row in properties)
    if design.terms and ENERGIES not in design.readouts and not latent:
        raise ModelError(
            f"terms ({design.terms[0].kind}) add to the energy, which the model does not have: add energy, or a "
            "property that follows from their charges"
        )
    for name, row in design.readouts.items():
        if row.scope == "pair":
            raise ModelError(f"property {name!r}: properties of pairs of atoms are derivatives, there is no readout")
        if isinstance(row.routes[0], Balanced) and row.scope != "atom":
            raise ModelError(f"property {name!r} is balanced among atoms: expected scope atom, found {row.scope}")
        _require_parts(name, list(parts_of(row)), design.config)


def _require_influence(design: Design) -> None:
    """Check that energies can depend on every tensor that the network is told: else derivatives would be zero."""
    config = design.config
    for row in design.embedded:
        if not isinstance(row.embed, Tensor) or config.correlation_order > 1:
            continue
        ranks = [l for l, _ in decompose(row.indices).parts]
        if 0 not in ranks and (config.n_layers == 1 or min(ranks) > config.l_max_features):
            raise ModelError(
                f"the energy would not depend on the input {row.name!r}: products of order 1 make no scalars of it; "
                "increase model.correlation_order"
            )


def _require_parts(name: str, parts: Sequence[Part], config: NetworkConfig) -> None:
    """Check that the network has features of these ranks and parities."""
    reach = config.space(max(config.l_max_edges, config.l_max_features))
    rank = max((part.l for part in parts), default=0)
    if rank > reach.l_max:
        raise ModelError(
            f"property {name!r} needs features of rank {rank}, the network has up to {reach.l_max}: "
            f"set model.l_max_edges: {rank}"
        )
    for part in parts:
        if part not in reach:
            raise ModelError(
                f"property {name!r} needs pseudotensors {part.name}, which even products never make: "
                "set model.odd_products: true"
            )


def require_reached(design: Design, space: Space) -> None:
    """Check that the last layer has the parts that readouts take.

    Raises:
        ModelError: no product makes one of them, which would be zero for every structure.
    """
    for name, row in design.readouts.items():
        if missing := [part.name for part in parts_of(row) if part not in space]:
            raise ModelError(
                f"property {name!r} needs features {', '.join(missing)}, which products of order "
                f"{design.config.correlation_order} of features up to rank {design.config.l_max_edges} do not make: "
                "increase model.correlation_order, model.l_max_edges or model.n_layers"
            )
