"""Adsorbates: what their energies refer to, how they are put on a slab, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
from ase.build import molecule
from ase.collections import g2
from ase.data import atomic_numbers, covalent_radii
from ase.geometry import get_distances
from ase.neighborlist import natural_cutoffs, neighbor_list
from scipy.optimize import linear_sum_assignment

from carten.data.read import read_structures
from carten.errors import DataError
from carten.math.arrays import Floats
from carten.workflows.bonds import bonded_pairs, fragments
from carten.workflows.sites import Site, SlabSymmetry

DIATOMIC = ("H", "N", "O", "F", "Cl", "Br", "I")
"""Elements whose atoms refer to half a molecule."""
STRETCHED = 1.3
"""Of the sum of covalent radii, up to which atoms of an adsorbate are bonded."""
LOWEST = 0.5
"""Å, at which atoms are above wide sites at least."""
GAP = 5.0
"""Å of vacuum above an adsorbate at least; more where the cutoff of the model is longer."""
ALONG = (True, True, False)
"""Directions in which a surface goes on."""


@dataclass(frozen=True)
class Adsorbate:
    """What is put on a surface.

    Args:
        name: of it.
        atoms: not periodic.
        reference: the molecule its energy refers to.
        share: of that molecule, 1 or 1/2.
    """

    name: str
    atoms: ase.Atoms
    reference: ase.Atoms
    share: float

    @property
    def reference_name(self) -> str:
        return self.name if self.share == 1.0 else f"1/2 {self.reference.get_chemical_formula()}"

    def orientations(self) -> Iterator[tuple[str, ase.Atoms]]:
        """As it is, and, of more than one atom, upside down."""
        yield "", self.atoms
        if len(self.atoms) > 1:
            turned = self.atoms.copy()
            turned.rotate(180, "x", center="COM")
            yield " upside down", turned


def read_adsorbate(source: str | ase.Atoms) -> Adsorbate:
    """An adsorbate from an element, a name that ASE has a molecule for, a file of one structure, or a structure.

    Raises:
        DataError: it is none of these, or has no atoms.
    """
    if isinstance(source, ase.Atoms):
        name, atoms = str(source.info.get("name", source.get_chemical_formula())), source
    elif source in atomic_numbers and source != "X":
        name, atoms = source, ase.Atoms(source)
    elif source in g2.names:
        name, atoms = source, molecule(source)
    else:
        name, atoms = Path(source).stem, _only_structure(source)
    if not len(atoms):
        raise DataError(f"the adsorbate {name} has no atoms")
    bare = ase.Atoms(atoms.numbers, atoms.positions)
    if len(bare) == 1 and bare.get_chemical_symbols()[0] in DIATOMIC:
        length = 2.0 * covalent_radii[bare.numbers[0]]
        return Adsorbate(name, bare, ase.Atoms(2 * bare.get_chemical_symbols(), [[0, 0, 0], [0, 0, length]]), 0.5)
    return Adsorbate(name, bare, bare.copy(), 1.0)


def _only_structure(source: str) -> ase.Atoms:
    if not Path(source).is_file():
        raise DataError(
            f"{source} is no element, no molecule that ASE knows (such as CO, H2O, NH3, CH3OH, C6H6), and no file"
        )
    structures = read_structures(Path(source))
    if len(structures) != 1:
        raise DataError(f"{source} has {len(structures)} structures: an adsorbate is one, put each into its own file")
    return structures[0][1]


def place_on(slab: ase.Atoms, adsorbate: ase.Atoms, site: Site) -> ase.Atoms:
    """The slab and the adsorbate, whose lowest atom is above a site; they touch, by the sum of covalent radii."""
    added = adsorbate.copy()
    lowest = added.positions[added.positions[:, 2].argmin()]
    added.positions += site.place - lowest
    vectors, _ = get_distances(added.positions, slab.positions, slab.cell, ALONG)
    reach = covalent_radii[added.numbers][:, None] + covalent_radii[slab.numbers]
    aside = np.linalg.norm(vectors[..., :2], axis=-1)
    lift = np.sqrt(np.clip(reach**2 - aside**2, 0.0, None)) + vectors[..., 2]
    added.positions[:, 2] += max(LOWEST, float(lift[aside < reach].max(initial=-np.inf)))
    covered: ase.Atoms = slab.copy()
    covered.calc = None
    covered.extend(ase.Atoms(added.numbers, added.positions))
    return covered


def require_room(covered: ase.Atoms, n_slab: int, name: str, cutoff: float) -> None:
    """Check that an adsorbate fits into the cell of a slab.

    Raises:
        DataError: it meets its images along the surface, or the slab above it.
    """
    added = covered[n_slab:]
    added.pbc = ALONG
    distances, shifts = neighbor_list("dS", added, natural_cutoffs(added, mult=STRETCHED))
    touching = shifts.any(axis=1)
    if touching.any():
        raise DataError(
            f"{name} is larger than the cell: it is {distances[touching].min():.2f} Å from its "
            "image along the surface; repeat the slab"
        )
    gap, needed = covered.cell[2, 2] - np.ptp(covered.positions[:, 2]), max(GAP, cutoff)
    if covered.pbc[2] and gap < needed:
        raise DataError(
            f"the vacuum is too small: {gap:.1f} Å between {name} and the slab above it, at least {needed:.1f} are "
            "needed; make the cell higher, or, if the slab lies across the border of its cell, shift it into the middle"
        )


def dissociated(before: ase.Atoms, after: ase.Atoms) -> bool:
    """Whether an adsorbate has fallen apart: into more pieces than it had."""
    return _pieces(after) > _pieces(before)


def _pieces(atoms: ase.Atoms) -> int:
    periodic = atoms.copy()
    periodic.pbc = ALONG if atoms.cell.rank >= 2 else False
    first, second, _ = bonded_pairs(periodic, STRETCHED)
    return int(fragments(len(atoms), first, second).max()) + 1


def shortest_contact(covered: ase.Atoms, n_slab: int) -> tuple[float, float]:
    """Between adsorbate and slab: the shortest distance in Å, and the smallest share of the sum of covalent radii."""
    added, slab = covered[n_slab:], covered[:n_slab]
    _, distances = get_distances(added.positions, slab.positions, covered.cell, ALONG)
    sums = covalent_radii[added.numbers][:, None] + covalent_radii[slab.numbers]
    return float(distances.min()), float((distances / sums).min())


def shift_of_slab(slab: ase.Atoms, clean: ase.Atoms) -> float:
    """How far an atom of a slab is from where it is in the clean one, apart from a shift of all, Å."""
    steps = slab.positions - clean.positions
    return float(np.linalg.norm(steps - steps.mean(axis=0), axis=1).max())


def same_places(one: ase.Atoms, other: ase.Atoms, symmetry: SlabSymmetry, tolerance: float) -> bool:
    """Whether an operation of a slab brings the atoms of an adsorbate to those of another of the same elements."""
    height = one.positions[:, None, 2] - other.positions[None, :, 2]
    strangers = one.numbers[:, None] != other.numbers[None]
    for image in symmetry.images(one.positions[:, :2]):
        aside: Floats = symmetry.distances(image[:, None], other.positions[None, :, :2])
        distances = np.where(strangers, 1e3, np.hypot(aside, height))
        if distances[linear_sum_assignment(distances)].max() < tolerance:
            return True
    return False
