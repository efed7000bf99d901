"""The inputs of a network: their embeddings together, and the check of what structures carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from carten.errors import ModelError
from carten.model import conditions
from carten.model.conditions import Category, Exchange, Fidelity, Input, Scalar
from carten.model.config import NetworkConfig
from carten.model.described import Layered, describe
from carten.model.embeddings import Atoms, Conditions, Embedding, build_embedding, parts_of_input
from carten.model.graph import Graph
from carten.model.parameters import Features, FeatureValues, add_features
from carten.ops.circuit import Circuit
from carten.ops.draft import Draft
from carten.ops.index import Index
from carten.ops.operators import Value
from carten.ops.space import SCALAR, Part, Space


class Inputs(Layered):
    """The embeddings of all inputs of a model.

    Args:
        rows: the inputs.
        config: hyperparameters of the network.
        n_elements: number of elements.
        generator: source of the initial weights.

    Raises:
        ModelError: a row cannot be embedded as it says, or the network lacks tensors it needs; the message names the
            option to change.
    """

    def __init__(
        self, rows: Iterable[Input], config: NetworkConfig, n_elements: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        embedded = [row for row in rows if not (isinstance(row.embed, Fidelity) and row.embed.mode == "heads")]
        for row in embedded:
            _require_embeddable(row, config)
        self.n_layers, self.n_elements = config.n_layers, n_elements
        embeddings = {row.name: build_embedding(row, config, n_elements, generator) for row in embedded}
        self.embeddings = nn.ModuleDict(embeddings)
        self.prepare()

    @property
    def start(self) -> Space:
        """Parts of the initial features."""
        return Space.of((SCALAR, *(part for embedding in self._all() for part in embedding.start)))

    @property
    def start_parts(self) -> Space:
        """Those of them that the embeddings add."""
        return Space.of(part for embedding in self._all() for part in embedding.start)

    @property
    def messages(self) -> Space:
        """Parts added to messages."""
        return Space.of(part for embedding in self._all() for part in embedding.messages)

    @property
    def exchanged(self) -> tuple[int, ...]:
        """Numbers of components of what neighbours exchange."""
        return tuple(3**embedding.row.rank for embedding in self._all() if embedding.exchanged)

    def draw(self) -> dict[str, Circuit]:
        """``start``: what all atoms get (``start/PART``); ``messages``: what own atoms get (``added/LAYER/PART``).

        Both have what neighbours exchange, ``moments/NUMBER``.
        """
        start = Atoms("all", self.n_elements, range(1))
        messages = Atoms("own", self.n_elements, range(1, self.n_layers + 1))
        names = [f"added/{k}" for k in range(self.n_layers)]
        return {"start": self._circuit(start, ["start"]), "messages": self._circuit(messages, names)}

    def _circuit(self, atoms: Atoms, names: Sequence[str]) -> Circuit:
        draft = Draft()
        places: list[FeatureValues] = [{} for _ in names]
        moments: list[Value] = []
        for embedding in self._all():
            name = embedding.row.name
            embedded = describe(self, f"embeddings.{name}", draft, atoms)
            places = [add_features(draft, place, features) for place, features in zip(places, embedded, strict=True)]
            moments += embedding.describe_moments(draft.within(f"embeddings.{name}"), atoms)
        outputs = {f"{n}/{part.name}": x for n, place in zip(names, places, strict=True) for part, x in place.items()}
        return draft.finish({**outputs, **{f"moments/{m}": value for m, value in enumerate(moments)}})

    def forward(self, values: Mapping[str, Tensor], structure: Tensor, element: Tensor) -> Conditions:
        """Contributions of the inputs for N atoms.

        Args:
            values: by input, (S, 3, ..) or (N, 3, ..).
            structure: (N,) structure of each atom.
            element: (N,) row of each atom's element.
        """
        rows = {"own": len(element), "all": len(element)}
        tensors: dict[str, Tensor] = {}
        indices = {name: Index(element, self.n_elements) for name in ("element", "all_element")}
        for embedding in self._all():
            value, row = values[embedding.row.name], embedding.row
            if row.scope == "structure":
                rows["structures"] = len(value)
                indices |= dict.fromkeys(("structure", "all_structure"), Index(structure, len(value)))
            if isinstance(row.embed, Category):
                indices[row.name] = Index(value, len(row.embed.values))
            else:
                tensors[row.name] = value.to(next(embedding.parameters()).dtype).reshape(len(value), 3**row.rank)
        circuits = [self.circuits[name] for name in ("start", "messages")]
        start, messages = (self.run(circuit, tensors, indices, rows, "reference") for circuit in circuits)
        places = [_features(start, "start/"), *(_features(messages, f"added/{k}/") for k in range(self.n_layers))]
        return Conditions(places, [value for name, value in start.items() if name.startswith("moments/")])

    def _all(self) -> list[Embedding]:
        return [embedding for embedding in self.embeddings.values() if isinstance(embedding, Embedding)]


def _features(values: Mapping[str, Tensor], prefix: str) -> Features:
    parts = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
    return {Part.named(name): value for name, value in parts.items()}


def _require_embeddable(row: Input, config: NetworkConfig) -> None:
    """Check that the row's indices fit its embedding and that the network has the parts."""
    kind = type(row.embed).__name__.lower()
    if isinstance(row.embed, Scalar | Category) and (row.rank or row.parity < 0):
        raise ModelError(
            f"input {row.name!r} has indices {row.indices!r} and parity {row.parity:+d}: "
            f"embed it as tensor, not as {kind}"
        )
    if isinstance(row.embed, Scalar | Category) and row.time_parity < 0 and config.time_reversal:
        raise ModelError(
            f"input {row.name!r} changes sign when time is reversed, energies do not: embed it as tensor or exchange"
        )
    if isinstance(row.embed, Exchange) and (row.rank > 1 or row.scope != "atom"):
        raise ModelError(f"input {row.name!r}: exchange embeds scalars or vectors of atoms, found {row.indices!r}")
    if isinstance(row.embed, Category) and not row.embed.values:
        raise ModelError(f"input {row.name!r} is a category without values: give inputs.{row.name}.values")
    if not isinstance(row.embed, conditions.Tensor):
        return
    for part in parts_of_input(row, config):
        if part.l > config.l_max_edges:
            raise ModelError(
                f"input {row.name!r} needs features of rank {part.l}, the network has up to {config.l_max_edges}: "
                f"set model.l_max_edges: {part.l}"
            )
        if not (part.natural and part.t > 0) and not config.odd_products:
            raise ModelError(
                f"input {row.name!r} needs pseudotensors {part.name}, which even products lose: "
                "set model.odd_products: true"
            )


def with_defaults(graph: Graph, rows: Mapping[str, Input]) -> Graph:
    """The graph with a value for every input: its own, or the row's default.

    Raises:
        ModelError: an input is missing and has no default, is not known, or has another shape or value than it should.
    """
    if unknown := [name for name in graph.inputs if name not in rows]:
        accepted = f"it knows {', '.join(rows)}" if rows else "it has no inputs"
        raise ModelError(f"the structures carry the input {unknown[0]!r}, which the model does not know: {accepted}")
    for row in rows.values():
        if row.name in graph.inputs and row.along_with and row.along_with not in graph.inputs:
            raise ModelError(
                f"the structures carry the input {row.name!r} without {row.along_with!r}: give both, or neither"
            )
    if not rows:
        return graph
    return replace(graph, inputs={name: _value(graph, row) for name, row in rows.items()})


def _value(graph: Graph, row: Input) -> Tensor:
    n_rows = graph.n_atoms if row.scope == "atom" else graph.n_structures
    shape = (n_rows, *row.shape)
    value = graph.inputs.get(row.name)
    if value is None:
        return _default(graph, row, shape)
    if tuple(value.shape) != shape:
        raise ModelError(
            f"input {row.name!r}: expected shape {shape} (one value per {row.scope}), found {tuple(value.shape)}"
        )
    if isinstance(row.embed, Category):
        n_values = len(row.embed.values)
        if value.is_floating_point() or bool(((value < 0) | (value >= n_values)).any()):
            present_values = sorted(set(value.tolist()))
            raise ModelError(
                f"input {row.name!r}: expected the position, 0 to {n_values - 1}, of one of {list(row.embed.values)}, "
                f"found {present_values}"
            )
    return value


def _default(graph: Graph, row: Input, shape: tuple[int, ...]) -> Tensor:
    if row.default is None:
        raise ModelError(
            f"the {graph.n_structures} structures do not carry the input {row.name!r} ({row.unit or 'no unit'}), which "
            f"has no default: set it for each {row.scope}"
        )
    if isinstance(row.embed, Category):
        return graph.numbers.new_full(shape, row.embed.values.index(row.default))
    return graph.positions.new_full(shape, float(row.default))
