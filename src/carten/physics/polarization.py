"""Charges that interact, in an electric field: polarization, Born effective charges, energy.

Charges are first corrected, in proportion to the masses, so that they add up to the total charge (the input
``total_charge``, 0 where a model has none): a structure as a whole is then pulled by its total charge alone, and forces
do not depend on the origin.

The polarization of a cell depends on the images that are given, how it changes does not. The change of a charge moves
charge to where it is from the edge of the graph that it follows; from the middle of that edge it is counted, along a
lattice vector of length L with ``t = 2 pi x / L`` by ``L / 2 pi (4/3 sin t - 1/6 sin 2 t)``. Whichever image is given,
this is the distance x to the nearest one up to ``L / 2 pi t^5 / 30``, if the atoms that change a charge are much nearer
than L / 4, as they are in supercells.

Source: P. Zhong et al., Machine learning interatomic potential can infer electrical response (2025), who take the real
part of ``exp(-i k r) d P(k)`` at the smallest k, one sine; the second removes the error of third order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from carten.math.lattice import complete_cell
from carten.model.graph import Graph
from carten.model.slopes import slopes
from carten.model.sums import balance, centres_of_mass, masses, per_structure
from carten.physics.names import CHARGE, FIELD
from carten.physics.term import View

HARMONICS = ((1, 4 / 3), (2, -1 / 6))
"""Waves per lattice vector and their amplitudes, whose sum is x up to fifth order."""

Slope = Callable[[Tensor], Tensor]
"""Derivative of the sum of (N,) values in the edge vectors, (E, 3) float64."""


def latent_polarization(charges: Tensor, dipoles: Tensor | None, graph: Graph) -> Tensor:
    """``sum_i q_i r_i + d_i``, (S, 3) in e Å from (N,) and (N, 3).

    Molecules about their centre of mass; in cells the branch of the positions as they are given.
    """
    open_ = ~graph.pbc.any(1, keepdim=True)
    origin = torch.where(open_, centres_of_mass(graph), 0.0)
    values = _corrected(charges, graph)[:, None] * (graph.positions - origin[graph.structure])
    return per_structure(values if dipoles is None else values + dipoles, graph)


def born_charges(charges: Tensor, dipoles: Tensor | None, graph: Graph, vectors: Tensor, create: bool) -> Tensor:
    """Born effective charges ``d P / d r_i``, polarization first: (N, 3, 3) in e, adding up to the total charge.

    ``Z_i = q_i + sum_j (r_j - r) d q_j / d r_i + d d_j / d r_i``, r in the middle of the edge that moves.

    Args:
        charges: (N,) e.
        dipoles: (N, 3) e Å.
        graph: the structures; dipoles depend on their positions.
        vectors: (E, 3) of edges, that charges depend on, and that follow from the positions.
        create: whether the result will be differentiated.
    """
    slope, places, q = _slope(vectors, create), Places.of(graph, vectors), _corrected(charges, graph)
    followed = torch.stack([places.followed(q, axis, slope) for axis in range(3)], dim=1)
    centre, neighbour = graph.edge_index
    edges = torch.einsum("eax,eay->exy", places.cell[graph.structure[centre]], followed)
    rigid = q[:, None, None] * torch.eye(3, dtype=q.dtype, device=q.device)
    total = rigid.index_add(0, neighbour, edges).index_add(0, centre, -edges)
    if dipoles is None:
        return total
    moved = [
        slopes(x, [graph.positions], "derivative of dipoles by positions", create, True) for x in dipoles.unbind(1)
    ]
    return total + torch.stack([x.to(total) for (x,) in moved], dim=1)


def field_energies(charges: Tensor, dipoles: Tensor | None, view: View) -> Tensor:
    """``-P . E`` of every atom in the field E of the graph, (N,) eV; forces are ``Z^T E``, in cells of any images.

    Positions are counted in lattice vectors, along which the drop of the potential stays the same when a cell is
    strained, so that the stress does not depend on images either. Along open directions the field stays the same.

    Args:
        charges: (N,) e.
        dipoles: (N, 3) e Å.
        view: the structures.
    """
    graph, vectors = view.graph, view.vectors
    places, q = Places.of(graph, vectors), _corrected(charges, graph)
    drop = torch.einsum("sx,sax->sa", graph.inputs[FIELD].to(q.dtype), places.cell)[graph.structure]
    moments = q[:, None] * places.atoms
    if dipoles is not None:
        moments = moments + torch.einsum("nx,nxa->na", dipoles, places.inverse[graph.structure])
    energies = -(moments * drop).sum(1)
    along = torch.where(graph.pbc[graph.structure], drop, 0.0)
    if not (torch.is_grad_enabled() and vectors.requires_grad and bool(along.any())):
        return energies
    slope = _slope(vectors, view.again)
    excess = slope((q[:, None] * places.atoms * along).sum(1))  # of charges that move from where images are given
    for axis in along.any(0).nonzero().flatten().tolist():
        excess = excess - places.followed(q * along[:, axis], axis, slope)
    zeros: Tensor = _Sloped.apply(vectors, excess)  # type: ignore[no-untyped-call]
    return energies.index_add(0, graph.edge_index[0], zeros)


def pull_energies(graph: Graph, vectors: Tensor) -> Tensor:
    """``-Q R . E`` of structures of total charge Q with the centre of mass R in a field E, (N,) eV by mass.

    Forces add up to ``Q E`` and Born charges to Q, which no function of edge vectors alone has. Dipoles, the derivative
    in E, stay those about the centre of mass in molecules. Cells are as in :func:`field_energies`.
    """
    places, field = Places.of(graph, vectors), graph.inputs[FIELD]
    q = _corrected(torch.zeros_like(graph.positions[:, 0]), graph)
    origin = torch.where(graph.pbc.any(1, keepdim=True), 0.0, centres_of_mass(graph).detach())
    origin = torch.einsum("sx,sxa->sa", origin.to(places.inverse), places.inverse)[graph.structure]
    drop, fixed_drop = (
        torch.einsum("sx,sax->sa", x.to(places.cell), places.cell)[graph.structure] for x in (field, field.detach())
    )
    return -q * ((places.atoms - origin) * drop + origin * fixed_drop).sum(1)


@dataclass(frozen=True)
class Places:
    """Where atoms and the middles of edges are, in units of the lattice vectors.

    Args:
        cell: (S, 3, 3) Å, its vectors along open directions unit vectors; not differentiated.
        inverse: (S, 3, 3) 1/Å.
        atoms: (N, 3).
        middles: (E, 3).
        periodic: (N, 3) and (E, 3) bool.
    """

    cell: Tensor
    inverse: Tensor
    atoms: Tensor
    middles: Tensor
    periodic: tuple[Tensor, Tensor]

    @classmethod
    def of(cls, graph: Graph, vectors: Tensor) -> Places:
        """Of a graph; atoms and middles depend on its positions, cells and edge vectors."""
        given_cell = graph.cell.to(torch.float64)
        cells = zip(given_cell.detach().cpu().numpy(), graph.pbc.cpu().numpy(), strict=True)
        cell = torch.stack([torch.from_numpy(complete_cell(*one)) for one in cells]).to(given_cell.device)
        inverse = torch.linalg.inv(torch.where(graph.pbc.unsqueeze(2), given_cell, cell))
        of_edges = graph.structure[graph.edge_index[0]]
        atoms = torch.einsum("nx,nxa->na", graph.positions.to(given_cell), inverse[graph.structure])
        half = 0.5 * torch.einsum("ex,exa->ea", vectors.to(given_cell), inverse[of_edges])
        periodic = graph.pbc[graph.structure], graph.pbc[of_edges]
        return cls(cell, inverse, atoms, atoms[graph.edge_index[0]] + half, periodic)

    def followed(self, charges: Tensor, axis: int, slope: Slope) -> Tensor:
        """``sum_j (x_j - x) d q_j / d r`` of every edge with its middle at x, along one lattice vector: (E, 3)."""
        position, middle = self.atoms[:, axis], self.middles[:, axis]
        of_atoms, of_edges = (periodic[:, axis] for periodic in self.periodic)
        if not bool(of_atoms.any()):
            return slope(charges * position)
        displaced, straight = position.new_zeros(()), position
        for waves, amplitude in HARMONICS:
            turn, scale = 2 * math.pi * waves, amplitude / (2 * math.pi)
            first = slope(charges * torch.where(of_atoms, scale * torch.sin(turn * position), straight))
            second = slope(charges * torch.where(of_atoms, scale * torch.cos(turn * position), 0.0))
            cosine = torch.where(of_edges, torch.cos(turn * middle), 1.0)
            sine = torch.where(of_edges, torch.sin(turn * middle), 0.0)
            displaced = displaced + cosine[:, None] * first - sine[:, None] * second
            straight = torch.zeros_like(position)
        return displaced


def _corrected(charges: Tensor, graph: Graph) -> Tensor:
    """Charges that add up to the total charge of the structure, (N,)."""
    total = graph.inputs.get(CHARGE, charges.new_zeros(graph.n_structures))
    return balance(charges, masses(graph).to(charges), total.to(charges), graph.structure)


def _slope(vectors: Tensor, create: bool) -> Slope:
    def slope(value: Tensor) -> Tensor:
        (gradient,) = slopes(value, [vectors], "derivative of charges or dipoles by edge vectors", create, True)
        return gradient.to(torch.float64)

    return slope


class _Sloped(torch.autograd.Function):
    """Zeros, one for each edge, with given derivatives in the edge vectors."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, slopes: Tensor) -> Tensor:
        ctx.save_for_backward(slopes)
        ctx.dtype = vectors.dtype
        return slopes.new_zeros(len(slopes))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (slopes,) = ctx.saved_tensors
        return (grads[0][:, None] * slopes).to(ctx.dtype), None
