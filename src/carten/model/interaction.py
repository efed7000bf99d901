"""The interaction: messages from neighbours, summed over edges and mixed over paths and channels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from carten.model.config import NetworkConfig
from carten.model.edges import Edges
from carten.model.parameters import Features, Linear, channels, normal
from carten.ops import builders
from carten.ops.library import evaluate
from carten.ops.plan import Plan
from carten.ops.space import Space

SILU_GAIN = 1.6765324703310907
"""1 / sqrt(<silu(x)^2>) over unit normals: keeps unit variance."""


class RadialNetwork(nn.Module):
    """A bias-free perceptron on the radial basis, times ``scale``: (E, n_in) -> (E, n_out), C^2 at the cutoff.

    With element dependence the first layer is modulated by ``1 + u[z_i] + v[z_j]`` (learned, per hidden unit).
    """

    def __init__(
        self,
        config: NetworkConfig,
        shape: tuple[int, int],
        scale: float,
        n_elements: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        sizes = [shape[0], *config.radial.hidden, shape[1]]
        self.gains = [(SILU_GAIN if k else 1.0) * n**-0.5 for k, n in enumerate(sizes[:-1])]
        self.gains[-1] *= scale
        self.weight = nn.ParameterList([normal(shape, generator) for shape in pairwise(sizes)])
        self.elements = None
        if config.radial.elements:
            self.elements = normal((2, n_elements, sizes[1]), generator)

    def forward(self, basis: Tensor, modulation: Tensor | None = None) -> Tensor:
        """Radial weights of every edge, from its radial basis and what :meth:`modulation` gives."""
        values = basis
        last = len(self.weight) - 1
        for k, weight in enumerate(self.weight):
            values = values @ (weight * self.gains[k])
            if k == 0 and modulation is not None:
                values = values * modulation
            if k < last:
                values = nn.functional.silu(values)
        return values

    def table(self, knots: Tensor) -> Tensor:
        """Values and slopes (K, 2, n_out) from those of the basis (K, 2, n_in), by the chain rule."""
        both = knots
        last = len(self.weight) - 1
        for k, weight in enumerate(self.weight):
            both = both @ (weight * self.gains[k])
            if k < last:
                value, slope = both.unbind(1)
                gate = torch.sigmoid(value)
                value = value * gate
                both = torch.stack([value, slope * (gate + value * (1 - gate))], dim=1)
        return both

    def modulation(self, edges: Edges) -> Tensor | None:
        """Factors of the first hidden layer by the elements of both atoms, (E, hidden); ``None`` without."""
        if self.elements is None:
            return None
        element = edges.kinds.index.values
        centre = self.elements[0].index_select(0, element.index_select(0, edges.centre.values))
        return 1 + centre + self.elements[1].index_select(0, element.index_select(0, edges.neighbour.values))


class Interaction(nn.Module):
    """``A_i = n^(-1/2) sum_j mix( R(r_ij) (W h_j x Y(r_ij)) )`` over all paths (TACE; ICTP Eq. 5).

    Where edges have an interval, R is looked up: in ``table``, if it was tabulated (:mod:`carten.model.tables`), or in
    a table of the present weights, through which they can be trained.
    """

    table: Tensor | None

    def __init__(
        self,
        config: NetworkConfig,
        features: Space,
        n_elements: int,
        neighbours: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        n = config.n_channels
        self.target = Space.up_to(config.l_max_edges, config.odd_products)
        paths = builders.interaction_paths(features, config.l_max_edges, self.target)
        self.plan = builders.interaction(features, config.l_max_edges, self.target)
        self.table_plan = builders.tabulated_interaction(features, config.l_max_edges, self.target)
        self.register_buffer("table", None, persistent=False)
        self.features = features
        self.target = Space(tuple(part for part in self.target.parts if any(path[2] == part for path in paths)))
        self.up = Linear(channels(features, n), n, generator)
        shape = (config.radial.n_basis, len(paths) * n)
        self.radial = RadialNetwork(config, shape, neighbours**-0.5, n_elements, generator)
        self.n_paths = len(paths)
        copies = {part: sum(path[2] == part for path in paths) for part in self.target.parts}
        self.mix = Linear({part: copies[part] * n for part in self.target.parts}, n, generator)

    def forward(self, features: Features, edges: Edges) -> Features:
        """Messages over :attr:`target`, each (atoms, 2l + 1, channels)."""
        return self.each([features], edges)[0]

    def each(self, several: Sequence[Features], edges: Edges) -> list[Features]:
        """Messages from each of several features, with the same radial functions, evaluated once."""
        plan, radial = self._radial(edges)
        indices = {"centre": edges.centre, "neighbour": edges.neighbour}
        if edges.interval is not None:
            indices |= {"low": edges.interval.low, "high": edges.interval.high}
        found: list[Features] = []
        for features in several:
            sent = self.up(features)
            operands = [*(sent[part] for part in self.features.parts), edges.harmonics, *radial]
            sums = evaluate(plan, operands, indices, edges.n_edges, edges.backend)
            found.append(self.mix(dict(zip(self.target.parts, sums, strict=True))))
        return found

    def _radial(self, edges: Edges) -> tuple[Plan, list[Tensor]]:
        """The plan to evaluate, and its operands that are radial functions."""
        n_channels = self.radial.weight[-1].shape[1] // self.n_paths
        if edges.interval is None:
            values: Tensor = self.radial(edges.basis, self.radial.modulation(edges))
            return self.plan, [values.view(edges.n_edges, self.n_paths, n_channels)]
        table = None if self.training else self.table
        if table is None:
            table = self.radial.table(edges.interval.knots).view(len(edges.interval.knots), -1, n_channels)
        return self.table_plan, [edges.interval.fraction, table, table]
