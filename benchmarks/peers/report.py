"""Tables and figures of the results, written into the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.peers.catalogue import CHANNELS, CODES, PAPER

Record = dict[str, Any]

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "benchmarks.md"
BEGIN, END = "<!-- results begin: written by benchmarks.peers -->", "<!-- results end -->"
NAMES = [code.name for code in CODES]
COLOURS = dict(
    zip(
        NAMES,
        ["#d1495b", "#2e4057", "#66a182", "#edae49", "#8d6a9f", "#5fa8d3", "#1b6ca8", "#9a8c98", "#4a4e69"],
        strict=True,
    )
)


def report(results: Path) -> None:
    """Write the tables into the page of the documentation, and the figures beside it."""
    records: list[Record] = json.loads(results.read_text())
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(f"{before}{BEGIN}\n{tables(records)}\n{END}{after}", encoding="utf-8")
    by_size(records, DOCS / "images" / "benchmark_size.svg")
    by_rank_and_order(records, DOCS / "images" / "benchmark_scan.svg")


def tables(records: Sequence[Record]) -> str:
    """All tables as Markdown."""
    inference = [record for record in records if record["kind"] == "infer"]
    training = [record for record in records if record["kind"] == "train"]
    parts = [_machine(records)]
    if inference:
        parts += ["### Energy and forces, µs per atom", _table(inference, _time)]
        parts += ["### Peak memory, MiB", _table(inference, _memory)]
    if training:
        parts += ["### One training step, ms", _table(training, _step), "### Peak memory of training, MiB"]
        parts += [_table(training, _memory)]
    parts += ["### Versions and settings", _versions(records)]
    return "\n\n".join(parts)


def by_size(records: Iterable[Record], path: Path) -> None:
    """µs per atom against the number of atoms."""
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    found = [record for record in records if record["kind"] == "infer"]
    for name in NAMES:
        own = sorted((r["n_atoms"], r["us_per_atom"]) for r in found if r["model"] == name and "us_per_atom" in r)
        _line(axes, name, [n for n, _ in own], [time for _, time in own])
    axes.set(xscale="log", yscale="log", xlabel="atoms", ylabel="µs per atom, energy and forces")
    sizes = sorted({record["n_atoms"] for record in found})
    axes.set_xticks(sizes, [str(size) for size in sizes], minor=False)
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", frameon=False)
    figure.savefig(path, metadata={"Date": None})


def by_rank_and_order(records: Iterable[Record], path: Path) -> None:
    """µs per atom against L and against ν, for each number of channels."""
    figure = Figure(figsize=(7.5, 5.5), layout="constrained")
    grid = figure.subplots(len(CHANNELS), 2, sharey="row", squeeze=False)
    found = [record for record in records if record["kind"] == "scan"]
    for row, channels in zip(grid, CHANNELS, strict=True):
        for name in NAMES:
            own = [r for r in found if r["model"] == name and r["settings"]["channels"] == channels]
            _line(row[0], name, *_against(own, "l_features", {"correlation": PAPER.correlation}))
            _line(row[1], name, *_against(own, "correlation", {"l_edges": PAPER.l_edges, "l_features": 2}))
        row[0].set(yscale="log", ylabel=f"µs per atom, {channels} channels")
        for axes in row:
            axes.grid(alpha=0.3)
            axes.xaxis.get_major_locator().set_params(integer=True)
    grid[-1][0].set_xlabel("L = l_max, at ν = 3")
    grid[-1][1].set_xlabel("ν, at L = 2 and l_max = 3")
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels) or 1, frameon=False)
    figure.savefig(path, metadata={"Date": None})


def _against(records: Iterable[Record], key: str, fixed: dict[str, int]) -> tuple[list[int], list[float]]:
    """Times along one axis of the scan."""
    along = [r for r in records if "us_per_atom" in r and _on_axis(r["settings"], key, fixed)]
    points = sorted((r["settings"][key], r["us_per_atom"]) for r in along)
    return [x for x, _ in points], [y for _, y in points]


def _on_axis(size: dict[str, int], key: str, fixed: dict[str, int]) -> bool:
    if key == "l_features" and size["l_edges"] != size["l_features"]:
        return False
    return all(size[name] == value for name, value in fixed.items())


def _line(axes: Axes, name: str, x: Sequence[int], y: Sequence[float]) -> None:
    if len(x):
        width = 2.5 if name == "carten" else 1.3
        axes.plot(x, y, marker="o", markersize=4, linewidth=width, color=COLOURS[name], label=name)


def _machine(records: Sequence[Record]) -> str:
    machines = ", ".join(sorted({record["machine"] for record in records}))
    threads = ", ".join(sorted({str(record["threads"]) for record in records}))
    return f"Processor: {machines}; {threads} threads; float32."


def _table(records: Sequence[Record], cell: Any) -> str:
    """One row per code and one column per structure, smallest first."""
    columns = sorted({(record["n_atoms"], record["system"]) for record in records})
    names = [name for name in NAMES if any(record["model"] == name for record in records)]
    lines = ["| | " + " | ".join(f"{system}, {size} atoms" for size, system in columns) + " |"]
    lines.append("|---|" + "---:|" * len(columns))
    for name in names:
        cells = [_find(records, name, column) for column in columns]
        own = [_find(records, "carten", column) for column in columns]
        texts = [cell(record, reference) for record, reference in zip(cells, own, strict=True)]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    return "\n".join(lines)


def _find(records: Iterable[Record], name: str, column: tuple[int, str]) -> Record:
    found = [r for r in records if r["model"] == name and (r["n_atoms"], r["system"]) == column]
    return found[0] if found else {}


def _time(record: Record, carten: Record) -> str:
    return _with_ratio(record, carten, "us_per_atom", 1.0)


def _memory(record: Record, carten: Record) -> str:
    return _with_ratio(record, carten, "peak_memory_mb", 1.0)


def _step(record: Record, carten: Record) -> str:
    return _with_ratio(record, carten, "us_per_atom", 1e-3 * record.get("n_atoms", 0))


def _with_ratio(record: Record, carten: Record, key: str, factor: float) -> str:
    """A value and how many times carten's it is."""
    if key not in record:
        return str(record.get("error", "–"))[:40].replace("|", " ")
    value = f"{factor * record[key]:.3g}" if factor * record[key] < 100 else f"{factor * record[key]:.0f}"
    if record["model"] == "carten" or key not in carten:
        return value
    return f"{value} ({record[key] / carten[key]:.1f} ×)"


def _versions(records: Sequence[Record]) -> str:
    lines = ["| code | version | differs from the common settings in |", "|---|---|---|"]
    for name in NAMES:
        own = [record for record in records if record["model"] == name and record["version"]]
        if own:
            lines.append(f"| {name} | {own[0]['version']} | {own[0]['note']} |")
    return "\n".join(lines)
