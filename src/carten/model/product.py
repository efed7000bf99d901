"""Many-body products: the recursive product basis and its exact spatial alternative."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from carten.math.quadrature import sphere
from carten.math.stf import harmonics
from carten.model.config import NetworkConfig
from carten.model.described import Described, describe
from carten.model.parameters import ElementLinear, FeatureValues, normal
from carten.ops import builders
from carten.ops.draft import Draft
from carten.ops.gates import join_plan, weighted_powers_plan
from carten.ops.operators import CircuitIndex, Value
from carten.ops.plan import Plan
from carten.ops.space import Part, Space


class RecursiveProduct(Described):
    """``m_L = sum_q sum_η W[z, q, η, c] B^q_{η,L,c}``, ``B^q = B^(q-1) x A`` (ICTP Eq. 6)."""

    scale: Tensor

    def __init__(
        self, config: NetworkConfig, space: Space, target: Space, n_elements: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        symmetric = config.product.paths == "symmetric"
        self.plan = builders.product_plan(space, target, config.correlation_order, symmetric, between(config))
        self.space, self.target = space, target
        n_weights = self.plan.arrays["weights"].size
        self.weight = normal((n_elements, n_weights, config.n_product_channels), generator)
        scale = _path_scale(self.plan, n_weights).expand(self.weight.shape).clone()
        self.register_buffer("scale", scale, persistent=False)

    def describe(self, draft: Draft, features: Mapping[Part, Value], element: CircuitIndex) -> FeatureValues:
        """Products of each atom's features."""
        shape = self.weight.shape
        weights = draft.multiply(draft.weight("weight", shape), draft.weight("scale", shape))
        operands = [*(features[part] for part in self.space.parts), weights]
        outputs = draft.run(self.plan, operands, "own", {"element": element})
        return dict(zip(self.target.parts, outputs, strict=True))


def _path_scale(plan: Plan, n_weights: int) -> Tensor:
    """1 / number of paths that lead to the same array as a weight's path, (n_weights, 1).

    Untrained models then depend little on the higher orders, and learn them as far as the data ask for: with one over
    the root, which keeps the variance, errors on unseen structures are larger.
    """
    scale = torch.ones(n_weights, 1, dtype=torch.float64)
    for step in plan.steps:
        if step.right == "weights":
            rows = sorted({b for _, _, b, _ in step.terms})
            scale[rows] = 1 / len(rows)
    return scale


class CoupledProduct(Described):
    """As :class:`RecursiveProduct`, mixing channels: ``m_L = sum_η sum_c' W[z, q, η, c', c] B^q_{η,L,c'}``.

    Weights are divided by the root of the number of channels and paths, of all orders or (TACE) of each order apart.
    """

    def __init__(
        self, config: NetworkConfig, space: Space, target: Space, n_elements: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        symmetric = config.product.paths == "symmetric"
        apart, n = config.product.orders == "apart", config.n_product_channels
        self.plan = builders.powers_plan(space, target, config.correlation_order, symmetric, between(config), apart)
        self.space, self.target = space, target
        sizes = {p: a.size // p.size * n for p, a in zip(target.parts, self.plan.outputs, strict=True)}
        self.mix = ElementLinear(sizes, n, n_elements, generator)

    def describe(self, draft: Draft, features: Mapping[Part, Value], element: CircuitIndex) -> FeatureValues:
        """Products of each atom's features."""
        outputs = draft.run(self.plan, [features[part] for part in self.space.parts], "own")
        mixed: FeatureValues = describe(self, "mix", draft, dict(zip(self.target.parts, outputs, strict=True)), element)
        return mixed


class SpatialProduct(Described):
    """Features as functions on the sphere, a pointwise polynomial of degree ν, and back (TACE v3).

    ``f(s) = sum_l A_l . Y_l(s)``, ``m_L = <Y_L(s), sum_q W[z, q, L, c] f(s)^q>``. The quadrature is exact to degree
    ``ν l_max + L``, so the result is exactly equivariant.
    """

    def __init__(
        self, config: NetworkConfig, space: Space, target: Space, n_elements: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        order = config.correlation_order
        points, weights = sphere(order * space.l_max + target.l_max)
        values = harmonics(max(space.l_max, target.l_max), points)
        blocks = {part: values[:, part.l**2 : (part.l + 1) ** 2] for part in {*space.parts, *target.parts}}
        to_sphere = torch.tensor(np.concatenate([blocks[part] for part in space.parts], axis=1))
        self.register_buffer("to_sphere", to_sphere / len(space.parts) ** 0.5, persistent=False)
        back = np.concatenate([blocks[part] * weights[:, None] for part in target.parts], axis=1)
        self.register_buffer("from_sphere", torch.tensor(back).T.contiguous(), persistent=False)
        self.space, self.target = space, target
        self.weight = normal((n_elements, order, len(target.parts), config.n_product_channels), generator)

    to_sphere: Tensor
    from_sphere: Tensor

    def describe(self, draft: Draft, features: Mapping[Part, Value], element: CircuitIndex) -> FeatureValues:
        """Products of each atom's features."""
        n_elements, order, n_parts, n_channels = self.weight.shape
        parts = [features[part] for part in self.space.parts]
        (joined,) = draft.run(join_plan(tuple(part.size for part in self.space.parts)), parts, "own")
        values = draft.combine(joined, draft.weight("to_sphere", self.to_sphere.shape))
        powers = [values]
        for _ in range(1, order):
            powers.append(draft.multiply(powers[-1], values))
        back = draft.weight("from_sphere", self.from_sphere.shape)
        projected = [draft.combine(power, back) for power in powers]
        weights = draft.weight("weight", (n_elements, order * n_parts, n_channels))
        plan = weighted_powers_plan(tuple(part.size for part in self.target.parts), order)
        outputs = draft.run(plan, [*projected, weights], "own", {"element": element})
        return dict(zip(self.target.parts, outputs, strict=True))


def between(config: NetworkConfig) -> Space:
    """The parts that intermediate products are truncated to."""
    return config.space(config.l_max_edges)


def reachable_features(config: NetworkConfig, space: Space, target: Space) -> Space:
    """The parts of ``target`` that products of ``space`` make."""
    allowed = Space(tuple(part for part in target.parts if part.natural or config.odd_products))
    if config.product.kind == "spatial":
        return Space(tuple(part for part in allowed.parts if part.l <= config.correlation_order * space.l_max))
    return builders.reachable(space, allowed, config.correlation_order, between(config))


def build_product(
    config: NetworkConfig, space: Space, target: Space, n_elements: int, generator: torch.Generator
) -> Described:
    """The product that the configuration asks for; ``target`` is :func:`reachable_features`."""
    if config.product.kind == "spatial":
        return SpatialProduct(config, space, target, n_elements, generator)
    kind = CoupledProduct if config.product.weights == "coupled" else RecursiveProduct
    return kind(config, space, target, n_elements, generator)
