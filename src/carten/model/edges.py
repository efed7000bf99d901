"""Geometry of the edges, computed once and shared by all layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from carten.math import radial
from carten.model.config import NetworkConfig
from carten.model.kinds import Kinds
from carten.ops import builders
from carten.ops.index import Index
from carten.ops.library import evaluate


@dataclass(frozen=True)
class Edges:
    """E edges of N atoms.

    Args:
        basis: (E, n_basis) radial basis times envelope.
        harmonics: (E, (l_max + 1)^2), ``|Y_l|^2 = 2l + 1``.
        centre, neighbour: the atoms of an edge.
        kinds: element of each atom.
        backend: how plans are evaluated.
    """

    basis: Tensor
    harmonics: Tensor
    centre: Index
    neighbour: Index
    kinds: Kinds
    backend: str

    @property
    def n_atoms(self) -> int:
        return self.centre.rows

    @property
    def n_edges(self) -> int:
        return self.basis.shape[0]


def describe(
    vectors: Tensor, centre: Index, neighbour: Index, kinds: Kinds, config: NetworkConfig, backend: str
) -> Edges:
    """Radial basis and harmonics of edge vectors (E, 3) in Å."""
    length = vectors.norm(dim=1)
    options = config.radial
    functions = radial.bessel if options.basis == "bessel" else radial.chebyshev
    envelope = radial.polynomial_envelope(length, config.cutoff, options.envelope_power)
    basis = functions(length, options.n_basis, config.cutoff) * envelope.unsqueeze(1)
    unit = vectors / length.unsqueeze(1)
    plan = builders.harmonics(config.l_max_edges)
    (harmonics,) = evaluate(plan, [torch.ones_like(unit[:, :1]), unit], {}, len(unit), backend)
    return Edges(basis, harmonics, centre, neighbour, kinds, backend)
