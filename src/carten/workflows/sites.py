"""Where atoms and molecules can sit on a slab: on top of atoms, on bridges, in hollows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

import ase
import numpy as np
from scipy.spatial import Delaunay

from carten.errors import DataError
from carten.math.arrays import Array, Floats
from carten.workflows.symmetry import require_symmetry

LAYER = 0.8
"""Å, up to which below the topmost one atoms belong to the surface."""
SAME_PLACE = 0.1
"""Å, up to which places on a surface are equal."""
UNDER = 0.5
"""Å along the surface, up to which an atom is under a place."""
FLAT = 1e-3
"""Å^2, up to which triangles at the rim are left out."""
CLEARANCE = 20.0
"""Å of vacuum, of slabs whose cell has no height."""

Kind = Literal["top", "bridge", "hollow"]


@dataclass(frozen=True)
class Site:
    """A place above a surface.

    Args:
        kind: on top of an atom, or amid two, or more of them.
        number: among those of the kind that symmetry distinguishes, from 0.
        corners: atoms around it.
        place: (3,) Å, their mean.
        beneath: depth of the first atom under it, Å, infinite where there is none: the hollows of (111) differ by it.
        multiplicity: places on the surface that are equivalent to it.
    """

    kind: Kind
    number: int
    corners: int
    place: Floats
    beneath: float
    multiplicity: int

    @property
    def name(self) -> str:
        return f"{self.kind} {self.number}"


@dataclass(frozen=True)
class SlabSymmetry:
    """Operations of a slab that keep its surface on top.

    Args:
        rotations: (n, 2, 2) in fractional coordinates along the surface.
        translations: (n, 2) fractional.
        cell: (2, 2) Å, rows.
    """

    rotations: Array
    translations: Floats
    cell: Floats

    def images(self, places: Floats) -> Floats:
        """(n, k, 2) Å: places (k, 2) in Å under all operations."""
        fractional = places @ np.linalg.inv(self.cell)
        moved: Floats = np.einsum("nij,kj->nki", self.rotations, fractional) + self.translations[:, None]
        return moved @ self.cell

    def distances(self, one: Floats, other: Floats) -> Floats:
        """Between places (..., 2) Å, up to vectors of the cell; right where they are short."""
        fractional = (one - other) @ np.linalg.inv(self.cell)
        lengths: Floats = np.linalg.norm((fractional - np.round(fractional)) @ self.cell, axis=-1)
        return lengths


def slab_symmetry(slab: ase.Atoms) -> SlabSymmetry:
    """Operations of a slab along x and y that keep its surface on top.

    Raises:
        ConfigError: spglib is not installed.
        DataError: the slab has no space group.
    """
    closed = slab.copy()
    closed.set_constraint()
    height = max(slab.cell[2, 2], np.ptp(slab.positions[:, 2]) + CLEARANCE)
    closed.set_cell([*slab.cell.array[:2], [0.0, 0.0, height]])
    closed.pbc = True
    operations = require_symmetry(closed)
    kept = operations.rotations[:, 2, 2] == 1
    kept &= np.abs(operations.translations[:, 2] - np.round(operations.translations[:, 2])) < SAME_PLACE / height
    return SlabSymmetry(
        operations.rotations[kept, :2, :2], operations.translations[kept, :2], slab.cell.array[:2, :2].copy()
    )


def adsorption_sites(slab: ase.Atoms) -> list[Site]:
    """Distinct sites of the upper surface of a slab, by a triangulation of its topmost atoms.

    Triangles that have a circle in common are one hollow, as on (100) of cubic crystals.

    Args:
        slab: periodic along x and y; its surface looks along z.

    Raises:
        ConfigError: spglib is not installed.
        DataError: the surface is not along x and y.
    """
    require_slab(slab)
    symmetry = slab_symmetry(slab)
    sites: list[Site] = []
    candidates = [(kind, corners, place, _beneath(slab, symmetry, place)) for kind, corners, place in _candidates(slab)]
    for kind, corners, place, depth in sorted(
        candidates, key=lambda candidate: (candidate[1], -round(candidate[3], 1))
    ):
        images = symmetry.images(place[None, :2])[:, 0]
        of_kind = [site for site in sites if site.kind == kind]
        if any((symmetry.distances(images, site.place[:2]) < SAME_PLACE).any() for site in of_kind):
            continue
        sites.append(Site(kind, len(of_kind), corners, place, depth, _count(symmetry, images)))
    return sites


def require_slab(slab: ase.Atoms) -> None:
    """Check that a structure is periodic along x and y, and open along z.

    Raises:
        DataError: it is not.
    """
    if not len(slab):
        raise DataError("the slab has no atoms")
    tilted = bool(
        np.abs(slab.cell.array[:2, 2]).max() > SAME_PLACE or np.abs(slab.cell.array[2, :2]).max() > SAME_PLACE
    )
    if not slab.pbc[:2].all() or abs(np.linalg.det(slab.cell.array[:2, :2])) < SAME_PLACE or tilted:
        raise DataError(
            f"{slab.get_chemical_formula()} is no slab: expected a cell whose first two vectors are along x and y, "
            f"periodic, and the third along z, as carten surface and ase.build make them; found "
            f"{np.round(slab.cell.array, 3).tolist()}, "
            f"pbc {slab.pbc.tolist()}"
        )


def _candidates(slab: ase.Atoms) -> Iterator[tuple[Kind, int, Floats]]:
    """Kind, corners and place of all sites in one cell, many of them equivalent."""
    heights = slab.positions[:, 2]
    surface = slab.positions[heights > heights.max() - LAYER]
    cell = slab.cell.array[:2]
    reach = 2 if len(surface) < 9 else 1
    shifts = np.array(list(product(range(-reach, reach + 1), repeat=2))) @ cell
    points = (surface[None] + shifts[:, None]).reshape(-1, 3)
    for polygon in _polygons(points[:, :2]):
        corners = points[polygon]
        yield from _inside("hollow", len(polygon), corners.mean(axis=0), cell)
        for pair in _sides(corners):
            yield from _inside("bridge", 2, pair.mean(axis=0), cell)
    for place in surface:
        yield "top", 1, place


def _polygons(points: Floats) -> list[list[int]]:
    """Triangles of a Delaunay triangulation, those of one circumscribed circle joined."""
    groups: list[tuple[Floats, set[int]]] = []
    for triangle in Delaunay(points).simplices:
        edges = points[triangle[1:]] - points[triangle[0]]
        if abs(np.linalg.det(edges)) < FLAT:
            continue
        centre = points[triangle[0]] + np.linalg.solve(2.0 * edges, (edges**2).sum(axis=1))
        for other, members in groups:
            if np.linalg.norm(centre - other) < SAME_PLACE:
                members.update(triangle.tolist())
                break
        else:
            groups.append((centre, set(triangle.tolist())))
    return [sorted(members) for _, members in groups]


def _sides(corners: Floats) -> list[Floats]:
    """The sides (2, 3) of a convex polygon."""
    centre = corners.mean(axis=0)
    angles = np.arctan2(*(corners - centre)[:, 1::-1].T)
    around = corners[np.argsort(angles)]
    return [np.stack(pair) for pair in zip(around, np.roll(around, -1, axis=0), strict=True)]


def _inside(kind: Kind, corners: int, place: Floats, cell: Floats) -> Iterator[tuple[Kind, int, Floats]]:
    """The candidate, if it lies in the cell."""
    fractional = place[:2] @ np.linalg.inv(cell[:, :2])
    if ((fractional > -1e-6) & (fractional < 1.0 - 1e-6)).all():
        yield kind, corners, place


def _beneath(slab: ase.Atoms, symmetry: SlabSymmetry, place: Floats) -> float:
    """Depth of the first atom under a place."""
    depths = place[2] - slab.positions[:, 2]
    under = (symmetry.distances(slab.positions[:, :2], place[:2]) < UNDER) & (depths > LAYER)
    return float(depths[under].min(initial=np.inf))


def _count(symmetry: SlabSymmetry, images: Floats) -> int:
    """Different places among images (n, 2)."""
    same = symmetry.distances(images[:, None], images[None]) < SAME_PLACE
    return int((~np.tril(same, -1).any(axis=1)).sum())
