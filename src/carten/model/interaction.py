"""The interaction: messages from neighbours, summed over edges and mixed over paths and channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import nn

from carten.model.config import NetworkConfig
from carten.model.described import Described, describe
from carten.model.edges import EdgeValues
from carten.model.parameters import FeatureValues, Linear, channels, normal
from carten.ops import builders
from carten.ops.draft import Draft
from carten.ops.gates import gain_plan, gate_plan, slope_plan
from carten.ops.operators import Value
from carten.ops.space import SCALAR, Part, Space

SILU_GAIN = 1.6765324703310907
"""1 / sqrt(<silu(x)^2>) over unit normals: keeps unit variance."""
SIGMOID_GAIN = 1.8462285453386054
"""1 / sqrt(<sigmoid(x)^2>) over unit normals."""


class RadialNetwork(Described):
    """A bias-free perceptron on the radial basis, times ``scale``; C^2 at the cutoff: (E, n_in) -> (E, paths, n).

    With element dependence the first layer is modulated by ``1 + u[z_i] + v[z_j]`` (learned, per hidden unit).
    """

    def __init__(
        self,
        config: NetworkConfig,
        n_paths: int,
        scale: float,
        n_elements: int,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.n_paths = n_paths
        sizes = [config.radial.n_basis, *config.radial.hidden, n_paths * config.n_channels]
        self.gains = [(SILU_GAIN if k else 1.0) * n**-0.5 for k, n in enumerate(sizes[:-1])]
        self.gains[-1] *= scale
        self.weight = nn.ParameterList([normal(shape, generator) for shape in pairwise(sizes)])
        self.elements = None
        if config.radial.elements:
            self.elements = normal((2, n_elements, sizes[1]), generator)

    def describe(self, draft: Draft, basis: Value, edges: EdgeValues) -> Value:
        """Radial weights (E, paths, channels) from the radial basis."""
        values, last = basis, len(self.weight) - 1
        for k, weight in enumerate(self._weights(draft)):
            values = draft.mix(values, weight, self.gains[k], self.n_paths if k == last else None)
            if k == 0 and self.elements is not None:
                values = self._modulated(draft, values, edges)
            if k < last:
                values = draft.apply("silu", values)
        return values

    def describe_table(self, draft: Draft, knots: Value) -> Value:
        """Values, then slopes, (K, 2 paths, channels) from those of the basis (K, 2, n_basis), by the chain rule."""
        both, last = knots, len(self.weight) - 1
        for k, weight in enumerate(self._weights(draft)):
            both = draft.mix(both, weight, self.gains[k], 2 * self.n_paths if k == last else None)
            if k < last:
                operands = [both, draft.apply("silu", both), draft.apply("silu", both, order=1)]
                (both,) = draft.run(slope_plan(), operands, "knots")
        return both

    @property
    def tabulable(self) -> bool:
        """Whether tables can take its place: it depends on the length of edges alone, and says how to make them."""
        kind = type(self)
        author = next(base for base in kind.__mro__ if "describe" in vars(base))
        return self.elements is None and kind.describe_table is author.__dict__.get("describe_table")

    def _weights(self, draft: Draft) -> list[Value]:
        return [draft.weight(f"weight.{k}", weight.shape) for k, weight in enumerate(self.weight)]

    def _modulated(self, draft: Draft, values: Value, edges: EdgeValues) -> Value:
        shape = (edges.n_elements, 1, values.channels)
        gains = [draft.weight("elements", shape, row) for row in (0, 1)]
        (result,) = draft.run(gain_plan(("centre", "neighbour")), [values, *gains], "edges", edges.elements)
        return result


class Interaction(Described):
    """``A_i = n^(-1/2) sum_j mix( R(r_ij) (W h_j x Y(r_ij)) )`` over all paths (ICTP Eq. 5); ``n^-1`` in TACE."""

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
        self.target = config.space(config.l_max_edges)
        paths = builders.interaction_paths(features, config.l_max_edges, self.target)
        self.plan = builders.interaction_plan(features, config.l_max_edges, self.target)
        self.table_plan = builders.tabulated_interaction_plan(features, config.l_max_edges, self.target)
        self.features = features
        self.target = Space(tuple(part for part in self.target.parts if any(path[2] == part for path in paths)))
        self.up = Linear(channels(features, n), n, generator)
        power = 0.5 if config.interaction.normalisation == "root" else 1.0
        self.radial = RadialNetwork(config, len(paths), neighbours**-power, n_elements, generator)
        self.n_sums = {part: n * sum(path[2] == part for path in paths) for part in self.target.parts}
        self.mix = Linear(self.n_sums, n, generator)

    def describe(
        self, draft: Draft, several: Sequence[Mapping[Part, Value]], edges: EdgeValues, table: str
    ) -> list[FeatureValues]:
        """Messages over :attr:`target`, (own, 2l + 1, channels), from each of several features of all atoms.

        Args:
            draft: of the circuit.
            several: features; the radial functions are evaluated once for all of them.
            edges: where the radial functions are evaluated, or looked up.
            table: name of the input that is looked up in.
        """
        plan, radial, indices = self.plan, [], edges.ends
        if edges.basis is not None:
            radial = [describe(self, "radial", draft, edges.basis, edges)]
        else:
            plan, indices = self.table_plan, {**edges.ends, **edges.knots}
            n_channels = self.radial.weight[-1].shape[1] // self.radial.n_paths
            values = draft.input(table, "knots", 2 * self.radial.n_paths, n_channels)
            radial = [draft.input("fraction", "edges", 1), values, values]
        messages = []
        for features in several:
            sent = describe(self, "up", draft, features)
            operands = [*(sent[part] for part in self.features.parts), edges.harmonics, *radial]
            sums = draft.run(plan, operands, "edges", indices)
            messages.append(self.describe_message(draft, dict(zip(self.target.parts, sums, strict=True))))
        return messages

    def describe_message(self, draft: Draft, sums: Mapping[Part, Value]) -> FeatureValues:
        """Messages from sums over neighbours, of all paths."""
        mixed: FeatureValues = describe(self, "mix", draft, sums)
        return mixed

    def describe_table(self, draft: Draft, knots: Value) -> Value:
        """The table that :meth:`describe` looks up radial functions in, see :meth:`RadialNetwork.describe_table`."""
        return self.radial.describe_table(draft.within("radial"), knots)


class GatedInteraction(Interaction):
    """Messages through a nonlinearity: scalars ``silu(A_0)``, tensors ``A_l sigmoid(W_l s)`` with sums s of scalars."""

    def __init__(
        self,
        config: NetworkConfig,
        features: Space,
        n_elements: int,
        neighbours: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__(config, features, n_elements, neighbours, generator)
        tensors = [part for part in self.target.parts if part != SCALAR]
        n_in = {SCALAR: self.n_sums[SCALAR]}
        self.gates = nn.ModuleDict({part.name: Linear(n_in, config.n_channels, generator) for part in tensors})

    def describe_message(self, draft: Draft, sums: Mapping[Part, Value]) -> FeatureValues:
        message = super().describe_message(draft, sums)
        gated = {}
        for part, value in message.items():
            gate, gain = value, SILU_GAIN
            if part != SCALAR:
                gate, gain = describe(self, f"gates.{part.name}", draft, sums)[SCALAR], SIGMOID_GAIN
            (gated[part],) = draft.run(gate_plan(part.size, gain), [value, draft.apply("sigmoid", gate)], "own")
        return gated
