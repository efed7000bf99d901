"""One self-contained HTML page about one evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

from carten.data.labels import Frame
from carten.report.figures import by_element, parity
from carten.report.text import number, unit
from carten.report.viewer import viewer
from carten.workflows.comparison import Comparison, Statistics
from carten.workflows.evaluate import Evaluation

_COLUMNS = ("RMSE", "MAE", "Max", "Bias", "Spread", "Values")


@dataclass(frozen=True)
class Subject:
    """What a report is about, beside the evaluation.

    Args:
        model: name of the model.
        data: name of the data.
        facts: further facts by name, for the first lines.
        header: the model file's header, shown at the end.
        curves: learning curves as SVG, or empty.
        frames: the hardest structures by position in the data, worst first.
    """

    model: str
    data: str
    facts: Mapping[str, str] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)
    curves: str = ""
    frames: Mapping[int, Frame] = field(default_factory=dict)


def page(subject: Subject, evaluation: Evaluation) -> str:
    """The report as HTML: no part of it is asked from the network."""
    sections = [
        _head(subject, evaluation),
        _section("Errors", _table(evaluation)),
        *(_property(comparison) for comparison in evaluation.comparisons.values()),
        _section("Training", _figure(subject.curves, "Errors on the training and validation sets over the run."))
        if subject.curves
        else "",
        _hardest(subject, evaluation),
        _model(subject),
        _FOOTER,
    ]
    style = resources.files("carten.report").joinpath("page.css").read_text(encoding="utf-8")
    title = f"{escape(subject.model)} on {escape(subject.data)}"
    return _PAGE.format(title=title, style=style, body="\n".join(filter(None, sections)))


def _head(subject: Subject, evaluation: Evaluation) -> str:
    facts = {"structures": f"{evaluation.n_structures:,}", "atoms": f"{evaluation.n_atoms:,}", **subject.facts}
    line = " · ".join(f"{escape(value)} {escape(name)}" for name, value in facts.items())
    figures = "".join(_headline(comparison) for comparison in evaluation.comparisons.values())
    return (
        f"<header><h1>{escape(subject.model)} <span class='muted'>on</span> {escape(subject.data)}</h1>"
        f"<p class='muted'>{line}</p><dl class='figures'>{figures}</dl></header>"
    )


def _headline(comparison: Comparison) -> str:
    """The root mean square error, per atom as well where the property grows with the structure."""
    values = filter(None, (comparison.total(), comparison.per_atom()))
    shown = "".join(f"<dd>{number(value.rmse)} <small>{unit(value.unit)}</small></dd>" for value in values)
    return f"<div><dt>RMSE of {escape(comparison.row.name)}</dt>{shown}</div>"


def _table(evaluation: Evaluation) -> str:
    rows: list[str] = []
    for name, comparison in evaluation.comparisons.items():
        rows.append(_row(name, comparison.total()))
        rows += [_row(what, statistics, part=True) for what, statistics in comparison.details()]
    head = "".join(f"<th scope='col'>{text}</th>" for text in _COLUMNS)
    head = f"<th scope='col'>Property</th><th scope='col' class='left'>Unit</th>{head}"
    return (
        "<div class='card wide'><table><caption>Errors are predicted minus reference, over all components. Spread is "
        "the standard deviation of the reference: the RMSE of a model that knows only the mean.</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _row(name: str, statistics: Statistics, part: bool = False) -> str:
    values = (statistics.rmse, statistics.mae, statistics.max, statistics.bias, statistics.spread)
    cells = "".join(f"<td>{number(value)}</td>" for value in values)
    kind = " class='part'" if part else ""
    return (
        f"<tr{kind}><th scope='row'>{escape(name)}</th><td class='left'>{unit(statistics.unit)}</td>{cells}"
        f"<td>{statistics.count:,}</td></tr>"
    )


def _property(comparison: Comparison) -> str:
    name = comparison.row.name
    body = _figure(parity(comparison), "Every component is a point; where they are many, stronger colour means more.")
    if comparison.row.scope == "atom":
        body += _figure(
            by_element(comparison),
            "Dot: median. Thick: middle half. Thin: 5 % to 95 %. Bar at the right: the largest.",
        )
    return _section(name.replace("_", " ").capitalize(), body)


def _hardest(subject: Subject, evaluation: Evaluation) -> str:
    if not subject.frames:
        return ""
    text = (
        "<p class='muted'>Worst first, by the error relative to the mean over all structures. Atoms are coloured by "
        "their error, arrows point along it. Drag to turn, scroll to zoom, use the slider for the next one.</p>"
    )
    shown = viewer(subject.frames, evaluation.comparisons)
    listed = _list(subject.frames, evaluation)
    return _section("Hardest structures", f"{text}<div class='card'>{shown}</div>{listed}")


def _list(frames: Mapping[int, Frame], evaluation: Evaluation) -> str:
    columns = {}
    for name, comparison in evaluation.comparisons.items():
        where = comparison.row.report_unit + ("/atom" if comparison.row.extensive else "")
        columns[f"{escape(name)} ({unit(where)})"] = comparison.by_structure()
    head = "".join(f"<th scope='col'>{name}</th>" for name in columns)
    rows = ""
    for index, frame in frames.items():
        cells = (number(errors[index]) if index in errors else "no label" for errors in columns.values())
        where = escape(Path(frame.where).name)
        rows += f"<tr><td>{where}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
    return (
        "<div class='card wide'><table><caption>Root mean square errors of these structures.</caption>"
        f"<thead><tr><th scope='col'>Structure</th>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _model(subject: Subject) -> str:
    if not subject.header:
        return ""
    text = escape(json.dumps(subject.header, indent=2, ensure_ascii=False))
    body = f"<div class='card'><details><summary>Header of the model file</summary><pre>{text}</pre></details></div>"
    return _section("Model", body)


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _figure(svg: str, caption: str) -> str:
    return f"<figure class='card'>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


_FOOTER = (
    "<footer class='muted'>Written by carten. Everything on this page is inside this file: it can be sent and opened "
    "anywhere.</footer>"
)
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'unsafe-inline' 'unsafe-eval' data: blob:">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
