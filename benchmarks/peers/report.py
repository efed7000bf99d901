"""Tables and figures of the results, written into the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.peers.catalogue import CHANNELS
from benchmarks.peers.records import Record, Records
from benchmarks.peers.tables import NAMES, OWN, axis, tables

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "benchmarks.md"
BEGIN, END = "<!-- results begin: written by benchmarks.peers -->", "<!-- results end -->"
COLOURS = (
    "#d1495b", "#e8909c", "#2e4057", "#66a182", "#edae49", "#8d6a9f", "#5fa8d3", "#1b6ca8", "#9a8c98", "#4a4e69",
)  # fmt: skip


def report(results: Path) -> None:
    """Write the tables into the page of the documentation, and the figures beside it."""
    records = Records(results).all
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{tables(records)}\n{END}{after}", encoding="utf-8")
    by_size(records, DOCS / "images" / "benchmark_size.svg")
    by_rank_and_order(records, DOCS / "images" / "benchmark_scan.svg")


def by_size(records: Iterable[Record], path: Path) -> None:
    """µs per atom against the number of atoms."""
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    found = [record for record in records if record["kind"] == "infer"]
    for name in NAMES:
        own = sorted((r["n_atoms"], r["us_per_atom"]) for r in found if r["model"] == name and "us_per_atom" in r)
        _line(axes, name, [n for n, _ in own], [time for _, time in own])
    axes.set(xscale="log", yscale="log", xlabel="atoms", ylabel="µs per atom, energy and forces")
    sizes = {record["n_atoms"]: record["system"] for record in found}
    axes.set_xticks(list(sizes), [f"{size}\n{system}" for size, system in sizes.items()], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    _save(figure, path)


def by_rank_and_order(records: Iterable[Record], path: Path) -> None:
    """µs per atom against L and against ν, for each number of channels."""
    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    grid = figure.subplots(len(CHANNELS), 2, sharey="row", squeeze=False)
    found = [record for record in records if record["kind"] == "scan" and "us_per_atom" in record]
    for row, channels in zip(grid, CHANNELS, strict=True):
        for name in NAMES:
            own = [r for r in found if r["model"] == name and r["settings"]["channels"] == channels]
            _line(row[0], name, *_against(own, "l_features"))
            _line(row[1], name, *_against(own, "correlation"))
        row[0].set(yscale="log", ylabel=f"µs per atom, {channels} channels")
        for axes in row:
            axes.grid(alpha=0.3)
            axes.xaxis.get_major_locator().set_params(integer=True)
    grid[-1][0].set_xlabel("L = l_max, at ν = 3")
    grid[-1][1].set_xlabel("ν, at L = 2 and l_max = 3")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels) or 1, frameon=False)
    _save(figure, path)


def _against(records: Sequence[Record], key: str) -> tuple[list[int], list[float]]:
    points = sorted((record["settings"][key], record["us_per_atom"]) for record in axis(records, key))
    return [x for x, _ in points], [y for _, y in points]


def _line(axes: Axes, name: str, x: Sequence[int], y: Sequence[float]) -> None:
    if len(x):
        colour = COLOURS[NAMES.index(name)]
        axes.plot(x, y, marker="o", markersize=4, linewidth=2.5 if name == OWN else 1.3, color=colour, label=name)


def _save(figure: Figure, path: Path) -> None:
    """Without what differs from run to run."""
    figure.savefig(path, metadata={"Date": None})
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
