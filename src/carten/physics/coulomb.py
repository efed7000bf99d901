"""The electrostatic interaction of Gaussian charges pair by pair, as matrices: ``E = 1/2 q J q``.

``J_ij = e^2 / (4 pi eps0) erf(r_ij / (sqrt(2) sigma)) / r_ij`` in molecules; in cells and slabs the same summed over
all images, as :mod:`carten.physics.ewald` does. ``J_ii`` includes the interaction of a Gaussian with itself,
``e^2 / (4 pi eps0) sqrt(2 / pi) / sigma``, so that J is positive definite however close atoms are: ``q J q`` is the
integral of the square of the field that the Gaussians make (in cells and slabs if charges add up to zero; if not, it
differs from that by a constant times the square of their sum).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.model.graph import Graph
from carten.physics import ewald, pairs, reciprocal, sums
from carten.physics.constants import COULOMB
from carten.physics.ewald import Ewald

LARGEST_MATRIX = 1e8
"""Numbers that may be kept for one structure, 0.8 GB."""


def self_interaction(sigma: float) -> float:
    """Of a Gaussian of width sigma (Å) with itself, twice its energy at a charge of 1 e: eV/e^2."""
    return COULOMB * math.sqrt(2 / math.pi) / sigma


def matrices(graph: Graph, structures: Tensor, atoms: Tensor, summation: Ewald) -> Tensor:
    """J of S structures of n atoms each, all of them molecules or none: (S, n, n) float64, eV/e^2.

    Args:
        graph: holds them.
        structures: (S,) which.
        atoms: (S, n) their atoms.
        summation: width of the Gaussians, and in cells the accuracy.

    Raises:
        ModelError: a structure is too large, periodic in one direction only, or has no proper cell.
    """
    n = atoms.shape[1]
    _require_size(n, n)
    if bool(graph.pbc[structures[0]].any()):
        ewald.require_cells(graph)
        return COULOMB * _periodic(graph, structures, atoms, summation)
    positions = graph.positions.to(torch.float64)[atoms]
    diagonal = torch.eye(n, dtype=torch.float64, device=positions.device)
    square = (positions[:, :, None] - positions[:, None]).square().sum(3) + diagonal  # no root of 0
    (between,) = pairs.radial(square, summation.sigma, 0)
    return COULOMB * torch.where(diagonal > 0, math.sqrt(2 / math.pi) / summation.sigma, between)


def _periodic(graph: Graph, structures: Tensor, atoms: Tensor, summation: Ewald) -> Tensor:
    """``2 sum_k w(k) cos(k . r_ij)`` over reciprocal vectors, with the weights of the energy."""
    lattice = ewald.lattice_of(graph, structures, summation)
    gaussians = reciprocal.Gaussians(summation.sigma, summation.accuracy)
    h = reciprocal.whole_numbers(sums.common(sums.boxes_of(lattice, gaussians.largest)), lattice.cell)
    weights = (
        reciprocal.reciprocal_weights(lattice, gaussians, h).flatten(1)
        * torch.where(h[..., 2] == 0, 2.0, 4.0).flatten()
    )
    relevant = (weights.detach() != 0.0).any(0).nonzero().squeeze(1)
    _require_size(atoms.shape[1], 2 * len(relevant))
    fractional = graph.positions.to(torch.float64)[atoms] @ lattice.inverse
    angle = 2 * math.pi * fractional @ h.flatten(0, 2)[relevant].mT
    waves = torch.cat([torch.cos(angle), torch.sin(angle)], dim=2)
    return (waves * weights[:, relevant].repeat(1, 2).unsqueeze(1)) @ waves.mT


def _require_size(n_atoms: int, columns: int) -> None:
    if n_atoms * columns > LARGEST_MATRIX:
        raise ModelError(
            f"the interaction of {n_atoms} atoms as a matrix takes {n_atoms} x {columns} numbers, more than "
            f"{LARGEST_MATRIX:.0e}: charges that equilibrate are for smaller structures; use the route equalised or "
            "balanced"
        )
