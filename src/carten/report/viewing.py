"""Structures of files for pages: what turns, and a table of what each of them carries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import PropertyNotImplementedError

from carten.errors import DataError
from carten.math.arrays import Floats
from carten.report.columns import columns_table
from carten.report.frames import FrameSample, sample_frames
from carten.report.scenes import Clip, Scene, clips_of
from carten.report.sections import HtmlTable
from carten.text import unit
from carten.workflows.predict import UNITS

MAX_KEYS = 6
"""Of what structures carry, that a table shows."""
UNCERTAINTY = "forces_uncertainty"
"""Colours the atoms of structures that carry it."""


def scene_of_file(path: Path, name: str) -> Scene:
    """Structures of a file to turn.

    Raises:
        DataError: it holds none, or some that cannot be drawn.
    """
    return scene_of(sample_frames(path), path, name)


def scene_of(sample: FrameSample, path: Path, name: str) -> Scene:
    """As :func:`scene_of_file`, of frames that were read already."""
    for number, atoms in enumerate(sample.frames):
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            raise DataError(f"{path}: positions or cell of frame {number} are not finite")
    clips = clips_of(sample.frames, name)
    loop = "mode" in sample.frames[0].info
    spreads = [_uncertainties(clip.frames[0]) for clip in clips]
    if any(spread is None for spread in spreads) or any(len(clip.frames) > 1 for clip in clips):
        return Scene(clips, loop)
    coloured = [Clip(clip.name, clip.frames, spread) for clip, spread in zip(clips, spreads, strict=True)]
    return Scene(coloured, scale=f"uncertainty of forces ({unit('eV/Angstrom')})")


def _uncertainties(atoms: ase.Atoms) -> Floats | None:
    """Of the force on each atom, eV/Å."""
    values = next((atoms.arrays[key] for key in atoms.arrays if key.endswith(UNCERTAINTY)), None)
    if values is None or values.shape != (len(atoms),) or not np.isfinite(values).all():
        return None
    return np.asarray(values, dtype=np.float64)


def structure_table(scene: Scene) -> HtmlTable:
    """Formula, energy, largest force, and what else structures carry, a line for each, which shows it."""
    frames = [atoms for clip in scene.clips for atoms in clip.frames]
    places = [(number, frame) for number, clip in enumerate(scene.clips) for frame in range(len(clip.frames))]
    columns: dict[str, list[Any]] = {
        "Structure": [number + 1 for number in range(len(frames))],
        "Formula": [atoms.get_chemical_formula() for atoms in frames],
        "Atoms": [len(atoms) for atoms in frames],
        "Energy (eV)": [_result(atoms, "energy") for atoms in frames],
        "Largest force (eV/Å)": [_largest(_result(atoms, "forces")) for atoms in frames],
    }
    units = _units(frames[0])
    keys = dict.fromkeys(key for atoms in frames for key, value in atoms.info.items() if np.isscalar(value))
    for key in [key for key in keys if key != UNITS][:MAX_KEYS]:
        name = key.replace("_", " ")
        columns[f"{name} ({units[key]})" if key in units else name] = [_plain(atoms.info.get(key)) for atoms in frames]
    shown = {name: values for name, values in columns.items() if any(value is not None for value in values)}
    caption = "Structures; choose one to see it above" if len(frames) > 1 else "The structure"
    table = columns_table(caption, list(shown), list(zip(*shown.values(), strict=True)))
    if len(frames) == 1:
        return table
    rows = [replace(line, show=clip, frame=frame) for line, (clip, frame) in zip(table.rows, places, strict=False)]
    return replace(table, rows=rows)


def _units(atoms: ase.Atoms) -> dict[str, str]:
    """Of predictions, by name."""
    pairs = (part.split(": ") for part in str(atoms.info.get(UNITS, "")).split(", "))
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


def _result(atoms: ase.Atoms, name: str) -> Any:
    try:
        return None if atoms.calc is None else atoms.calc.get_property(name, atoms, allow_calculation=False)
    except PropertyNotImplementedError:
        return None


def _largest(forces: Floats | None) -> float | None:
    return None if forces is None else float(np.linalg.norm(forces, axis=-1).max(initial=0.0))


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
