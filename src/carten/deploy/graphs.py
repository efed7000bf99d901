"""Batches of structures, evaluated by a library where that is possible, else by the model."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from carten.deploy.bind import beyond
from carten.deploy.deployed import Deployed, PairList
from carten.deploy.make import compile_model
from carten.deploy.results import Row, result_of, value_of
from carten.errors import ModelError
from carten.math.arrays import Floats
from carten.model.graph import Graph
from carten.properties.potential import Potential


class GraphEvaluator:
    """Evaluates properties of graphs: those that a library has by a snapshot of the model, the others by the model.

    Args:
        model: stays as it is.
        library: its library; made unless the model is on another device, or has terms that no library has.
        threads: of the library, as many as torch uses by default.
    """

    def __init__(self, model: Potential, library: Deployed | None = None, threads: int | None = None) -> None:
        self.model = model
        self.library = _deployed(model) if library is None else library
        rows = [] if self.library is None else self.library.header["rows"]
        self.rows = {row["name"]: Row(**row) for row in rows if row["source"]}
        threads = torch.get_num_threads() if threads is None else threads
        self._evaluator = None if self.library is None else self.library.evaluator(threads)

    def __call__(self, graph: Graph, names: Sequence[str]) -> dict[str, Floats]:
        """Properties by name, (S, 3, ..), (N, 3, ..) or (P, 3, ..)."""
        compiled = [name for name in names if name in self.rows]
        rest = [name for name in names if name not in self.rows]
        values_by_name: dict[str, Floats] = {}
        if compiled:
            parts = [self._structure(graph, k, compiled) for k in range(graph.n_structures)]
            values_by_name = {name: np.concatenate([part[name] for part in parts]) for name in compiled}
        if rest:
            values = self.model(graph.to(device=self.model.element_of.device), rest)
            values_by_name |= {name: value.detach().cpu().double().numpy() for name, value in values.items()}
        return values_by_name

    def _structure(self, graph: Graph, k: int, names: Sequence[str]) -> dict[str, Floats]:
        if self._evaluator is None or self.library is None:
            raise ModelError("there is no library")
        first, end = _range(graph.structure, k, k + 1)
        edges = slice(*_range(graph.edge_index[0], first, end))  # edges lie by ascending centre
        centre, neighbour = ((row[edges] - first).numpy() for row in graph.edge_index)
        pairs = PairList(centre, neighbour, graph.edge_shift[edges].numpy().astype(np.int32))
        if self.library.inputs:
            self._evaluator.tell(
                {
                    name: (value[first:end] if self.model.inputs[name].scope == "atom" else value[k : k + 1]).numpy()
                    for name, value in graph.inputs.items()
                    if name in self.library.inputs
                }
            )
        cell = graph.cell[k].double().numpy()
        results = self._evaluator.step(
            self.library.rows_of(graph.numbers[first:end].numpy()),
            graph.positions[first:end].double().numpy(),
            cell,
            pairs,
            [result_of(self.rows[name].source) for name in names],
        )
        volume = abs(float(np.linalg.det(cell))) or np.nan
        return {name: value_of(self.rows[name], results, volume) for name in names}


def _range(ascending: Tensor, least: int, limit: int) -> tuple[int, int]:
    """Where values from ``least`` to below ``limit`` lie among ascending ones."""
    first, end = torch.searchsorted(ascending, torch.tensor([least, limit])).tolist()
    return first, end


def _deployed(model: Potential) -> Deployed | None:
    elsewhere = model.element_of.device.type != "cpu" or model.network.backend not in ("auto", "cpp")
    if elsewhere or beyond(model):
        return None
    try:
        return compile_model(model)
    except ModelError as error:
        warnings.warn(f"the model is evaluated with torch, which is slower: {error}", stacklevel=3)
        return None
