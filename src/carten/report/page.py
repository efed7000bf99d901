"""One self-contained HTML page about one evaluation."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from carten.data.labels import Frame
from carten.report.document import PageHead, Section, assemble_page, packed, plain_name
from carten.report.figures import Picture, pictures
from carten.report.scenes import error_scene
from carten.report.sections import (
    error_table,
    group_errors,
    group_errors_table,
    headlines,
    sets_table,
    structure_name,
    worst_table,
)
from carten.report.tabular import values_table
from carten.report.uncertainty import uncertainty_pictures
from carten.text import clean
from carten.workflows.evaluate import Evaluation


@dataclass(frozen=True)
class EvaluatedData:
    """Structures and the errors of a model on them.

    Args:
        frames: the structures.
        evaluation: of the model on them.
        groups: name of the group of each structure, e.g. its ``config_type``; by default that of its file.
    """

    frames: Sequence[Frame]
    evaluation: Evaluation
    groups: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not self.groups:
            files = [structure_name(frame).rpartition(", ")[0] for frame in self.frames]
            object.__setattr__(self, "groups", files)


@dataclass(frozen=True)
class ReportInfo:
    """What a report is about, besides the evaluations.

    Args:
        model: name of the model.
        data: name of the evaluated data.
        version: of carten.
        date: when the report was written.
        header: of the model file, shown at the end.
        curves: learning curves, and the text of the table behind them.
        n_worst: structures listed and shown in 3D.
    """

    model: str
    data: str
    version: str
    date: str
    header: Mapping[str, Any] = field(default_factory=dict)
    curves: tuple[Sequence[Picture], str] = ((), "")
    n_worst: int = 20


def page(info: ReportInfo, sets: Mapping[str, EvaluatedData]) -> str:
    """The report as HTML; no part of it is requested from the network.

    Args:
        info: names, date and model.
        sets: evaluated data by name, e.g. ``"test"``; the first is the subject, the others are shown beside it.
    """
    subject = next(iter(sets.values()))
    evaluation = subject.evaluation
    frames = {index: subject.frames[index] for index in evaluation.hardest(info.n_worst)}
    sections, tables = [_errors(info, sets)], {}
    for number, name in enumerate(evaluation.comparisons):
        section, table = _property(f"property-{number}", name, sets)
        sections.append(section)
        if table is not None:
            tables[section.pictures[0].table] = packed(table)
    if info.curves[0]:
        text = "Loss and validation errors over the epochs of training."
        sections.append(Section("Training", "training", text, pictures=info.curves[0]))
        tables[info.curves[0][0].table] = packed(info.curves[1])
    if frames:
        sections.append(_worst(frames, subject))
    if info.header:
        text = json.dumps(info.header, indent=2, ensure_ascii=False)
        sections.append(Section("Model", "model", preformatted=text))
    head = PageHead(info.model, info.data, _facts(info, evaluation), info.version, info.date, headlines(evaluation))
    return assemble_page(head, sections, tables)


def _facts(info: ReportInfo, evaluation: Evaluation) -> list[str]:
    return [
        f"{evaluation.n_structures:,} structures",
        f"{evaluation.n_atoms:,} atoms",
        f"carten {info.version}",
        info.date,
    ]


def _errors(info: ReportInfo, sets: Mapping[str, EvaluatedData]) -> Section:
    subject = next(iter(sets.values()))
    tables = [error_table(subject.evaluation)]
    validation = info.header.get("provenance", {}).get("validation", {})
    evaluations = {name: data.evaluation for name, data in sets.items()}
    if len(sets) > 1 or validation:
        tables.insert(0, sets_table(evaluations, validation))
    groups = {
        name: group_errors(subject.groups, comparison) for name, comparison in subject.evaluation.comparisons.items()
    }
    if any(len(errors) > 1 for errors in groups.values()):
        tables.append(group_errors_table(subject.evaluation, groups))
    return Section("Errors", "errors", tables=tables)


def _property(anchor: str, name: str, sets: Mapping[str, EvaluatedData]) -> tuple[Section, str | None]:
    """The section of a property, and the table of its values."""
    subject = next(iter(sets.values()))
    compared = {data: evaluated.evaluation.comparisons for data, evaluated in sets.items()}
    comparisons = {data: by_name[name] for data, by_name in compared.items() if name in by_name}
    groups = group_errors(subject.groups, comparisons[next(iter(sets))])
    shown = [*pictures(plain_name(name), comparisons, groups), *uncertainty_pictures(plain_name(name), comparisons)]
    names = {data: [structure_name(frame) for frame in evaluated.frames] for data, evaluated in sets.items()}
    table = values_table(name, {data: evaluated.evaluation for data, evaluated in sets.items()}, names)
    title = clean(name.replace("_", " ").capitalize(), 60)
    row = subject.evaluation.comparisons[name].row
    point = row.scope if row.rank == 0 else "Cartesian component"
    text = f"Every point is one {point}; where there are many, a stronger colour means more of them."
    return Section(title, anchor, text, pictures=shown), table


def _worst(frames: Mapping[int, Frame], subject: EvaluatedData) -> Section:
    text = (
        "Worst first, by the error relative to the mean over all structures. Choose one in the table to see it. Atoms "
        "are coloured by their error, arrows point along it."
    )
    table = worst_table(frames, subject.evaluation, subject.groups)
    scene = error_scene(frames, subject.evaluation.comparisons)
    return Section("Worst structures", "worst", text, tables=[table], scene=scene)
