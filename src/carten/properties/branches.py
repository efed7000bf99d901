"""Dipoles of periodic cells are defined up to e times lattice vectors: the representative nearest to a reference."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from carten.model.graph import Graph
from carten.properties.routes import Property
from carten.units import conversion


def nearest(row: Property, predicted: Tensor, reference: Tensor, graph: Graph) -> Tensor:
    """Predictions as they are, or, for properties modulo lattice vectors, the branch nearest to the reference.

    Args:
        row: the property.
        predicted: (rows, 3, ..) in the unit of the row.
        reference: (rows, 3, ..) in the unit of the row, float64; NaN stays NaN.
        graph: the structures.
    """
    if row.modulo != "lattice":
        return predicted
    quantum = conversion("e*Angstrom", row.unit)
    vectors = torch.where(graph.pbc.unsqueeze(2), graph.cell.to(reference.dtype) * quantum, 0.0)
    with torch.no_grad():
        whole = _whole_vectors((predicted - reference).nan_to_num(), vectors)
    return predicted - torch.einsum("sk,skx->sx", whole, vectors)


def _whole_vectors(difference: Tensor, vectors: Tensor) -> Tensor:
    """(S, 3) numbers of lattice vectors nearest to differences (S, 3): rounded, then the best of the neighbours."""
    rounded = torch.einsum("sx,sxk->sk", difference, torch.linalg.pinv(vectors)).round()
    steps = torch.tensor(list(product((0.0, -1.0, 1.0), repeat=3)), dtype=vectors.dtype, device=vectors.device)
    left = difference.unsqueeze(1) - torch.einsum("snk,skx->snx", rounded.unsqueeze(1) + steps, vectors)
    best = left.square().sum(2).argmin(1)
    return rounded + steps[best]
