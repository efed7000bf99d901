"""Properties that follow from others by a formula: multipoles from charges, permittivities."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.model.graph import Graph
from carten.model.sums import centres_of_mass, per_structure


def from_centre_of_mass(graph: Graph) -> Tensor:
    """(N, 3) positions relative to the centre of mass of each molecule, Å.

    Raises:
        ModelError: a structure is periodic, so that it has no centre.
    """
    if bool(graph.pbc.any()):
        periodic = int(graph.pbc.any(1).nonzero()[0])
        raise ModelError(
            f"structure {periodic} of the batch is periodic, multipoles from charges are for molecules: "
            "use polarization, or another route"
        )
    return graph.positions - centres_of_mass(graph)[graph.structure]


def dipole(charges: Tensor, dipoles: Tensor | None, graph: Graph) -> Tensor:
    """``sum_i q_i r_i + d_i`` about the centre of mass, (S, 3) in e Å from (N,) and (N, 3)."""
    values = charges[:, None] * from_centre_of_mass(graph)
    values = values if dipoles is None else values + dipoles
    return per_structure(values, graph)


def quadrupole(charges: Tensor, dipoles: Tensor, quadrupoles: Tensor, graph: Graph) -> Tensor:
    """``sum_i t_i + 3/2 STF(q_i r_i r_i + r_i d_i + d_i r_i)`` about the centre of mass, (S, 3, 3) in e Å^2.

    Args:
        charges: (N,) q, e.
        dipoles: (N, 3) d, e Å.
        quadrupoles: (N, 3, 3) t, symmetric and traceless, e Å^2.
        graph: the molecules.

    Source: A. D. Buckingham, Q. Rev. Chem. Soc. 13, 183 (1959): ``1/2 sum q (3 r_i r_j - r^2 delta_ij)``.
    """
    r = from_centre_of_mass(graph)
    half = 0.5 * charges[:, None] * r + dipoles
    second = torch.einsum("na,nb->nab", r, half)
    second = second + second.mT
    trace = torch.einsum("naa->n", second)[:, None, None] / 3
    values = quadrupoles + 1.5 * (second - trace * torch.eye(3, dtype=second.dtype, device=second.device))
    return per_structure(values, graph)


def permittivity(polarizability: Tensor) -> Tensor:
    """``1 + 4 pi alpha / volume``, (S, 3, 3) from the polarizability per volume, (S, 3, 3) without unit."""
    return torch.eye(3, dtype=polarizability.dtype, device=polarizability.device) + 4 * math.pi * polarizability
