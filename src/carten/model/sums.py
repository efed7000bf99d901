"""Sums over the atoms of structures, and values that must add up."""

from __future__ import annotations

import torch
from ase.data import atomic_masses
from torch import Tensor

from carten.model.graph import Graph


def per_structure(value: Tensor, graph: Graph, mean: bool = False) -> Tensor:
    """Sum, or mean, over the atoms of each structure: (N, 3, ..) to (S, 3, ..)."""
    total = value.new_zeros((graph.n_structures, *value.shape[1:])).index_add(0, graph.structure, value)
    if not mean:
        return total
    counts = torch.bincount(graph.structure, minlength=graph.n_structures).clamp(min=1)
    return total / counts.view(-1, *[1] * (value.dim() - 1))


def masses(graph: Graph) -> Tensor:
    """(N,) standard atomic masses, amu."""
    return torch.as_tensor(atomic_masses, dtype=graph.positions.dtype, device=graph.positions.device)[graph.numbers]


def centres_of_mass(graph: Graph) -> Tensor:
    """(S, 3) Å, of the atoms where they are given."""
    mass = masses(graph)[:, None]
    sums = per_structure(torch.cat([mass * graph.positions, mass], dim=1), graph)
    return sums[:, :3] / sums[:, 3:]


def balance(values: Tensor, weights: Tensor, totals: Tensor, part: Tensor) -> Tensor:
    """``v_i + w_i / sum_j w_j (total - sum_j v_j)`` within each part: whole structures, or parts of them.

    Args:
        values: (N, 3, ..).
        weights: (N,) positive.
        totals: (P, 3, ..) of the parts.
        part: (N,) that atoms belong to.
    """
    sums, weight_sums = (x.new_zeros(len(totals), *x.shape[1:]).index_add(0, part, x) for x in (values, weights))
    share = (weights / weight_sums[part]).view(-1, *[1] * (values.dim() - 1))
    return values + share * (totals - sums)[part]
