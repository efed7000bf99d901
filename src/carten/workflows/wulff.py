"""The shape of a crystal whose surface energy is least at constant volume (Wulff 1901)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import ase
import numpy as np
from scipy.spatial import ConvexHull, HalfspaceIntersection

from carten.math.arrays import Floats
from carten.workflows.slabs import Miller, laue_group
from carten.workflows.symmetry import standard_cell

ON_PLANE = 1e-6


@dataclass(frozen=True)
class WulffShape:
    """A polyhedron, scaled so that a facet is as far from the centre as its surface energy.

    Args:
        shares: (n,) of the surface that the planes have, with all that are equivalent by symmetry.
        polygons: corners (m, 3) of each facet in order, and the number of its plane.
        mean: surface energy, averaged over the surface; in the unit of the energies.
    """

    shares: Floats
    polygons: list[tuple[Floats, int]] = field(repr=False)
    mean: float


def wulff(atoms: ase.Atoms, planes: Sequence[Miller], energies: Sequence[float]) -> WulffShape | None:
    """The Wulff shape of a crystal; None where the planes do not enclose a volume or an energy is not positive.

    Args:
        atoms: the crystal.
        planes: Miller indices in the conventional cell.
        energies: of the surfaces, per area.
    """
    normals, owners = _normals(atoms, planes)
    if min(energies) <= 0.0 or np.linalg.matrix_rank(normals) < 3:
        return None
    distances = np.asarray(energies)[owners]
    halfspaces = np.column_stack([normals, -distances])
    corners = HalfspaceIntersection(halfspaces, np.zeros(3)).intersections
    areas, polygons = np.zeros(len(planes)), []
    for normal, distance, owner in zip(normals, distances, owners, strict=True):
        face = np.unique(corners[np.abs(corners @ normal - distance) < ON_PLANE * distance].round(9), axis=0)
        flat = _in_plane(face, normal)
        if len(face) < 3 or np.linalg.matrix_rank(flat - flat.mean(axis=0), tol=ON_PLANE * distance) < 2:
            continue
        outline = ConvexHull(flat)
        areas[owner] += outline.volume  # of a polygon: its area
        polygons.append((face[outline.vertices], int(owner)))
    shares = areas / areas.sum()
    return WulffShape(shares, polygons, float(shares @ np.asarray(energies)))


def _normals(atoms: ase.Atoms, planes: Sequence[Miller]) -> tuple[Floats, np.ndarray]:
    """(n, 3) unit normals of the planes and of those that are equivalent, and the number of the plane of each."""
    group, reciprocal = laue_group(atoms), np.linalg.inv(standard_cell(atoms).cell.array).T
    families = [np.unique(np.asarray(plane) @ group, axis=0) for plane in planes]
    normals = np.concatenate(families) @ reciprocal
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return normals, np.repeat(np.arange(len(planes)), [len(family) for family in families])


def _in_plane(points: Floats, normal: Floats) -> Floats:
    """(m, 2) coordinates of points in the plane across a normal."""
    first = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    first /= np.linalg.norm(first)
    coordinates: Floats = points @ np.stack([first, np.cross(normal, first)], axis=1)
    return coordinates
