"""Figures of uncertainties: against errors, and how many errors intervals of each level hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from carten.drawing import Drawing
from carten.math.arrays import Floats
from carten.report.figures import NAME_WIDTH, Picture, add_legend, draw_points
from carten.text import clean, unit
from carten.uncertainty.quality import LEVEL, LEVELS, Quality, half_width
from carten.workflows.comparison import Comparison


def uncertainty_pictures(name: str, sets: Mapping[str, Comparison]) -> list[Picture]:
    """Figures of the uncertainties of one property; none where there are no uncertainties.

    Args:
        name: of the property, which is also the name of the table of its values.
        sets: comparisons by the name of the data; the first one is the subject.
    """
    if next(iter(sets.values())).uncertainty is None:
        return []
    sizes = "Errors against uncertainties, a point for each component: 90 % should lie below the line."
    qualities = {data: comparison.quality for data, comparison in sets.items() if comparison.quality is not None}
    return [
        Picture(f"{name}-uncertainty", against_uncertainty(name, sets), sizes, name),
        replace(coverage_picture(f"{name}-calibration", qualities), table=name),
    ]


def against_uncertainty(name: str, sets: Mapping[str, Comparison]) -> str:
    """Absolute errors of components against their uncertainties."""
    unit_name = unit(next(iter(sets.values())).row.report_unit)
    with Drawing() as drawing:
        draw_against_uncertainty(drawing, sets)
        title = clean(name, NAME_WIDTH)
        return drawing.svg(f"{title}: absolute errors against uncertainties, in {unit_name}")


def draw_against_uncertainty(drawing: Drawing, sets: Mapping[str, Comparison]) -> None:
    """Errors and uncertainties on logarithmic axes; below the line are 90 % of them if the uncertainties are right."""
    axes, name_of_unit = drawing.axes, unit(next(iter(sets.values())).row.report_unit)
    drawn = {}
    for data, comparison in sets.items():
        if comparison.uncertainty is not None:
            sigma = np.repeat(comparison.uncertainty, comparison.error.shape[1])
            sizes = np.abs(comparison.error).ravel()
            kept = (sigma > 0.0) & (sizes > 0.0)
            drawn[data] = np.log10(sigma[kept]), np.log10(sizes[kept])
    for colour, (data, (sigma, sizes)) in [*zip(drawing.palette.series, drawn.items(), strict=False)][::-1]:
        draw_points(axes, sigma, sizes, colour, data)
    axes.axline((0.0, float(np.log10(half_width(LEVEL)))), slope=1.0, color=drawing.palette.muted, linewidth=0.8)
    low, high = _range_of([x for pair in drawn.values() for x in pair])
    axes.set(xlim=(low, high), ylim=(low, high))
    axes.xaxis.set_major_formatter(_power)
    axes.yaxis.set_major_formatter(_power)
    axes.set(xlabel=f"uncertainty ({name_of_unit})", ylabel=f"absolute error ({name_of_unit})")
    add_legend(axes, drawn)


def coverage_picture(name: str, qualities: Mapping[str, Quality], remark: str = "") -> Picture:
    """Share of errors within the intervals of each level.

    Args:
        name: of the picture.
        qualities: by the name of the curve, of a property or of data.
        remark: of the caption.
    """
    caption = f"Share of errors within intervals of each level{remark}: on the line if the uncertainties are right."
    with Drawing() as drawing:
        draw_coverage(drawing, qualities)
        return Picture(name, drawing.svg(caption), caption)


def draw_coverage(drawing: Drawing, qualities: Mapping[str, Quality]) -> None:
    """Curves of :func:`coverage_picture`."""
    axes = drawing.axes
    axes.axline((0.0, 0.0), slope=1.0, color=drawing.palette.muted, linewidth=0.8)
    for colour, (curve, quality) in [*zip(drawing.palette.series, qualities.items(), strict=False)][::-1]:
        shares = 100.0 * np.array(quality.curve)
        axes.plot(100.0 * np.array(LEVELS), shares, color=colour, label=clean(curve, NAME_WIDTH))
    axes.set(xlabel="level of the interval (%)", ylabel="errors within (%)", xlim=(0, 100), ylim=(0, 100))
    add_legend(axes, qualities)


def _range_of(values: Sequence[Floats]) -> tuple[float, float]:
    """Where all but the smallest of some logarithms lie."""
    together = np.concatenate([*values, np.zeros(0)])
    if not len(together):
        return -1.0, 1.0
    return float(np.floor(np.quantile(together, 0.002))), float(np.ceil(together.max()))


def _power(value: float, _: float) -> str:
    """A power of ten on an axis of logarithms."""
    return f"{10.0**value:g}" if abs(value - round(value)) < 1e-6 else ""
