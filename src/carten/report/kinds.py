"""One section for each kind of file that carten writes: a reader for each, and the table of them.

A reader takes the file and the shelf it lies on, from which it takes what belongs to the file as well, and returns a
section without an anchor. Errors of one file concern no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import ase

from carten.errors import DataError
from carten.properties.facts import described_header
from carten.properties.rows import load_property
from carten.report.columns import IN_PAIRS, column_curves, columns_table, parity_pictures, read_columns
from carten.report.curves import learning_curves
from carten.report.document import PagePart, Section
from carten.report.documents import JobDocument, read_json
from carten.report.foreign import file_picture
from carten.report.frames import sample_frames
from carten.report.outcomes import document_section, job_section
from carten.report.sections import HtmlTable, Line
from carten.report.shelf import Shelf
from carten.report.viewing import scene_of, structure_table
from carten.text import clean, number, unit
from carten.uncertainty import model_header


class FileKind(NamedTuple):
    """Files of one kind: which they are, and the reader of their section; None if it is no such file after all."""

    name: str
    matches: Callable[[Path], bool]
    section: Callable[[Path, Shelf], Section | None]


def loop(path: Path, shelf: Shelf) -> Section | None:
    """``learn.json`` of active learning; the files of its rounds belong to it."""
    content = read_json(path)
    if not isinstance(content, JobDocument) or content.job != "learn":
        return None
    settings = _text_beside(path, "loop.yaml", shelf)
    n_files = shelf.take_below(path.parent, ("round_*/**/*", "proof/*", "*.extxyz"))
    section = job_section(content, path, shelf)
    text = f"Structures and models of the rounds are {n_files:,} files beside it, which this page does not show."
    return replace(section, name=shelf.name(path.parent), text=text, group=PagePart.TRAINING, preformatted=settings)


def training(path: Path, shelf: Shelf) -> Section:
    """``metrics.csv`` of a training run, with its configuration and its best model."""
    model = shelf.take(path.parent / "best.carten")
    head = model_header(model) if model else {}
    rows = {row["name"]: load_property(row) for row in head.get("properties", ())}
    for name in ("curves.svg", "curves.png", "last.ckpt", "log.txt"):
        shelf.take(path.parent / name)
    shelf.take_below(path.parent, ("tensorboard/*",))
    return Section(
        "Training",
        "",
        "Loss and validation errors over the epochs.",
        name=shelf.name(path.parent),
        group=PagePart.TRAINING,
        summary=_trained(head),
        pictures=learning_curves(path, rows),
        tables=[_model_table(head)] if head else [],
        preformatted=_text_beside(path, "config.yaml", shelf),
    )


def _text_beside(path: Path, name: str, shelf: Shelf) -> str:
    beside = shelf.take(path.with_name(name))
    try:
        return beside.read_text(encoding="utf-8") if beside else ""
    except UnicodeDecodeError as error:
        raise DataError(f"{beside}: is not a text file: {error}") from error


def _trained(head: Mapping[str, Any]) -> str:
    """Time and errors of a training in one line."""
    provenance = head.get("provenance", {})
    if "epoch" not in provenance:
        return ""
    errors = provenance.get("validation", {})
    texts = [f"{provenance['epoch']} epochs, {provenance['minutes']:.1f} minutes"]
    for row in map(load_property, head["properties"]):
        key, per_atom = (f"{row.name}_per_atom", "/atom") if row.extensive else (row.name, "")
        if f"{key}_rmse" in errors:
            texts.append(f"{row.name} {number(errors[f'{key}_rmse'])} {unit(row.report_unit + per_atom)}")
    return clean("; validation RMSE ".join([texts[0], ", ".join(texts[1:])]) if texts[1:] else texts[0], 160)


def model_file(path: Path, shelf: Shelf) -> Section:
    """The header of a model."""
    head = model_header(path)
    names = ", ".join(row["name"] for row in head["properties"])
    name, summary = shelf.name(path), clean(f"predicts {names}", 160)
    return Section("Model", "", name=name, group=PagePart.MODELS, summary=summary, tables=[_model_table(head)])


def _model_table(head: Mapping[str, Any]) -> HtmlTable:
    facts = [*described_header(head)]
    if n_members := head.get("members"):
        facts.insert(0, ("committee", f"{n_members} models; what follows is the first"))
    return HtmlTable("The model.", (), [Line((name, unit(text, len(text)))) for name, text in facts], 2)


def document(path: Path, shelf: Shelf) -> Section | None:
    """A JSON file: the result of a job or of an evaluation, a calibration, timings."""
    content = read_json(path)
    return None if content is None else document_section(content, path, shelf)


def structures(path: Path, shelf: Shelf) -> Section:
    """Frames of extended XYZ; with the log beside them they are a trajectory."""
    sample = sample_frames(path)
    log = shelf.take(path.with_suffix(".csv"))
    is_dynamics = log is not None or "time_ps" in sample.frames[0].info
    shelf.take(path.with_suffix(".restart.json"))
    scene = scene_of(sample, path, shelf.name(path))
    text = f"{len(sample.frames):,} frames" if len(sample.frames) > 1 else "One frame"
    if not sample.complete:
        total = f"{sample.total:,}" if sample.total else f"a file of {path.stat().st_size / 1e6:,.0f} MB"
        text += f" at equal distances, of {total}"
    return Section(
        "Dynamics" if is_dynamics else "Structures",
        "",
        f"{text}.",
        name=shelf.name(path),
        group=PagePart.STRUCTURES,
        summary=f"{text} of {_formulas(sample.frames)}",
        pictures=column_curves(shelf.name(log), *read_columns(log)) if log else [],
        tables=[] if is_dynamics else [structure_table(scene)],
        scene=scene,
    )


def _formulas(frames: Sequence[ase.Atoms]) -> str:
    """The most frequent formulas."""
    counts = Counter(atoms.get_chemical_formula() for atoms in frames)
    names = [name for name, _ in counts.most_common(3)]
    return ", ".join([*names, *(["…"] if len(counts) > len(names) else [])])


def csv_table(path: Path, shelf: Shelf) -> Section:
    """A table, with its curves over the first column if all of it are numbers, or predictions over references."""
    heading, rows = read_columns(path)
    pictures = parity_pictures(shelf.name(path), heading, rows)
    kept = [k for k, name in enumerate(heading) if not pictures or not IN_PAIRS.search(name)]  # the rest is drawn
    table = [heading[k] for k in kept], [[row[k] for k in kept] for row in rows]
    return Section(
        "Table",
        "",
        name=shelf.name(path),
        group=PagePart.OTHERS,
        summary=f"{len(rows):,} lines, {len(heading)} columns",
        pictures=pictures or column_curves(shelf.name(path), heading, rows),
        tables=[columns_table(clean(path.stem.replace("_", " ").capitalize()), *table)],
    )


def picture(path: Path, shelf: Shelf) -> Section:
    """A picture that belongs to nothing else; the bitmap of the same one is left out."""
    if path.suffix == ".svg":
        shelf.take(path.with_suffix(".png"))
    name = shelf.name(path)
    shown = file_picture(path, name, clean(path.stem.replace("_", " ").capitalize()))
    return Section("Picture", "", name=name, group=PagePart.OTHERS, pictures=[shown])


KINDS = (
    FileKind("active learning", lambda path: path.name == "learn.json", loop),
    FileKind("training run", lambda path: path.name == "metrics.csv", training),
    FileKind("result", lambda path: path.suffix == ".json" and not path.name.endswith(".restart.json"), document),
    FileKind("structures", lambda path: path.suffix in (".extxyz", ".xyz"), structures),
    FileKind("model", lambda path: path.suffix == ".carten", model_file),
    FileKind("table", lambda path: path.suffix == ".csv", csv_table),
    FileKind("picture", lambda path: path.suffix == ".svg", picture),
    FileKind("bitmap", lambda path: path.suffix == ".png", picture),
)
"""In this order: what belongs to a file of an earlier kind is shown there."""
