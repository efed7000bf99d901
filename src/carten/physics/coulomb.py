"""The electrostatic interaction of Gaussian charges and dipoles pair by pair, as matrices: ``E = 1/2 q J q``.

``J_ij = e^2 / (4 pi eps0) erf(r_ij / (sqrt(2) sigma)) / r_ij`` in molecules; in cells and slabs the same summed over
all images, as :mod:`carten.physics.ewald` does. ``J_ii`` includes the interaction of a Gaussian with itself,
``e^2 / (4 pi eps0) sqrt(2 / pi) / sigma``, so that J is positive definite however close atoms are: ``q J q`` is the
integral of the square of the field that the Gaussians make (in cells and slabs if charges add up to zero; if not, it
differs from that by a constant times the square of their sum). So is that of dipoles, ``E = 1/2 d T d``.
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


def self_interaction_of_dipoles(sigma: float) -> float:
    """Of a Gaussian dipole of width sigma (Å) with itself, twice its energy at 1 e Å: eV/(e Å)^2."""
    return self_interaction(sigma) / (3 * sigma**2)


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
    _require_size(atoms.shape[1], atoms.shape[1])
    if bool(graph.pbc[structures[0]].any()):
        waves, weights, _ = _waves(graph, structures, atoms, summation)
        return COULOMB * (waves * weights.unsqueeze(1)) @ waves.mT
    _, square, diagonal = _between(graph, atoms)
    (between,) = pairs.radial(square, summation.sigma, 0)
    return torch.where(diagonal > 0, self_interaction(summation.sigma), COULOMB * between)


def dipole_matrices(graph: Graph, structures: Tensor, atoms: Tensor, summation: Ewald) -> Tensor:
    """T of S structures of n atoms each, as :func:`matrices`: (S, 3n, 3n) float64, eV/(e Å)^2, atom by atom.

    ``T_ij = e^2 / (4 pi eps0) (B_1 - B_2 r_ij r_ij)`` with :func:`carten.physics.pairs.radial` in molecules.
    """
    n = 3 * atoms.shape[1]
    _require_size(n, n)
    if bool(graph.pbc[structures[0]].any()):
        waves, weights, k = _waves(graph, structures, atoms, summation)
        along = (waves.unsqueeze(2) * k.mT.unsqueeze(1)).flatten(1, 2)
        return COULOMB * (along * weights.unsqueeze(1)) @ along.mT
    r, square, diagonal = _between(graph, atoms)
    _, first, second = pairs.radial(square, summation.sigma, 1)
    first = torch.where(diagonal > 0, self_interaction_of_dipoles(summation.sigma) / COULOMB, first)
    unit = torch.eye(3, dtype=torch.float64, device=r.device)
    blocks = first[..., None, None] * unit - second[..., None, None] * (r.unsqueeze(4) * r.unsqueeze(3))
    return COULOMB * blocks.transpose(2, 3).reshape(len(atoms), n, n)


def _between(graph: Graph, atoms: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors between the atoms of molecules, their squares with 1 for an atom and itself, and where that is."""
    positions = graph.positions.to(torch.float64)[atoms]
    diagonal = torch.eye(atoms.shape[1], dtype=torch.float64, device=positions.device)
    r = positions[:, :, None] - positions[:, None]
    return r, r.square().sum(3) + diagonal, diagonal  # no root of 0


def _waves(graph: Graph, structures: Tensor, atoms: Tensor, summation: Ewald) -> tuple[Tensor, Tensor, Tensor]:
    """Cosines and sines of k . r (S, n, K), weights of their products in ``2 E`` (S, K), and the k (S, K, 3), 1/Å."""
    ewald.require_cells(graph)
    lattice = ewald.lattice_of(graph, structures, summation)
    gaussians = reciprocal.Gaussians(summation.sigma, summation.accuracy)
    h = reciprocal.whole_numbers(sums.common(sums.boxes_of(lattice, gaussians.largest)), lattice.cell)
    weights = (
        reciprocal.reciprocal_weights(lattice, gaussians, h).flatten(1)
        * torch.where(h[..., 2] == 0, 2.0, 4.0).flatten()
    )
    relevant = (weights.detach() != 0.0).any(0).nonzero().squeeze(1)
    _require_size(atoms.shape[1], 2 * len(relevant))
    k = h.flatten(0, 2)[relevant] @ lattice.reciprocal
    fractional = graph.positions.to(torch.float64)[atoms] @ lattice.inverse
    angle = 2 * math.pi * fractional @ h.flatten(0, 2)[relevant].mT
    waves = torch.cat([torch.cos(angle), torch.sin(angle)], dim=2)
    return waves, weights[:, relevant].repeat(1, 2), k.repeat(1, 2, 1)


def _require_size(n_atoms: int, columns: int) -> None:
    if n_atoms * columns > LARGEST_MATRIX:
        raise ModelError(
            f"the interaction of {n_atoms} atoms as a matrix takes {n_atoms} x {columns} numbers, more than "
            f"{LARGEST_MATRIX:.0e}: charges that equilibrate, and dipoles that are induced, are for smaller "
            "structures; use the route equalised or balanced of charges, and les without induced"
        )
