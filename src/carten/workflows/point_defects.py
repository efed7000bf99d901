"""Crystals with a point defect: vacancies, atoms of another element, and atoms in the voids between others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ase
import numpy as np
from ase.data import atomic_numbers
from ase.geometry import get_distances, minkowski_reduce
from scipy.cluster.hierarchy import fclusterdata
from scipy.spatial import Voronoi

from carten.math.arrays import Floats
from carten.workflows.symmetry import Operations, require_symmetry

MERGED = 0.4
"""Å, up to which voids are one."""
WIDE = 8.0
"""Å between images, above which one layer of images bounds the voids of a cell."""
STIRRED = 0.02
"""Å, standard deviation of random displacements that break the symmetry of a defect before it relaxes."""


@dataclass(frozen=True)
class PointDefect:
    """A supercell with a defect.

    Args:
        name: element and site: ``"Cu vacancy"``, ``"Zn on Cu"``, ``"Cu in void 1"``; sites of an element that symmetry
            distinguishes are numbered.
        atoms: of the supercell.
        place: of the defect, Å.
        added: atoms more than in the crystal by element, negative where they are fewer.
    """

    name: str
    atoms: ase.Atoms
    place: Floats
    added: dict[str, int]


def vacancies(atoms: ase.Atoms, multiples: Sequence[int]) -> list[PointDefect]:
    """A vacancy on each distinct site; the supercell's first atoms are those of the crystal's cell."""
    defects = []
    for site, label in _sites(atoms):
        supercell = atoms.repeat(multiples)
        place = supercell.positions[site].copy()
        del supercell[site]
        defects.append(PointDefect(f"{label} vacancy", _stirred(supercell), place, {atoms.symbols[site]: -1}))
    return defects


def substitutions(atoms: ase.Atoms, solute: str, multiples: Sequence[int]) -> list[PointDefect]:
    """An atom of an element in place of one of another, on each distinct site."""
    defects = []
    for site, label in _sites(atoms):
        host = atoms.symbols[site]
        if host != solute:
            supercell = atoms.repeat(multiples)
            supercell.numbers[site] = atomic_numbers[solute]
            place = supercell.positions[site].copy()
            defects.append(PointDefect(f"{solute} on {label}", _stirred(supercell), place, {host: -1, solute: 1}))
    return defects


def interstitials(atoms: ase.Atoms, element: str, multiples: Sequence[int]) -> list[PointDefect]:
    """An atom of an element in each distinct void, the largest first."""
    defects = []
    for number, place in enumerate(voids(atoms), 1):
        supercell = atoms.repeat(multiples)
        supercell.append(ase.Atom(element, place))
        defects.append(PointDefect(f"{element} in void {number}", _stirred(supercell), place, {element: 1}))
    return defects


def voids(atoms: ase.Atoms) -> list[Floats]:
    """Distinct places in Å that are farthest from all atoms around (corners of Voronoi cells), the largest first."""
    operations = require_symmetry(atoms)
    around = 1 if image_distance(atoms.cell.array) > WIDE else 2
    corners = Voronoi(atoms.repeat(2 * around + 1).positions).vertices
    fractional = corners @ np.linalg.inv(atoms.cell.array) - around
    inside = fractional[((fractional > -1e-6) & (fractional < 1.0 - 1e-6)).all(axis=1)]
    distinct: list[Floats] = []
    for place in _merged(inside @ atoms.cell.array, atoms):
        if not any(_equivalent(place, other, operations) for other in distinct):
            distinct.append(place)
    return distinct


def image_distance(cell: Floats) -> float:
    """Between a point and its nearest image, Å."""
    return float(np.linalg.norm(minkowski_reduce(cell)[0], axis=1).min())


def _merged(places: Floats, atoms: ase.Atoms) -> list[Floats]:
    """The widest of places close to each other, sorted by their distance from atoms, the largest first."""
    widths = get_distances(places, atoms.positions, atoms.cell, atoms.pbc)[1].min(axis=1)
    groups = fclusterdata(places, MERGED, "distance") if len(places) > 1 else np.ones(len(places), int)
    widest = [members[widths[members].argmax()] for members in (np.flatnonzero(groups == g) for g in np.unique(groups))]
    order = sorted(widest, key=lambda member: (-round(float(widths[member]), 3), *places[member].round(3)))
    return [places[member] for member in order]


def _equivalent(place: Floats, other: Floats, operations: Operations) -> bool:
    inverse = np.linalg.inv(operations.cell)
    differences = operations.images(place @ inverse) - other @ inverse
    return bool((operations.distances(differences) < MERGED).any())


def _sites(atoms: ase.Atoms) -> list[tuple[int, str]]:
    """The first atom of each distinct site, and its element; several sites of an element are numbered."""
    sites = np.unique(require_symmetry(atoms).equivalent).tolist()
    symbols = [str(atoms.symbols[site]) for site in sites]
    labels = [
        f"{symbol}{symbols[:position].count(symbol) + 1}" if symbols.count(symbol) > 1 else symbol
        for position, symbol in enumerate(symbols)
    ]
    return list(zip(sites, labels, strict=True))


def _stirred(atoms: ase.Atoms) -> ase.Atoms:
    atoms.rattle(STIRRED, seed=0)
    return atoms
