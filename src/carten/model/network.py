"""The network: embedding, layers of interaction and product, tensor features of every atom after each layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from carten.model import product
from carten.model.config import NetworkConfig
from carten.model.described import Layered, describe
from carten.model.edges import Edges, EdgeValues, Interval, edge_circuit, locate, radial_basis
from carten.model.embeddings import Conditions
from carten.model.exchange import ExchangeLayer, Moments
from carten.model.expansion import MOST_EXPANDED, expand
from carten.model.inputs import Inputs
from carten.model.interaction import GatedInteraction, Interaction
from carten.model.parameters import ElementLinear, Features, FeatureValues, Linear, add_features, channels, normal
from carten.model.tables import tables
from carten.ops.circuit import Circuit
from carten.ops.draft import Draft
from carten.ops.gates import look_up_plan
from carten.ops.index import Index
from carten.ops.interpreter import weights
from carten.ops.library import uncompiled
from carten.ops.space import SCALAR, Part, Space

MOST_TRAINED = 4096
"""Intervals of tables in training at most: more cost more than radial functions of all edges of a batch."""


class Layer(Layered):
    """``h' = Linear(product(interaction(h))) + Linear_z(h)``.

    ``space`` are the parts of the target that the products make or the residual has. Inputs are added to what the
    interaction gives. See :class:`carten.model.config.ResidualConfig` for what else the residual may be of.
    """

    def __init__(
        self,
        config: NetworkConfig,
        features: Space,
        target: Space,
        n_elements: int,
        neighbours: float,
        generator: torch.Generator,
        inputs: Inputs | None = None,
    ) -> None:
        super().__init__()
        n = config.n_channels
        self.config, self.features, self.n_elements = config, features, n_elements
        self.elements = config.product.elements
        kind = GatedInteraction if config.interaction.gate else Interaction
        self.interaction = kind(config, features, n_elements, neighbours, generator)
        self.added = inputs.messages if inputs is not None else Space(())
        self.moments = inputs.exchanged if inputs is not None else ()
        factors = Space.of((*self.interaction.target.parts, *self.added.parts))
        kinds = n_elements if self.elements else 1
        reachable = product.reachable_features(config, factors, target)
        n_factors = config.n_product_channels
        self.reduce = None if n_factors == n else Linear(channels(factors, n), n_factors, generator)
        self.product = product.build_product(config, factors, reachable, kinds, generator)
        self.out = Linear(channels(reachable, n_factors), n, generator)
        source = config.residual.source
        entering = self.interaction.target if source == "both" else Space(())
        origin = {"features": features, "none": Space(())}.get(source, self.interaction.target)
        kept = target.within(origin)
        self.entry = ElementLinear(channels(entering.within(features), n), n, n_elements, generator)
        self.residual = ElementLinear(channels(kept, n), n, n_elements, generator)
        self.space = Space(tuple(part for part in target.parts if part in reachable or part in kept))
        exchanges = (ExchangeLayer(config, n_elements, neighbours, generator) for _ in self.moments)
        self.exchanges = nn.ModuleList(exchanges)
        self.prepare()

    def draw(self) -> dict[str, Circuit]:
        """``exact``, and where radial functions depend on lengths alone ``tabulated`` and ``tables``.

        Inputs are ``all/PART``, features of all atoms, and ``own/PART``, those of own atoms among them; what
        :class:`Edges` has; and where there are inputs ``added/PART``, ``all_moments/NUMBER`` and
        ``own_moments/NUMBER``. Tables are called ``table``, and ``table/NUMBER`` for what moments are exchanged by.
        Outputs are the parts of the features of own atoms after the layer, by name.
        """
        circuits = {"exact": self._circuit(tabulated=False)}
        if all(x.radial.tabulable for x in self._interactions.values()):
            circuits |= {"tabulated": self._circuit(tabulated=True), "tables": self._tables()}
        return circuits

    @property
    def _interactions(self) -> dict[str, Interaction]:
        """Interactions by the name of their table."""
        exchanges = [module for module in self.exchanges if isinstance(module, ExchangeLayer)]
        return {"table": self.interaction, **{f"table/{m}": x.density for m, x in enumerate(exchanges)}}

    def _circuit(self, tabulated: bool) -> Circuit:
        draft, n = Draft(), self.config.n_channels
        sent = {part: draft.input(f"all/{part.name}", "all", part.size, n) for part in self.features.parts}
        own_features = {part: draft.input(f"own/{part.name}", "own", part.size, n) for part in self.features.parts}
        edges = EdgeValues.of(draft, self.config, self.n_elements, tabulated)
        element = draft.index("element", "own", self.n_elements)
        message: FeatureValues = describe(self, "interaction", draft, [sent], edges, "table")[0]
        message = add_features(draft, message, describe(self, "entry", draft, own_features, element))
        origin = own_features if self.config.residual.source == "features" else message
        added = {part: draft.input(f"added/{part.name}", "own", part.size, n) for part in self.added.parts}
        message = add_features(draft, message, added)
        for m, size in enumerate(self.moments):
            moments = Moments(*(draft.input(f"{rows}_moments/{m}", rows, size) for rows in ("all", "own")))
            exchanged = describe(self, f"exchanges.{m}", draft, sent, moments, edges, f"table/{m}")
            message = add_features(draft, message, exchanged)
        kind = element if self.elements else draft.index("zero", "own", 1)
        factors = message if self.reduce is None else describe(self, "reduce", draft, message)
        mixed = describe(self, "out", draft, describe(self, "product", draft, factors, kind))
        result = add_features(draft, mixed, describe(self, "residual", draft, origin, element))
        return draft.finish({part.name: result[part] for part in self.space.parts})

    def _tables(self) -> Circuit:
        draft = Draft()
        knots = draft.input("knots", "knots", 2, self.config.radial.n_basis)
        paths = {"table": "interaction", **{f"table/{m}": f"exchanges.{m}.density" for m in range(len(self.exchanges))}}
        tables = self._interactions
        return draft.finish(
            {name: tables[name].describe_table(draft.within(path), knots) for name, path in paths.items()}
        )

    def forward(
        self, features: Features, edges: Edges, added: Features | None = None, moments: Sequence[Tensor] = ()
    ) -> Features:
        """Features of the next layer; ``added`` is what inputs add, ``moments`` are those that atoms exchange."""
        tensors = {
            **edges.tensors,
            **_named("all", features),
            **_named("own", features),
            **_named("added", added or {}),
        }
        for m, value in enumerate(moments):
            tensors |= {f"all_moments/{m}": value, f"own_moments/{m}": value}
        circuits = self.circuits
        circuit = circuits["exact" if edges.interval is None else "tabulated"]
        if edges.interval is not None:
            tensors |= edges.interval.tables(lambda knots, backend: self.tables_at(knots, backend or edges.backend))
        indices = {index.name: edges.index(index.name) for index in circuit.indices}
        values = self.run(circuit, tensors, indices, edges.rows, edges.backend)
        return {part: values[part.name] for part in self.space.parts}

    def tables_at(self, knots: Tensor, backend: str) -> dict[str, Tensor]:
        """Tables by name from the radial basis at knots."""
        return self.run(self.circuits["tables"], {"knots": knots}, {}, {"knots": len(knots)}, backend)

    @property
    def present_tables(self) -> tuple[Circuit, dict[str, Tensor]]:
        """The circuit of its tables, and the present weights of that in float64."""
        circuit = self.circuits["tables"]
        return circuit, {name: x.detach().to(torch.float64) for name, x in weights(self, circuit).items()}


def _named(prefix: str, features: Mapping[Part, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{part.name}": value for part, value in features.items()}


class Network(Layered):
    """Equivariant message passing on atoms of ``n_elements`` kinds.

    Args:
        config: hyperparameters.
        n_elements: number of elements.
        target: parts wanted after the last layer; earlier layers keep all up to ``l_max_features``. What each layer has
            is in ``spaces``: parts that no product of the layer makes are left out.
        neighbours: average number of neighbours, normalises sums over edges.
        generator: source of the initial weights.
        backend: how plans are evaluated, see :func:`carten.ops.library.evaluate`.
        inputs: embeddings of the inputs of the network besides the atoms.
    """

    def __init__(
        self,
        config: NetworkConfig,
        n_elements: int,
        target: Space,
        neighbours: float,
        generator: torch.Generator,
        backend: str = "auto",
        inputs: Inputs | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.backend = backend
        self.inputs = inputs
        self.embedding = normal((n_elements, config.n_channels), generator)
        self.start = inputs.start if inputs is not None else Space((SCALAR,))
        hidden = config.space(config.l_max_features)
        self.layers = nn.ModuleList()
        self.trained_intervals = 0
        self.spaces: list[Space] = []
        for number, space in enumerate([*[hidden] * (config.n_layers - 1), target]):
            features = self.spaces[-1] if self.spaces else self.start
            layer = Layer(config.of_layer(number), features, space, n_elements, neighbours, generator, inputs)
            self.layers.append(layer)
            self.spaces.append(layer.space)
        self.prepare()

    def draw(self) -> dict[str, Circuit]:
        """``edges``, see :func:`carten.model.edges.edge_circuit`, and ``start``: features before the first layer.

        The latter are those of all atoms, from their elements and ``start/PART``, which inputs add.
        """
        draft, (n_elements, n) = Draft(), self.embedding.shape
        index = draft.index("all_element", "all", n_elements)
        embedding = draft.weight("embedding", (n_elements, 1, n))
        features = {SCALAR: draft.run(look_up_plan(), [embedding], "all", {"row": index})[0]}
        if self.inputs is not None:
            added = {p: draft.input(f"start/{p.name}", "all", p.size, n) for p in self.inputs.start_parts.parts}
            features = add_features(draft, features, added)
        start = draft.finish({part.name: features[part] for part in self.start.parts})
        return {"edges": edge_circuit(self.config), "start": start}

    @property
    def tabulable(self) -> bool:
        """Whether the radial networks depend on nothing but the length of an edge."""
        return all("tabulated" in layer.circuits for layer in self.layers if isinstance(layer, Layer))

    def choose_tables(self, tolerance: float = 1e-5) -> int:
        """In training mode, look radial functions up in tables, made at every step from the weights of that step.

        The work of the radial networks then does not grow with the number of edges. Call it again as the weights
        change. Evaluation is not concerned, nor are second derivatives in space: they evaluate radial functions.

        Args:
            tolerance: of the tables of the present weights: largest error of a radial function relative to its largest
                value, and a tenth of that of its slope.

        Returns:
            The number of intervals of the tables; 0 where radial functions are evaluated, because they depend on more
            than lengths or the tolerance can't be met.
        """
        self.trained_intervals = 0
        if self.tabulable:
            layers = [layer for layer in self.layers if isinstance(layer, Layer)]
            self.trained_intervals = tables(
                [layer.present_tables for layer in layers], self.config, tolerance, MOST_TRAINED
            )[0]
        return self.trained_intervals

    def forward(
        self,
        vectors: Tensor,
        edge_index: Tensor,
        element: Tensor,
        added: Conditions | None = None,
        spatial_order: int | None = None,
        tabulated: bool = False,
    ) -> list[Features]:
        """Features after each layer.

        Args:
            vectors: (E, 3) from centre to neighbour, Å.
            edge_index: (2, E) centre and neighbour, sorted by centre.
            element: (N,) row of each atom's element.
            added: what :attr:`inputs` add.
            spatial_order: how often features will be differentiated with respect to the vectors, ``None`` for more than
                twice or not known. Tables are rough from the second derivative on, expansions from the third.
            tabulated: whether tables may be used in evaluation mode too, as :meth:`choose_tables` chose them.
        """
        if torch.compiler.is_compiling():
            return uncompiled(self.forward)(vectors, edge_index, element, added, spatial_order, tabulated)
        edges = self._edges(vectors, edge_index, element, spatial_order, tabulated)
        tensors = _named("start", added.places[0]) if added is not None else {}
        start = self.run(self.circuits["start"], tensors, {"all_element": edges.element}, edges.rows, self.backend)
        features = {part: start[part.name] for part in self.start.parts}
        result = []
        for k, layer in enumerate(self.layers, start=1):
            features = layer(features, edges, *((added.places[k], added.moments) if added is not None else ()))
            result.append(features)
        return result

    def _edges(
        self, vectors: Tensor, edge_index: Tensor, element: Tensor, spatial_order: int | None, tabulated: bool
    ) -> Edges:
        n_atoms = len(element)
        centre, neighbour = Index(edge_index[0], n_atoms, ascending=True), Index(edge_index[1], n_atoms)
        length = vectors.norm(dim=1)
        unit = vectors / length.unsqueeze(1)
        interval = self._interval(length, spatial_order, tabulated)
        basis = radial_basis(length, self.config) if interval is None else unit[:, :0]
        tensors = {"one": torch.ones_like(unit[:, :1]), "unit": unit}
        harmonics = self.run(self.circuits["edges"], tensors, {}, {"edges": len(unit)}, self.backend)["harmonics"]
        return Edges(basis, harmonics, centre, neighbour, Index(element, len(self.embedding)), self.backend, interval)

    def _interval(self, length: Tensor, spatial_order: int | None, tabulated: bool) -> Interval | None:
        """Where radial functions are looked up; ``None`` where they are evaluated, and differentiated like all else."""
        if spatial_order == 1 and self.trained_intervals and (self.training or tabulated):
            return locate(length, self.config, self.trained_intervals)
        learning = self.training or any(parameter.requires_grad for parameter in self.parameters())
        if spatial_order == 2 and self.tabulable and not learning and len(length) <= MOST_EXPANDED:
            return expand(length, self.config)
        return None
