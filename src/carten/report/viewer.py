"""The worst structures in 3D: chemiscope and its data inlined, so that nothing is requested from the network."""

from __future__ import annotations

import base64
import functools
import gzip
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import ase
import numpy as np

from carten.data.labels import Frame
from carten.report.text import clean, unit
from carten.workflows.comparison import Comparison

ARROW = 1.5
"""Å of the longest arrow of a structure."""


@dataclass(frozen=True)
class Viewer:
    """What the page needs to show structures: chemiscope's JavaScript and its data."""

    library: str
    data: Mapping[str, Any]

    @property
    def packed(self) -> str:
        """The library, compressed and in base64."""
        return packed(self.library)


def packed(text: str) -> str:
    """Text compressed with gzip, in base64: letters, digits, ``+``, ``/`` and ``=`` only."""
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=9, mtime=0)).decode()


def viewer(frames: Mapping[int, Frame], comparisons: Mapping[str, Comparison]) -> Viewer | None:
    """The viewer of some structures, or ``None`` where chemiscope is not installed.

    Args:
        frames: structures by position in the data, in the order in which they are shown.
        comparisons: errors by property name; they colour the atoms and become arrows.
    """
    if importlib.util.find_spec("chemiscope") is None:
        return None
    return Viewer(_library(), _dataset(frames, comparisons))


@functools.cache
def _library() -> str:
    """Chemiscope's JavaScript as shipped in its package, except for the distance of the camera.

    It comes so close that larger molecules do not fit into the view.
    """
    source = resources.files("chemiscope").joinpath("sphinx", "static", "chemiscope.min.js")
    return source.read_text(encoding="utf-8").replace("this._viewer.zoom(2)", "this._viewer.zoom(0.9)")


def _dataset(frames: Mapping[int, Frame], comparisons: Mapping[str, Comparison]) -> dict[str, Any]:
    import chemiscope

    structures = [_atoms(frame) for frame in frames.values()]
    properties: dict[str, Any] = {}
    shapes: dict[str, Any] = {}
    settings: dict[str, Any] = {"unitCell": any(bool(frame.pbc.any()) for frame in frames.values())}
    settings["environments"] = {"activated": False}
    for name, comparison in comparisons.items():
        vectors = _of_atoms(frames, comparison)
        if vectors is None:
            continue
        title = f"error of {_plain(name)} ({_plain(unit(comparison.row.report_unit))})"
        properties[title] = {"target": "atom", "values": np.linalg.norm(np.concatenate(vectors), axis=1).tolist()}
        settings["color"] = {"property": title, "palette": "viridis"}
        if comparison.row.rank == 1:
            shapes[f"error of {_plain(name)}"] = _arrows(vectors)
    properties["structure"] = {"target": "structure", "values": list(range(1, len(structures) + 1))}
    data: dict[str, Any] = chemiscope.create_input(
        structures=structures,
        properties=properties,
        environments=chemiscope.all_atomic_environments(structures) if "color" in settings else None,
        shapes=shapes or None,
        settings={"target": "structure", "structure": [{**settings, "shape": ",".join(shapes)}]},
    )
    return data


def _plain(name: str) -> str:
    """A name for chemiscope, which sets some of them as HTML: what could be markup is left out."""
    return re.sub(r"[^\w .·/³²Å+-]", "_", clean(name, 60))


def _of_atoms(frames: Mapping[int, Frame], comparison: Comparison) -> list[Any] | None:
    """Errors of all atoms of each frame, or None when one lacks them."""
    if comparison.row.scope != "atom":
        return None
    errors = [comparison.error[comparison.structure == index] for index in frames]
    complete = all(len(error) == len(frame) for error, frame in zip(errors, frames.values(), strict=True))
    return errors if complete else None


def _arrows(vectors: Sequence[Any]) -> dict[str, Any]:
    arrows = []
    for error in vectors:
        scale = ARROW / max(float(np.linalg.norm(error, axis=1).max(initial=0.0)), 1e-12)
        arrows += [{"vector": (row * scale).tolist()} for row in error]
    style = {"baseRadius": 0.06, "headRadius": 0.12, "headLength": 0.2}
    return {"kind": "arrow", "parameters": {"global": style, "atom": arrows}}


def _atoms(frame: Frame) -> ase.Atoms:
    return ase.Atoms(frame.numbers, frame.positions, cell=frame.cell if frame.pbc.any() else None, pbc=frame.pbc)
