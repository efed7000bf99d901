"""The protocol of energy terms: additive contributions to the energies of atoms. None knows another.

A term is configured by a :class:`TermConfig` (listed under ``terms`` in the configuration of a run and kept in the
header of model files) and evaluated by the :class:`EnergyTerm` it builds. Everything that follows from the energy
(forces, stress, Hessians, ..) follows from the terms as well, because they are differentiated with it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from carten.errors import ModelError
from carten.model.config import NetworkConfig
from carten.model.graph import Graph
from carten.model.parameters import Features, Precise
from carten.ops.space import Space


@dataclass(frozen=True)
class Host:
    """The model that a term becomes part of.

    Args:
        network: hyperparameters.
        elements: atomic numbers the model knows, ascending.
        spaces: parts of the features after each layer, for readouts.
        generator: source of initial weights.
        inputs: names of the inputs that only terms depend on, not the network.
        routes: names of the routes by which properties that terms take are obtained.
    """

    network: NetworkConfig
    elements: tuple[int, ...]
    spaces: Sequence[Space]
    generator: torch.Generator
    inputs: frozenset[str] = frozenset()
    routes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TermSource:
    """A property of atoms that a term takes from the model.

    Args:
        name: of the property.
        routes: names of the routes by which it may be obtained; by the first if the model does not predict it anyway.
        like: the row of the property table that it is a copy of, itself by default.
        options: of routes that have options of these names, which are then those of the term.
    """

    name: str
    routes: tuple[str, ...]
    like: str = ""
    options: Mapping[str, float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class View:
    """What a term sees of a batch.

    Energies are differentiated with respect to the tensors in here: use these, not copies.

    Args:
        graph: positions, cells, inputs.
        vectors: (E, 3) edge vectors of the graph, Å.
        features: of atoms, after each layer; fixed terms do without.
        values: of properties that terms take, by name.
        again: whether derivatives of the energies are differentiated again.
    """

    graph: Graph
    vectors: Tensor
    features: Sequence[Features] = ()
    values: Mapping[str, Tensor] = field(default_factory=dict)
    again: bool = False

    def value(self, name: str) -> Tensor:
        """Of a property that the term takes.

        Raises:
            ModelError: the term does not list it among its sources.
        """
        if name not in self.values:
            raise ModelError(f"a term takes the property {name!r}, which it does not list among its sources")
        return self.values[name]


class EnergyTerm(Precise):
    """Evaluates the energies of one term; its float64 buffers stay float64 whatever the dtype of the model."""

    def forward(self, view: View) -> Tensor:
        """(N,) float64, eV: what the term adds to the energy of each atom; they add up to that of a structure."""
        raise NotImplementedError

    def seen(self, vectors: Tensor, graph: Graph) -> Tensor:
        """(E, 3) the edge vectors as the network sees them where a term takes over from it; unchanged by default."""
        return vectors


class TermConfig(BaseModel, ABC):
    """One entry under ``terms``; a subclass has a ``kind`` of its own, and its options."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: str
    fixed: ClassVar[bool] = False
    """Whether the term is a function of positions, cells and numbers alone: it has no parameters and looks at no
    features or inputs. Its values are then subtracted from labels once, before training."""
    local: ClassVar[bool] = False
    """Whether it depends on positions and cells through the edge vectors of the view alone, as atomic virials take."""
    physics: ClassVar[str] = ""
    """What it describes, if other kinds of terms describe the same, so that there may be only one of them."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of inputs (of the table) that it couples to; the network has them only if they are configured."""
        return ()

    @property
    def sources(self) -> tuple[TermSource, ...]:
        """Properties the term takes from the model."""
        return ()

    @abstractmethod
    def build(self, host: Host) -> EnergyTerm:
        """The term as part of a model.

        Raises:
            ModelError: the model has an element the term knows nothing about, or does not fit otherwise.
        """


def require_distinct(terms: Sequence[TermConfig]) -> None:
    """Check that no kind of term is listed twice, nor two that describe the same.

    Raises:
        ModelError: one is.
    """
    kinds: dict[str, str] = {}
    for term in terms:
        effect = term.physics or term.kind
        if effect in kinds:
            if kinds[effect] == term.kind:
                raise ModelError(f"terms: {term.kind} is listed twice; keep one")
            raise ModelError(f"terms: {kinds[effect]} and {term.kind} both add {effect}; keep one")
        kinds[effect] = term.kind
