"""Learning curves of a training run."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from carten.drawing import SERIES, Drawing
from carten.errors import DataError
from carten.math.arrays import Floats
from carten.properties.routes import Property
from carten.report.figures import Picture
from carten.text import clean, unit

_Columns = Mapping[str, Floats]

TABLE = "learning-curves"
"""Name of the table behind learning curves."""


def learning_curves(metrics: Path, rows: Mapping[str, Property]) -> list[Picture]:
    """Losses, and errors on the validation set, over the epochs.

    Args:
        metrics: ``metrics.csv`` of a run.
        rows: properties of the model.

    Raises:
        DataError: the file is not such a table.
    """
    columns = _columns(metrics)
    loss = {kind: f"{kind}_loss" for kind in ("train", "validation")}
    panels = {"loss": ("no unit", loss), **_panels(columns, rows)}
    return [_picture(name, unit_name, curves, columns) for name, (unit_name, curves) in panels.items()]


def _picture(name: str, unit_name: str, curves: Mapping[str, str], columns: _Columns) -> Picture:
    title = clean(name, 26)
    with Drawing() as drawing:
        for colour, (legend, column) in zip(SERIES, curves.items(), strict=False):
            shown = np.isfinite(columns[column]) & (columns[column] > 0.0)
            epochs, values = columns["epoch"][shown], columns[column][shown]
            drawing.axes.plot(epochs, values, color=colour, label=legend, marker="o" if shown.sum() < 3 else None)
        drawing.logarithmic("y")
        drawing.axes.set(xlabel="epoch", ylabel=f"{title} ({unit_name})")
        drawing.axes.legend()
        svg = drawing.svg(f"Learning curve over epochs: {title} in {unit_name}")
    caption = "Loss over the epochs." if name == "loss" else f"Validation errors of {title} over the epochs."
    return Picture(f"learning-curve-{name}", svg, caption, TABLE)


def _columns(metrics: Path) -> _Columns:
    try:
        with metrics.open(newline="", encoding="utf-8") as file:
            table = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{metrics}: is not a CSV file: {error}") from error
    required = {"epoch", "train_loss", "validation_loss"}
    if not table or not required <= table[0].keys():
        raise DataError(
            f"{metrics}: expected a table with columns {', '.join(sorted(required))}, as training writes it"
        )
    try:
        return {name: np.array([float(row[name] or "nan") for row in table]) for name in table[0]}
    except (TypeError, ValueError) as error:
        raise DataError(f"{metrics}: is damaged: {error}") from error


def _panels(columns: _Columns, rows: Mapping[str, Property]) -> dict[str, tuple[str, dict[str, str]]]:
    """Unit and curves (column by legend) of every property; per atom where it grows with the structure."""
    panels = {}
    for name, row in rows.items():
        prefix = f"validation_{name}_per_atom" if row.extensive else f"validation_{name}"
        if f"{prefix}_rmse" in columns and f"{prefix}_mae" in columns:
            unit_name = unit(f"{row.report_unit}/atom" if row.extensive else row.report_unit)
            panels[name] = unit_name, {"RMSE": f"{prefix}_rmse", "MAE": f"{prefix}_mae"}
    return panels
