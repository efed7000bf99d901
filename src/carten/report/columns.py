"""Tables of columns: from CSV files and results, numbers of a column with the same decimals, and curves of them."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from carten.drawing import MUTED, SERIES, Drawing
from carten.errors import DataError
from carten.report.document import plain_name
from carten.report.figures import NAME_WIDTH, Picture, draw_points
from carten.report.sections import LIGHTS, HtmlTable, Line
from carten.text import clean, unit

MAX_LINES = 200
"""Of a table, that are shown."""
MAX_COLUMNS = 9
MAX_CURVES = 6
MAX_ROWS_READ = 100_000
DIGITS = 5
IN_PAIRS = re.compile(r"_(reference|predicted) \(")
"""Headings of what :func:`parity_pictures` draws."""

Rows = Sequence[Sequence[Any]]


def read_columns(path: Path) -> tuple[list[str], list[list[Any]]]:
    """Headings and rows of a CSV file; cells that are numbers are floats.

    Raises:
        DataError: it is no CSV file, or has no rows.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(islice(csv.reader(file), MAX_ROWS_READ + 1))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is not a CSV file: {error}") from error
    if len(lines) < 2:
        raise DataError(f"{path}: a table without lines")
    rows = [[_cell(cell) for cell in line] for line in lines[1:] if len(line) == len(lines[0])]
    if not rows:
        raise DataError(f"{path}: no line has as many cells as the heading, {len(lines[0])}")
    return lines[0], rows


def _cell(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


def columns_table(caption: str, heading: Sequence[str], rows: Rows) -> HtmlTable:
    """A table of the first :data:`MAX_LINES` rows; columns of words stand on the left, lights have their colour."""
    if len(rows) > MAX_LINES:
        caption += f", the first {MAX_LINES} of {len(rows):,} lines"
    if len(heading) > MAX_COLUMNS:
        caption += f", the first {MAX_COLUMNS} of {len(heading)} columns"
    heading = heading[:MAX_COLUMNS]
    columns = list(zip(*(row[:MAX_COLUMNS] for row in rows[:MAX_LINES]), strict=True))
    cells = zip(*map(column_texts, columns), strict=True)
    words = [k for k, column in enumerate(columns) if any(isinstance(value, str) and value for value in column)]
    lit = [k for k in words if set(columns[k]) <= LIGHTS.keys()]
    lines = [
        Line(row, lights=[LIGHTS[text] if k in lit else "" for k, text in enumerate(row)] if lit else ())
        for row in cells
    ]
    return HtmlTable(f"{caption}.", [heading_text(column) for column in heading], lines, 0, words=words)


def column_texts(values: Sequence[Any]) -> list[str]:
    """Values of a column as text: numbers with :data:`DIGITS` digits of the largest one, if that shows all of them."""
    numbers = [float(x) for x in values if isinstance(x, int | float) and not isinstance(x, bool)]
    decimals = _decimals([x for x in numbers if math.isfinite(x)])
    return [_text(x, decimals) if isinstance(x, int | float) else value_text(x) for x in values]


def _decimals(numbers: Sequence[float]) -> int | None:
    """Decimals after the point that suit all numbers; None if none do."""
    sizes = [abs(x) for x in numbers if x]
    if not sizes:
        return 0
    if max(sizes) >= 1e7 or max(sizes) < 1e-3:
        return None
    most = max(0, DIGITS - 1 - math.floor(math.log10(max(sizes))))
    return next(n for n in range(most + 1) if n == most or all(round(x, n) == round(x, most) for x in numbers))


def _text(value: float, decimals: int | None) -> str:
    if isinstance(value, bool) or not math.isfinite(value):
        return value_text(value)
    if decimals is None:
        return f"{value:.{DIGITS - 1}e}"
    if value and not round(value, decimals):
        return f"{value:.1e}"
    return f"{value + 0.0:.{decimals}f}"


def value_text(value: Any) -> str:
    """A value from JSON as text; lists in one line."""
    match value:
        case bool():
            return "yes" if value else "no"
        case list() if len(value) > MAX_ENTRIES:
            return f"{', '.join(map(value_text, value[:MAX_ENTRIES]))}, … ({len(value)} values)"
        case list():
            return ", ".join(map(value_text, value))
        case float() if math.isnan(value):
            return "—"
        case float():
            return f"{value:.{DIGITS}g}"
        case None:
            return "—"
    return clean(str(value))


MAX_ENTRIES = 12
"""Of a list, that are shown."""


_SIMPLE = r"(?:[mk]?eV|k?J|[ck]?m|[pf]s|A|K|GPa|THz|mu_B|mol|amu|atom|degrees?|e)(?:\^\d|-1)?"
_NAME_AND_UNIT = re.compile(rf"(.+)[_ ]((?:1/)?{_SIMPLE}(?:[/*]{_SIMPLE})*)")


def heading_text(column: str) -> str:
    """``energy_eV``, ``energy eV`` and ``energy (eV)`` as energy (eV), in symbols."""
    bracketed = re.fullmatch(r"(.+) \((.+)\)", column)
    parts = bracketed or _NAME_AND_UNIT.fullmatch(column)
    if parts is None:
        return clean(column.replace("_", " "))
    symbols = unit(re.sub(r"\bA\b", "Å", parts[2]))
    return clean(f"{parts[1].replace('_', ' ')} ({symbols})")


def column_curves(name: str, heading: Sequence[str], rows: Rows) -> list[Picture]:
    """A figure for each of the first columns of numbers, over the first one (over time, if there is one).

    Args:
        name: of the file.
        heading: names of the columns.
        rows: of the table.
    """
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
            drawing.axes.set(xlabel=heading_text(heading[over]), ylabel=heading_text(heading[k]))
            svg = drawing.svg(f"{heading_text(heading[k])} over {heading_text(heading[over])}")
        caption = f"{heading_text(heading[k]).capitalize()} over {heading_text(heading[over])}."
        drawn.append(Picture(plain_name(f"{name}-{k}"), svg, caption))
    return drawn


def parity_pictures(name: str, heading: Sequence[str], rows: Rows) -> list[Picture]:
    """Predictions over references, of tables by ``carten evaluate``: a figure for each property."""
    pairs: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for column, title in enumerate(heading):
        partner = title.replace("_reference (", "_predicted (")
        if partner != title and partner in heading:
            quantity, _, unit_name = title[:-1].partition("_reference (")
            component = quantity.rpartition("_")
            key = component[0] if component[0] and set(component[2]) <= set("xyz") else quantity
            pairs.setdefault((key, unit(unit_name)), []).append((column, heading.index(partner)))
    drawn = []
    for (quantity, unit_name), columns in pairs.items():
        points = [(row[x], row[y]) for x, y in columns for row in rows if isinstance(row[x], float)]
        if not points:
            continue
        reference, predicted = np.array(points, dtype=np.float64).T
        title = clean(quantity.replace("_", " "), NAME_WIDTH)
        with Drawing() as drawing:
            drawing.axes.axline((reference[0], reference[0]), slope=1.0, color=MUTED, linewidth=0.8)
            draw_points(drawing.axes, reference, predicted, SERIES[0], "")
            drawing.axes.set(xlabel=f"reference {title} ({unit_name})", ylabel=f"predicted {title} ({unit_name})")
            svg = drawing.svg(f"{title}: predicted over reference values")
        drawn.append(Picture(plain_name(f"{name}-{quantity}"), svg, "Predicted over reference values."))
    return drawn
