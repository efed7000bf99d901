"""Exchange of magnetic moments without spin-orbit coupling: densities of moments, coupled in spin space alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from carten.model.config import NetworkConfig
from carten.model.described import Described, describe
from carten.model.edges import EdgeValues
from carten.model.interaction import Interaction
from carten.model.parameters import FeatureValues, Linear, add_features, channels
from carten.ops.draft import Draft
from carten.ops.gates import contract_plan, spread_plan, squares_plan
from carten.ops.operators import Value
from carten.ops.space import SCALAR, Part, Space

INITIAL = 0.1
"""Size of what conditions add at first: products multiply it many times over."""


@dataclass(frozen=True)
class Moments:
    """Moments in a circuit, (atoms, 1 or 3): those of all atoms, and of the own ones among them."""

    all_atoms: Value
    own_atoms: Value


class ExchangeLayer(Described):
    """What the moments m of atoms add to messages: ``W sum_a m_i^a D_i^a + sum_l W_l sum_a |D_il^a|^2``.

    ``D_i^a = n^(-1/2) sum_j R(r_ij) (W h_j) m_j^a Y(r_ij)`` is a density for each component a of the moments, with the
    scalars h_j of the neighbours. Sums over a are scalars of spin space: nothing changes when all moments turn alone or
    are reversed. The first term couples an atom to its neighbours, ``m_i . m_j``; the second couples these to each
    other, ``m_j . m_k P_l(cos jik)``, also where the atom itself has no moment (superexchange).
    """

    def __init__(self, config: NetworkConfig, n_elements: int, neighbours: float, generator: torch.Generator) -> None:
        super().__init__()
        n = config.n_channels
        self.density = Interaction(config, Space((SCALAR,)), n_elements, neighbours, generator)
        parts = self.density.target
        self.own = Linear(channels(parts, n), n, generator, INITIAL)
        self.between = Linear({SCALAR: len(parts.parts) * n}, n, generator, INITIAL)

    def describe(
        self, draft: Draft, features: Mapping[Part, Value], moments: Moments, edges: EdgeValues, table: str
    ) -> FeatureValues:
        """Messages of the own atoms from features and moments of all."""
        size = moments.all_atoms.size
        spins = draft.run(spread_plan(size), [features[SCALAR], moments.all_atoms], "all")
        densities = describe(self, "density", draft, [{SCALAR: spin} for spin in spins], edges, table)
        parts = self.density.target.parts
        coupled = {}
        for part in parts:
            operands = [*(density[part] for density in densities), moments.own_atoms]
            (coupled[part],) = draft.run(contract_plan(part.size, size), operands, "own")
        plan = squares_plan(tuple(part.size for part in parts), size)
        squares = draft.run(plan, [density[part] for part in parts for density in densities], "own")
        between = describe(self, "between", draft, {SCALAR: squares[0]})
        return add_features(draft, describe(self, "own", draft, coupled), between)
