"""Evaluation of batches of structures, with uncertainties where the model has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from carten.deploy.graphs import GraphEvaluator
from carten.math.arrays import Floats
from carten.model.graph import Graph
from carten.properties.members import UNCERTAIN
from carten.properties.potential import Potential
from carten.uncertainty.ensemble import Ensemble, divided, spread

Evaluate = Callable[[Graph, Sequence[str]], dict[str, Floats]]
"""Properties by name, (S, 3, ..), (N, 3, ..) or (P, 3, ..), of a graph."""


def evaluator(model: Potential | Ensemble) -> Evaluate:
    """Evaluates a model by a library where that is possible, with uncertainties if it is an ensemble."""
    return GraphEvaluator(model) if isinstance(model, Potential) else EnsembleEvaluator(model)


class EnsembleEvaluator:
    """As :class:`carten.deploy.graphs.GraphEvaluator`, for ensembles.

    Members of a committee, and what is no uncertainty, are evaluated by libraries; of members that share a network
    uncertainties of energies and their derivatives too, others by torch.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        self.evaluators = [GraphEvaluator(model) for model in ensemble.models]

    def __call__(self, graph: Graph, names: Sequence[str]) -> dict[str, Floats]:
        """Properties and uncertainties by name."""
        if len(self.evaluators) == 1:
            compiled = [name for name in names if name in self.evaluators[0].rows]
            values, spreads = divided([name for name in names if name not in compiled])
            results = self.evaluators[0](graph, [*compiled, *values])
            if spreads:
                moved = graph.to(device=self.ensemble.element_of.device)
                uncertain = self.ensemble(moved, [f"{name}{UNCERTAIN}" for name in spreads])
                results |= {name: value.detach().cpu().double().numpy() for name, value in uncertain.items()}
            return results
        values, spreads = divided(names)
        evaluated = [*dict.fromkeys((*values, *spreads))]
        each = [evaluate(graph, evaluated) for evaluate in self.evaluators]
        stacked = {name: torch.stack([torch.from_numpy(one[name]) for one in each]) for name in evaluated}
        results = {name: stacked[name].mean(dim=0).numpy() for name in values}
        for name in spreads:
            results[f"{name}{UNCERTAIN}"] = self.ensemble.scale(name) * spread(stacked[name]).numpy()
        return results
