"""Learning curves of a training run."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from carten.errors import DataError
from carten.properties.spec import Property
from carten.report.drawing import SERIES, Drawing
from carten.report.text import unit

Columns = Mapping[str, npt.NDArray[np.float64]]


def learning_curves(metrics: Path, rows: Mapping[str, Property]) -> str:
    """Losses, and errors of the validation set, over the epochs.

    Args:
        metrics: ``metrics.csv`` of a run.
        rows: properties of the model.

    Raises:
        DataError: the file is no such table.
    """
    columns = _columns(metrics)
    panels = {"loss": {kind: f"{kind}_loss" for kind in ("train", "validation")}, **_panels(columns, rows)}
    with Drawing(9.0, 2.7 * -(-len(panels) // 3), panels=len(panels), columns=3) as drawing:
        for axes, (title, curves) in zip(drawing.axes, panels.items(), strict=True):
            for colour, (legend, name) in zip(SERIES, curves.items(), strict=False):
                there = np.isfinite(columns[name]) & (columns[name] > 0.0)
                axes.plot(columns["epoch"][there], columns[name][there], color=colour, label=legend)
            axes.set_yscale("log")
            axes.set(title=title, xlabel="epoch")
            axes.legend()
        return drawing.svg(f"Learning curves over epochs: {', '.join(panels)}")


def _columns(metrics: Path) -> Columns:
    with metrics.open(newline="") as file:
        table = list(csv.DictReader(file))
    needed = {"epoch", "train_loss", "validation_loss"}
    if not table or not needed <= table[0].keys():
        raise DataError(f"{metrics}: expected a table with columns {', '.join(sorted(needed))}, as training writes it")
    try:
        return {name: np.array([float(row[name] or "nan") for row in table]) for name in table[0]}
    except (TypeError, ValueError) as error:
        raise DataError(f"{metrics}: is damaged: {error}") from error


def _panels(columns: Columns, rows: Mapping[str, Property]) -> dict[str, dict[str, str]]:
    """Title to legend to column, for every property; per atom where it grows with the structure."""
    panels = {}
    for name, row in rows.items():
        prefix = f"validation_{name}_per_atom" if row.extensive else f"validation_{name}"
        if f"{prefix}_rmse" in columns:
            where = unit(f"{row.report_unit}/atom" if row.extensive else row.report_unit)
            panels[f"{name} ({where})"] = {"RMSE": f"{prefix}_rmse", "MAE": f"{prefix}_mae"}
    return panels
