"""One section for each kind of file that carten writes: a reader for each, and the table of them.

A reader takes the file and the shelf it lies on, from which it takes what belongs to the file as well, and returns a
section without an anchor. Errors of one file concern no other.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.data import chemical_symbols

from carten.drawing import Drawing
from carten.errors import DataError
from carten.properties.io import header
from carten.properties.rows import load_property
from carten.report.curves import learning_curves
from carten.report.document import Remark, Section, plain_name
from carten.report.figures import Picture
from carten.report.foreign import picture_markup
from carten.report.frames import sample_frames
from carten.report.scenes import Scene, clips_of
from carten.report.sections import HtmlTable, Line
from carten.report.shelf import Shelf
from carten.text import clean, number, unit

MAX_LINES = 200
"""Of a table, that are shown."""
MAX_CURVES = 6
MAX_JSON = 50_000_000
"""Bytes of a JSON file that is read."""

TITLES = {
    "eos": "Equation of state",
    "elastic": "Elastic constants",
    "phonons": "Phonons",
    "qha": "Thermal expansion",
    "vibrations": "Vibrations",
    "neb": "Minimum energy path",
    "ts": "Saddle point",
    "rdf": "Radial distribution",
    "diffusion": "Diffusion",
}
"""Of jobs whose name says too little."""


class FileKind(NamedTuple):
    """Files of one kind: which they are, and the reader of their section."""

    name: str
    matches: Callable[[Path], bool]
    section: Callable[[Path, Shelf], Section]


def training(path: Path, shelf: Shelf) -> Section:
    """``metrics.csv`` of a training run, with its configuration and its best model."""
    model = shelf.take(path.parent / "best.carten")
    head = header(model) if model else {}
    rows = {row["name"]: load_property(row) for row in head.get("properties", ())}
    config = shelf.take(path.parent / "config.yaml")
    for name in ("curves.svg", "curves.png"):
        shelf.take(path.parent / name)
    return Section(
        f"Training: {shelf.name(path.parent)}",
        "",
        "Loss and validation errors over the epochs of training.",
        pictures=learning_curves(path, rows),
        tables=[_model_table(head)] if head else [],
        preformatted=config.read_text(encoding="utf-8") if config else "",
    )


def model_file(path: Path, shelf: Shelf) -> Section:
    """The header of a model."""
    return Section(f"Model: {shelf.name(path)}", "", tables=[_model_table(header(path))])


def _model_table(head: Mapping[str, Any]) -> HtmlTable:
    network, provenance = head["network"], head["provenance"]
    rows = [
        ("elements", " ".join(chemical_symbols[Z] for Z in head["elements"])),
        ("predicts", ", ".join(f"{row['name']} ({unit(head['units'][row['name']])})" for row in head["properties"])),
        ("network", f"{network['preset']}, {network['n_layers']} layers, {network['n_channels']} channels"),
        ("cutoff", f"{network['cutoff']:g} Å, {head['neighbours']:.1f} neighbours on average"),
    ]
    if "epoch" in provenance:
        rows.append(("trained", f"{provenance['epoch']} epochs, {provenance['minutes']:.1f} minutes"))
    return HtmlTable("The model.", ("", ""), [Line(row) for row in rows], 2)


def document(path: Path, shelf: Shelf) -> Section:
    """A JSON file: the result of a job, or of an evaluation."""
    if path.stat().st_size > MAX_JSON:
        raise DataError(f"{path}: {path.stat().st_size / 1e6:.0f} MB of JSON are not read, at most 50 MB")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: is not JSON, half-written perhaps: {error}") from error
    if isinstance(content, dict) and {"job", "results"} <= content.keys():
        return _job(path, shelf, content)
    if isinstance(content, dict) and {"structures", "properties"} <= content.keys():
        return _evaluation(path, shelf, content)
    raise UnknownFile(path)


class UnknownFile(DataError):
    """A file of no kind that pages show."""


def _job(path: Path, shelf: Shelf, content: Mapping[str, Any]) -> Section:
    stem = path.with_suffix("")
    job = str(content["job"])
    remarks = [Remark("failure", str(text)) for text in content.get("failures", ())]
    remarks += [Remark("warning", str(text)) for text in content.get("warnings", ())]
    tables = [_quantities(content["results"])]
    for name, columns in content.get("tables", {}).items():
        if columns:
            tables.append(_columns_table(name, list(columns), list(zip(*columns.values(), strict=True))))
    shelf.take_like(stem, ".csv")  # the same tables
    pictures = _pictures_of(stem, shelf, TITLES.get(job, job))
    scene = None
    if frames := shelf.take(stem.with_suffix(".extxyz")):
        sample = sample_frames(frames)
        scene = Scene(clips_of(sample.frames, shelf.name(frames)), loop="mode" in sample.frames[0].info)
    title = f"{TITLES.get(job, job.capitalize())}: {shelf.name(stem)}"
    return Section(title, "", pictures=pictures, tables=tables, scene=scene, remarks=remarks)


def _quantities(results: Mapping[str, Any]) -> HtmlTable:
    rows = []
    for name, quantity in results.items():
        value, unit_name = quantity["value"], str(quantity.get("unit", ""))
        parts = value if isinstance(value, list) and value and isinstance(value[0], list) else [value]
        for place, part in enumerate(parts):
            cells = (clean(name), _value(part), unit(unit_name)) if place == 0 else ("", _value(part), "")
            rows.append(Line(cells, part=place > 0))
    return HtmlTable("Results.", ("Quantity", "Value", "Unit"), rows, 1)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return "  ".join(map(_value, value))
    if isinstance(value, float):
        return f"{value:.5g}"
    return "—" if value is None else clean(str(value))


def _columns_table(name: str, heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> HtmlTable:
    caption = clean(name.replace("_", " ").capitalize())
    if len(rows) > MAX_LINES:
        caption += f"; the first {MAX_LINES} of {len(rows):,} lines"
    lines = [Line([_value(cell) for cell in row]) for row in rows[:MAX_LINES]]
    return HtmlTable(f"{caption}.", [_heading(column) for column in heading], lines, 1)


def _heading(column: str) -> str:
    """``energy_eV`` and ``energy (eV)`` as energy (eV); A is Å."""
    name, _, unit_name = column[:-1].rpartition(" (") if column.endswith(")") else column.rpartition("_")
    symbols = unit(re.sub(r"\bA\b", "Å", unit_name))
    return clean(f"{name.replace('_', ' ')} ({symbols})" if name else column)


def _pictures_of(stem: Path, shelf: Shelf, description: str) -> list[Picture]:
    """The picture beside a result; that of fixed resolution only where there is no other."""
    vector, bitmap = shelf.take(stem.with_suffix(".svg")), shelf.take(stem.with_suffix(".png"))
    path = vector or bitmap
    return [_picture(path, shelf, description)] if path else []


def _picture(path: Path, shelf: Shelf, description: str) -> Picture:
    name = plain_name(shelf.name(path.with_suffix("")))
    return Picture(name, picture_markup(path, description, f"{name}-"), shelf.name(path))


def _evaluation(path: Path, shelf: Shelf, content: Mapping[str, Any]) -> Section:
    rows = []
    for name, errors in content["properties"].items():
        rows += [Line(_errors(name, errors))]
        rows += [
            Line(_errors(clean(part.replace("_", " ")), values), part=True)
            for part, values in errors.items()
            if isinstance(values, dict) and "spread" in values
        ]
    header_cells = ("Property", "Unit", "RMSE", "MAE", "Max", "Bias", "Spread", "Values")
    subject = f"{content.get('model', '')} on {', '.join(Path(str(name)).name for name in content.get('data', ()))}"
    caption = "Errors are predicted minus reference, over all components."
    table = HtmlTable(caption, header_cells, rows, 2)
    text = f"{clean(subject, 200)}: {content['structures']:,} structures."
    return Section(f"Errors: {shelf.name(path)}", "", text, tables=[table])


def _errors(name: str, errors: Mapping[str, Any]) -> list[str]:
    values = [number(float(errors[key])) for key in ("rmse", "mae", "max", "bias", "spread")]
    return [clean(name), unit(str(errors["unit"])), *values, f"{errors['count']:,}"]


def structures(path: Path, shelf: Shelf) -> Section:
    """Frames of extended XYZ; with the log beside them they are a trajectory."""
    sample = sample_frames(path)
    log = shelf.take(path.with_suffix(".csv"))
    shelf.take(path.with_suffix(".restart.json"))
    scene = Scene(clips_of(sample.frames, shelf.name(path)), loop="mode" in sample.frames[0].info)
    text = f"{len(sample.frames):,} frames" if len(sample.frames) > 1 else "One frame"
    if not sample.complete:
        total = f"{sample.total:,}" if sample.total else f"a file of {path.stat().st_size / 1e6:,.0f} MB"
        text += f" at equal distances, of {total}"
    title = f"{'Dynamics' if log else 'Structures'}: {shelf.name(path)}"
    drawn = _table_pictures(log, shelf) if log else []
    return Section(title, "", f"{text}.", pictures=drawn, scene=scene)


def csv_table(path: Path, shelf: Shelf) -> Section:
    """A table, with its curves over the first column if all of it are numbers."""
    heading, rows = _read_csv(path)
    shown = _columns_table(path.stem, heading, rows)
    return Section(f"Table: {shelf.name(path)}", "", pictures=_curves(path, shelf, heading, rows), tables=[shown])


def _table_pictures(path: Path, shelf: Shelf) -> list[Picture]:
    return _curves(path, shelf, *_read_csv(path))


def _read_csv(path: Path) -> tuple[list[str], list[list[Any]]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(islice(csv.reader(file), 100_001))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not a CSV file: {error}") from error
    if len(lines) < 2:
        raise DataError(f"{path}: a table without lines")
    rows = [[_cell(cell) for cell in line] for line in lines[1:] if len(line) == len(lines[0])]
    return lines[0], rows


def _cell(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def _curves(path: Path, shelf: Shelf, heading: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[Picture]:
    """A figure for each of the first columns of numbers, over the first one (over time, if there is one)."""
    numeric = [
        k for k in range(len(heading)) if all(isinstance(row[k], float) and math.isfinite(row[k]) for row in rows)
    ]
    times = [k for k in numeric if heading[k].startswith("time")]
    if len(numeric) < 2 or numeric[0] != 0 or len(rows) < 3:
        return []
    over = times[0] if times else 0
    x = np.array([row[over] for row in rows])
    if (np.diff(x) <= 0.0).any():
        return []
    drawn = []
    for k in [k for k in numeric if k not in (0, over)][:MAX_CURVES]:
        with Drawing() as drawing:
            drawing.axes.plot(x, [row[k] for row in rows], linewidth=1.0)
            drawing.axes.set(xlabel=_heading(heading[over]), ylabel=_heading(heading[k]))
            svg = drawing.svg(f"{_heading(heading[k])} over {_heading(heading[over])}")
        drawn.append(Picture(plain_name(f"{shelf.name(path)}-{k}"), svg, f"{_heading(heading[k])}."))
    return drawn


def picture(path: Path, shelf: Shelf) -> Section:
    """A picture that belongs to nothing else; the bitmap of the same one is left out."""
    if path.suffix == ".svg":
        shelf.take(path.with_suffix(".png"))
    return Section(f"Picture: {shelf.name(path)}", "", pictures=[_picture(path, shelf, path.stem)])


KINDS = (
    FileKind("training run", lambda path: path.name == "metrics.csv", training),
    FileKind("result", lambda path: path.suffix == ".json" and not path.name.endswith(".restart.json"), document),
    FileKind("structures", lambda path: path.suffix in (".extxyz", ".xyz"), structures),
    FileKind("model", lambda path: path.suffix == ".carten", model_file),
    FileKind("table", lambda path: path.suffix == ".csv", csv_table),
    FileKind("picture", lambda path: path.suffix == ".svg", picture),
    FileKind("bitmap", lambda path: path.suffix == ".png", picture),
)
"""In this order: what belongs to a file of an earlier kind is shown there."""
