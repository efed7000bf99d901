"""A model: a graph in, properties out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from carten.errors import ModelError
from carten.model.config import NetworkConfig
from carten.model.graph import Graph
from carten.model.inputs import Inputs, complete
from carten.model.network import Network
from carten.model.slopes import differentiated, recordable, recording
from carten.model.sums import balance, per_structure
from carten.ops.space import SCALAR, Part, Space
from carten.physics import fragments
from carten.physics.charges import ChargesConfig
from carten.physics.constants import CHARGE, FRAGMENT, FRAGMENT_CHARGE
from carten.physics.term import EnergyTerm, Host, TermConfig, View, require_distinct
from carten.properties.derivatives import leaves
from carten.properties.evaluation import Evaluation
from carten.properties.fixed import ENERGIES
from carten.properties.heads import Head, Kind, parts_of
from carten.properties.planning import (
    DerivativePlan,
    Drawn,
    has_readout,
    needed_inputs,
    plan_derivatives,
    responds,
    settled,
    sources,
    with_sources,
)
from carten.properties.recipes import variables
from carten.properties.spec import (
    AtomicVirial,
    Balanced,
    Coupled,
    Derivative,
    Equilibrated,
    Fidelity,
    Input,
    Latent,
    Positive,
    Property,
    Readout,
    Route,
    input_table,
    property_table,
)

MAX_NUMBER = 118
SMALL = 0.1
"""Scale of what terms take before training, e or e Å: charges that do not yet dominate the energy."""


class Potential(nn.Module):
    """Network, readouts and derivatives: a pure function of a graph.

    Args:
        config: hyperparameters of the network.
        elements: atomic numbers the model knows.
        properties: rows to predict, each obtained by its first route; rows they are obtained from are added, and all
            that follow from these without parameters of their own (a model of energies has forces, stress, Hessians; in
            an electric field also polarizabilities, Born charges, ..).
        neighbours: average number of neighbours within the cutoff.
        seed: of the initial weights.
        backend: see :func:`carten.ops.library.evaluate`.
        inputs: what the model is told besides the atoms; inputs of the table that the requested properties are
            derivatives with respect to, or balanced to, or that terms need, are added.
        terms: physics that is added to the energies of atoms.

    Raises:
        ModelError: when the network lacks tensors a property or an input needs, the message names the option to change;
            or when a row does not fit the route by which it is obtained.
    """

    element_of: Tensor

    @torch.inference_mode(False)
    def __init__(
        self,
        config: NetworkConfig,
        elements: Sequence[int],
        properties: Sequence[Property],
        neighbours: float = 10.0,
        seed: int = 0,
        backend: str = "auto",
        inputs: Sequence[Input] = (),
        terms: Sequence[TermConfig] = (),
    ) -> None:
        super().__init__()
        self.config = config
        self.elements = tuple(sorted(set(elements)))
        if not self.elements or not 0 < self.elements[0] <= self.elements[-1] <= MAX_NUMBER:
            raise ModelError(f"elements are atomic numbers from 1 to {MAX_NUMBER}, found {list(self.elements)}")
        self.neighbours = float(neighbours)
        self.requested = tuple(row.name for row in properties)
        self.term_configs = tuple(terms)
        require_distinct(terms)
        self._taken = tuple(source.name for term in terms for source in term.sources)
        rows = [_as_in_terms(row, terms) for row in (*properties, *_of_terms(terms, properties))]
        self.inputs = _with_needed(inputs, rows, terms)
        self.variables = variables(self.inputs.values())
        self.properties = settled(rows, _table(rows, terms), self.variables)
        self.usual = _usual(self.properties, self.requested)
        self.levels = _levels(self.inputs)
        self._plans: dict[tuple[str, ...], DerivativePlan] = {}
        self.planned(self.requested)
        generator = torch.Generator().manual_seed(seed)
        heads = {name: row for name, row in self.properties.items() if has_readout(row)}
        target = _target(heads, config)
        seen = [row for row in self.inputs.values() if not isinstance(row.embed, Coupled)]
        embedded = Inputs(seen, config, len(self.elements), generator) if seen else None
        self.network = Network(config, len(self.elements), target, neighbours, generator, backend, embedded)
        _require_reached(_needed_parts(heads), self.network.spaces[-1], config)
        self.heads = self._heads(heads, generator)
        if terms and ENERGIES not in heads and not any(isinstance(row.routes[0], Latent) for row in properties):
            raise ModelError(
                f"terms ({terms[0].kind}) add to the energy, which the model does not have: add energy, or a property "
                "that follows from their charges"
            )
        soft = [row for row in heads.values() if _by_softness(row)]
        self.softness = self._heads({row.name: Property(row.name, "atom", "", +1, "") for row in soft}, generator)
        left = frozenset(name for name, row in self.inputs.items() if isinstance(row.embed, Coupled))
        taken = with_sources(self._taken, self.properties)
        routes = {name: row.routes[0].name for name, row in taken.items()}
        host = Host(config, self.elements, self.network.spaces, generator, left, routes)
        self.terms = nn.ModuleList(term.build(host) for term in terms)
        self._start(heads)
        lookup = torch.full((MAX_NUMBER + 1,), -1)
        lookup[list(self.elements)] = torch.arange(len(self.elements))
        self.register_buffer("element_of", lookup, persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        with recording(torch.is_grad_enabled()):
            return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]

    def _heads(self, rows: Mapping[str, Property], generator: torch.Generator) -> nn.ModuleDict:
        sizes = (self.config.n_channels, self.config.n_readout_channels)
        kind = Kind(len(self.elements))
        if self.levels is not None:
            kind = Kind(len(self.elements), len(self.levels.values), self.levels.mode != "embedding")
        spaces = self.network.spaces
        return nn.ModuleDict({name: Head(row, spaces, kind, sizes, generator) for name, row in rows.items()})

    def _start(self, rows: Mapping[str, Property]) -> None:
        """Values before there are data."""
        for name, row in rows.items():
            if name in self._taken:
                self.heads[name].get_buffer("scale").fill_(SMALL)
            if isinstance(route := row.routes[0], Positive):
                self.heads[name].get_buffer("shift").fill_(math.log(math.expm1(route.start)))

    @property
    def cutoff(self) -> float:
        """Distance up to which atoms interact directly, Å."""
        return self.config.cutoff

    @property
    def dtype(self) -> torch.dtype:
        """Of the network's weights."""
        return self.network.embedding.dtype

    def forward(
        self, graph: Graph, properties: Sequence[str] | None = None, drawn: Drawn | None = None
    ) -> dict[str, Tensor]:
        """Evaluate properties.

        Args:
            graph: structures, float32 or float64; only edge vectors are cast to the dtype of the model, so that
                positions far from the origin lose nothing.
            properties: names; :attr:`usual` by default, which are those requested and all that cost one derivative.
            drawn: rows wanted of what is differentiated, all by default.

        Returns:
            By name, (S, 3, ..), (N, 3, ..) or (P, 3, ..) in the row's unit. In training mode they can be differentiated
            with respect to the parameters; in evaluation mode they are detached. Where positions, cells or inputs of
            the graph require gradients, values can be differentiated with respect to these in either mode.

        Raises:
            ModelError: for an unknown property, an element the model has not seen, or an input that is missing.
        """
        return self._values(graph, tuple(self.usual if properties is None else properties), drawn, fixed=True)

    def remainder(self, graph: Graph, properties: Sequence[str], drawn: Drawn | None = None) -> dict[str, Tensor]:
        """As :meth:`forward`, without fixed terms: for labels their share is subtracted from (training).

        See :mod:`carten.properties.fixed`.
        """
        return self._values(graph, tuple(properties), drawn, fixed=False)

    def _values(self, graph: Graph, wanted: tuple[str, ...], drawn: Drawn | None, fixed: bool) -> dict[str, Tensor]:
        plan, keep = self.planned(wanted), self.training or differentiated(graph)
        with recording(bool(plan.variables) or torch.is_grad_enabled()):
            evaluation = self.evaluation(graph, plan, drawn, fixed)
            values = {name: evaluation.value(name) for name in wanted}
        return values if keep else {name: value.detach() for name, value in values.items()}

    def evaluation(
        self, graph: Graph, plan: DerivativePlan, drawn: Drawn | None = None, fixed: bool = True
    ) -> Evaluation:
        """The features of a graph, from which the values of a plan follow, with or without fixed terms."""
        if self.network.embedding.is_inference():
            raise ModelError("the weights were set in torch.inference_mode(): load or copy them outside of it")
        asked = differentiated(graph)
        keep, curved = self.training or asked, plan.curved or asked
        graph = recordable(graph)
        at = leaves(complete(graph, self.inputs), plan.variables)
        element = self._element(graph.numbers)
        told = None
        if self.network.inputs is not None:
            told = self.network.inputs(at.graph.inputs, graph.structure, element)
        vectors, terms = at.vectors, [term for term in self.terms if isinstance(term, EnergyTerm)]
        for term in terms:
            vectors = term.seen(vectors, graph)
        layers = self.network(vectors.to(self.dtype), graph.edge_index, element, told, curved, asked or plan.again)
        kind = element
        if self.levels is not None:
            kind = element + len(self.elements) * at.graph.inputs[self.levels.name][graph.structure]
        added = [term for term, config in zip(terms, self.term_configs, strict=True) if fixed or not config.fixed]
        view = View(at.graph, at.vectors, layers, again=keep or plan.again)
        read = partial(self._read, kind, view, added)
        return Evaluation(plan, at, read, self.variables, keep, drawn)

    def planned(self, names: tuple[str, ...]) -> DerivativePlan:
        """What it takes to evaluate some properties, and what terms take for them.

        Raises:
            ModelError: for an unknown property.
        """
        if names not in self._plans:
            more = self._taken if ENERGIES in with_sources(names, self.properties) else ()
            self._plans[names] = plan_derivatives([*names, *more], self.properties, self.variables)
        return self._plans[names]

    def _read(
        self, kind: Tensor, view: View, terms: Sequence[EnergyTerm], name: str, of: Callable[[str], Tensor]
    ) -> Tensor:
        """A property that has a readout, (S, 3, ..) or (N, 3, ..); ``of`` are the others."""
        layers = view.features
        row, graph = self.properties[name], view.graph
        value: Tensor = self.heads[name](layers, kind)
        if name == ENERGIES:
            for term in terms:
                value = value + term(replace(view, value=of))
        match row.routes[0]:
            case Readout(reduce) if row.scope == "structure":
                return per_structure(value, graph, reduce == "mean")
            case Positive():
                return functional.softplus(value)
            case Balanced(total, by):
                uniform = value.new_ones(graph.n_atoms)
                soft = functional.softplus(self.softness[name](layers, kind)) if by == "softness" else uniform
                return balance(value, soft, *_totals(total, graph, value))
        return value

    def _element(self, numbers: Tensor) -> Tensor:
        element = self.element_of[numbers.clamp(0, MAX_NUMBER)].where((numbers >= 0) & (numbers <= MAX_NUMBER), -1)
        if bool((element < 0).any()):
            found = sorted(set(numbers[element < 0].tolist()))
            raise ModelError(
                f"the model knows the atomic numbers {list(self.elements)}, found {found}: "
                "use a model trained on these elements"
            )
        return element

    def add(self, *terms: TermConfig) -> Self:
        """Add fixed terms to a trained model whose labels lack them, as dispersion to energies of a plain functional.

        Terms that were there in training are there already.

        Raises:
            ModelError: the model has a term of this kind, or it must be there in training.
        """
        configs = (*self.term_configs, *terms)
        require_distinct(configs)
        _table([self.properties[name] for name in self.requested], configs)
        host = Host(self.config, self.elements, self.network.spaces, torch.Generator())
        built = [config.build(host) for config in terms]
        for config, term in zip(terms, built, strict=True):
            if not config.fixed or type(term).seen is not EnergyTerm.seen:
                raise ModelError(f"{config.kind} must be there in training: list it under terms in the configuration")
        self.terms.extend(built)
        self.term_configs = configs
        beyond = any(not config.local for config in configs)
        dropped = {name for name, row in self.properties.items() if beyond and isinstance(row.routes[0], AtomicVirial)}
        self.properties = {name: row for name, row in self.properties.items() if name not in dropped}
        self.usual = tuple(name for name in self.usual if name not in dropped)
        self._plans.clear()
        return self

    def freeze(self, tabulate: bool = False) -> Self:
        """Evaluation mode, no gradients of parameters: for inference.

        Args:
            tabulate: whether tables of the radial functions may be used where these depend on nothing but the length of
                an edge, exact to 1e-6; second derivatives in space always use the exact functions.
        """
        self.eval().requires_grad_(False)
        if tabulate and self.network.tabulable:
            self.network.tabulate()
        return self


def _totals(name: str, graph: Graph, like: Tensor) -> tuple[Tensor, Tensor]:
    """What values add up to, (P, 3, ..), and with which others each does, (N,)."""
    if name == CHARGE:
        adding = fragments.charge_groups(graph)
        return adding.totals, adding.of
    zero = like.new_zeros(graph.n_structures, *like.shape[1:])
    return graph.inputs[name].to(like.dtype) if name else zero, graph.structure


def _as_in_terms(row: Property, terms: Sequence[TermConfig]) -> Property:
    """Charges that equilibrate interact as they do in the term that they are for."""
    term = next((term for term in terms if isinstance(term, ChargesConfig)), None)
    if term is None or row.name not in (source.name for source in term.sources):
        return row
    same = {"sigma": term.sigma, "permittivity": term.permittivity, "accuracy": term.accuracy}
    routes = [replace(route, **same) if isinstance(route, Equilibrated) else route for route in row.routes]
    return replace(row, routes=tuple(routes))


def _with_needed(
    inputs: Sequence[Input], properties: Sequence[Property], terms: Sequence[TermConfig]
) -> dict[str, Input]:
    """The inputs, and those of the table that properties and terms need."""
    table, found = input_table(), {row.name: row for row in inputs}
    needed = [name for row in properties for name in needed_inputs(row)]
    found.update({name: table[name] for name in needed if name not in found and name in table})
    coupled = {name: replace(table[name], embed=Coupled()) for term in terms for name in term.inputs}
    if CHARGE in needed:
        coupled.update({name: table[name] for name in (FRAGMENT, FRAGMENT_CHARGE)})
    found.update({name: row for name, row in coupled.items() if name not in found})
    known = {*coupled, *needed}
    if alone := [row.name for row in found.values() if isinstance(row.embed, Coupled) and row.name not in known]:
        raise ModelError(f"nothing couples to the input {alone[0]!r}: {_COUPLING.get(alone[0], _BY_TERMS)}")
    for row in properties:
        if isinstance(route := row.routes[0], Balanced) and route.total and found[route.total].rank:
            raise ModelError(f"property {row.name!r} can't be balanced to {route.total!r}, which is no number")
    return found


_BY_TERMS = "list terms: les or charges, or embed it otherwise"
_COUPLING = dict.fromkeys(
    (CHARGE, FRAGMENT, FRAGMENT_CHARGE),
    "charges do that add up to a total, by the route balanced, equalised or equilibrated (properties.charges.route)",
)


def _of_terms(terms: Sequence[TermConfig], properties: Sequence[Property]) -> list[Property]:
    """Rows that terms take and that are not among the properties.

    Raises:
        ModelError: a property is obtained in a way that a term has no use for.
    """
    table, there = property_table(), {row.name: row for row in properties}
    found: dict[str, Property] = {}
    for term in terms:
        for source in term.sources:
            row = there.get(source.name, table[source.like or source.name])
            if source.name in there and row.routes[0].name not in source.routes:
                raise ModelError(
                    f"the term {term.kind} takes {source.name} by the route {' or '.join(source.routes)}, found "
                    f"{row.routes[0].name}: set properties.{source.name}.route"
                )
            if source.name not in there:
                route = next(route for route in row.routes if route.name == source.routes[0])
                found[source.name] = replace(row, name=source.name, routes=(route,))
    return list(found.values())


def _table(properties: Sequence[Property], terms: Sequence[TermConfig]) -> dict[str, Property]:
    """Rows of the property table by the routes that models with these terms have.

    Raises:
        ModelError: a property is asked for by another route.
    """
    for row in properties:
        if refusal := _refusal(row.routes[0], terms):
            raise ModelError(f"property {row.name!r}: {refusal}")
    table = property_table().values()
    rows = [replace(row, routes=tuple(route for route in row.routes if not _refusal(route, terms))) for row in table]
    return {row.name: row for row in rows if row.routes}


def _refusal(route: Route, terms: Sequence[TermConfig]) -> str:
    """Why models with these terms do not have a route; nothing where they do."""
    match route:
        case AtomicVirial() if beyond := [term.kind for term in terms if not term.local]:
            return (
                f"the energy of {beyond[0]} does not divide into virials of atoms; "
                f"remove terms: {beyond[0]}, or the property (virial and stress of structures are there)"
            )
        case Latent(charges, dipoles):
            taken = [source.name for term in terms for source in term.sources]
            if charges not in taken or dipoles != ("latent_dipoles" if "latent_dipoles" in taken else ""):
                return (
                    f"follows from all charges and dipoles that interact, which are {', '.join(taken) or 'none'}, but "
                    f"its route takes {', '.join(filter(None, (charges, dipoles)))}: list terms: les of one channel, "
                    "with dipoles: true for the route latent_multipoles, without for latent"
                )
    return ""


@dataclass(frozen=True)
class Levels:
    """Levels of theory: the input that tells them, their names, and what depends on them."""

    name: str
    values: tuple[str | int, ...]
    mode: str


def _levels(inputs: Mapping[str, Input]) -> Levels | None:
    found = [(row.name, row.embed) for row in inputs.values() if isinstance(row.embed, Fidelity)]
    if len(found) > 1:
        raise ModelError(f"at most one input is a fidelity, found {', '.join(name for name, _ in found)}")
    return Levels(found[0][0], found[0][1].values, found[0][1].mode) if found else None


def _usual(rows: Mapping[str, Property], requested: Sequence[str]) -> tuple[str, ...]:
    """Rows that are requested, or take at most one derivative."""
    orders: dict[str, int] = {}
    for name, row in rows.items():
        route = row.routes[0]
        own = len(route.wrt) if isinstance(route, Derivative) else int(isinstance(route, AtomicVirial))
        own = 2 if responds(row) else own
        orders[name] = own + max((orders[source] for source in sources(row)), default=0)
    return tuple(name for name in rows if name in requested or orders[name] <= 1)


def _by_softness(row: Property) -> bool:
    route = row.routes[0]
    return isinstance(route, Balanced) and route.by == "softness"


def _needed_parts(heads: Mapping[str, Property]) -> dict[str, tuple[Part, ...]]:
    """Parts that readouts take, by what reads them."""
    return {f"property {name!r}": tuple(parts_of(row)) for name, row in heads.items()}


def _target(heads: Mapping[str, Property], config: NetworkConfig) -> Space:
    """Parts the last layer must deliver; scalars always, since they gate the others."""
    needed: set[Part] = {SCALAR}
    reach = Space.up_to(max(config.l_max_edges, config.l_max_features), config.odd_products)
    for name, row in heads.items():
        if row.scope == "pair":
            raise ModelError(f"property {name!r}: properties of pairs of atoms are derivatives, there is no readout")
        if isinstance(row.routes[0], Balanced) and row.scope != "atom":
            raise ModelError(f"property {name!r} is balanced among atoms: expected scope atom, found {row.scope}")
    for name, parts in _needed_parts(heads).items():
        rank = max((part.l for part in parts), default=0)
        if rank > reach.l_max:
            raise ModelError(
                f"{name} needs features of rank {rank}, the network has up to {reach.l_max}: "
                f"set model.l_max_edges: {rank}"
            )
        for part in parts:
            if part not in reach:
                raise ModelError(
                    f"{name} needs pseudotensors {part.name}, which even products never make: "
                    "set model.odd_products: true"
                )
            needed.add(part)
    return Space(tuple(sorted(needed, key=lambda part: (part.l, not part.natural))))


def _require_reached(needed: Mapping[str, Sequence[Part]], space: Space, config: NetworkConfig) -> None:
    for name, parts in needed.items():
        missing = [part.name for part in parts if part not in space]
        if missing:
            raise ModelError(
                f"{name} needs features {', '.join(missing)}, which products of order "
                f"{config.correlation_order} of features up to rank {config.l_max_edges} do not make: increase "
                "model.correlation_order, model.l_max_edges or model.n_layers"
            )
