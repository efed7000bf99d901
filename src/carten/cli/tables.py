"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from carten.properties.routes import Property
from carten.text import number, unit
from carten.workflows.comparison import ErrorStatistics
from carten.workflows.evaluate import Evaluation


def evaluation_table(evaluation: Evaluation) -> Table:
    """Errors of an evaluation: a line for each property, and for what it consists of."""
    table = _table("", "RMSE", "MAE", "max", "bias", "values")
    for name, comparison in evaluation.comparisons.items():
        table.add_row(*_line(name, comparison.total()), style="bold")
        for part, statistics in comparison.details():
            table.add_row(*_line(f"  {part}", statistics))
    return table


def uncertainty_table(evaluation: Evaluation) -> Table:
    """How uncertainties compare with errors, a line for each property."""
    table = _table("uncertainty", "root mean\nsquare", "RMSE", "within\n90 %", "NLL", "rank\ncorrelation")
    for name, comparison in evaluation.comparisons.items():
        if (quality := comparison.quality) is not None:
            cells = [number(quality.mean), number(quality.rmse), f"{100 * quality.coverage:.1f} %"]
            cells += [f"{quality.nll:.2f}", f"{quality.spearman:.2f}"]
            table.add_row(name, unit(comparison.row.report_unit), *cells)
    return table


def group_table(evaluation: Evaluation, key: str) -> Table:
    """RMSE and mean error (bias) of each property for each group; per atom where the property is extensive."""
    columns = []
    for name, comparison in evaluation.comparisons.items():
        where = unit((comparison.per_atom() or comparison.total()).unit)
        columns += [f"{name} RMSE\n{where}", f"bias\n{where}"]
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column(key, overflow="fold", min_width=8)
    names = {group: Path(group).name if key == "file" else group for group in evaluation.by_group()}
    if len(set(names.values())) < len(names):
        names = {group: group for group in names}
    for column in ("structures", *columns):
        table.add_column(column, justify="right")
    for group, comparisons in evaluation.by_group().items():
        cells = [f"{evaluation.groups.count(group):,}"]
        for name in evaluation.comparisons:
            errors = (comparisons[name].per_atom() or comparisons[name].total()) if name in comparisons else None
            cells += ["", ""] if errors is None else [number(errors.rmse), number(errors.bias)]
        table.add_row(escape(names[group]), *cells)
    return table


def _line(name: str, statistics: ErrorStatistics) -> list[str]:
    values = [number(value) for value in (statistics.rmse, statistics.mae, statistics.max, statistics.bias)]
    return [name, unit(statistics.unit), *values, f"{statistics.count:,}"]


def training_table(sets: Mapping[str, Mapping[str, float]], rows: Mapping[str, Property]) -> Table:
    """Errors of the best model on several sets, from the metrics of training."""
    table = _table("", *(f"{name} {kind}" for name in sets for kind in ("RMSE", "MAE")))
    for name, row in rows.items():
        for suffix in ("", "_per_atom"):
            values = [values.get(f"{name}{suffix}_{kind}") for values in sets.values() for kind in ("rmse", "mae")]
            if any(value is not None for value in values):
                where = unit(row.report_unit + suffix.replace("_per_", "/"))
                table.add_row(name, where, *("" if value is None else number(value) for value in values))
    return table


def _table(first: str, *columns: str) -> Table:
    table = Table(first, "unit", box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="right")
    return table
