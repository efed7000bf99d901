"""Tables of the report: errors, train beside test, groups, and the worst structures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ase.symbols import Symbols

from carten.data.labels import Frame
from carten.math.arrays import Floats
from carten.text import clean, number, unit
from carten.units import conversion
from carten.workflows.comparison import Comparison, ErrorStatistics
from carten.workflows.criteria import Light
from carten.workflows.evaluate import Evaluation

PRESSURES = ("eV/Angstrom^3", "meV/Angstrom^3")
"""Units that people also read in GPa."""

WIDE = 30
"""Characters of numbers in a cell that need the width of the page."""
_MAX_LISTED = 200
"""Groups that a table lists."""

LIGHTS = {str(light): str(light) for light in Light} | {str(Light.SKIPPED): "skipped", str(Light.FAILED): "failed"}
"""Class of the style sheet for each light by its word."""


@dataclass(frozen=True)
class Line:
    """A row of a table.

    Args:
        cells: as text.
        part: whether it details the row above.
        show: clip of the section's scene that it shows if chosen.
        frame: of the clip.
        lights: of the cells.
    """

    cells: Sequence[str]
    part: bool = False
    show: int | None = None
    frame: int = 0
    lights: Sequence[str] = ()


@dataclass(frozen=True)
class HtmlTable:
    """A table; its first ``text_columns`` columns hold text, and those of ``words``; the others hold numbers."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Line]
    text_columns: int = 1
    above: Sequence[str] = ()
    """Names above the header, each over two of the columns with numbers."""
    lights: bool = False
    """Whether rows begin with lights, and end with remarks."""
    words: Collection[int] = ()

    @property
    def is_broad(self) -> bool:
        """Whether the table needs the width of the page; on a telephone each row is then a card."""
        return len(self.header) > 3 or any(len(cell) > WIDE for row in self.rows for cell in self._numbers(row))

    def _numbers(self, row: Line) -> list[str]:
        return [cell for column, cell in enumerate(row.cells) if not self.is_text(column)]

    def label(self, column: int) -> str:
        """A heading with the name above it."""
        pair = (column - self.text_columns) // 2
        return " ".join([*self.above[pair : pair + 1], self.header[column]]) if pair >= 0 else self.header[column]

    def is_text(self, column: int) -> bool:
        """Whether a column stands on the left."""
        return column < self.text_columns or column in self.words


@dataclass(frozen=True)
class Headline:
    """One of the most important numbers, in each unit that people read it in; a light is its colour."""

    name: str
    values: Sequence[tuple[str, str]]
    light: str = ""


def structure_name(frame: Frame) -> str:
    """The name of a structure in all tables and in the viewer: file and frame."""
    return Path(frame.where).name


def in_units(statistics: ErrorStatistics) -> list[ErrorStatistics]:
    """The statistics, and those of pressures also in GPa."""
    if statistics.unit not in PRESSURES:
        return [statistics]
    factor = conversion(statistics.unit, "GPa")
    scaled = {name: factor * getattr(statistics, name) for name in ("rmse", "mae", "max", "bias", "spread")}
    return [statistics, replace(statistics, unit="GPa", **scaled)]


def headlines(evaluation: Evaluation) -> list[Headline]:
    """The root mean square error of each property; per atom first where the property grows with the structure."""
    shown = []
    for name, comparison in evaluation.comparisons.items():
        values = [value for value in (comparison.per_atom(), *in_units(comparison.total())) if value is not None]
        texts = [(number(statistics.rmse), unit(statistics.unit)) for statistics in values]
        shown.append(Headline(f"{name.replace('_', ' ').capitalize()}, RMSE", texts))
    return shown


def error_table(evaluation: Evaluation) -> HtmlTable:
    """Errors of each property, and of what it consists of: per atom, tensor parts, elements."""
    rows: list[Line] = []
    for name, comparison in evaluation.comparisons.items():
        total, *converted = in_units(comparison.total())
        rows.append(error_line(name, total))
        rows += [error_line("in GPa", statistics, part=True) for statistics in converted]
        rows += [error_line(part, statistics, part=True) for part, statistics in comparison.details()]
    caption = (
        "Errors are predicted minus reference, over all components. Spread is the standard deviation of the reference "
        "values: the RMSE of a model that predicts only the mean."
    )
    return HtmlTable(caption, ("Property", "Unit", "RMSE", "MAE", "Max", "Bias", "Spread", "Values"), rows, 2)


def error_line(name: str, statistics: ErrorStatistics, part: bool = False) -> Line:
    """A row of a table of errors."""
    values = (statistics.rmse, statistics.mae, statistics.max, statistics.bias, statistics.spread)
    return Line([clean(name), unit(statistics.unit), *map(number, values), f"{statistics.count:,}"], part)


def sets_table(evaluations: Mapping[str, Evaluation], validation: Mapping[str, float]) -> HtmlTable:
    """RMSE and MAE of several sets side by side.

    Args:
        evaluations: by name of the set.
        validation: errors of training on its validation set, by metric (``forces_rmse``).
    """
    subject = next(iter(evaluations.values()))
    rows = []
    for name, comparison in subject.comparisons.items():
        kind = "_per_atom" if comparison.row.extensive else ""
        unit_name = comparison.row.report_unit + ("/atom" if comparison.row.extensive else "")
        cells = [clean(name), unit(unit_name)]
        for evaluation in evaluations.values():
            compared = evaluation.comparisons.get(name)
            statistics = compared and (compared.per_atom() or compared.total())
            cells += [number(statistics.rmse), number(statistics.mae)] if statistics else ["no label"] * 2
        if validation:
            errors = [validation.get(f"{name}{kind}_{measure}") for measure in ("rmse", "mae")]
            cells += ["" if error is None else number(error) for error in errors]
        rows.append(Line(cells))
    names = [*evaluations, *(["validation"] if validation else [])]
    header = ("Property", "Unit", *("RMSE", "MAE") * len(names))
    caption = "Errors by set. Validation errors are those of the best model during training."
    return HtmlTable(caption, header, rows, 2, [clean(name, 40) for name in names])


def group_errors(groups: Sequence[str], comparison: Comparison) -> dict[str, Floats]:
    """Errors of all components by group, per atom where the property grows with the structure.

    Args:
        groups: name of the group of each structure.
        comparison: of these structures.
    """
    names = np.array(groups)
    errors = comparison.error / comparison.sizes[:, None] if comparison.row.extensive else comparison.error
    group_of_row = names[comparison.structure]
    return {str(group): errors[group_of_row == group].ravel() for group in np.unique(group_of_row)}


def group_errors_table(evaluation: Evaluation, groups: Mapping[str, Mapping[str, Floats]]) -> HtmlTable:
    """Errors by group of structures, worst group of each property first."""
    rows = []
    for name, errors in groups.items():
        row = evaluation.comparisons[name].row
        unit_name = unit(row.report_unit + ("/atom" if row.extensive else ""))
        for group in sorted(errors, key=lambda group: -float(np.mean(errors[group] ** 2)))[:_MAX_LISTED]:
            values = errors[group]
            measures = (np.sqrt(np.mean(values**2)), np.abs(values).mean(), np.abs(values).max(), values.mean())
            cells = [clean(name), clean(group, 60) or "(no group)", unit_name, *(number(float(x)) for x in measures)]
            rows.append(Line([*cells, f"{values.size:,}"]))
    header = ("Property", "Group", "Unit", "RMSE", "MAE", "Max", "Bias", "Values")
    return HtmlTable("Errors by group of structures, worst first.", header, rows, 3)


def worst_table(frames: Mapping[int, Frame], evaluation: Evaluation, groups: Sequence[str]) -> HtmlTable:
    """Errors of single structures."""
    columns = {}
    for name, comparison in evaluation.comparisons.items():
        unit_name = unit(comparison.row.report_unit + ("/atom" if comparison.row.extensive else ""))
        columns[f"{clean(name, 40)} ({unit_name})"] = comparison.by_structure()
    grouped = len(set(groups)) > 1
    rows = []
    for place, (index, frame) in enumerate(frames.items()):
        errors = [number(column[index]) if index in column else "no label" for column in columns.values()]
        text = [clean(structure_name(frame)), _formula(frame), *([clean(groups[index], 40)] if grouped else [])]
        rows.append(Line([*text, *errors], show=place))
    caption = "Root mean square errors of these structures. Choose one to see it above."
    text_header = ("Structure", "Formula", *(("Group",) if grouped else ()))
    return HtmlTable(caption, (*text_header, *columns), rows, len(text_header))


def _formula(frame: Frame) -> str:
    return clean(Symbols(frame.numbers).get_chemical_formula(), 40)
