"""Dipoles that the field of charges induces: those of least energy, in which they also see each other.

``E(m) = E_0(p + m) + sum_i |m_i|^2 / (2 a_i)`` with the interaction E_0 of charges, dipoles p + m and quadrupoles of
:mod:`carten.physics.ewald`, here with the energy of a Gaussian dipole with itself, and polarizabilities a. With it the
interaction of dipoles is positive definite and any a > 0 has one minimum: there is no polarization catastrophe, however
close atoms come. An atom alone then has the polarizability ``1 / (1 / a + k sqrt(2 / pi) / (3 sigma^3))``.

Source: J. Applequist, J. R. Carl, K.-K. Fung, J. Am. Chem. Soc. 94, 2952 (1972); with Gaussians A. Mayer,
Phys. Rev. B 75, 045407 (2007).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from carten.model.slopes import autograd_recording, slopes
from carten.physics import coulomb, ewald
from carten.physics.equilibration import ChargeInteraction, alike
from carten.physics.fragments import ChargeGroups
from carten.physics.names import FIELD
from carten.physics.pairs import Multipoles
from carten.physics.term import View


def induced_dipoles(
    permanent: Multipoles, polarizabilities: Tensor, view: View, interaction: ChargeInteraction, in_field: bool
) -> Tensor:
    """The dipoles m of least energy, (N, 3) float64 in e Å, which can be differentiated to any order.

    Args:
        permanent: charges, dipoles and quadrupoles of one kind whose field induces them.
        polarizabilities: (N,) a, e^2 Å^2/eV, positive.
        view: the structures.
        interaction: between multipoles.
        in_field: whether the input ``electric_field`` acts on them.

    Raises:
        ModelError: a structure is too large, is periodic in one direction only, or has no proper cell.
    """
    graph, force = view.graph, _fields(permanent, view, interaction)
    if in_field:
        force = force + graph.inputs[FIELD].to(force)[graph.structure]
    stiff = 1.0 / polarizabilities.to(torch.float64)
    structures = torch.arange(graph.n_structures, device=graph.structure.device)
    groups = ChargeGroups(graph.structure, structures, torch.zeros_like(structures))
    dipoles = torch.zeros_like(force)
    for chosen, atoms, _ in alike(graph, groups):
        matrix = coulomb.dipole_matrices(graph, chosen, atoms, interaction.summation) / interaction.permittivity
        matrix = matrix + torch.diag_embed(stiff[atoms].repeat_interleave(3, dim=1))
        solved = torch.linalg.solve(matrix, force[atoms].flatten(1))
        dipoles = dipoles.index_copy(0, atoms.flatten(), solved.reshape(-1, 3))
    return dipoles


def _fields(permanent: Multipoles, view: View, interaction: ChargeInteraction) -> Tensor:
    """What acts on a dipole at each atom, ``-dE_0/dp``: (N, 3) V/Å."""
    create = torch.is_grad_enabled()
    with autograd_recording():
        m = permanent.to(torch.float64)
        dipoles = m.charges.new_zeros(*m.charges.shape, 3) if m.dipoles is None else m.dipoles
        dipoles = dipoles if dipoles.requires_grad else dipoles.detach().requires_grad_()
        energies = ewald.ewald_energies(replace(m, dipoles=dipoles), view.graph, view.vectors, interaction.summation)
        (slope,) = slopes(energies, [dipoles], "derivative of energies by dipoles", create, False)
    return -slope[:, 0] / interaction.permittivity


def polarizing_energies(induced: Tensor, polarizabilities: Tensor, interaction: ChargeInteraction) -> Tensor:
    """What it costs to induce dipoles, with the energy of each with itself: (N,) in eV."""
    of_dipole = coulomb.self_interaction_of_dipoles(interaction.summation.sigma) / interaction.permittivity
    return 0.5 * (1.0 / polarizabilities.to(torch.float64) + of_dipole) * induced.square().sum(1)
