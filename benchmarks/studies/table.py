"""The table of results in the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.studies.study import Published, Study, names, read_study

PAGE = Path(__file__).resolve().parents[2] / "docs" / "studies.md"
BEGIN, END = "<!-- results begin: written by benchmarks.studies -->", "<!-- results end -->"


def write_table(results: Path) -> None:
    """Write the results into the page of the documentation."""
    found: dict[str, Any] = json.loads(results.read_text(encoding="utf-8"))
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    sections = [section(read_study(name), found[name]) for name in names() if name in found]
    PAGE.write_text("\n\n".join([f"{before}{BEGIN}", *sections, f"{END}{after}"]), encoding="utf-8")


def section(study: Study, runs: dict[str, Any]) -> str:
    """Title, facts, table and note of one study."""
    header = ["run", "property", "RMSE", "MAE", "mean predictor RMSE", "MAE", "published"]
    rows = [row for variant, found in _named(study, runs) for row in _rows(study, variant, found)]
    lines = [f"## {study.title}", "", study.source, "", *map(_facts, _named(study, runs)), ""]
    lines += [_line(header), _line(["---"] * len(header)), *map(_line, rows)]
    return "\n".join([*lines, *(["", study.note.strip()] if study.note else [])])


def _named(study: Study, runs: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((variant, runs[variant]) for variant in study.variants if variant in runs)


def _facts(run: tuple[str, dict[str, Any]]) -> str:
    name, found = run
    return (
        f"- {f'{name}: ' if name else ''}{found['train']} frames for training, {found['validation']} for validation, "
        f"{found['test']} held out; {found['network']}, {found['parameters']:,} parameters; "
        f"{found['epochs']} epochs, {found['cpu_minutes']:g} minutes of one core"
    )


def _rows(study: Study, variant: str, run: dict[str, Any]) -> Iterator[list[str]]:
    for name, error in run["properties"].items():
        published = "; ".join(_published(p) for p in study.published if p.property == name)
        yield [variant, *_cells(name, error, error["unit"]), published]
        for part, of in error.get("parts", {}).items():
            yield [variant, *_cells(f"{name}, {part}", of, error["unit"]), ""]


def _cells(name: str, error: dict[str, Any], unit: str) -> list[str]:
    trivial = error["mean_predictor"]
    values = [error["rmse"], error["mae"], trivial["rmse"], trivial["mae"]]
    return [f"{name}, {unit}" if unit else name, *(f"{value:.3g}" for value in values)]


def _published(published: Published) -> str:
    return f"{published.error.upper()} {published.value:g} {published.unit} ({published.by})"


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
