"""A network with fixed weights and tables as two calls of compiled code: features, and their gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

import torch
from torch import Tensor

from carten.model.config import NetworkConfig
from carten.model.edges import Edges, Interval, edge_circuit, locate
from carten.model.parameters import Features
from carten.ops.index import Index
from carten.ops.interpreter import run
from carten.ops.sequence import Call, Sequence
from carten.ops.space import SCALAR, Space
from carten.ops.tape import Gradients, taped

Layers = Callable[[Features, Edges], list[Features]]


@dataclass(frozen=True)
class Grid:
    """Number of intervals of the tables, and sizes of the axes of all weights: the traced sample must have others."""

    n_intervals: int
    sizes: frozenset[int]


class Compiled:
    """What the layers of a network do with features and edges, for one data type on a CPU.

    Args:
        layers: of the network, whose weights stay as they are.
        config: hyperparameters.
        spaces: parts of the features after each layer.
        embedding: (elements, channels).
        grid: of the tables of radial functions.
    """

    def __init__(
        self, layers: Layers, config: NetworkConfig, spaces: list[Space], embedding: Tensor, grid: Grid
    ) -> None:
        self.config, self.spaces, self.n_intervals = config, spaces, grid.n_intervals
        self.embedding = embedding.detach().clone()
        generator = torch.Generator().manual_seed(0)
        n_atoms, n_edges = islice((n for n in count(131) if n not in grid.sizes), 2)
        vectors = torch.rand(n_edges, 3, generator=generator).to(embedding) + 0.1
        centre = torch.arange(n_edges) * n_atoms // n_edges
        pairs = torch.stack([centre, centre.flip(0)])
        call, interval = self._call(pairs, torch.arange(n_atoms) % len(embedding), *_polar(vectors))
        with torch.no_grad(), taped([call.arrays["unit"], call.arrays["fraction"]]) as tape:
            ends = call.indices["centre"], call.indices["neighbour"]
            tensors = {name: call.arrays[name] for name in ("unit", "one")}
            values = run(edge_circuit(config), tensors, {}, call.rows, "cpp")["harmonics"]
            edges = Edges(values[:, :0], values, *ends, call.indices["element"], "cpp", interval)
            if "zero" in call.indices:
                edges.__dict__["zero"] = call.indices["zero"]
            found = layers({SCALAR: call.arrays["features"]}, edges)
        results = [features[part] for features, space in zip(found, spaces, strict=True) for part in space.parts]
        self.sequence = Sequence(tape, call, results)

    def __call__(self, vectors: Tensor, edge_index: Tensor, element: Tensor) -> list[Features]:
        """Features after each layer, once differentiable in the vectors."""
        results = iter(_Evaluate.apply(self, edge_index, element, vectors))  # type: ignore[no-untyped-call]
        return [{part: next(results) for part in space.parts} for space in self.spaces]

    def _call(self, edge_index: Tensor, element: Tensor, length: Tensor, unit: Tensor) -> tuple[Call, Interval]:
        n_atoms = len(element)
        interval = locate(length, self.config, self.n_intervals)
        arrays = {
            "unit": unit,
            "one": torch.ones_like(unit[:, :1]),
            "fraction": interval.fraction,
            "features": self.embedding.index_select(0, element).unsqueeze(1),
        }
        indices = {
            "centre": Index(edge_index[0], n_atoms, ascending=True),
            "neighbour": Index(edge_index[1], n_atoms),
            "low": interval.low,
            "high": interval.high,
            "element": Index(element, len(self.embedding)),
        }
        if not self.config.product.elements:
            indices["zero"] = Index(torch.zeros_like(element), 1, ascending=True)
        useful = 1 + len(unit) // (2 * max(n_atoms, 1))  # each more has gradients of all atoms to itself
        threads = min(torch.get_num_threads(), useful)
        return Call(arrays, indices, {"atoms": n_atoms, "edges": len(unit)}, threads), interval


def _polar(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths (E,) and directions (E, 3)."""
    length = vectors.norm(dim=1)
    return length, vectors / length.unsqueeze(1)


class _Evaluate(torch.autograd.Function):
    """Features, and the gradient of edge vectors."""

    @staticmethod
    def forward(ctx: Any, compiled: Compiled, edge_index: Tensor, element: Tensor, vectors: Tensor) -> Any:
        ctx.set_materialize_grads(False)
        length, unit = _polar(vectors.contiguous())
        ctx.compiled = compiled
        ctx.call, *_ = compiled._call(edge_index, element, length, unit)
        ctx.workspace, results = compiled.sequence.run(ctx.call)
        ctx.inverse = length.reciprocal()
        return tuple(results)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *given: Tensor | None) -> Gradients:
        unit = ctx.call.arrays["unit"]
        across, along = ctx.compiled.sequence.gradients(ctx.call, ctx.workspace, given)
        width = ctx.compiled.config.cutoff / ctx.compiled.n_intervals
        if across is None or along is None:
            return None, None, None, None
        outward = along / width - (unit * across).sum(1, keepdim=True) * ctx.inverse.unsqueeze(1)
        return None, None, None, torch.addcmul(across * ctx.inverse.unsqueeze(1), unit, outward)
