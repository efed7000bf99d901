"""Derivatives of values of structures and atoms, all structures of a batch at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import product

import torch
from torch import Tensor

from carten.math.symmetry import Symmetry
from carten.model.graph import Graph
from carten.model.slopes import slopes
from carten.properties.planning import EDGES
from carten.properties.recipes import POSITIONS, STRAIN


@dataclass(frozen=True)
class Leaves:
    """What properties are differentiated with respect to.

    Args:
        graph: structures whose positions, cells and inputs depend on the leaves.
        cell: (S, 3, 3) Å, of the structures before they are strained.
        vectors: (E, 3) edge vectors.
        wrt: the leaves by name.
    """

    graph: Graph
    cell: Tensor
    vectors: Tensor
    wrt: Mapping[str, Tensor]

    @cached_property
    def volumes(self) -> Tensor:
        """(S,) of the cells, Å^3, which a strain does not change; 0 where there is none."""
        volumes: Tensor = torch.linalg.det(self.cell).abs()
        return volumes


def prepare_leaves(graph: Graph, names: Collection[str]) -> Leaves:
    """Prepare the graph for derivatives with respect to positions, strain, edges and inputs of the given names.

    What the caller differentiates with respect to stays connected.
    """
    cell = graph.cell
    wrt: dict[str, Tensor] = {}
    if POSITIONS.name in names:
        wrt[POSITIONS.name] = _leaf(graph.positions)
        graph = replace(graph, positions=wrt[POSITIONS.name])
    inputs = {name: _leaf(value) for name, value in graph.inputs.items() if name in names}
    if inputs:
        wrt.update(inputs)
        graph = replace(graph, inputs={**graph.inputs, **inputs})
    if STRAIN.name in names:
        wrt[STRAIN.name] = torch.zeros_like(graph.cell).requires_grad_()
        symmetric = (wrt[STRAIN.name] + wrt[STRAIN.name].mT) / 2
        moved = torch.einsum("na,nab->nb", graph.positions, symmetric[graph.structure])
        graph = replace(graph, positions=graph.positions + moved, cell=graph.cell + graph.cell @ symmetric)
    vectors = graph.edge_vectors()
    if EDGES in names:
        vectors = vectors if vectors.requires_grad else vectors.requires_grad_()
        wrt[EDGES] = vectors
    return Leaves(graph, cell, vectors, wrt)


def _leaf(value: Tensor) -> Tensor:
    return value if value.requires_grad else value.detach().requires_grad_()


def gradients(
    value: Tensor,
    wrt: Sequence[Tensor],
    symmetry: Symmetry,
    description: str,
    create: bool,
    retain: bool,
    drawn: Tensor | None = None,
) -> list[Tensor]:
    """Derivatives of values of structures: (S, a..) and (rows, b..) to (rows, a.., b..), one pass for each component.

    Args:
        value: one row per structure.
        wrt: each row of these concerns one structure.
        symmetry: of the components a; equal ones are differentiated once.
        description: of the derivative, for errors.
        create: whether the result will be differentiated.
        retain: whether other derivatives follow.
        drawn: which of the independent components are wanted, all by default; others are NaN.

    Raises:
        ModelError: see :func:`carten.model.slopes.slopes`.
    """
    if value.dim() == 1:
        return list(slopes(value, wrt, description, create, retain))
    chosen, copies, signs = independent(symmetry)
    flat = value.flatten(1)
    components = range(len(chosen)) if drawn is None else sorted(drawn.tolist())
    absent = [torch.full_like(x, torch.nan) for x in wrt] if len(components) < len(chosen) else []
    passes: list[Sequence[Tensor]] = [absent] * len(chosen)
    for k in components:
        passes[k] = slopes(flat[:, chosen[k]], wrt, description, create, retain or k != components[-1])
    results = []
    for one_variable in zip(*passes, strict=True):
        stacked = torch.stack(one_variable, dim=1)
        if len(chosen) < flat.shape[1]:
            shape = (-1, *[1] * (stacked.dim() - 2))
            factors = torch.tensor(signs, dtype=stacked.dtype, device=stacked.device).view(shape)
            stacked = stacked.index_select(1, torch.tensor(copies, device=stacked.device)) * factors
        results.append(stacked.reshape(len(stacked), *value.shape[1:], *stacked.shape[2:]))
    return results


def gradients_of_atoms(value: Tensor, wrt: Tensor, description: str, create: bool, retain: bool) -> Tensor:
    """Derivatives of values of atoms in variables of their structures: (N, a..) and (S, b..) to (N, a.., b..).

    One pass for each component of the variable: the derivative of ``sum_i u_i . v_i`` with respect to it is linear in
    u, and is differentiated with respect to u.

    Raises:
        ModelError: see :func:`carten.model.slopes.slopes`.
    """
    u = torch.zeros_like(value).requires_grad_()
    (summed,) = slopes(value, [wrt], description, create=True, retain=True, weights=u)
    flat = summed.flatten(1)
    last = flat.shape[1] - 1
    passes = [slopes(flat[:, k], [u], description, create, retain or k < last)[0] for k in range(flat.shape[1])]
    return torch.stack(passes, dim=-1).reshape(*value.shape, *wrt.shape[1:])


@lru_cache(maxsize=64)
def _independent(rank: int, group: tuple[tuple[tuple[int, ...], int], ...]) -> tuple[list[int], list[int], list[int]]:
    places = {index: k for k, index in enumerate(product(range(3), repeat=rank))}
    chosen: dict[int, int] = {}
    copies, signs = [], []
    for index in places:
        images = [(places[tuple(index[axis] for axis in permutation)], sign) for permutation, sign in group]
        first = min(place for place, _ in images)
        signs_of_first = {sign for place, sign in images if place == first}
        copies.append(chosen.setdefault(first, len(chosen)))
        signs.append(signs_of_first.pop() if len(signs_of_first) == 1 else 0)
    return list(chosen), copies, signs


def independent(symmetry: Symmetry) -> tuple[list[int], list[int], list[int]]:
    """Independent components of a symmetry: their flat places, and for each component which of them, and its sign."""
    return _independent(symmetry.rank, tuple(symmetry.group().items()))


def per_volume(value: Tensor, leaves: Leaves, atoms: bool) -> Tensor:
    """Values of structures (or of atoms) divided by the volume of the cell; NaN, without a gradient, where is none."""
    volume = (leaves.volumes[leaves.graph.structure] if atoms else leaves.volumes).view(-1, *[1] * (value.dim() - 1))
    return torch.where(volume > 0, value / torch.where(volume > 0, volume, 1.0), torch.nan)


def atomic_virials(gradient: Tensor, leaves: Leaves) -> Tensor:
    """Half of ``-dE/dr_e r_e`` of every edge to each of its two atoms, (N, 3, 3)."""
    share = -0.5 * gradient.unsqueeze(2) * leaves.vectors.unsqueeze(1)
    total = share.new_zeros(leaves.graph.n_atoms, 3, 3)
    centre, neighbour = leaves.graph.edge_index
    return total.index_add(0, centre, share).index_add(0, neighbour, share)
