"""Figures as inline SVG that takes its colours and fonts from the page, so that it follows light and dark."""

from __future__ import annotations

import io
import re
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import AutoMinorLocator, MaxNLocator

FONT = "DejaVu Sans"
INK = "#010203"
MUTED = "#010204"
GRID = "#010205"
SERIES = ("#010206", "#010207", "#010208", "#010209", "#01020a", "#01020b")
"""Placeholders: the page's style sheet says which colour each one is."""

_VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    GRID: "--grid",
    **{colour: f"--series-{number}" for number, colour in enumerate(SERIES, start=1)},
}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "carten",
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
    """A matplotlib figure that ends as SVG.

    Use as a context manager: what is drawn inside has the style of the report, and nothing outside changes.
    """

    def __init__(self, width: float, height: float, panels: int = 1, columns: int = 2) -> None:
        self._context = mpl.rc_context(_STYLE)
        self.size = (width, height)
        self.panels = panels
        self.columns = min(columns, panels)

    def __enter__(self) -> Drawing:
        self._context.__enter__()
        self.figure = Figure(figsize=self.size, layout="constrained")
        grid = self.figure.subplots(-(-self.panels // self.columns), self.columns, squeeze=False).ravel()
        self.axes: list[Axes] = list(grid[: self.panels])
        for axes in grid[self.panels :]:
            axes.set_visible(False)
        for axes in self.axes:
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_locator(MaxNLocator(5))
            axes.xaxis.set_minor_locator(AutoMinorLocator(2))
        return self

    def __exit__(self, *failure: object) -> None:
        self._context.__exit__(None, None, None)

    def svg(self, description: str) -> str:
        """The figure as an SVG element; ``description`` is what a screen reader says."""
        buffer = io.StringIO()
        self.figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return _adapt(buffer.getvalue(), description)


def _adapt(svg: str, description: str) -> str:
    """Placeholders become the page's colours; headers, sizes and ids that would repeat on the page go."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style).*?</\1>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[A-Za-z0-9.]+_\d+"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', rf'\1 role="img" aria-label="{escape(description)}"', svg, count=1)
    svg = svg.replace(f"'{FONT}'", "var(--font)")
    for placeholder, variable in _VARIABLES.items():
        svg = svg.replace(placeholder, f"var({variable})")
    return svg
