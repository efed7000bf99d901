"""A deployed model with the face of a model, so that what holds for models can be tried on it."""

from collections.abc import Sequence
from functools import cache
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from carten.deploy import Deployed, Pairs, deploy
from carten.interfaces.paths import Row, result_of, value_of
from carten.model.graph import Graph
from carten.properties.potential import Potential


class Snapshot:
    """What :mod:`contract` looks at in a model, evaluated by a compiled library."""

    def __init__(self, model: Potential, deployed: Deployed, threads: int = 1) -> None:
        self.deployed = deployed
        self.rows = {row["name"]: Row(**row) for row in deployed.header["rows"] if row["source"]}
        self.properties = {name: model.properties[name] for name in self.rows}
        self.usual = tuple(name for name in model.usual if name in self.rows)
        self.inputs, self.cutoff, self.elements = model.inputs, deployed.cutoff, deployed.elements
        self.dtype = torch.float64
        self.network = SimpleNamespace(embedding=torch.zeros(1))
        self.evaluator = deployed.evaluator(threads)

    def __call__(self, graph: Graph, properties: Sequence[str] | None = None) -> dict[str, Tensor]:
        names = list(self.usual if properties is None else properties)
        parts = [self._structure(graph, k, names) for k in range(graph.n_structures)]
        return {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in names}

    def _structure(self, graph: Graph, k: int, names: Sequence[str]) -> dict[str, np.ndarray]:
        atoms = torch.nonzero(graph.structure == k).squeeze(1)
        first = int(atoms[0])
        mine = (graph.edge_index[0] >= first) & (graph.edge_index[0] <= int(atoms[-1]))
        centre, neighbour = ((row[mine] - first).numpy().copy() for row in graph.edge_index)
        pairs = Pairs(centre, neighbour, graph.edge_shift[mine].numpy().astype(np.int32))
        told = {
            name: (value[atoms] if self.inputs[name].scope == "atom" else value[k : k + 1]).numpy()
            for name, value in graph.inputs.items()
        }
        self.evaluator.tell(told)
        wanted = [result_of(self.rows[name].source) for name in names]
        elements = self.deployed.rows_of(graph.numbers[atoms].numpy())
        cell = graph.cell[k].numpy()
        results = self.evaluator.step(elements, graph.positions[atoms].numpy(), cell, pairs, wanted)
        volume = abs(np.linalg.det(cell))
        values = {name: value_of(self.rows[name].source, results, volume) for name in names}
        return {name: x.reshape(len(x), *(3,) * self.rows[name].rank) for name, x in values.items()}


@cache
def snapshot(model: Potential, dtype: str = "float64", exact: bool = False, threads: int = 1) -> Snapshot:
    """A snapshot of a model."""
    return Snapshot(model, deploy(model, dtype, exact), threads)
