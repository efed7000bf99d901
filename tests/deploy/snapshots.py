"""A deployed model with the face of a model, so that what holds for models can be tried on it."""

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace

import torch
from torch import Tensor

from carten.deploy import Deployed, deploy
from carten.deploy.graphs import GraphEvaluator
from carten.model.graph import Graph
from carten.properties.potential import Potential


class Snapshot:
    """What :mod:`contract` looks at in a model, evaluated by a compiled library."""

    def __init__(self, model: Potential, deployed: Deployed, threads: int = 1) -> None:
        self.evaluator = GraphEvaluator(model, deployed, threads)
        self.properties = {name: model.properties[name] for name in self.evaluator.rows}
        self.usual = tuple(name for name in model.usual if name in self.properties)
        self.inputs, self.cutoff, self.elements = model.inputs, deployed.cutoff, deployed.elements
        self.dtype = torch.float64
        self.network = SimpleNamespace(embedding=torch.zeros(1))

    def __call__(self, graph: Graph, properties: Sequence[str] | None = None) -> dict[str, Tensor]:
        names = list(self.usual if properties is None else properties)
        assert set(names) <= set(self.properties)
        return {name: torch.from_numpy(value) for name, value in self.evaluator(graph, names).items()}


@cache
def snapshot(model: Potential, dtype: str = "float64", exact: bool = False, threads: int = 1) -> Snapshot:
    """A snapshot of a model."""
    return Snapshot(model, deploy(model, dtype, exact), threads)
