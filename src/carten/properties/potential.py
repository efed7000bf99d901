"""A model: a graph in, properties out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from carten.errors import ModelError
from carten.model.conditions import Input
from carten.model.config import NetworkConfig
from carten.model.graph import Graph
from carten.model.inputs import Inputs, with_defaults
from carten.model.network import Network
from carten.model.parameters import Features
from carten.model.slopes import autograd_recording, differentiated, recordable
from carten.model.sums import balance, per_structure
from carten.ops.library import uncompiled
from carten.ops.space import SCALAR
from carten.physics.fragments import isotropic_totals, totals
from carten.physics.names import CHARGE, FIELD
from carten.physics.polarization import pull_energies
from carten.physics.term import EnergyTerm, Host, TermConfig, View
from carten.properties.assembly import MAX_Z, Levels, assemble, require_reached
from carten.properties.derivatives import prepare_leaves
from carten.properties.evaluation import PlannedValues
from carten.properties.heads import Head, Kind
from carten.properties.members import Member, Uncertainty
from carten.properties.planning import ENERGIES, DerivativePlan, Drawn, sources, with_sources
from carten.properties.recipes import Variable
from carten.properties.routes import NET_CHARGE, AtomicVirial, Balanced, Induced, Positive, Property, Readout
from carten.text import html_table

SMALL_CHARGE = 0.1
"""Scale of what terms take before training, e or e Å: charges that do not yet dominate the energy."""


class Potential(nn.Module):
    """Network, readouts, energy terms and derivatives: a pure function of a graph.

    Args:
        config: hyperparameters of the network.
        elements: atomic numbers the model knows.
        properties: rows to predict, each obtained by its first route; rows they are obtained from are added, and all
            that follow from these without parameters of their own (a model of energies has forces, stress, Hessians; in
            an electric field also polarizabilities, Born charges, ..).
        neighbours: average number of neighbours within the cutoff.
        seed: of the initial weights.
        backend: see :func:`carten.ops.library.evaluate`.
        inputs: of the model besides the atoms; inputs of the table that the requested properties are
            derivatives with respect to, or balanced to, or that terms need, are added.
        terms: physics that is added to the energies of atoms.

    Attributes:
        design: what the model is made of, as data; :mod:`carten.properties.assembly` makes it from the arguments.
        provenance: how the weights were made, as the file says that the model was read from.

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
        self.design = design = assemble(config, elements, properties, neighbours, inputs, terms)
        self.uncertainty: Uncertainty | None = None
        self.provenance: Mapping[str, Any] = {}
        self._plans: dict[tuple[str, ...], DerivativePlan] = {}
        generator = torch.Generator().manual_seed(seed)
        n_elements = len(design.elements)
        embedded = Inputs(design.embedded, config, n_elements, generator) if design.embedded else None
        self.network = Network(config, n_elements, design.target, neighbours, generator, backend, embedded)
        require_reached(design, self.network.spaces[-1])
        self.heads = self._heads(design.readouts, generator)
        softened = [name for name, row in design.readouts.items() if _by_softness(row)]
        self.softness = self._heads({name: Property(name, "atom", "", +1, "") for name in softened}, generator)
        self.terms = nn.ModuleList(term.build(self._host(generator)) for term in design.terms)
        self._start()
        lookup = torch.full((MAX_Z + 1,), -1)
        lookup[list(design.elements)] = torch.arange(n_elements)
        self.register_buffer("element_of", lookup, persistent=False)

    def _heads(self, rows: Mapping[str, Property], generator: torch.Generator) -> nn.ModuleDict:
        sizes = (self.config.n_channels, self.config.n_readout_channels)
        kind = Kind(len(self.elements), members=self.config.n_members)
        if self.levels is not None:
            kind = replace(kind, levels=len(self.levels.values), apart=self.levels.mode != "embedding")
        spaces = self.network.spaces
        return nn.ModuleDict({name: Head(row, spaces, kind, sizes, generator) for name, row in rows.items()})

    def _host(self, generator: torch.Generator) -> Host:
        taken = with_sources(self.design.taken, self.properties)
        routes = {name: row.routes[0].name for name, row in taken.items()}
        return Host(self.config, self.elements, self.network.spaces, generator, self.design.coupled, routes)

    def _start(self) -> None:
        """Values before there are data."""
        induced = [row for row in self.properties.values() if isinstance(row.routes[0], Induced)]
        weak = {*self.design.taken, *(name for row in induced for name in sources(row))}
        for name, row in self.design.readouts.items():
            if name in weak:
                self.heads[name].get_buffer("scale").fill_(SMALL_CHARGE)
            if isinstance(route := row.routes[0], Positive):
                self.heads[name].get_buffer("shift").fill_(math.log(math.expm1(route.start)))

    # --- what the model is --------------------------------------------------------------------------------------------

    @property
    def config(self) -> NetworkConfig:
        """Hyperparameters of the network."""
        return self.design.config

    @property
    def cutoff(self) -> float:
        """Distance up to which atoms interact directly, Å."""
        return self.design.config.cutoff

    @property
    def dtype(self) -> torch.dtype:
        """Of the network's weights."""
        return self.network.embedding.dtype

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers the model knows, ascending."""
        return self.design.elements

    @property
    def neighbours(self) -> float:
        """Average number of neighbours within the cutoff."""
        return self.design.neighbours

    @property
    def properties(self) -> Mapping[str, Property]:
        """All that the model predicts, by name."""
        return self.design.properties

    @property
    def requested(self) -> tuple[str, ...]:
        """Names of the properties that were asked for when the model was made."""
        return self.design.requested

    @property
    def usual(self) -> tuple[str, ...]:
        """Names of the properties that were asked for, and of all that cost one derivative."""
        return self.design.usual

    @property
    def inputs(self) -> Mapping[str, Input]:
        """Inputs of the model besides the atoms, by name."""
        return self.design.inputs

    @property
    def variables(self) -> Mapping[str, Variable]:
        """All that properties may be differentiated with respect to, by name."""
        return self.design.variables

    @property
    def levels(self) -> Levels | None:
        """Levels of theory, where there are some."""
        return self.design.levels

    @property
    def n_members(self) -> int:
        """Of the ensemble that shares the network; 1 where there is none."""
        if self.config.n_members > 1 or self.uncertainty is None or self.uncertainty.covariance is None:
            return self.config.n_members
        return len(self.uncertainty.deviations)

    @property
    def term_configs(self) -> tuple[TermConfig, ...]:
        """The energy terms, as configured."""
        return self.design.terms

    # --- evaluation ---------------------------------------------------------------------------------------------------

    def forward(
        self, graph: Graph, properties: Sequence[str] | None = None, drawn: Drawn | None = None
    ) -> dict[str, Tensor]:
        """Evaluate properties.

        Args:
            graph: structures, float32 or float64; only edge vectors are cast to the dtype of the model, so that
                positions far from the origin lose nothing.
            properties: names; :attr:`usual` by default, without what is per volume if no structure has a volume.
            drawn: rows wanted of what is differentiated, all by default.

        Returns:
            By name, (S, 3, ..), (N, 3, ..) or (P, 3, ..) in the row's unit. In batches NaN stands where a structure has
            no volume that a property is divided by. In training mode they can be differentiated
            with respect to the parameters; in evaluation mode they are detached. Where positions, cells or inputs of
            the graph require gradients, values can be differentiated with respect to these in either mode.

        Raises:
            ModelError: for an unknown property, an element the model has not seen, or an input that is missing.
        """
        if torch.compiler.is_compiling():
            return uncompiled(self.forward)(graph, properties, drawn)
        names = self._meaningful(graph) if properties is None else tuple(properties)
        return next(self._values(graph, names, drawn, True, [Member()]))

    def remainder(
        self, graph: Graph, properties: Sequence[str], drawn: Drawn | None = None, mixture: Tensor | None = None
    ) -> dict[str, Tensor]:
        """As :meth:`forward`, without fixed terms: for labels their share is subtracted from (training).

        See :mod:`carten.properties.fixed`. ``mixture`` are weights of the members for each structure (S, members).
        """
        return next(self._values(graph, tuple(properties), drawn, False, [Member(mixture)]))

    def members(self, graph: Graph, properties: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """As :meth:`forward`, by every member of the ensemble in turn; the network is evaluated once.

        Radial functions are looked up in tables, if :meth:`carten.model.network.Network.choose_tables` was called.
        For what is linear in the energies their mean is the model.

        Raises:
            ModelError: the model is no ensemble.
        """
        if self.n_members == 1:
            raise ModelError(
                "the model has no uncertainty: train it with model.n_members above 1, give it a posterior by carten "
                "calibrate, or join several models by carten committee"
            )
        if self.config.n_members > 1:
            one_hot = torch.eye(self.config.n_members, dtype=torch.float64, device=self.element_of.device)
            chosen = [Member(mixture=row.unsqueeze(0)) for row in one_hot]
        else:
            deviations = self.uncertainty.deviations if self.uncertainty is not None else torch.zeros(0, 0)
            chosen = [Member(deviation=row) for row in deviations.to(self.element_of.device)]
        return self._values(graph, tuple(properties), None, True, chosen)

    def descriptors(self, graph: Graph) -> Tensor:
        """Invariant features of atoms, (N, features) float64: what the energies are linear in, in eV.

        These are the scalars after each layer but the last, and the hidden layer of the last readout. Where the energy
        is not read from features, the scalars after the last layer. In evaluation mode they are detached, unless
        tensors of the graph require gradients.
        """
        keep = self.training or differentiated(graph)
        with autograd_recording(torch.is_grad_enabled()):
            graph = with_defaults(recordable(graph), self.inputs)
            terms = [term for term in self.terms if isinstance(term, EnergyTerm)]
            features, kind = self._features(graph.edge_vectors(), graph, terms, None if keep else 1)
            values = features[-1][SCALAR].flatten(1).to(torch.float64)
            if ENERGIES in self.heads and isinstance(head := self.heads[ENERGIES], Head):
                values = head.inner(features, kind)
        return values if keep else values.detach()

    def planned(self, names: tuple[str, ...]) -> DerivativePlan:
        """The steps that evaluate some properties, see :meth:`carten.properties.assembly.Design.plan`."""
        if names not in self._plans:
            self._plans[names] = self.design.plan(names)
        return self._plans[names]

    def _meaningful(self, graph: Graph) -> tuple[str, ...]:
        """The usual properties that at least one structure has."""
        if bool((torch.linalg.det(graph.cell) != 0.0).any()):
            return self.usual
        return tuple(name for name in self.usual if not self.properties[name].per_volume)

    def _values(
        self, graph: Graph, names: tuple[str, ...], drawn: Drawn | None, fixed: bool, members: Sequence[Member]
    ) -> Iterator[dict[str, Tensor]]:
        plan, keep = self.planned(names), self.training or differentiated(graph)
        record = bool(plan.variables) or torch.is_grad_enabled()
        evaluations = self.evaluations(graph, plan, drawn, fixed, members)
        for _ in members:
            with autograd_recording(record):
                planned = next(evaluations)
                planned.follow(plan.steps)
            yield {name: planned.values[name] if keep else planned.values[name].detach() for name in names}

    def evaluation(
        self, graph: Graph, plan: DerivativePlan, drawn: Drawn | None = None, fixed: bool = True
    ) -> PlannedValues:
        """See :meth:`evaluations`, of the model itself."""
        return next(self.evaluations(graph, plan, drawn, fixed))

    def evaluations(
        self,
        graph: Graph,
        plan: DerivativePlan,
        drawn: Drawn | None = None,
        fixed: bool = True,
        members: Sequence[Member] = (Member(),),
    ) -> Iterator[PlannedValues]:
        """From a graph through features and readouts to energies; the steps of the plan follow from these.

        Args:
            graph: structures.
            plan: what is wanted, see :meth:`planned`.
            drawn: rows wanted of what is differentiated, all by default.
            fixed: whether fixed terms are added to the energies.
            members: of the ensemble, one evaluation each; the model itself by default.
        """
        if self.network.embedding.is_inference():
            raise ModelError("the weights were set in torch.inference_mode(): load or copy them outside of it")
        asked = differentiated(graph)
        leaves = prepare_leaves(with_defaults(recordable(graph), self.inputs), plan.variables)
        terms = [term for term in self.terms if isinstance(term, EnergyTerm)]
        order = None if asked or (plan.spatial_order == 2 and self._learned_terms) else plan.spatial_order
        features, kind = self._features(leaves.vectors, leaves.graph, terms, order, len(members) > 1)

        rows = {name: row for name, row in plan.rows.items() if name in self.heads}
        keep = self.training or asked
        added = [term for term, config in zip(terms, self.term_configs, strict=True) if fixed or not config.fixed]
        pull = pull_energies(leaves.graph, leaves.vectors) if self._pulls(plan, leaves.graph) else None
        for k, member in enumerate(members):
            readouts = {name: self._readout(row, features, kind, leaves.graph, member) for name, row in rows.items()}
            others_follow = k < len(members) - 1
            planned = PlannedValues(plan, leaves, readouts, self.variables, keep, drawn, others_follow)
            planned.follow(plan.early)
            if ENERGIES in readouts:
                view = View(leaves.graph, leaves.vectors, features, planned.values, again=plan.again or keep)
                planned.values[ENERGIES] = sum((term(view) for term in added), start=readouts[ENERGIES])
                if pull is not None:
                    planned.values[ENERGIES] = planned.values[ENERGIES] + pull
            yield planned

    def _pulls(self, plan: DerivativePlan, graph: Graph) -> bool:
        """Whether a field may pull on a structure, which has a total charge.

        Raises:
            ModelError: virials of atoms are asked for, among which the pull does not divide.
        """
        if not self.design.has_pull:
            return False
        _require_no_virials(plan, graph)
        charge = graph.inputs[CHARGE]
        return charge.requires_grad or bool(charge.any())

    @property
    def _learned_terms(self) -> bool:
        """Whether terms take features, which they may differentiate."""
        return any(not config.fixed for config in self.term_configs)

    def _features(
        self,
        vectors: Tensor,
        graph: Graph,
        terms: Sequence[EnergyTerm],
        spatial_order: int | None,
        tabulated: bool = False,
    ) -> tuple[list[Features], Tensor]:
        """Features after each layer, and the row of each atom in the baselines of heads (N,).

        ``spatial_order`` says how often features are differentiated in space, see :class:`DerivativePlan`.
        """
        for term in terms:
            vectors = term.seen(vectors, graph)
        element = self._element(graph.numbers)
        added = None
        if self.network.inputs is not None:
            added = self.network.inputs(graph.inputs, graph.structure, element)
        features = self.network(vectors.to(self.dtype), graph.edge_index, element, added, spatial_order, tabulated)
        if self.levels is None:
            return features, element
        return features, element + len(self.elements) * graph.inputs[self.levels.name][graph.structure]

    def _readout(
        self, row: Property, features: list[Features], kind: Tensor, graph: Graph, member: Member
    ) -> Tensor:
        """Readout of a property from features, (S, 3, ..) or (N, 3, ..) float64."""
        mixture = member.mixture
        if mixture is not None and len(mixture) > 1:
            mixture = mixture[graph.structure]
        head = self.heads[row.name]
        value: Tensor = head(features, kind, mixture)
        if member.deviation is not None and row.name == ENERGIES and isinstance(head, Head):
            value = value + head.inner(features, kind) @ member.deviation
        match row.routes[0]:
            case Readout(reduce) if row.scope == "structure":
                return per_structure(value, graph, reduce == "mean")
            case Positive():
                return functional.softplus(value)
            case Balanced(total, by):
                weights = value.new_ones(graph.n_atoms)
                if by == "softness":
                    weights = functional.softplus(self.softness[row.name](features, kind, mixture))
                if row.total == NET_CHARGE and CHARGE in graph.inputs:
                    return balance(value, weights, isotropic_totals(graph, value), graph.structure)
                return balance(value, weights, *totals(total, graph, value))
        return value

    def _element(self, numbers: Tensor) -> Tensor:
        element = self.element_of[numbers.clamp(0, MAX_Z)].where((numbers >= 0) & (numbers <= MAX_Z), -1)
        if bool((element < 0).any()):
            unknown = sorted(set(numbers[element < 0].tolist()))
            raise ModelError(
                f"the model knows the atomic numbers {list(self.elements)}, found {unknown}: "
                "use a model trained on these elements"
            )
        return element

    # --- changes ------------------------------------------------------------------------------------------------------

    @torch.inference_mode(False)
    def add(self, *terms: TermConfig) -> Self:
        """Add fixed terms to a trained model whose labels lack them, as dispersion to energies of a plain functional.

        Terms that were there in training are there already.

        Raises:
            ModelError: the model has a term of this kind, or it must be there in training.
        """
        design = self.design.with_fixed(terms)
        host = Host(self.config, self.elements, self.network.spaces, torch.Generator())
        built = [config.build(host) for config in terms]
        for config, term in zip(terms, built, strict=True):
            if type(term).seen is not EnergyTerm.seen:
                raise ModelError(f"{config.kind} must be there in training: list it under terms in the configuration")
        self.terms.extend(built)
        self.design = design
        self._plans.clear()
        return self

    def freeze(self) -> Self:
        """Evaluation mode, no gradients of parameters: for inference."""
        return self.eval().requires_grad_(False)

    def _repr_html_(self) -> str:
        from carten.properties.facts import model_facts

        return html_table(model_facts(self))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        with autograd_recording(torch.is_grad_enabled()):
            return super()._apply(fn, recurse)  # type: ignore[no-untyped-call, no-any-return]


def _by_softness(row: Property) -> bool:
    route = row.routes[0]
    return isinstance(route, Balanced) and route.by == "softness"


def _require_no_virials(plan: DerivativePlan, graph: Graph) -> None:
    """Check that no virials of atoms are asked for of ions in a field, whose pull does not divide among edges."""
    virials = [name for name, row in plan.rows.items() if isinstance(row.routes[0], AtomicVirial)]
    pulled = (graph.inputs[CHARGE] != 0) & (graph.inputs[FIELD] != 0).any(1) & ~graph.pbc.all(1)
    if virials and bool(pulled.any()):
        raise ModelError(
            f"{virials[0]} of structure {int(pulled.nonzero()[0])} of the batch: what an electric field does to a "
            "structure with a total charge does not divide into virials of atoms; leave the property out, or set "
            "electric_field to zero (virial and stress of structures are there)"
        )
