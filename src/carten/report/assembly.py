"""From the results of an evaluation to the text of its report."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import carten
from carten.properties.rows import load_property
from carten.report.curves import learning_curves
from carten.report.page import EvaluatedData, ReportInfo, page


def evaluation_report(
    model: str, data: str, header: Mapping[str, Any], sets: Mapping[str, EvaluatedData], metrics: Path | None = None
) -> str:
    """The HTML of a report, with today's date.

    Args:
        model: name of the model.
        data: name of the data.
        header: of the model file.
        sets: evaluated data by name, e.g. ``"test"``; the first is the subject, the others are shown beside it.
        metrics: ``metrics.csv`` of the training run, for learning curves.

    Raises:
        DataError: ``metrics`` is not such a table.
    """
    rows = {row["name"]: load_property(row) for row in header["properties"]}
    curves = ((), "") if metrics is None else (learning_curves(metrics, rows), metrics.read_text(encoding="utf-8"))
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return page(ReportInfo(model, data, carten.__version__, date, header, curves), sets)
