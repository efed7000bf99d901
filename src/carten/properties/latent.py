"""Polarization and Born effective charges from charges and dipoles of atoms that interact in the energy."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from ase.geometry import complete_cell
from torch import Tensor

from carten.model.graph import Graph
from carten.properties.multipoles import centres_of_mass


def polarization(charges: Tensor, dipoles: Tensor | None, graph: Graph) -> Tensor:
    """``sum_i q_i r_i + d_i``, (S, 3) in e Å from (N,) and (N, 3).

    Molecules about their centre of mass; in cells the branch of the positions as they are given.
    """
    open_ = ~graph.pbc.any(1, keepdim=True)
    origin = torch.where(open_, centres_of_mass(graph), 0.0)
    values = charges[:, None] * (graph.positions - origin[graph.structure])
    values = values if dipoles is None else values + dipoles
    return values.new_zeros(graph.n_structures, 3).index_add(0, graph.structure, values)


def response(charges: Tensor, dipoles: Tensor | None, graph: Graph, by_positions: Callable[[Tensor], Tensor]) -> Tensor:
    """Born effective charges ``Z_i = d P / d r_i``, polarization first: (N, 3, 3) in e.

    ``Z_i = q_i + sum_j (r_j - r_i) d q_j / d r_i``, and the same of dipoles. Along a lattice vector of length L the
    distance x between the atoms is ``L / 2 pi sin(2 pi x / L)``: that of the nearest image, whichever is given, if the
    atoms that change a charge are much nearer than L / 4.

    Args:
        charges: (N,) e.
        dipoles: (N, 3) e Å.
        graph: positions that charges and dipoles depend on.
        by_positions: derivatives of (S, 3) with respect to positions, (N, 3, 3).

    Source: P. Zhong et al. (2025), the real part of ``exp(-i k r_i) d P(k) / d r_i`` at the smallest k.
    """
    cell, pbc = _completed(graph), graph.pbc[graph.structure]
    inverse = torch.linalg.inv(cell)[graph.structure]
    along = torch.einsum("na,nax->nx", graph.positions.to(cell), inverse)
    angle = torch.where(pbc, 2 * math.pi * along, 0.0)
    q = charges[:, None]
    sine = q * torch.where(pbc, torch.sin(angle) / (2 * math.pi), along)
    cosine = q * torch.where(pbc, torch.cos(angle) / (2 * math.pi), 1.0)
    if dipoles is not None:
        d = torch.einsum("na,nax->nx", dipoles, inverse)
        sine, cosine = sine + d * torch.cos(angle), cosine - d * torch.sin(angle)
    empty = sine.new_zeros(graph.n_structures, 3)
    first, second = (by_positions(empty.index_add(0, graph.structure, x)) for x in (sine, cosine))
    here = torch.where(pbc, torch.sin(angle), along).unsqueeze(2)
    changes = torch.cos(angle).unsqueeze(2) * first - here * second
    return torch.einsum("nax,naj->nxj", cell[graph.structure], changes)


def _completed(graph: Graph) -> Tensor:
    """Cells whose vectors of open directions are unit vectors normal to the others, (S, 3, 3) float64."""
    periodic = torch.where(graph.pbc.unsqueeze(2), graph.cell.detach(), 0.0).to("cpu", torch.float64)
    cells = [torch.from_numpy(complete_cell(cell.numpy())) for cell in periodic]
    return torch.stack(cells).to(graph.positions.device)
