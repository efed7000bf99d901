"""Values of the terms that are functions of the structure alone: what labels lack that a network need not learn.

A term without parameters is known before training. Its share of every label that follows from the energy is subtracted
once, the model is compared with the rest (:meth:`carten.properties.potential.Potential.remainder`), and adds the term
wherever else it is evaluated: what is subtracted is part of the model, so that it is neither forgotten nor added twice.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from carten.model.conditions import Input
from carten.model.config import NetworkConfig
from carten.model.graph import Graph
from carten.model.inputs import with_defaults
from carten.model.slopes import autograd_recording, recordable
from carten.physics.term import EnergyTerm, Host, TermConfig, View
from carten.properties.derivatives import prepare_leaves
from carten.properties.evaluation import PlannedValues
from carten.properties.planning import ENERGIES, needed_inputs, plan_derivatives, settled, sources
from carten.properties.recipes import PropertyRows, variables
from carten.properties.routes import Property
from carten.properties.spec import property_table


class Fixed:
    """The fixed ones of some terms, without a network.

    Args:
        terms: of a model.
        network: its hyperparameters.
        elements: atomic numbers it knows.
        properties: those it predicts.
        inputs: of the model.

    Attributes:
        rows: the properties that terms have a share in, by name.

    Raises:
        ModelError: a term has no parameters for an element, or does not fit otherwise.
    """

    def __init__(
        self,
        terms: Sequence[TermConfig],
        network: NetworkConfig,
        elements: Sequence[int],
        properties: Sequence[Property],
        inputs: Sequence[Input],
    ) -> None:
        host = Host(network, tuple(sorted(set(elements))), (), torch.Generator())
        self.terms: list[EnergyTerm] = [term.build(host) for term in terms if term.fixed]
        self._inputs = {row.name: row for row in inputs}
        self._variables = variables(inputs)
        rows = settled(properties, property_table(), self._variables)
        self.rows = {name: row for name, row in rows.items() if follows(name, rows)}

    def values(self, graph: Graph, names: Sequence[str]) -> dict[str, Tensor]:
        """What the terms add to properties, by name: (S, 3, ..), (N, 3, ..) or (P, 3, ..) in the row's unit.

        Args:
            graph: structures in float64.
            names: of :attr:`rows`.
        """
        plan = plan_derivatives(names, self.rows, self._variables)
        with autograd_recording():
            leaves = prepare_leaves(with_defaults(recordable(graph), self._inputs), plan.variables)
            energies = torch.stack([term(View(leaves.graph, leaves.vectors)) for term in self.terms]).sum(0)
            planned = PlannedValues(plan, leaves, {ENERGIES: energies}, self._variables, keep=False)
            planned.follow(plan.steps)
            return {name: planned.values[name].detach() for name in names}


def follows(name: str, rows: PropertyRows) -> bool:
    """Whether a property is the energy, or its derivative with respect to positions and strain: terms have a share."""
    if name == ENERGIES:
        return True
    origins = sources(rows[name])
    return bool(origins) and not needed_inputs(rows[name]) and all(follows(origin, rows) for origin in origins)
