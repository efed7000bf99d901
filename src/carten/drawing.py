"""Figures in one style: inline SVG that takes its colours and fonts from the page, or files of their own.

Inside a :class:`Drawing` the colours ``"C0"``, ``"C1"``, .. and the default colour of text are those of its palette.
"""

from __future__ import annotations

import io
import json
import re
import warnings
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.lines import AxLine
from matplotlib.patches import StepPatch
from matplotlib.ticker import AutoMinorLocator, FuncFormatter, LogFormatter, LogLocator, MaxNLocator, NullFormatter

from carten.errors import ConfigError

FONT = "DejaVu Sans"
FORMATS = (".svg", ".png", ".pdf")
"""Of pictures in files."""


@dataclass(frozen=True)
class Palette:
    """Colours of a figure: of text, of what stands back, of the grid, and of what is compared."""

    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]


PAGE = Palette("#010203", "#010204", "#010205", ("#010206", "#010207", "#010208", "#010209", "#01020a", "#01020b"))
"""Placeholders: the page's style sheet says which colour each one is."""
LIGHT = Palette("#1b2230", "#5d6778", "#e4e7ec", ("#1668c7", "#c2500a", "#15803d", "#8b3fc0", "#a3134f", "#5d6778"))
"""For files, which have no style sheet: the colours of the light page."""
INK, MUTED, SERIES = PAGE.ink, PAGE.muted, PAGE.series

WIDTH, HEIGHT = 4.7, 3.2
"""Of a figure, in inches: two stand side by side on a page, and one fills a telephone."""

_VARIABLES = {
    PAGE.ink: "--ink",
    PAGE.muted: "--muted",
    PAGE.grid: "--grid",
    **{colour: f"--series-{number}" for number, colour in enumerate(PAGE.series, start=1)},
}
MAX_POINTS = 300
"""Of a curve, that a page shows the values of."""
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _style(palette: Palette) -> dict[Any, Any]:
    return {
        "svg.fonttype": "none" if palette is PAGE else "path",
        "svg.hashsalt": "carten",
        "text.parse_math": False,  # names from files are text, not formulas
        "font.size": 9.0,
        "font.family": FONT,
        "text.color": palette.ink,
        "axes.labelcolor": palette.ink,
        "axes.edgecolor": palette.muted,
        "axes.prop_cycle": cycler(color=palette.series),
        "axes.linewidth": 0.8,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9.5,
        "axes.titlelocation": "left",
        "grid.color": palette.grid,
        "grid.linewidth": 0.7,
        "xtick.color": palette.muted,
        "ytick.color": palette.muted,
        "xtick.labelcolor": palette.ink,
        "ytick.labelcolor": palette.ink,
        "axes.formatter.useoffset": False,
        "axes.formatter.limits": (-4, 5),
        "legend.frameon": False,
        "lines.linewidth": 1.5,
    }


def power_of_ten(value: float) -> str:
    """A tick of a logarithmic axis: 0.01, 1, 100, but 10⁻⁴ and 10⁵."""
    if 1e-3 <= value < 1e4:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPTS)
    return power if mantissa == "1" else f"{mantissa}·{power}"


def require_picture(path: Path) -> None:
    """Check that a picture can be written to a file of this name.

    Raises:
        ConfigError: its suffix names none of :data:`FORMATS`.
    """
    if path.suffix not in FORMATS:
        raise ConfigError(f"{path}: expected a picture ending in {', '.join(FORMATS)}")


def make_logarithmic(axes: Axes, axis: str) -> None:
    """Give the axis ``"x"`` or ``"y"`` a logarithmic scale with plain tick labels, once everything is drawn."""
    (axes.set_xscale if axis == "x" else axes.set_yscale)("log")
    ticks = axes.xaxis if axis == "x" else axes.yaxis
    low, high = axes.get_xlim() if axis == "x" else axes.get_ylim()
    ticks.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 50.0 * low else (1.0,), numticks=6))
    ticks.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
    ticks.set_minor_formatter(NullFormatter())


def _name_powers(figure: Figure) -> None:
    """Logarithmic axes get plain tick labels: those of matplotlib are formulas, which are shown as they are written."""
    for axes in figure.axes:
        for name, axis in (("x", axes.xaxis), ("y", axes.yaxis)):
            if axis.get_scale() == "log" and isinstance(axis.get_major_formatter(), LogFormatter):
                make_logarithmic(axes, name)


class Drawing:
    """A matplotlib figure, usually with one pair of axes. It needs no display.

    Use as a context manager: what is drawn inside has the style of the report, and nothing outside changes.

    Args:
        height: in inches.
        width: in inches.
        palette: :data:`PAGE` for :meth:`svg`, :data:`LIGHT` for files.
    """

    def __init__(self, height: float = HEIGHT, width: float = WIDTH, palette: Palette = PAGE) -> None:
        self._context = mpl.rc_context(_style(palette))
        self.size = (width, height)
        self.palette = palette

    def __enter__(self) -> Drawing:
        self._context.__enter__()
        self.figure = Figure(figsize=self.size, layout="constrained")
        return self

    def __exit__(self, *failure: object) -> None:
        _name_powers(self.figure)
        self._context.__exit__(None, None, None)

    @cached_property
    def axes(self) -> Axes:
        """The one pair of axes, made when it is first asked for."""
        axes: Axes = self.figure.subplots()
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_minor_locator(AutoMinorLocator(2))
        return axes

    def save(self, path: Path) -> None:
        """Write the figure to a file, in the format of its suffix; the same figure gives the same file."""
        require_picture(path)
        _name_powers(self.figure)
        moment = {".svg": {"Date": None, "Creator": None}, ".pdf": {"CreationDate": None}}
        self.figure.savefig(path, dpi=200, metadata=moment.get(path.suffix))
        if path.suffix == ".svg":
            text = path.read_text(encoding="utf-8")
            path.write_text(_with_points(text, self.figure), encoding="utf-8")

    def logarithmic(self, axis: str, axes: Axes | None = None) -> None:
        """Give the axis ``"x"`` or ``"y"`` a logarithmic scale with plain tick labels, once everything is drawn.

        Args:
            axis: ``"x"`` or ``"y"``.
            axes: of the figure, where it has several.
        """
        make_logarithmic(self.axes if axes is None else axes, axis)

    def svg(self, description: str) -> str:
        """The figure as an SVG element; ``description`` is what a screen reader says."""
        _name_powers(self.figure)
        buffer = io.StringIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # the browser has others
            self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return _adapt(_with_points(buffer.getvalue(), self.figure), description)


def _with_points(svg: str, figure: Figure) -> str:
    """The values of curves and points, and where they are, for pages that show those under the cursor."""
    described = [entry for axes in figure.axes if (entry := _described(axes, figure))["series"]]
    text = escape(json.dumps(described, separators=(",", ":"), ensure_ascii=False))
    return svg.replace("<svg ", f'<svg data-points="{text}" ', 1) if described else svg


def _described(axes: Axes, figure: Figure) -> dict[str, Any]:
    series = [_series(axes, figure, name, values) for name, values in _curves(axes)]
    names = {"x": axes.get_xlabel() or "x", "y": axes.get_ylabel() or "y"}
    return {**names, "series": [each for each in series if each["at"]]}


def _curves(axes: Axes) -> list[tuple[str, npt.NDArray[np.float64]]]:
    """Names and values (n, 2) of what is drawn in the units of the axes; none where ticks show something else."""
    renamed = [
        axis.get_scale() == "linear" and isinstance(axis.get_major_formatter(), FuncFormatter)
        for axis in (axes.xaxis, axes.yaxis)
    ]
    if any(renamed) or axes.name != "rectilinear":
        return []
    lines = [line for line in axes.lines if line.get_transform() is axes.transData and not isinstance(line, AxLine)]
    curves = [(str(line.get_label()), np.asarray(line.get_xydata(), dtype=np.float64)) for line in lines]
    curves += [
        (str(points.get_label()), np.asarray(points.get_offsets(), dtype=np.float64))
        for points in axes.collections
        if isinstance(points, PathCollection)
    ]
    for patch in axes.patches:
        if isinstance(patch, StepPatch) and not patch.get_fill():
            heights, edges, _ = patch.get_data()
            curves.append((str(patch.get_label()), np.stack([(edges[1:] + edges[:-1]) / 2.0, heights], axis=1)))
    return curves


def _series(axes: Axes, figure: Figure, name: str, values: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Values that are seen, at most :data:`MAX_POINTS`, and their places in points from the upper left corner."""
    (left, right), (bottom, top) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    x, y = values[:, 0], values[:, 1]
    seen = values[(x >= left) & (x <= right) & (y >= bottom) & (y <= top)]
    seen = seen[np.unique(np.linspace(0, len(seen) - 1, min(len(seen), MAX_POINTS)).astype(int))] if len(seen) else seen
    at = axes.transData.transform(seen) * (72.0 / figure.dpi)
    at[:, 1] = 72.0 * figure.get_size_inches()[1] - at[:, 1]
    shown = "" if name.startswith("_") else name
    return {"name": shown, "at": np.round(at, 1).tolist(), "values": [[float(f"{v:.6g}") for v in row] for row in seen]}


def _adapt(svg: str, description: str) -> str:
    """Placeholders become the page's colours; headers, sizes and ids that would repeat on the page go."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    label = f' role="img" aria-label="{escape(description)}"'
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', lambda match: match[1] + label, svg, count=1)
    svg = svg.replace(f"'{FONT}'", "var(--font)")
    for placeholder, variable in _VARIABLES.items():
        svg = svg.replace(placeholder, f"var({variable})")
    return svg
