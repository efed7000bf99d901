"""The inputs of a network: their embeddings together, and the check of what structures carry."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from carten.errors import ModelError
from carten.math.symmetry import decompose
from carten.model import conditions
from carten.model.conditions import Category, Exchange, Fidelity, Input, Scalar
from carten.model.config import NetworkConfig
from carten.model.embeddings import Conditions, Embedding, add, build
from carten.model.graph import Graph
from carten.model.parameters import Features
from carten.ops.space import SCALAR, Part, Space


class Inputs(nn.Module):
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
        told = [row for row in rows if not (isinstance(row.embed, Fidelity) and row.embed.mode == "heads")]
        for row in told:
            _require_embeddable(row, config)
        self.n_places = config.n_layers + 1
        self.embeddings = nn.ModuleDict({row.name: build(row, config, n_elements, generator) for row in told})

    @property
    def start(self) -> Space:
        """Parts of the initial features."""
        return Space.of((SCALAR, *(part for embedding in self._all() for part in embedding.start)))

    @property
    def messages(self) -> Space:
        """Parts added to messages."""
        return Space.of(part for embedding in self._all() for part in embedding.messages)

    @property
    def n_exchanged(self) -> int:
        """Number of inputs that neighbours exchange."""
        return sum(embedding.exchanged for embedding in self._all())

    def forward(self, values: Mapping[str, Tensor], structure: Tensor, element: Tensor) -> Conditions:
        """What is added for N atoms.

        Args:
            values: by input, (S, 3, ..) or (N, 3, ..).
            structure: (N,) structure of each atom.
            element: (N,) row of each atom's element.
        """
        places: list[Features] = [{} for _ in range(self.n_places)]
        moments: list[Tensor] = []
        for name, embedding in self.embeddings.items():
            value = values[name]
            dtype = next(embedding.parameters()).dtype
            found = embedding(value.to(dtype) if value.is_floating_point() else value, structure, element)
            places = [add(place, more) for place, more in zip(places, found.places, strict=True)]
            moments += found.moments
        return Conditions(places, moments)

    def _all(self) -> list[Embedding]:
        return [embedding for embedding in self.embeddings.values() if isinstance(embedding, Embedding)]


def _require_embeddable(row: Input, config: NetworkConfig) -> None:
    """Check that the row's indices fit its embedding and that the network has the parts."""
    kind = type(row.embed).__name__.lower()
    if isinstance(row.embed, Scalar | Category) and (row.rank or row.parity < 0):
        raise ModelError(
            f"input {row.name!r} has indices {row.indices!r} and parity {row.parity:+d}: "
            f"embed it as tensor, not as {kind}"
        )
    if isinstance(row.embed, Exchange) and (row.rank > 1 or row.scope != "atom"):
        raise ModelError(f"input {row.name!r}: exchange embeds scalars or vectors of atoms, found {row.indices!r}")
    if isinstance(row.embed, Category) and not row.embed.values:
        raise ModelError(f"input {row.name!r} is a category without values: give inputs.{row.name}.values")
    if not isinstance(row.embed, conditions.Tensor):
        return
    for l, _ in decompose(row.indices).parts:
        part = Part(l, row.parity)
        if l > config.l_max_edges:
            raise ModelError(
                f"input {row.name!r} needs features of rank {l}, the network has up to {config.l_max_edges}: "
                f"set model.l_max_edges: {l}"
            )
        if not part.natural and not config.odd_products:
            raise ModelError(
                f"input {row.name!r} needs pseudotensors {part.name}, which even products lose: "
                "set model.odd_products: true"
            )


def complete(graph: Graph, rows: Mapping[str, Input]) -> Graph:
    """The graph with a value for every input: its own, or the row's default.

    Raises:
        ModelError: an input is missing and has no default, is not known, or has another shape or value than it should.
    """
    if unknown := [name for name in graph.inputs if name not in rows]:
        known = f"it knows {', '.join(rows)}" if rows else "it has no inputs"
        raise ModelError(f"the structures carry the input {unknown[0]!r}, which the model does not know: {known}")
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
            found = sorted(set(value.tolist()))
            raise ModelError(
                f"input {row.name!r}: expected the position, 0 to {n_values - 1}, of one of {list(row.embed.values)}, "
                f"found {found}"
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
