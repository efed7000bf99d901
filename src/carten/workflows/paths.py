"""Paths that a band begins with: the interpolation between its ends, or images of an earlier band."""

from __future__ import annotations

from collections.abc import Sequence

import ase
import numpy as np
from ase.mep import NEB

from carten.errors import DataError
from carten.workflows.ends import match_ends
from carten.workflows.limits import overlapping


def interpolate(start: ase.Atoms, end: ase.Atoms, between: int) -> list[ase.Atoms]:
    """Images between two ends, by the interpolation of interatomic distances (IDPP).

    Raises:
        DataError: atoms pass through each other.

    Source: S. Smidstrup et al., J. Chem. Phys. 140, 214106 (2014).
    """
    images = [start, *(start.copy() for _ in range(between)), end]
    with np.errstate(all="ignore"):
        NEB(images, method="improvedtangent").interpolate("idpp", mic=bool(start.pbc.any()))
    for number, image in enumerate(images[1:-1], 1):
        if overlapping(image):
            raise DataError(
                f"atoms pass through each other in image {number} between the ends: choose a structure between them, "
                "and look for the path to it and the one from it"
            )
    return images[1:-1]


def match_path(start: ase.Atoms, path: Sequence[ase.Atoms]) -> list[ase.Atoms]:
    """Copies of the images, each with the cell and the constraints of the start and next to the image before it.

    Raises:
        DataError: there is no image between the ends, or an image has other atoms, another order or cell, held atoms
            elsewhere, or atoms that overlap.
    """
    if len(path) < 3:
        raise DataError(f"a band has its ends and at least one image between them, 3 structures; found {len(path)}")
    matched: list[ase.Atoms] = []
    for number, image in enumerate(path):
        copy = image.copy()
        copy.set_constraint(start.constraints)
        if not np.isfinite(copy.positions).all():
            raise DataError(f"image {number} of the band has positions that are not finite")
        try:
            copy = match_ends(matched[-1] if matched else start, copy)
        except DataError as error:
            raise DataError(f"image {number} of the band, compared with the start as its end: {error}") from error
        if overlapping(copy):
            raise DataError(f"atoms overlap in image {number} of the band: choose other images")
        matched.append(copy)
    return matched


def require_ends(path: Sequence[ase.Atoms], ends: Sequence[tuple[ase.Atoms, ase.Atoms]], tolerance: float) -> None:
    """Check that a path has the ends, as they were or as they relaxed.

    Args:
        path: from :func:`match_path`.
        ends: starts and ends, of which one each is enough.
        tolerance: Å, for each atom.

    Raises:
        DataError: they differ by more.
    """
    for name, image, structures in (
        ("start", path[0], [start for start, _ in ends]),
        ("end", path[-1], [end for _, end in ends]),
    ):
        distance = min(_distance(image, atoms) for atoms in structures)
        if distance > tolerance:
            raise DataError(
                f"the {name} is not that of the band: an atom is {distance:.2g} Å elsewhere; expected the structures "
                "that the band was begun with, in the same order"
            )


def _distance(one: ase.Atoms, other: ase.Atoms) -> float:
    """The largest distance of an atom in two structures, Å."""
    return float(np.linalg.norm(match_ends(one, other).positions - one.positions, axis=1).max())
