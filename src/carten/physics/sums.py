"""The sum over reciprocal vectors for structures of all sizes: which method, and which structures together."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.physics import mesh, reciprocal
from carten.physics.reciprocal import Gaussians, Lattice

POINT = 30
"""Complex products of an explicit sum that take as long as one point of a mesh, measured."""
SMALL_SUM = 1e6
"""Complex products of an explicit sum that no mesh is faster than."""
LARGEST_SUM = 1e9
"""Complex numbers an explicit sum may keep."""
BATCHED_PRODUCTS = 4e6
"""Complex products that are cheaper than another call."""


@dataclass(frozen=True)
class Points:
    """Atoms of periodic structures, ordered by structure.

    Args:
        values: (N, M C) numbers of :func:`carten.physics.reciprocal.moments`.
        fractional: (N, 3) positions in units of the lattice vectors.
        counts: atoms of each structure.
        n_kinds: C.
    """

    values: Tensor
    fractional: Tensor
    counts: Sequence[int]
    n_kinds: int

    def places(self, structures: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Atoms of some structures (structures, most atoms), and which of these there are."""
        counts, chosen = (torch.tensor(x, device=self.values.device) for x in (self.counts, structures))
        starts, counts_of_chosen = counts.cumsum(0) - counts, counts[chosen]
        steps = torch.arange(int(counts_of_chosen.max()), device=counts_of_chosen.device)
        present = steps < counts_of_chosen[:, None]
        return torch.where(present, starts[chosen, None] + steps, 0), present

    def select(self, index: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Values and positions of (structures, most atoms, ..), the values zero where there is no atom."""
        if len(self.counts) == 1:
            return self.values.unsqueeze(0), self.fractional.unsqueeze(0)
        flat = index.flatten()
        values, fractional = (
            x.index_select(0, flat).view(*index.shape, x.shape[1]) for x in (self.values, self.fractional)
        )
        return torch.where(present.unsqueeze(2), values, 0.0), fractional


def reciprocal_energies(points: Points, lattice: Lattice, gaussians: Gaussians, method: str) -> Tensor:
    """Energies of atoms over e^2 / (4 pi eps0), each with itself included: (N,) in e^2/Å.

    Args:
        points: the atoms.
        lattice: the structures.
        gaussians: their width, and what may be neglected.
        method: ``"explicit"``, ``"mesh"`` or ``"auto"``.

    Raises:
        ModelError: it would take too much.
    """
    boxes = boxes_of(lattice, gaussians.largest)
    work = [n * box.size for n, box in zip(points.counts, boxes, strict=True)]
    meshed = [may_mesh(explicit, method) for explicit in work]
    if method == "auto" and any(meshed):
        lengths = lattice.cell.detach().norm(dim=2).tolist()
        grids = [POINT * math.prod(mesh.needed(row, gaussians)) for row in lengths]
        meshed = [may and explicit > grid for may, explicit, grid in zip(meshed, work, grids, strict=True)]
    groups = [[k] for k, use in enumerate(meshed) if use]
    groups += _together([k for k, use in enumerate(meshed) if not use], points.counts, boxes)
    total = points.values.new_zeros(len(points.values))
    for group in groups:
        lattices = lattice.select(group)
        index, present = points.places(group)
        values, fractional = points.select(index, present)
        sum_: reciprocal.ReciprocalSum
        if meshed[group[0]]:
            sum_ = mesh.Mesh(values, fractional, mesh.shape(lattices, gaussians))
        else:
            reach = common(boxes[k] for k in group)
            _require_feasible(reach, values, gaussians)
            sum_ = reciprocal.Explicit(values, fractional, reach)
        energies = reciprocal.batch_energies(sum_, lattices, gaussians, points.n_kinds)
        total = total.index_add(0, index[present], energies[present])
    return total


@dataclass(frozen=True)
class Box:
    """The whole numbers of reciprocal vectors that matter, -n .. n in two directions and 0 .. n in the third."""

    reach: tuple[int, int, int]

    @property
    def size(self) -> int:
        """Number of vectors."""
        first, second, third = self.reach
        return (2 * first + 1) * (2 * second + 1) * (third + 1)


def boxes_of(lattice: Lattice, largest: float) -> list[Box]:
    """Of every structure, for reciprocal vectors up to a length in 1/Å."""
    lengths = lattice.cell.detach().norm(dim=2)
    reaches = (largest / (2 * math.pi) * lengths).floor().long().tolist()
    return [Box((first, second, third)) for first, second, third in reaches]


def may_mesh(work: int, method: str) -> bool:
    """Whether a mesh may take the place of an explicit sum of so many complex products."""
    return method == "mesh" or (method == "auto" and work > SMALL_SUM)


def common(boxes: Iterable[Box]) -> tuple[int, int, int]:
    """The reach that holds all of them."""
    first, second, third = (max(axis) for axis in zip(*(box.reach for box in boxes), strict=True))
    return first, second, third


def _together(structures: Sequence[int], counts: Sequence[int], boxes: Sequence[Box]) -> list[list[int]]:
    """Groups of structures of similar size, for which filling up to the largest costs less than another call."""
    groups: list[list[int]] = []
    spent = 0
    for k in sorted(structures, key=lambda k: counts[k] * boxes[k].size):
        work = counts[k] * boxes[k].size
        if groups:
            grown = [*groups[-1], k]
            filled = len(grown) * max(counts[j] for j in grown) * Box(common(boxes[j] for j in grown)).size
            if filled <= 2 * (spent + work) + BATCHED_PRODUCTS:
                groups[-1], spent = grown, spent + work
                continue
        groups.append([k])
        spent = work
    return [sorted(group) for group in groups]


def _require_feasible(reach: tuple[int, int, int], values: Tensor, gaussians: Gaussians) -> None:
    first, second, third = reach
    plane = (2 * first + 1) * (2 * second + 1)
    n_structures, n_atoms, n_moments = values.shape
    if n_structures * max(n_atoms * (plane + n_moments * third), plane * third * n_moments) > LARGEST_SUM:
        raise ModelError(
            f"electrostatics to an accuracy of {gaussians.accuracy:g} with Gaussians of {gaussians.width:.3g} Å takes "
            f"{plane * third} reciprocal vectors for {n_atoms} atoms: use a mesh, less accuracy or wider Gaussians"
        )
