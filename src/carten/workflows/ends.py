"""The ends of a path: whether they are the same atoms in the same cell, and the end brought next to the start."""

from __future__ import annotations

import ase
import numpy as np
from ase.build import minimize_rotation_and_translation
from ase.geometry import find_mic, get_distances
from scipy.optimize import linear_sum_assignment

from carten.errors import DataError
from carten.math.arrays import Floats
from carten.workflows.saddle import moving_atoms

SAME = 1e-3
"""Å, up to which cells and places are equal: files round them."""
SHOWN = 5
"""Atoms that a message names."""
DETOUR = 1.0
"""Å, by which paths of equal atoms may be longer than the shortest ones before it is pointed out."""


def match_ends(start: ase.Atoms, end: ase.Atoms) -> ase.Atoms:
    """A copy of the end in the cell of the start, with its constraints, each atom next to where it starts.

    Atoms of cells are taken at their nearest images. A molecule of which no atom is held is turned and shifted onto the
    start.

    Raises:
        DataError: other atoms, another order, another cell, other constraints, or held atoms that move.
    """
    _require_atoms(start, end)
    _require_cell(start, end)
    free = moving_atoms(start)
    if not np.array_equal(free, moving_atoms(end)):
        raise DataError("the atoms that are held differ between start and end: hold the same ones")
    matched: ase.Atoms = start.copy()
    if start.pbc.any():
        matched.positions = start.positions + steps_between(start, end)
    else:
        matched.positions = end.positions
        if len(free) == len(start):
            minimize_rotation_and_translation(start, matched)
    moves = np.linalg.norm(matched.positions - start.positions, axis=1)
    moves[free] = 0.0
    if moves.max() > SAME:
        raise DataError(f"atom {int(moves.argmax())} is held, but it is {moves.max():.3g} Å elsewhere in the end")
    held = moves > 0.0
    matched.positions[held] = start.positions[held]
    return matched


def steps_between(start: ase.Atoms, end: ase.Atoms) -> Floats:
    """The way of each atom to its nearest image, (N, 3) Å."""
    steps: Floats = find_mic(end.positions - start.positions, start.cell, start.pbc)[0]
    return steps


def exchanged_atoms(start: ase.Atoms, end: ase.Atoms) -> list[int]:
    """Atoms whose ways would be much shorter in all if atoms of the same element were numbered otherwise."""
    moved: list[int] = []
    saved = 0.0
    for number in np.unique(start.numbers):
        atoms = np.flatnonzero(start.numbers == number)
        _, distances = get_distances(start.positions[atoms], end.positions[atoms], start.cell, start.pbc)
        rows, columns = linear_sum_assignment(distances)
        saved += float(np.trace(distances) - distances[rows, columns].sum())
        moved += atoms[rows != columns].tolist()
    return sorted(moved) if saved > DETOUR else []


def _require_atoms(start: ase.Atoms, end: ase.Atoms) -> None:
    if not len(start) or len(start) != len(end):
        raise DataError(
            f"the ends must have the same atoms: {start.get_chemical_formula()} has {len(start)} in the start, "
            f"{end.get_chemical_formula()} has {len(end)} in the end"
        )
    differing = np.flatnonzero(start.numbers != end.numbers)
    if not len(differing):
        return
    first, last = start.get_chemical_symbols(), end.get_chemical_symbols()
    names = [f"{k} ({first[k]} in the start, {last[k]} in the end)" for k in differing[:SHOWN]]
    rest = f" and {len(differing) - SHOWN} others" if len(differing) > SHOWN else ""
    same = np.array_equal(np.sort(start.numbers), np.sort(end.numbers))
    advice = "they are the same atoms in another order: sort the end as the start" if same else "other elements"
    raise DataError(f"the ends must have the same atoms in the same order; atoms {', '.join(names)}{rest}: {advice}")


def _require_cell(start: ase.Atoms, end: ase.Atoms) -> None:
    if not np.array_equal(start.pbc, end.pbc):
        raise DataError(
            f"the start is periodic in {start.pbc.tolist()}, the end in {end.pbc.tolist()}: make them equal"
        )
    periodic = start.pbc
    difference = np.abs(start.cell.array - end.cell.array)[periodic]
    if difference.max(initial=0.0) > SAME:
        raise DataError(
            f"the cells of the ends differ: {np.round(start.cell.cellpar(), 4).tolist()} in the start, "
            f"{np.round(end.cell.cellpar(), 4).tolist()} in the end; paths keep the cell"
        )
