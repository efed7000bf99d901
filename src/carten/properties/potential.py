"""A model: a graph in, properties out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from carten.errors import ModelError
from carten.model.config import NetworkConfig
from carten.model.graph import Graph
from carten.model.network import Network
from carten.ops.space import SCALAR, Part, Space
from carten.properties.derivatives import derive, leaves, with_derived, with_sources
from carten.properties.heads import Head, parts_of
from carten.properties.spec import Input, Property, Readout, Sum, property_table

MAX_NUMBER = 118


class Potential(nn.Module):
    """Network, readouts and derivatives: a pure function of a graph.

    Args:
        config: hyperparameters of the network.
        elements: atomic numbers the model knows.
        properties: rows to predict, each obtained by its first route; rows they are obtained from are added, and all
            that follow from these without parameters of their own (a model of energies has forces, stress and virials).
        neighbours: average number of neighbours within the cutoff.
        seed: of the initial weights.
        backend: see :func:`carten.ops.library.evaluate`.

    Raises:
        ModelError: when the network lacks tensors a property needs; the message names the option to change.
    """

    element_of: Tensor

    def __init__(
        self,
        config: NetworkConfig,
        elements: Sequence[int],
        properties: Sequence[Property],
        neighbours: float = 10.0,
        seed: int = 0,
        backend: str = "auto",
    ) -> None:
        super().__init__()
        self.config = config
        self.elements = tuple(sorted(set(elements)))
        if not self.elements or not 0 < self.elements[0] <= self.elements[-1] <= MAX_NUMBER:
            raise ModelError(f"elements are atomic numbers from 1 to {MAX_NUMBER}, found {list(self.elements)}")
        self.neighbours = float(neighbours)
        self.requested = tuple(row.name for row in properties)
        self.properties = with_derived({**property_table(), **{row.name: row for row in properties}}, self.requested)
        self.inputs: dict[str, Input] = {}
        generator = torch.Generator().manual_seed(seed)
        heads = {name: row for name, row in self.properties.items() if isinstance(row.routes[0], Readout)}
        target = _target(heads, config)
        self.network = Network(config, len(self.elements), target, neighbours, generator, backend)
        _require_reached(heads, self.network.spaces[-1], config)
        sizes = (config.n_channels, config.n_readout_channels)
        self.heads = nn.ModuleDict(
            {name: Head(row, self.network.spaces, len(self.elements), sizes, generator) for name, row in heads.items()}
        )
        lookup = torch.full((MAX_NUMBER + 1,), -1)
        lookup[list(self.elements)] = torch.arange(len(self.elements))
        self.register_buffer("element_of", lookup, persistent=False)

    @property
    def cutoff(self) -> float:
        """Distance up to which atoms interact directly, Å."""
        return self.config.cutoff

    @property
    def dtype(self) -> torch.dtype:
        """Of the network's weights."""
        return self.network.embedding.dtype

    def forward(self, graph: Graph, properties: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Evaluate properties.

        Args:
            graph: structures, float32 or float64; only edge vectors are cast to the dtype of the model, so that
                positions far from the origin lose nothing.
            properties: names, all of the model's by default.

        Returns:
            By name, (S, 3, ..) or (N, 3, ..) in the row's unit. In training mode they can be differentiated with
            respect to the parameters; in evaluation mode they are detached.

        Raises:
            ModelError: for an unknown property or an element the model has not seen.
        """
        wanted = list(self.properties if properties is None else properties)
        rows = with_sources(wanted, self.properties)
        derived = any(name not in self.heads and not isinstance(row.routes[0], Sum) for name, row in rows.items())
        with torch.set_grad_enabled(derived or torch.is_grad_enabled()):
            at = leaves(graph, rows)
            values = self._read(at.graph, at.vectors, rows)
            derive(values, rows, at, keep_graph=self.training)
        return {name: values[name] if self.training else values[name].detach() for name in wanted}

    def _read(self, graph: Graph, vectors: Tensor, rows: Mapping[str, Property]) -> dict[str, Tensor]:
        """Readouts and their sums."""
        element = self._element(graph.numbers)
        layers = self.network(vectors.to(self.dtype), graph.edge_index, element)
        values: dict[str, Tensor] = {}
        for name, row in rows.items():
            route = row.routes[0]
            if isinstance(route, Readout):
                value = self.heads[name](layers, element)
                values[name] = value if row.scope == "atom" else _per_structure(value, graph, route.reduce == "mean")
            elif isinstance(route, Sum):
                values[name] = _per_structure(values[route.of], graph)
        return values

    def _element(self, numbers: Tensor) -> Tensor:
        element = self.element_of[numbers.clamp(0, MAX_NUMBER)].where((numbers >= 0) & (numbers <= MAX_NUMBER), -1)
        if bool((element < 0).any()):
            found = sorted(set(numbers[element < 0].tolist()))
            raise ModelError(
                f"the model knows the atomic numbers {list(self.elements)}, found {found}: "
                "use a model trained on these elements"
            )
        return element

    def freeze(self) -> Self:
        """Evaluation mode, no gradients of parameters: for inference."""
        return self.eval().requires_grad_(False)


def _per_structure(value: Tensor, graph: Graph, mean: bool = False) -> Tensor:
    total = value.new_zeros((graph.n_structures, *value.shape[1:])).index_add(0, graph.structure, value)
    if not mean:
        return total
    counts = torch.bincount(graph.structure, minlength=graph.n_structures).clamp(min=1)
    return total / counts.view(-1, *[1] * (value.dim() - 1))


def _target(heads: Mapping[str, Property], config: NetworkConfig) -> Space:
    """Parts the last layer must deliver; scalars always, since they gate the others."""
    needed: set[Part] = {SCALAR}
    reach = Space.up_to(max(config.l_max_edges, config.l_max_features), config.odd_products)
    for name, row in heads.items():
        for part in parts_of(row):
            if part.l > reach.l_max:
                raise ModelError(
                    f"property {name!r} needs features of rank {part.l}, the network has up to {reach.l_max}: "
                    f"set model.l_max_edges: {part.l}"
                )
            if part not in reach:
                raise ModelError(
                    f"property {name!r} needs pseudotensors {part.name}, which even products never make: "
                    "set model.odd_products: true"
                )
            needed.add(part)
    return Space(tuple(sorted(needed, key=lambda part: (part.l, not part.natural))))


def _require_reached(heads: Mapping[str, Property], space: Space, config: NetworkConfig) -> None:
    for name, row in heads.items():
        missing = [part.name for part in parts_of(row) if part not in space]
        if missing:
            raise ModelError(
                f"property {name!r} needs features {', '.join(missing)}, which products of order "
                f"{config.correlation_order} of features up to rank {config.l_max_edges} do not make: increase "
                "model.correlation_order, model.l_max_edges or model.n_layers"
            )
