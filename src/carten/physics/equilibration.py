"""Charge equilibration: charges that minimise an energy in which they interact over any distance.

``E(q) = sum_i (chi_i q_i + 1/2 eta_i q_i^2) + 1/2 sum_ij q_i J_ij q_j`` under ``sum_i q_i = Q``, with the
electronegativities chi and hardnesses eta of the atoms and J of :mod:`carten.physics.coulomb`, which includes a
Gaussian with itself. J is positive definite and eta > 0: there is one minimum. In an electric field F of a molecule
``- sum_i q_i r_i . F`` is part of E.

Source: A. K. Rappé, W. A. Goddard, J. Phys. Chem. 95, 3358 (1991); T. W. Ko et al., Nat. Commun. 12, 398 (2021).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.model.graph import Graph
from carten.physics import coulomb
from carten.physics.ewald import Ewald
from carten.physics.fragments import ChargeGroups, charge_groups
from carten.physics.names import FIELD

BATCHED_NUMBERS = 2**24
"""Numbers of matrices that are made at once, 128 MB."""


@dataclass(frozen=True)
class ChargeInteraction:
    """How charges interact while they equilibrate.

    Args:
        summation: smearing and accuracy.
        permittivity: by which J is divided.
    """

    summation: Ewald
    permittivity: float = 1.0

    @classmethod
    def of(cls, sigma: float, permittivity: float, accuracy: float) -> ChargeInteraction:
        """Of Gaussians of this width in Å, in cells to this accuracy."""
        return cls(Ewald(sigma, accuracy), permittivity)


def equilibrated_charges(
    electronegativities: Tensor, hardnesses: Tensor, graph: Graph, interaction: ChargeInteraction
) -> Tensor:
    """The charges of the minimum, (N,) float64 in e, to round-off; can be differentiated to any order.

    They add up to the input ``total_charge`` of each structure, or to the charges of its fragments, see
    :mod:`carten.physics.fragments`.

    Args:
        electronegativities: (N,) eV/e.
        hardnesses: (N,) eV/e^2, positive.
        graph: the structures.
        interaction: between charges.

    Raises:
        ModelError: a structure is too large, is periodic in one direction only, or has no proper cell; or see
            :func:`carten.physics.fragments.charge_groups`.
    """
    chi, eta = (x.to(torch.float64) for x in (electronegativities, hardnesses))
    groups = charge_groups(graph)
    values = torch.zeros_like(chi)
    for structures, atoms, members in alike(graph, groups):
        coulomb_matrices = coulomb.matrices(graph, structures, atoms, interaction.summation) / interaction.permittivity
        sums = (groups.of[atoms].unsqueeze(1) == members.unsqueeze(2)).to(chi)
        upper = torch.cat([coulomb_matrices + torch.diag_embed(eta[atoms]), sums.mT], dim=2)
        lower = torch.cat([sums, sums.new_zeros(*members.shape, members.shape[1])], dim=2)
        right = torch.cat([-chi[atoms], groups.totals[members]], dim=1)
        solved = torch.linalg.solve(torch.cat([upper, lower], dim=1), right)
        values = values.index_copy(0, atoms.flatten(), solved[:, : atoms.shape[1]].flatten())
    return values


def alike(graph: Graph, groups: ChargeGroups) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Structures (S,) of as many atoms and parts that are all periodic or not, their atoms (S, n) and parts (S, p)."""
    device = graph.structure.device
    sizes, counts = (torch.bincount(x, minlength=graph.n_structures) for x in (graph.structure, groups.structure))
    batches: dict[tuple[int, int, bool], list[int]] = defaultdict(list)
    kinds = zip(sizes.tolist(), counts.tolist(), graph.pbc.any(1).tolist(), strict=True)
    for structure, kind in enumerate(kinds):
        batches[kind].append(structure)
    for (n, p, _), members in batches.items():
        size = max(1, BATCHED_NUMBERS // n**2)
        for start in range(0, len(members), size):
            structures = torch.tensor(members[start : start + size], device=device)
            starts, firsts = ((x.cumsum(0) - x)[structures, None] for x in (sizes, counts))
            yield structures, starts + torch.arange(n, device=device), firsts + torch.arange(p, device=device)


def electronegativities_in_field(electronegativities: Tensor, graph: Graph) -> Tensor:
    """``chi_i - r_i . F`` in the electric field of the graph: (N,) eV/e.

    Raises:
        ModelError: a structure is periodic, so that its charges would flow along the field without end.
    """
    field = graph.inputs[FIELD].to(electronegativities)
    if bool((wrong := graph.pbc.any(1) & field.any(1)).any()):
        raise ModelError(
            f"structure {int(wrong.nonzero()[0])} of the batch is periodic and in an electric field, in which charges "
            "that equilibrate have no minimum: fields are for molecules, or for the routes equalised and balanced"
        )
    return electronegativities - (graph.positions.to(field) * field[graph.structure]).sum(1)


def charging_energies(
    charges: Tensor, electronegativities: Tensor, hardnesses: Tensor, interaction: ChargeInteraction
) -> Tensor:
    """What E holds besides the interaction of different atoms and the field, (N,) in eV.

    ``chi_i q_i + 1/2 (eta_i + J_ii) q_i^2``, J_ii without the images of the atom.
    """
    stiff = hardnesses + coulomb.self_interaction(interaction.summation.sigma) / interaction.permittivity
    return electronegativities * charges + 0.5 * stiff * charges.square()
