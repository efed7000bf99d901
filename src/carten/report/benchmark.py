"""The page of a benchmark: lights, what they mean, what to do, and the curves behind them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from matplotlib.figure import Figure

import carten
from carten.drawing import Drawing
from carten.report.document import PageHead, Section, assemble_page
from carten.report.figures import Picture
from carten.report.sections import LIGHTS, Headline, HtmlTable, Line
from carten.report.words import job_words
from carten.text import number
from carten.workflows.benchmark import DRAWN, Benchmark, draw_pairs, draw_run
from carten.workflows.criteria import CRYSTALS, DYNAMICS, MOLECULES, PAIRS, SECTIONS, Check, Light


def benchmark_page(result: Benchmark, date: str | None = None) -> str:
    """The HTML of a benchmark; no part of it is requested from the network.

    Args:
        result: checks and curves.
        date: of the page; now by default.
    """
    head = PageHead(
        subject=result.subject,
        about="physical checks",
        facts=[*result.subjects, f"{len(result.checks)} checks", f"carten {carten.__version__}"],
        version=carten.__version__,
        date=date or datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        headlines=[_headline(light, result.count(light)) for light in Light if result.count(light)],
        link="·",
    )
    sections = [_attention(result), *(_section(title, text, result) for title, text in SECTIONS.items())]
    return assemble_page(head, [section for section in sections if section.tables or section.text])


def _headline(light: Light, count: int) -> Headline:
    return Headline(str(light), [(str(count), "checks" if count != 1 else "check")], _class(light))


def _attention(result: Benchmark) -> Section:
    """What is red or amber, and what to do."""
    order = (Light.RED, Light.FAILED, Light.AMBER)
    concerns = [check for light in order for check in result.checks if check.light is light]
    if not concerns:
        return Section("What to look at", "attention", "Nothing: every check that applies is green.")
    advice = {check.criterion.name: check.criterion.advice for check in concerns}
    text = " ".join(["Red first.", *result.warnings()])
    return Section("What to look at", "attention", text, tables=[_table(concerns)], notes=list(advice.items()))


def _section(title: str, text: str, result: Benchmark) -> Section:
    checks = [check for check in result.checks if check.criterion.section == title]
    if not checks:
        return Section(title, title.lower())
    anchor = title.lower().replace(" ", "-")
    if all(check.light is Light.SKIPPED for check in checks):
        reasons = dict.fromkeys(check.remark for check in checks)
        return Section(title, anchor, f"{text} Skipped: {'; '.join(reasons)}.")
    meanings = {check.criterion.name: check.criterion for check in checks}
    notes = [(name, f"{each.meaning} Green, amber up to: {each.bounds}.") for name, each in meanings.items()]
    table = _matrix(checks) if title == PAIRS else _table(checks)
    return Section(title, anchor, text, _pictures(title, result), [table], notes=notes)


def _table(checks: Sequence[Check]) -> HtmlTable:
    """A row for each check."""
    rows = []
    for check in checks:
        cells = (check.criterion.name, check.subject, _value(check), check.criterion.bounds, check.remark)
        rows.append(Line(cells, lights=(_class(check.light), "", "", "", "")))
    return HtmlTable("", ("Check", "Of", "Value", "Green, amber up to", "Remark"), rows, 5, lights=True)


def _matrix(checks: Sequence[Check]) -> HtmlTable:
    """A row for each pair, a column for each check."""
    names = list(dict.fromkeys(check.criterion.name for check in checks))
    rows = []
    for subject in dict.fromkeys(check.subject for check in checks):
        by_name = {check.criterion.name: check for check in checks if check.subject == subject}
        cells = [_value(by_name[name]) if name in by_name else "" for name in names]
        lights = [_class(by_name[name].light) if name in by_name else "" for name in names]
        concerns = [each.remark for each in by_name.values() if each.light is not Light.GREEN and each.remark]
        rows.append(Line((subject, *cells, "; ".join(dict.fromkeys(concerns))), lights=("", *lights, "")))
    return HtmlTable("", ("Pair", *names, "Remark"), rows, len(names) + 2, lights=True)


def _value(check: Check) -> str:
    if math.isnan(check.value):
        return str(check.light) if check.light in (Light.SKIPPED, Light.FAILED) else "impossible"
    if abs(check.value) < 1e-3 * check.criterion.green:
        return "≈ 0"
    return f"{number(check.value)} {check.criterion.unit}".rstrip()


def _pictures(title: str, result: Benchmark) -> list[Picture]:
    drawings: list[tuple[str, str, Callable[[Figure], None]]] = []
    if title == PAIRS:
        for part in range(0, len(result.curves), DRAWN):
            curves = result.curves[part : part + DRAWN]
            caption = "Energy of two atoms over their distance, relative to atoms far apart."
            drawings.append((f"pairs-{part}", caption, partial(draw_pairs, curves=curves)))
    elif title in (CRYSTALS, MOLECULES):
        for subject, each in result.results:
            if (each.job == "vibrations") is (title == MOLECULES):
                drawings.append((f"{each.job}-{subject}", f"{subject}: {job_words(each.job).caption}.", each.draw))
    elif title == DYNAMICS:
        for run in result.runs:
            caption = "temperature" if run.name.endswith("heating") else "conserved energy"
            name = run.name.replace(", ", "-")
            drawings.append((name, f"{run.name}: {caption}.", partial(draw_run, run=run)))
    return [_picture(*drawing) for drawing in drawings]


def _picture(name: str, caption: str, draw: Callable[[Figure], None]) -> Picture:
    with Drawing() as drawing:
        draw(drawing.figure)
        return Picture(name, drawing.svg(caption), caption)


def _class(light: Light) -> str:
    return LIGHTS[str(light)]
