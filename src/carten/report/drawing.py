"""Figures as inline SVG that takes its colours and fonts from the page, so that it follows light and dark."""

from __future__ import annotations

import io
import re
import warnings
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoMinorLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from carten.report.text import power_of_ten

FONT = "DejaVu Sans"
INK = "#010203"
MUTED = "#010204"
GRID = "#010205"
SERIES = ("#010206", "#010207", "#010208", "#010209", "#01020a", "#01020b")
"""Placeholders: the page's style sheet says which colour each one is."""

WIDTH, HEIGHT = 4.7, 3.2
"""Of a figure, in inches: two stand side by side on a page, and one fills a telephone."""

_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    **{colour: f"--series-{number}" for number, colour in enumerate(SERIES, start=1)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "carten",
    "text.parse_math": False,  # names from files are text, not formulas
    "font.size": 9.0,
    "font.family": FONT,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.formatter.useoffset": False,
    "axes.formatter.limits": (-4, 5),
    "legend.frameon": False,
    "lines.linewidth": 1.5,
}


class Drawing:
    """A matplotlib figure with one pair of axes that ends as SVG.

    Use as a context manager: what is drawn inside has the style of the report, and nothing outside changes.
    """

    def __init__(self, height: float = HEIGHT, width: float = WIDTH) -> None:
        self._context = mpl.rc_context(_STYLE)
        self.size = (width, height)

    def __enter__(self) -> Drawing:
        self._context.__enter__()
        self.figure = Figure(figsize=self.size, layout="constrained")
        self.axes: Axes = self.figure.subplots()
        self.axes.xaxis.set_major_locator(MaxNLocator(5))
        self.axes.yaxis.set_major_locator(MaxNLocator(5))
        self.axes.xaxis.set_minor_locator(AutoMinorLocator(2))
        return self

    def __exit__(self, *failure: object) -> None:
        self._context.__exit__(None, None, None)

    def logarithmic(self, axis: str) -> None:
        """Give the axis ``"x"`` or ``"y"`` a logarithmic scale with plain tick labels, once everything is drawn."""
        (self.axes.set_xscale if axis == "x" else self.axes.set_yscale)("log")
        ticks = self.axes.xaxis if axis == "x" else self.axes.yaxis
        low, high = self.axes.get_xlim() if axis == "x" else self.axes.get_ylim()
        ticks.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 50.0 * low else (1.0,), numticks=6))
        ticks.set_major_formatter(FuncFormatter(lambda value, _: power_of_ten(value)))
        ticks.set_minor_formatter(NullFormatter())

    def svg(self, description: str) -> str:
        """The figure as an SVG element; ``description`` is what a screen reader says."""
        buffer = io.StringIO()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)  # the browser has others
            self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return _adapt(buffer.getvalue(), description)


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
