"""Electrostatic energy of atomic multipoles: periodic structures, slabs and molecules, many at once.

``E = e^2 / (4 pi eps0) 1/2 sum_(i != j) q_i q_j erf(r_ij / (sqrt(2) sigma)) / r_ij``, over all periodic images: charges
smeared by Gaussians, points where sigma is 0; an atom does not interact with itself. Where the sum over images does not
converge it is what Ewald defines: no field at the surface, and a uniform background that neutralises charged cells.
Molecules are summed pair by pair.

Source: P. P. Ewald, Ann. Phys. 369, 253 (1921); for smeared charges B. Cheng, npj Comput. Mater. 11, 80 (2025).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from ase.geometry import minkowski_reduce
from torch import Tensor

from carten.errors import ModelError
from carten.model.graph import Graph
from carten.physics import pairs, reciprocal, sums
from carten.physics.constants import COULOMB
from carten.physics.pairs import Multipoles
from carten.physics.reciprocal import Gaussians, Lattice

SINGULAR = 1e-6
"""Volume relative to the product of the lengths of the periodic vectors, below which a cell is no cell."""
MAX_PAIRS = 10**8
"""Of atoms of a molecule, at most: they take 125 bytes each, more in training."""


@dataclass(frozen=True)
class Ewald:
    """How electrostatic energies are summed.

    Args:
        sigma: width of the Gaussians in Å; 0 for points, which need edges.
        accuracy: relative error of the energies and forces of charges; that of stress is up to 6 times as large,
            that of multipoles 10 times for each rank.
        edges: Å, up to where the edges of the graphs reach, if these are to be used: the sum over reciprocal vectors is
            then that of the widest Gaussians whose difference from the true ones ends there. 0: edges are not used.
        method: explicit sums over reciprocal vectors, a particle mesh, or for each structure what is faster; all to the
            same accuracy.

    Raises:
        ModelError: an argument is out of its range, or points have no edges.
    """

    sigma: float
    accuracy: float = 1e-4
    edges: float = 0.0
    method: Literal["auto", "explicit", "mesh"] = "auto"

    def __post_init__(self) -> None:
        if not 1e-12 <= self.accuracy <= 0.1:
            raise ModelError(f"accuracy of electrostatics: expected 1e-12 to 0.1, found {self.accuracy:g}")
        if not (math.isfinite(self.sigma) and self.sigma >= 0.0 and math.isfinite(self.edges) and self.edges >= 0.0):
            raise ModelError(f"sigma and edges are lengths in Å, found {self.sigma} and {self.edges}")
        if self.sigma == 0.0 and self.edges == 0.0:
            raise ModelError("points (sigma: 0) of periodic structures need edges: give the cutoff of the graphs")

    @property
    def gaussians(self) -> Gaussians:
        """Of the sum over reciprocal vectors: as wide as the edges allow, so that it takes fewest vectors."""
        gaussians = Gaussians(1.0, self.accuracy)
        return replace(gaussians, width=max(self.sigma, self.edges / gaussians.reach))

    @property
    def split(self) -> bool:
        """Whether edges take part."""
        return self.gaussians.width > self.sigma


def ewald_energies(multipoles: Multipoles, graph: Graph, vectors: Tensor, summation: Ewald) -> Tensor:
    """Electrostatic energy of every atom, half of what it has with others: (N,) float64 in eV.

    They add up to the energy of each structure, and can be differentiated to any order.

    Args:
        multipoles: of the N atoms.
        graph: the structures.
        vectors: (E, 3) edge vectors in Å; looked at if :attr:`Ewald.edges` is set, for periodic structures.
        summation: smearing and accuracy.

    Raises:
        ModelError: a structure is periodic in one direction only, has no proper cell, is a molecule of too many atoms,
            or would take more than can be done for this accuracy.
    """
    m = multipoles.to(torch.float64)
    periodic = graph.pbc.any(1)
    total = m.charges.new_zeros(graph.n_atoms)
    if not bool(periodic.all()):
        total = total + _molecules(m, graph, summation.sigma)
    if bool(periodic.any()):
        total = total + _periodic(m, graph, summation)
        if summation.split:
            total = total + _near(m, graph, vectors, summation)
    return COULOMB * total


def _molecules(m: Multipoles, graph: Graph, sigma: float) -> Tensor:
    """Pair by pair, (N,), 0 in periodic structures."""
    atoms = (~graph.pbc.any(1)).index_select(0, graph.structure).nonzero().squeeze(1)
    _require_countable(graph, atoms)
    first, second = (atoms.index_select(0, x) for x in pairs.within(graph.structure.index_select(0, atoms)))
    positions = graph.positions.to(torch.float64)
    r = positions.index_select(0, first) - positions.index_select(0, second)
    return _pairs(m, (first, second), r, (sigma, None))


def _pairs(m: Multipoles, ends: tuple[Tensor, Tensor], r: Tensor, widths: tuple[float, float | None]) -> Tensor:
    """Interaction of Gaussians of one width, minus that of another, half of it at either end: (N,)."""
    square = r.square().sum(1)
    b = pairs.radial(square, widths[0], m.order)
    if widths[1] is not None:
        b = [x - y for x, y in zip(b, pairs.radial(square, widths[1], m.order), strict=True)]
    half = 0.5 * pairs.multipole_interaction(b, r, m.select(ends[0]), m.select(ends[1]))
    return half.new_zeros(len(m.charges)).index_add(0, ends[0], half).index_add(0, ends[1], half)


def _periodic(m: Multipoles, graph: Graph, summation: Ewald) -> Tensor:
    """The sum over reciprocal vectors, without atoms with themselves: (N,), 0 in molecules."""
    structures = graph.pbc.any(1).nonzero().squeeze(1)
    require_cells(graph)
    lattice = lattice_of(graph, structures, summation)
    place = graph.structure.new_full((graph.n_structures,), -1)
    place[structures] = torch.arange(len(structures), device=place.device)
    structure = place.index_select(0, graph.structure)
    atoms = (structure >= 0).nonzero().squeeze(1)
    structure, m = structure.index_select(0, atoms), m.select(atoms)
    positions = graph.positions.index_select(0, atoms).to(torch.float64)
    fractional = torch.einsum("na,nax->nx", positions, lattice.inverse.index_select(0, structure))
    values = reciprocal.moments(m, lattice.reciprocal.index_select(0, structure))
    counts = torch.bincount(structure, minlength=len(structures)).tolist()
    points = sums.Points(values, fractional, counts, m.charges.shape[1])
    energies = sums.reciprocal_energies(points, lattice, summation.gaussians, summation.method)
    energies = energies - pairs.multipole_self_energy(m, summation.gaussians.width)
    if summation.split:
        energies = energies + _background(m.charges, structure, lattice, summation)
    return energies.new_zeros(graph.n_atoms).index_add(0, atoms, energies)


def _background(charges: Tensor, structure: Tensor, lattice: Lattice, summation: Ewald) -> Tensor:
    """What the edges count too much where cells are charged: 0 for slabs, where nothing is left out. (N,)."""
    sums = charges.new_zeros(len(lattice.cell), charges.shape[1]).index_add(0, structure, charges)
    excess = torch.where(
        lattice.flat.any(1), 0.0, math.pi * (summation.gaussians.width**2 - summation.sigma**2) / lattice.volume
    )
    return -(excess[:, None] * sums).index_select(0, structure).mul(charges).sum(1)


def _near(m: Multipoles, graph: Graph, vectors: Tensor, summation: Ewald) -> Tensor:
    """The difference between the true and the wide Gaussians, over edges of periodic structures: (N,)."""
    centre, neighbour = graph.edge_index
    chosen = graph.pbc.any(1).index_select(0, graph.structure.index_select(0, centre)).nonzero().squeeze(1)
    ends = (centre.index_select(0, chosen), neighbour.index_select(0, chosen))
    r = -vectors.index_select(0, chosen).to(torch.float64)
    return 0.5 * _pairs(m, ends, r, (summation.sigma, summation.gaussians.width))  # every pair has two edges


def _require_countable(graph: Graph, atoms: Tensor) -> None:
    counts = torch.bincount(graph.structure.index_select(0, atoms), minlength=graph.n_structures)
    n_pairs = counts * (counts - 1) // 2
    if int(n_pairs.sum()) > MAX_PAIRS:
        largest = int(counts.argmax())
        raise ModelError(
            f"structure {largest} of the batch is not periodic and has {int(counts[largest])} atoms; electrostatics "
            f"of molecules is summed over all pairs, found {int(n_pairs.sum()):.1e} in the batch, at most "
            f"{MAX_PAIRS:.0e}: set pbc in all directions and a cell with enough vacuum, or take fewer structures "
            "at once"
        )


def require_cells(graph: Graph) -> None:
    """Check that structures are periodic in no, two or three directions, with cells that span a volume.

    Raises:
        ModelError: one is not.
    """
    n_periodic = graph.pbc.sum(1)
    if bool((n_periodic == 1).any()):
        wire = int((n_periodic == 1).nonzero()[0])
        raise ModelError(
            f"structure {wire} of the batch is periodic in one direction only (pbc {graph.pbc[wire].tolist()}); "
            "electrostatics is for molecules, slabs and bulk: set pbc in all directions, with enough vacuum"
        )
    cell = torch.where(graph.pbc[:, :, None], graph.cell.detach().to(torch.float64), 0.0)
    unit = cell / cell.norm(dim=2, keepdim=True).clamp(min=1e-300)
    gram = unit @ unit.mT + torch.diag_embed((~graph.pbc).to(torch.float64))
    bad = (torch.linalg.det(gram).clamp(min=0.0).sqrt() < SINGULAR) & (n_periodic > 0)
    if bool(bad.any()):
        first = int(bad.nonzero()[0])
        raise ModelError(
            f"structure {first} of the batch is periodic ({graph.pbc[first].tolist()}), but its cell vectors span no "
            f"volume: {graph.cell[first].tolist()} Å; give the structure its cell, or set pbc to False"
        )


def lattice_of(graph: Graph, structures: Tensor, summation: Ewald) -> Lattice:
    """Cells of periodic structures; those of slabs completed by a normal, twice as long as the interaction reaches."""
    cell = graph.cell.index_select(0, structures).to(torch.float64)
    flat = ~graph.pbc.index_select(0, structures)
    if bool(flat.any()):
        rows = []
        for k, s in enumerate(structures.tolist()):
            rows.append(
                cell[k] if not bool(flat[k].any()) else _completed(cell[k], flat[k], _atoms(graph, s), summation)
            )
        cell = torch.stack(rows)
    return Lattice(_reduced(cell, flat), flat)


def _reduced(cell: Tensor, flat: Tensor) -> Tensor:
    """The cells, those that are very skew by shorter vectors of the same lattice: fewer of them, and meshes as exact.

    Cells of shortest vectors have at least half the volume of a box with edges as long.
    """
    boxes = cell.detach().norm(dim=2).prod(1)
    skew = (boxes > 2.001 * torch.linalg.det(cell.detach()).abs()).nonzero().flatten().tolist()
    if not skew:
        return cell
    rows = list(cell)
    for k in skew:
        combinations = minkowski_reduce(cell[k].detach().cpu().numpy(), ~flat[k].cpu().numpy())[1]
        rows[k] = torch.as_tensor(combinations).to(cell) @ cell[k]
    return torch.stack(rows)


def _atoms(graph: Graph, structure: int) -> Tensor:
    return graph.positions.detach().to(torch.float64)[graph.structure == structure]


def _completed(cell: Tensor, flat: Tensor, positions: Tensor, summation: Ewald) -> Tensor:
    axis = int(flat.nonzero()[0])
    first, second = (cell[(axis + k) % 3] for k in (1, 2))
    normal = torch.linalg.cross(first, second)
    normal = normal / normal.norm()
    places = positions @ normal.detach()
    thick = float(places.max() - places.min()) if len(places) else 0.0
    height = 2 * (thick + summation.gaussians.reach)
    completed = torch.stack([normal * height if k == axis else cell[k] for k in range(3)])
    (box,) = sums.boxes_of(Lattice(completed.unsqueeze(0), flat.unsqueeze(0)), summation.gaussians.largest)
    if not sums.may_mesh(len(places) * box.size, summation.method):
        return completed
    rounded = normal * math.ceil(height)  # energies of meshes change with every height
    return torch.stack([rounded if k == axis else cell[k] for k in range(3)])
