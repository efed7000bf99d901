"""Figures of errors: against the reference, and by element."""

from __future__ import annotations

import numpy as np
from ase.data import chemical_symbols
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from carten.math.arrays import Floats
from carten.report.drawing import INK, MUTED, SERIES, Drawing
from carten.report.text import number, unit
from carten.workflows.comparison import Comparison

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
FEW = 1500
"""Up to so many points are drawn as points, more as densities."""


def parity(comparison: Comparison) -> str:
    """Predicted against reference values, and the error against the reference."""
    row = comparison.row
    size = comparison.sizes[:, None] if row.extensive else 1.0
    reference, predicted = (comparison.reference / size).ravel(), (comparison.predicted / size).ravel()
    where = unit(f"{row.report_unit}/atom" if row.extensive else row.report_unit)
    if row.extensive and row.rank == 0:
        mean = reference.mean()
        reference, predicted, where = reference - mean, predicted - mean, f"{where}, less the mean {number(mean)}"
    with Drawing(9.0, 3.4, panels=2) as drawing:
        left, right = drawing.axes
        ends = np.array([min(reference.min(), predicted.min()), max(reference.max(), predicted.max())])
        left.axline((ends[0], ends[0]), slope=1.0, color=MUTED, linewidth=0.8)
        _points(left, reference, predicted)
        left.set(xlabel=f"reference ({where})", ylabel="predicted", title="Predicted against reference")
        right.axhline(0.0, color=MUTED, linewidth=0.8)
        _points(right, reference, predicted - reference)
        right.set(xlabel=f"reference ({where})", ylabel="error", title="Error against reference")
        return drawing.svg(f"{row.name}: predicted values and errors against reference values, in {where}")


def _points(axes: Axes, x: Floats, y: Floats) -> None:
    """Points, or hexagons whose opacity grows with the logarithm of how many points they hold."""
    if len(x) <= FEW:
        axes.scatter(x, y, s=9.0, color=SERIES[0], alpha=0.45, linewidths=0.0)
        return
    cells = axes.hexbin(x, y, gridsize=70, mincnt=1, linewidths=0.0)
    count = np.asarray(cells.get_array(), dtype=np.float64)
    colours = np.tile(to_rgba(SERIES[0]), (len(count), 1))
    colours[:, 3] = 0.18 + 0.82 * np.log(count) / max(np.log(count.max()), 1.0)
    cells.set_array(None)
    cells.set_facecolor(list(map(tuple, colours)))


def by_element(comparison: Comparison) -> str:
    """Absolute errors of each element on a logarithmic axis: median, quartiles, 95 % and the largest."""
    numbers = np.unique(comparison.numbers)
    error = np.abs(comparison.error)
    error = np.maximum(error, 1e-6 * error.max() or 1e-12)
    with Drawing(9.0, 0.9 + 0.3 * len(numbers)) as drawing:
        (axes,) = drawing.axes
        for place, element in enumerate(numbers):
            low, quarter, median, three, high, most = np.quantile(error[comparison.numbers == element], _QUANTILES)
            axes.hlines(place, low, high, color=SERIES[0], linewidth=1.2)
            axes.hlines(place, quarter, three, color=SERIES[0], linewidth=7.0, alpha=0.5)
            axes.plot(median, place, "o", color=INK, markersize=4.0)
            axes.plot(most, place, "|", color=SERIES[1], markersize=9.0, markeredgewidth=1.8)
        axes.set_xscale("log")
        axes.set_yticks(range(len(numbers)), [chemical_symbols[element] for element in numbers])
        axes.set_ylim(len(numbers) - 0.4, -0.6)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"|error| of a component ({unit(comparison.row.report_unit)})")
        return drawing.svg(f"{comparison.row.name}: distribution of absolute errors by element")
