"""Exchange of magnetic moments without spin-orbit coupling: densities of moments, coupled in spin space alone."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn

from carten.model.config import NetworkConfig
from carten.model.edges import Edges
from carten.model.embeddings import INITIAL, add
from carten.model.interaction import Interaction
from carten.model.parameters import Features, Linear, channels
from carten.ops.space import SCALAR, Space


class Exchange(nn.Module):
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

    def forward(self, features: Features, moments: Tensor, edges: Edges) -> Features:
        """Messages of N atoms from their features and moments (N, 1 or 3)."""
        spins = [component.view(-1, 1, 1) for component in moments.unbind(1)]
        densities = self.density.each([{SCALAR: features[SCALAR] * spin} for spin in spins], edges)
        own = [{part: x * spin for part, x in density.items()} for spin, density in zip(spins, densities, strict=True)]
        squares = [torch.cat([x.square().mean(1, keepdim=True) for x in d.values()], dim=2) for d in densities]
        return add(self.own(reduce(add, own)), self.between({SCALAR: torch.stack(squares).sum(0)}))
