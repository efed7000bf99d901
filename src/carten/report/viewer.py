"""The hardest structures in 3D: chemiscope and its data inlined, so that nothing is asked from the network."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

import ase
import chemiscope
import numpy as np

from carten.data.labels import Frame
from carten.report.text import unit
from carten.workflows.comparison import Comparison

ARROW = 1.5
"""Å of the longest arrow of a structure."""


def viewer(frames: Mapping[int, Frame], comparisons: Mapping[str, Comparison]) -> str:
    """HTML of a viewer.

    Args:
        frames: structures by position in the data, in the order they are shown.
        comparisons: errors by property name; structures show them as numbers, atoms as colours and arrows.
    """
    data = json.dumps(_dataset(frames, comparisons)).replace("</", "<\\/")
    return _HTML.replace("{data}", data).replace("{library}", _library())


def _library() -> str:
    """Chemiscope's JavaScript as it is shipped in its package, compressed.

    It comes so close that a larger molecule does not fit into the view: it is told to stay further away.
    """
    source = resources.files("chemiscope").joinpath("sphinx", "static", "chemiscope.min.js").read_bytes()
    source = source.replace(b"this._viewer.zoom(2)", b"this._viewer.zoom(0.9)")
    return base64.b64encode(gzip.compress(source, compresslevel=9, mtime=0)).decode()


def _dataset(frames: Mapping[int, Frame], comparisons: Mapping[str, Comparison]) -> dict[str, Any]:
    properties: dict[str, Any] = {"structure": _column("structure", list(frames), "", "position in the data")}
    settings: dict[str, Any] = {"unitCell": any(bool(frame.pbc.any()) for frame in frames.values())}
    settings["environments"] = {"activated": False}
    shapes: dict[str, Any] = {}
    for name, comparison in comparisons.items():
        where = unit(f"{comparison.row.report_unit}/atom" if comparison.row.extensive else comparison.row.report_unit)
        errors = comparison.by_structure()
        values = [errors.get(index, float("nan")) for index in frames]
        if np.isfinite(values).all():
            properties[f"{name} error"] = _column("structure", values, where, "root mean square over components")
        vectors = _of_atoms(frames, comparison)
        if vectors is not None:
            size = np.linalg.norm(np.concatenate(vectors), axis=1)
            shown = f"{name} error of the atom ({where})"
            properties[shown] = _column("atom", size.tolist(), where, "norm of the error")
            settings["color"] = {"property": shown, "palette": "viridis"}
        if vectors is not None and comparison.row.rank == 1:
            shapes[f"{name} error"] = _arrows(vectors)
    structures = [_atoms(frame) for frame in frames.values()]
    data: dict[str, Any] = chemiscope.create_input(
        structures=structures,
        properties=properties,
        environments=chemiscope.all_atomic_environments(structures) if "color" in settings else None,
        shapes=shapes or None,
        settings={"target": "structure", "structure": [{**settings, "shape": ",".join(shapes)}]},
    )
    return data


def _column(target: str, values: Sequence[float], unit: str, description: str) -> dict[str, Any]:
    return {"target": target, "values": values, "units": unit, "description": description}


def _of_atoms(frames: Mapping[int, Frame], comparison: Comparison) -> list[Any] | None:
    """Errors of all atoms of each frame, or None when one lacks them."""
    if comparison.row.scope != "atom":
        return None
    found = [comparison.error[comparison.structure == index] for index in frames]
    complete = all(len(error) == len(frame) for error, frame in zip(found, frames.values(), strict=True))
    return found if complete else None


def _arrows(vectors: Sequence[Any]) -> dict[str, Any]:
    arrows = []
    for error in vectors:
        scale = ARROW / max(float(np.linalg.norm(error, axis=1).max(initial=0.0)), 1e-12)
        arrows += [{"vector": (row * scale).tolist()} for row in error]
    style = {"baseRadius": 0.06, "headRadius": 0.12, "headLength": 0.2}
    return {"kind": "arrow", "parameters": {"global": style, "atom": arrows}}


def _atoms(frame: Frame) -> ase.Atoms:
    return ase.Atoms(frame.numbers, frame.positions, cell=frame.cell if frame.pbc.any() else None, pbc=frame.pbc)


_HTML = """<div class="viewer" id="viewer">
<div id="viewer-meta" hidden></div><div id="viewer-structure"></div><div id="viewer-info"></div>
</div>
<script type="application/json" id="viewer-data">{data}</script>
<script type="text/plain" id="viewer-library">{library}</script>
<script>
(async () => {
  const text = (name) => document.getElementById("viewer-" + name).textContent;
  const packed = Uint8Array.from(atob(text("library")), (character) => character.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(unpacked).text();
  document.head.append(script);
  const places = { meta: "viewer-meta", structure: "viewer-structure", info: "viewer-info" };
  await Chemiscope.StructureVisualizer.load(places, JSON.parse(text("data")));
  document.getElementById("viewer").dataset.state = "ready";
})().catch((error) => {
  const viewer = document.getElementById("viewer");
  viewer.dataset.state = "failed";
  viewer.textContent = "The structures cannot be shown in this browser: " + error.message;
});
</script>"""
