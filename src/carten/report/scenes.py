"""Structures to turn, and films of them, as compact data for the page's own drawing (``scenes.js``)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ase
import matplotlib as mpl
import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.colors import to_hex

from carten.data.labels import Frame
from carten.math.arrays import Array, Floats
from carten.report.sections import structure_name
from carten.text import clean, number, unit
from carten.workflows.comparison import Comparison

ARROW = 1.5
"""Å of the longest arrow of a structure."""

COLOURS = "viridis"
SMALL = 8
"""Atoms of a crystal whose cell is drawn several times."""
REPEATS = 2


@dataclass(frozen=True)
class Clip:
    """One structure, or frames of it that follow one another.

    Args:
        name: what is shown.
        frames: with the same atoms.
        values: (N,) of atoms, which colour them.
        arrows: (N, 3) Å.
    """

    name: str
    frames: Sequence[ase.Atoms]
    values: Floats | None = None
    arrows: Floats | None = None

    @property
    def is_repeated(self) -> bool:
        """Whether the cell of a small crystal is drawn several times."""
        first = self.frames[0]
        return bool(first.pbc.all()) and 0 < len(first) <= SMALL and self.values is None and self.arrows is None


@dataclass(frozen=True)
class Scene:
    """Clips of a section; one is shown at a time.

    Args:
        clips: at least one.
        loop: whether films go round, as vibrations do; else they stop at their last frame.
        scale: name and unit of the values that colour atoms.
    """

    clips: Sequence[Clip]
    loop: bool = False
    scale: str = ""

    @property
    def limit(self) -> float:
        """The value with the last colour of the scale."""
        return max((float(clip.values.max(initial=0.0)) for clip in self.clips if clip.values is not None), default=0.0)

    @property
    def legend(self) -> str:
        """The scale of colours in words."""
        return f"{self.scale}: 0 to {number(self.limit)}" if self.scale else ""

    def json(self) -> str:
        """Everything that is drawn; positions are whole numbers times a step of at most 0.01 Å per 300 Å."""
        elements = sorted({int(Z) for clip in self.clips for Z in clip.frames[0].numbers})
        looks = {Z: [chemical_symbols[Z], to_hex(jmol_colors[Z]), round(float(covalent_radii[Z]), 2)] for Z in elements}
        clips = [_packed(clip, self.limit) for clip in self.clips]
        return json.dumps({"elements": looks, "loop": self.loop, "clips": clips}, separators=(",", ":"))


def clips_of(frames: Sequence[ase.Atoms], name: str) -> list[Clip]:
    """Clips from the frames of a file: a new one begins where atoms change, or the number of the mode.

    Args:
        frames: in their order.
        name: of the file.
    """
    parts: list[list[ase.Atoms]] = []
    for atoms in frames:
        last = parts[-1][-1] if parts else None
        if last is not None and np.array_equal(last.numbers, atoms.numbers) and _mode(last) == _mode(atoms):
            parts[-1].append(atoms)
        else:
            parts.append([atoms])
    return [Clip(_clip_name(part[0], name, number, len(parts)), part) for number, part in enumerate(parts, 1)]


def error_scene(frames: Mapping[int, Frame], comparisons: Mapping[str, Comparison]) -> Scene:
    """Structures whose atoms are coloured by their error; arrows are the errors of vectors.

    Args:
        frames: by position in the data, in the order in which they are shown.
        comparisons: errors by property name; the last one of atoms is shown.
    """
    atoms = {index: (clean(structure_name(frame)), [_atoms(frame)]) for index, frame in frames.items()}
    for comparison in reversed(list(comparisons.values())):
        row = comparison.row
        errors = {index: comparison.error[comparison.structure == index] for index in frames}
        if row.scope == "atom" and all(len(errors[index]) == len(frame) for index, frame in frames.items()):
            clips = [
                Clip(*atoms[index], np.linalg.norm(error, axis=1), _arrows(error) if row.rank == 1 else None)
                for index, error in errors.items()
            ]
            return Scene(clips, scale=f"error of {clean(row.name, 40)} ({unit(row.report_unit)})")
    return Scene([Clip(*pair) for pair in atoms.values()])


def _arrows(error: Floats) -> Floats:
    longest = max(float(np.linalg.norm(error, axis=1).max(initial=0.0)), 1e-12)
    arrows: Floats = error * (ARROW / longest)
    return arrows


def _mode(atoms: ase.Atoms) -> Any:
    return atoms.info.get("mode")


def _clip_name(atoms: ase.Atoms, name: str, number: int, n_parts: int) -> str:
    if "mode" in atoms.info:
        wavenumber: Any = atoms.info.get("wavenumber")
        is_number = isinstance(wavenumber, int | float)
        text = f", {abs(wavenumber):.0f}{'i' if wavenumber < 0 else ''} cm⁻¹" if is_number else ""
        return clean(f"mode {atoms.info['mode']}{text}")
    formula = atoms.get_chemical_formula()
    return clean(f"{formula}, {name}" if n_parts == 1 else f"{number}: {formula}")


def _packed(clip: Clip, limit: float) -> dict[str, Any]:
    frames = [atoms.repeat(REPEATS) for atoms in clip.frames] if clip.is_repeated else clip.frames
    first = frames[0]
    positions = np.array([atoms.positions for atoms in frames]).reshape(len(frames), len(first), 3)
    cells = np.array([atoms.cell.array for atoms in frames]) if first.pbc.any() else np.zeros((0, 3, 3))
    centre = _centre(positions, cells)
    positions = positions - centre
    data = {
        "name": clip.name,
        "numbers": first.numbers.tolist(),
        "positions": _integers(positions),
        "origin": np.round(-centre, 4).tolist(),
        "cells": np.round(cells[: 1 if len(cells) and (cells == cells[0]).all() else None], 4).tolist(),
    }
    if clip.is_repeated:
        data["remark"] = f"{REPEATS} × {REPEATS} × {REPEATS} cells"
    if clip.values is not None:
        colours = mpl.colormaps[COLOURS](clip.values / (limit or 1.0))
        data["colours"] = [to_hex(colour) for colour in colours]
    if clip.arrows is not None:
        data["arrows"] = np.round(clip.arrows, 3).tolist()
    return data


def _centre(positions: Floats, cells: Floats) -> Floats:
    if len(cells):
        middle: Floats = cells[0].sum(axis=0) / 2.0
        return middle
    centre: Floats = positions.mean(axis=(0, 1)) if positions.size else np.zeros(3)
    return centre


def _integers(positions: Floats) -> dict[str, Any]:
    """Positions as 16-bit whole numbers times a step."""
    step = max(float(np.abs(positions).max(initial=0.0)) / 32767.0, 1e-6)
    rounded: Array = np.round(positions / step).astype("<i2")
    return {"step": step, "data": base64.b64encode(rounded.tobytes()).decode()}


def _atoms(frame: Frame) -> ase.Atoms:
    return ase.Atoms(frame.numbers, frame.positions, cell=frame.cell if frame.pbc.any() else None, pbc=frame.pbc)
