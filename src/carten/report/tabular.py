"""Tables as CSV: the data behind the figures."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence

from ase.data import chemical_symbols

from carten.workflows.comparison import Comparison
from carten.workflows.evaluate import Evaluation

MAX_ROWS = 200_000
"""A larger table is left out of a report."""


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table as CSV; text that a spreadsheet would take for a formula gets an apostrophe in front."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return buffer.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.8g}"
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value


def values_table(name: str, sets: Mapping[str, Evaluation], structures: Mapping[str, Sequence[str]]) -> str | None:
    """Reference, prediction and error of every component of a property; ``None`` if the table would be too large.

    Args:
        name: of the property.
        sets: evaluations by the name of the data.
        structures: for each of them, names of the structures by position.
    """
    compared = {data: each.comparisons[name] for data, each in sets.items() if name in each.comparisons}
    if sum(comparison.reference.size for comparison in compared.values()) > MAX_ROWS:
        return None
    header = ("data", "structure", "atoms", "element", "component", "reference", "predicted", "error", "unit")
    rows = (row for data, comparison in compared.items() for row in _rows(data, comparison, structures[data]))
    return csv_text(header, rows)


def _rows(data: str, comparison: Comparison, structures: Sequence[str]) -> Iterable[Sequence[object]]:
    components = ["".join(axes) for axes in itertools.product("xyz", repeat=comparison.row.rank)]
    columns = (comparison.structure, comparison.sizes, comparison.numbers, comparison.reference, comparison.predicted)
    for index, size, element, reference, predicted in zip(*(column.tolist() for column in columns), strict=True):
        symbol = chemical_symbols[element] if element else ""
        for component, label, value in zip(components, reference, predicted, strict=True):
            row = (data, structures[index], size, symbol, component, label, value, value - label)
            yield (*row, comparison.row.report_unit)
