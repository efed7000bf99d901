"""Figures of errors: against the reference, their distribution, by element and by group."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from carten.drawing import INK, MUTED, SERIES, Drawing
from carten.math.arrays import Floats
from carten.text import clean, number, unit
from carten.workflows.comparison import Comparison

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
FEW = 1500
"""Up to this number of values are drawn as points, more as densities."""

MAX_GROUPS = 25
"""Groups that a figure shows; tables hold all."""

NAME_WIDTH = 26
"""Characters of a name on an axis."""

MAX_BINS = 60
INSIDE = 0.995
"""Share of the errors that the axis of a histogram covers."""


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Args:
        name: of the files it is saved to.
        svg: the figure.
        caption: what it shows.
        table: name of the data behind it.
    """

    name: str
    svg: str
    caption: str
    table: str = ""


@dataclass(frozen=True)
class Values:
    """Components of a property, per atom where it grows with the structure, in the unit of the axes."""

    reference: Floats
    predicted: Floats
    unit: str

    @classmethod
    def of(cls, comparison: Comparison) -> Values:
        """All components of a comparison."""
        size = comparison.sizes[:, None] if comparison.row.extensive else 1.0
        unit_name = f"{comparison.row.report_unit}/atom" if comparison.row.extensive else comparison.row.report_unit
        return cls((comparison.reference / size).ravel(), (comparison.predicted / size).ravel(), unit(unit_name))

    @property
    def errors(self) -> Floats:
        """``predicted - reference``."""
        return self.predicted - self.reference

    def less(self, mean: float) -> Values:
        """The same with a number subtracted from both."""
        return Values(self.reference - mean, self.predicted - mean, self.unit)


def pictures(name: str, sets: Mapping[str, Comparison], groups: Mapping[str, Floats]) -> list[Picture]:
    """All figures of one property.

    Args:
        name: of the property, which is also the name of the table of its values.
        sets: comparisons by the name of the data; the first one is the subject, the others are drawn beside it.
        groups: errors of the subject by group.
    """
    values = {data: Values.of(comparison) for data, comparison in sets.items()}
    subject = next(iter(sets.values()))
    remark = ""
    if subject.row.extensive and subject.row.rank == 0:  # the mean is large: without it ticks are readable
        first = next(iter(values.values()))
        mean = float(first.reference.mean())
        values = {data: every.less(mean) for data, every in values.items()}
        remark = f" The mean of the reference, {number(mean)} {first.unit}, is subtracted."
    drawn = [
        Picture(f"{name}-parity", parity(name, values), f"Predicted against reference values.{remark}", name),
        Picture(f"{name}-errors", residuals(name, values), f"Errors against reference values.{remark}", name),
        Picture(
            f"{name}-histogram",
            histogram(name, values),
            "Histogram of errors (predicted minus reference); the largest 0.5 % lie outside.",
            name,
        ),
        Picture(f"{name}-cumulative", cumulative(name, values), "Share of values with a smaller error.", name),
    ]
    if subject.row.scope == "atom":
        text = "Absolute errors by element. Dot: median; thick bar: middle half; line: 5 % to 95 %; tick: largest."
        drawn.append(Picture(f"{name}-elements", by_element(subject), text, name))
    if len(groups) > 1:
        text = "Errors by group, with sign. Dot: mean (bias); thick bar: middle half; line: 5 % to 95 %."
        drawn.append(Picture(f"{name}-groups", by_group(name, groups, next(iter(values.values())).unit), text, name))
    return drawn


def parity(name: str, sets: Mapping[str, Values]) -> str:
    """Predicted against reference values."""
    title = clean(name, NAME_WIDTH)
    with Drawing() as drawing:
        axes = drawing.axes
        low = min(min(values.reference.min(), values.predicted.min()) for values in sets.values())
        axes.axline((low, low), slope=1.0, color=MUTED, linewidth=0.8)
        for colour, (data, values) in _drawn_last_first(sets):
            draw_points(axes, values.reference, values.predicted, colour, data)
        name_of_unit = next(iter(sets.values())).unit
        axes.set(xlabel=f"reference {title} ({name_of_unit})", ylabel=f"predicted {title} ({name_of_unit})")
        add_legend(axes, sets)
        return drawing.svg(f"{title}: predicted against reference values, in {name_of_unit}")


def residuals(name: str, sets: Mapping[str, Values]) -> str:
    """Errors against reference values."""
    title = clean(name, NAME_WIDTH)
    with Drawing() as drawing:
        axes = drawing.axes
        axes.axhline(0.0, color=MUTED, linewidth=0.8)
        for colour, (data, values) in _drawn_last_first(sets):
            draw_points(axes, values.reference, values.errors, colour, data)
        name_of_unit = next(iter(sets.values())).unit
        axes.set(xlabel=f"reference {title} ({name_of_unit})", ylabel=f"error ({name_of_unit})")
        add_legend(axes, sets)
        return drawing.svg(f"{title}: errors against reference values, in {name_of_unit}")


def histogram(name: str, sets: Mapping[str, Values]) -> str:
    """How often errors of each size occur."""
    limit = max(float(np.quantile(np.abs(values.errors), INSIDE)) for values in sets.values()) or 1e-12
    fewest = min(values.errors.size for values in sets.values())
    edges = np.linspace(-limit, limit, int(np.clip(2.0 * np.sqrt(fewest), 10, MAX_BINS)) + 1)
    with Drawing() as drawing:
        axes = drawing.axes
        for colour, (data, values) in _drawn_last_first(sets):
            share = 100.0 * np.histogram(values.errors, edges)[0] / values.errors.size
            axes.stairs(share, edges, color=colour, linewidth=1.3, label=clean(data, NAME_WIDTH))
            axes.stairs(share, edges, color=colour, fill=True, alpha=0.2)
        axes.axvline(0.0, color=MUTED, linewidth=0.8)
        name_of_unit = next(iter(sets.values())).unit
        axes.set(xlabel=f"error of {clean(name, NAME_WIDTH)} ({name_of_unit})", ylabel="values per bin (%)")
        add_legend(axes, sets)
        return drawing.svg(f"{clean(name, NAME_WIDTH)}: histogram of errors in {name_of_unit}")


def cumulative(name: str, sets: Mapping[str, Values]) -> str:
    """The share of values whose error is smaller than that of the horizontal axis."""
    with Drawing() as drawing:
        axes = drawing.axes
        for colour, (data, values) in _drawn_last_first(sets):
            errors = np.sort(np.abs(values.errors))
            share = 100.0 * np.arange(1, len(errors) + 1) / len(errors)
            kept = np.unique(np.linspace(0, len(errors) - 1, 400).astype(int))
            positive = kept[errors[kept] > 0.0]
            axes.step(errors[positive], share[positive], where="post", color=colour, label=clean(data, NAME_WIDTH))
        drawing.logarithmic("x")
        name_of_unit = next(iter(sets.values())).unit
        axes.set(
            xlabel=f"|error| of {clean(name, NAME_WIDTH)} ({name_of_unit})", ylabel="values with a smaller error (%)"
        )
        axes.set_ylim(0.0, 100.0)
        add_legend(axes, sets)
        return drawing.svg(f"{clean(name, NAME_WIDTH)}: cumulative distribution of absolute errors in {name_of_unit}")


def by_element(comparison: Comparison) -> str:
    """Absolute errors of each element on a logarithmic axis: median, quartiles, 5 % and 95 %, and the largest."""
    elements = np.unique(comparison.numbers)
    errors = np.abs(comparison.error)
    errors = np.maximum(errors, 1e-6 * errors.max() or 1e-12)
    with Drawing(0.9 + 0.3 * len(elements)) as drawing:
        axes = drawing.axes
        for line, element in enumerate(elements):
            selected = errors[comparison.numbers == element]
            median = _box(axes, line, selected)
            axes.plot(median, line, "o", color=INK, markersize=4.0)
            axes.plot(selected.max(), line, "|", color=SERIES[1], markersize=9.0, markeredgewidth=1.8)
        drawing.logarithmic("x")
        _name_lines(axes, [chemical_symbols[element] for element in elements])
        axes.set_xlabel(f"|error| of {clean(comparison.row.name, NAME_WIDTH)} ({unit(comparison.row.report_unit)})")
        return drawing.svg(f"{clean(comparison.row.name, NAME_WIDTH)}: distribution of absolute errors by element")


def by_group(name: str, groups: Mapping[str, Floats], unit_name: str) -> str:
    """Errors with their sign for each group, worst first."""
    worst = sorted(groups, key=lambda group: -float(np.mean(groups[group] ** 2)))[:MAX_GROUPS]
    with Drawing(0.9 + 0.3 * len(worst)) as drawing:
        axes = drawing.axes
        axes.axvline(0.0, color=MUTED, linewidth=0.8)
        for line, group in enumerate(worst):
            _box(axes, line, groups[group])
            axes.plot(groups[group].mean(), line, "o", color=INK, markersize=4.0)
        _name_lines(axes, [clean(group, 24) for group in worst])
        axes.set_xlabel(f"error of {clean(name, NAME_WIDTH)} ({unit_name})")
        return drawing.svg(f"{clean(name, NAME_WIDTH)}: errors by group in {unit_name}")


def _box(axes: Axes, line: int, values: Floats) -> float:
    """Draw a bar from the lower to the upper quartile and a line from 5 % to 95 %; returns the median."""
    low, lower, median, upper, high = np.quantile(values, QUANTILES)
    axes.hlines(line, low, high, color=SERIES[0], linewidth=1.2)
    axes.hlines(line, lower, upper, color=SERIES[0], linewidth=7.0, alpha=0.5)
    return float(median)


def _name_lines(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def _drawn_last_first(sets: Mapping[str, Values]) -> list[tuple[str, tuple[str, Values]]]:
    """Colours and data, the subject last so that it lies on top."""
    return list(zip(SERIES, sets.items(), strict=False))[::-1]


def add_legend(axes: Axes, sets: Collection[str]) -> None:
    """A legend where there is more than one set."""
    if len(sets) > 1:
        handles, labels = axes.get_legend_handles_labels()
        axes.legend(handles[::-1], labels[::-1], fontsize=8.0)  # the first was drawn last


def draw_points(axes: Axes, x: Floats, y: Floats, colour: str, label: str) -> None:
    """Points, or hexagons whose opacity grows with the logarithm of the number of points they hold."""
    label = clean(label, NAME_WIDTH)
    if len(x) <= FEW:
        axes.scatter(x, y, s=9.0, color=colour, alpha=0.45, linewidths=0.0, label=label)
        return
    cells = axes.hexbin(x, y, gridsize=60, mincnt=1, linewidths=0.0)
    count = np.asarray(cells.get_array(), dtype=np.float64)
    colours = np.tile(to_rgba(colour), (len(count), 1))
    colours[:, 3] = 0.18 + 0.82 * np.log(count) / max(np.log(count.max()), 1.0)
    cells.set_array(None)
    cells.set_facecolor(list(map(tuple, colours)))
    axes.scatter([], [], s=9.0, color=colour, label=label)
