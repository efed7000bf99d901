"""The picture of the learning curves of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from carten.drawing import LIGHT, WIDTH, Drawing
from carten.properties.routes import Property
from carten.train.files import PICTURES, temporary
from carten.train.metrics import metric_names

Rows = Sequence[Mapping[str, str]]


def draw_curves(rows: Rows, properties: Sequence[Property], folder: Path) -> None:
    """Losses and validation errors over the steps of a run, as pictures in its folder.

    Args:
        rows: of ``metrics.csv``.
        properties: that are trained.
        folder: of the run.

    Raises:
        OSError: a file cannot be written.
    """
    losses = {"training": "train_loss", "validation": "validation_loss"}
    panels = [("loss", losses)] + [
        (f"{name} ({row.report_unit}{'/atom' * row.extensive})", {"RMSE": f"{prefix}_rmse", "MAE": f"{prefix}_mae"})
        for row in properties
        for name, prefix in [(row.name, f"validation_{metric_names(row)[-1]}")]
    ]
    with Drawing(width=WIDTH * len(panels) * 0.8, palette=LIGHT) as drawing:
        for axes, (label, curves) in zip(np.atleast_1d(drawing.figure.subplots(1, len(panels))), panels, strict=True):
            _panel(axes, rows, label, curves)
            drawing.logarithmic("y", axes)
        for name in PICTURES:
            partial = temporary(folder / name)
            partial = partial.with_name(partial.name + Path(name).suffix)
            try:
                drawing.save(partial)
                os.replace(partial, folder / name)
            finally:
                partial.unlink(missing_ok=True)


def _panel(axes: Axes, rows: Rows, label: str, curves: Mapping[str, str]) -> None:
    steps = np.array([int(row["step"]) for row in rows])
    for legend, column in curves.items():
        values = np.array([float(row.get(column) or "nan") for row in rows])
        shown = np.isfinite(values) & (values > 0.0)
        axes.plot(steps[shown], values[shown], label=legend, marker="o" if shown.sum() < 3 else None)
    axes.set(xlabel="step", ylabel=label)
    axes.legend()
