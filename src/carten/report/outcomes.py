"""Sections of the JSON files that carten writes: results of jobs, errors, calibrations, timings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup, escape

from carten.report.columns import column_texts, columns_table, value_text
from carten.report.document import PagePart, Remark, Section, plain_name
from carten.report.documents import (
    CalibrationDocument,
    Document,
    ErrorsDocument,
    JobDocument,
    Measured,
    SpeedDocument,
    StoredErrors,
)
from carten.report.figures import Picture
from carten.report.foreign import file_picture
from carten.report.sections import HtmlTable, Line, error_line
from carten.report.shelf import Shelf
from carten.report.tabular import csv_text
from carten.report.uncertainty import coverage_picture
from carten.report.viewing import scene_of_file
from carten.report.words import job_words
from carten.text import amount, clean, number, unit
from carten.uncertainty.quality import LEVEL, Quality

MAX_POINTS = 40
"""A longer table of numbers holds the points of a curve: it can be saved, and is not shown."""
BESIDE = (".csv", ".restart.json", ".db", ".html", ".yaml")
"""Further files of ``carten md``, ``screen``, ``benchmark`` and ``phonons``."""
FIGURE_SPACE = "\u2007"
"""As wide as a digit."""
MAX_TOLD = 3
"""Numbers of a result that the contents show."""
TINY = 1e-6
"""Entries of a tensor that are smaller, relative to the largest one, are shown as 0."""


def document_section(document: Document, path: Path, shelf: Shelf) -> Section:
    """The section of a JSON file, with what belongs to it."""
    match document:
        case JobDocument():
            return job_section(document, path, shelf)
        case ErrorsDocument():
            return _errors(document, path, shelf)
        case CalibrationDocument():
            return _calibration(document, path, shelf)
        case SpeedDocument():
            return _speed(document, path, shelf)


def job_section(document: JobDocument, path: Path, shelf: Shelf) -> Section:
    """Numbers, remarks, tables, structures and picture of a job."""
    stem = path.with_suffix("")
    words = job_words(document.job)
    remarks = [Remark("failure", text) for text in document.failures]
    remarks += [Remark("warning", text) for text in document.warnings]
    tables, data = [_quantities(document.results)], []
    for name, columns in document.tables.items():
        rows = list(zip(*columns.values(), strict=True))
        n_words = sum(any(isinstance(cell, str) for cell in column) for column in columns.values())
        if len(rows) > MAX_POINTS and n_words < 2:
            data.append((f"{plain_name(stem.name)}-{plain_name(name)}", csv_text(list(columns), rows)))
        elif rows and len(columns) > 1:
            tables.append(columns_table(clean(name.replace("_", " ").capitalize()), list(columns), rows))
    for name in document.tables:
        shelf.take(stem.with_name(f"{stem.name}-{name}.csv"))
    for suffix in BESIDE:
        shelf.take(stem.with_suffix(suffix))
    frames = shelf.take(stem.with_suffix(".extxyz"))
    return Section(
        words.title,
        "",
        name=shelf.name(stem),
        group=PagePart.STRUCTURES if document.job == "md" else PagePart.RESULTS,
        summary=_told(document.results),
        pictures=_pictures_beside(stem, shelf, words.caption or words.title),
        tables=tables,
        scene=scene_of_file(frames, shelf.name(frames)) if frames else None,
        remarks=remarks,
        data=data,
    )


def _told(results: Mapping[str, Measured]) -> str:
    """The first numbers of a result in one line."""
    scalars = {name: each for name, each in results.items() if isinstance(each.value, int | float | str)}
    texts = (f"{name} {value_text(each.value)} {unit(each.unit)}".rstrip() for name, each in scalars.items())
    return clean(", ".join(list(texts)[:MAX_TOLD]), 160)


def _quantities(results: Mapping[str, Measured]) -> HtmlTable:
    rows = []
    for name, quantity in results.items():
        for place, text in enumerate(_value_lines(quantity)):
            cells = (clean(name), text, unit(quantity.unit)) if place == 0 else ("", text, "")
            rows.append(Line(cells, part=place > 0))
    return HtmlTable("Results.", ("Quantity", "Value", "Unit"), rows, words=(2,))


def _value_lines(quantity: Measured) -> Sequence[str]:
    """A value as text; tensors with a line for each row, their numbers below each other."""
    value = quantity.value
    while isinstance(value, list) and value and isinstance(value[0], list) and isinstance(value[0][0], list):
        value = [row for matrix in value for row in matrix]
    if not (isinstance(value, list) and value and isinstance(value[0], list)):
        return [value_text(value)]
    entries = [entry for row in value for entry in row]
    least = TINY * max((abs(entry) for entry in entries if isinstance(entry, int | float)), default=0.0)
    texts = iter(column_texts([0.0 if isinstance(entry, float) and abs(entry) < least else entry for entry in entries]))
    rows = [[next(texts) for _ in row] for row in value]
    width = max((len(text) for row in rows for text in row), default=0)
    lines = (" ".join(text.rjust(width, FIGURE_SPACE) for text in row) for row in rows)
    return [Markup(escape(line)) for line in lines]  # text would lose its spaces


def _pictures_beside(stem: Path, shelf: Shelf, caption: str) -> list[Picture]:
    """The picture beside a result; that of fixed resolution only where there is no other."""
    vector, bitmap = shelf.take(stem.with_suffix(".svg")), shelf.take(stem.with_suffix(".png"))
    path = vector or bitmap
    return [file_picture(path, shelf.name(path), f"{caption[0].upper()}{caption[1:]}.")] if path else []


def _errors(document: ErrorsDocument, path: Path, shelf: Shelf) -> Section:
    rows = [line for name, errors in document.properties.items() for line in _error_lines(name, errors)]
    header = ("Property", "Unit", "RMSE", "MAE", "Max", "Bias", "Spread", "Values")
    tables = [HtmlTable("Errors are predicted minus reference, over all components.", header, rows, 2)]
    qualities = {name: each.uncertainty for name, each in document.properties.items() if each.uncertainty is not None}
    units = {name: each.total.unit for name, each in document.properties.items()}
    pictures = []
    if qualities:
        tables.append(_quality_table(qualities, units))
        pictures.append(coverage_picture(plain_name(shelf.name(path)), qualities))
    data = ", ".join(Path(name).name for name in document.data)
    text = f"{clean(document.model, 200)} on {clean(data, 200)}: {document.structures:,} structures."
    return Section(
        "Errors",
        "",
        text,
        name=shelf.name(path),
        group=PagePart.ERRORS,
        summary=f"RMSE: {', '.join(_rmse(name, each) for name, each in document.properties.items())}",
        pictures=pictures,
        tables=tables,
    )


def _rmse(name: str, errors: StoredErrors) -> str:
    statistics = errors.details.get("per atom", errors.total)
    return f"{clean(name.replace('_', ' '))} {number(statistics.rmse)} {unit(statistics.unit)}"


def _error_lines(name: str, errors: StoredErrors) -> Iterator[Line]:
    yield error_line(name, errors.total)
    for part, statistics in errors.details.items():
        yield error_line(part, statistics, part=True)


def _quality_table(qualities: Mapping[str, Quality], units: Mapping[str, str]) -> HtmlTable:
    """What uncertainties are worth."""
    rows = []
    for name, quality in qualities.items():
        cells = [clean(name), unit(units.get(name, "")), number(quality.rmse), number(quality.mean)]
        cells += [f"{100 * quality.coverage:.1f}", f"{quality.spearman:.2f}", f"{quality.nll:.2f}"]
        rows.append(Line(cells))
    header = ("Property", "Unit", "RMSE", "Uncertainty", f"Within {100 * LEVEL:.0f} % (%)", "Rank correlation", "NLL")
    caption = (
        f"Uncertainties: their root mean square beside that of the errors, and the share of errors within intervals of "
        f"{100 * LEVEL:.0f} %. NLL is the mean negative logarithm of the likelihood."
    )
    return HtmlTable(caption, header, rows, 2)


def _calibration(document: CalibrationDocument, path: Path, shelf: Shelf) -> Section:
    stages = {"before": document.before, "after": document.after}
    rows = []
    for name, scale in document.scales.items():
        cells = [clean(name), unit(document.units.get(name, ""))]
        for measure in ("mean", "coverage", "nll"):
            values = [getattr(stage[name], measure) if name in stage else None for stage in stages.values()]
            cells += [_measure(measure, value) for value in values]
        rows.append(Line([*cells, number(scale)]))
    above = ("Uncertainty", f"Within {100 * LEVEL:.0f} % (%)", "NLL")
    table = HtmlTable(
        "Uncertainties before they are scaled, and after; of each half of the data with the scale of the other half.",
        ("Property", "Unit", *("before", "after") * len(above), "Scale"),
        rows,
        2,
        above,
    )
    pictures = [
        coverage_picture(plain_name(f"{shelf.name(path)}-{stage}"), qualities, f", {stage} calibration")
        for stage, qualities in stages.items()
    ]
    inside = (f"{name} {100 * each.coverage:.0f} %" for name, each in document.after.items())
    return Section(
        "Calibration",
        "",
        f"Uncertainties of {clean(document.model, 200)} beside its errors on data that it has not seen.",
        name=shelf.name(path),
        group=PagePart.ERRORS,
        summary=f"within {100 * LEVEL:.0f} %: {', '.join(inside)}",
        pictures=pictures,
        tables=[table],
    )


def _measure(name: str, value: float | None) -> str:
    if value is None:
        return "—"
    return {"coverage": f"{100 * value:.1f}", "nll": f"{value:.2f}"}.get(name, number(value))


def _speed(document: SpeedDocument, path: Path, shelf: Shelf) -> Section:
    first = document.timings[0]
    rows = [
        Line(
            [
                clean(Path(timing.model).name),
                timing.backend,
                f"{timing.us_per_atom:,.1f}",
                f"{timing.atom_steps_per_second:,.0f}",
                f"{timing.peak_memory_mb:,.0f}",
                amount(timing.multiply_adds_per_atom),
            ]
        )
        for timing in document.timings
    ]
    header = ("Model", "Back end", "µs per atom", "Atoms × steps per s", "Memory (MB)", "Multiply-adds per atom")
    tables = [HtmlTable("Energy and forces: medians of several evaluations.", header, rows, 2)]
    for timing in document.timings:
        if timing.operators:
            parts = [
                Line([clean(part.operator), f"{part.us_per_atom:,.1f}", f"{100 * part.share:.1f}"])
                for part in timing.operators
            ]
            caption = f"Operators of {clean(Path(timing.model).name)}, back end {timing.backend}."
            tables.append(HtmlTable(caption, ("Operator", "µs per atom", "Share (%)"), parts))
    threads = f"{first.threads} thread{'s' if first.threads != 1 else ''}"
    text = f"{clean(first.system)}: {first.n_atoms:,} atoms; {clean(first.device)}, {threads}, {first.dtype}."
    return Section(
        "Speed",
        "",
        text,
        name=shelf.name(path),
        group=PagePart.RESULTS,
        summary=f"{first.us_per_atom:,.1f} µs per atom for energy and forces",
        tables=tables,
    )
