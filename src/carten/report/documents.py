"""JSON files that carten writes, read back: the result of a job, errors, a calibration, or timings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, model_validator

from carten.errors import DataError
from carten.uncertainty.quality import Quality
from carten.workflows.comparison import ErrorStatistics
from carten.workflows.speed import Timing

MAX_BYTES = 50_000_000
"""Of a JSON file that is read."""

Cell = bool | int | float | str | None


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True)


class Measured(_Document):
    """A number, a tensor or a word, with its unit."""

    value: Cell | list[Cell] | list[list[Cell]] | list[list[list[Cell]]]
    unit: str = ""


class JobDocument(_Document):
    """As :meth:`carten.workflows.results.JobResult.document` makes it."""

    job: str
    results: dict[str, Measured]
    tables: dict[str, dict[str, list[Cell]]] = {}
    warnings: list[str] = []
    failures: list[str] = []

    @model_validator(mode="after")
    def _equally_long(self) -> JobDocument:
        for name, columns in self.tables.items():
            if len(set(map(len, columns.values()))) > 1:
                raise ValueError(f"columns of the table {name} are not equally long")
        return self


class StoredErrors(_Document):
    """Errors of one property, and of what it consists of."""

    total: ErrorStatistics
    details: dict[str, ErrorStatistics] = {}
    uncertainty: Quality | None = None

    @model_validator(mode="before")
    @classmethod
    def _told_apart(cls, content: Any) -> Any:
        """Statistics by name, from the nested form of ``carten evaluate --json``."""
        if not isinstance(content, dict):
            return content
        total = {name: value for name, value in content.items() if not isinstance(value, dict)}
        single = {name.replace("_", " "): content[name] for name in ("per_atom", "sums") if name in content}
        nested = [content.get(name, {}) for name in ("parts", "elements")]
        if not all(isinstance(part, dict) for part in nested):
            raise ValueError("parts and elements map names to errors")
        details = {name: value for part in (single, *nested) for name, value in part.items()}
        return {"total": total, "details": details, "uncertainty": content.get("uncertainty")}


class ErrorsDocument(_Document):
    """As ``carten evaluate --json`` writes it."""

    model: str = ""
    data: list[str] = []
    structures: int
    properties: dict[str, StoredErrors]


class CalibrationDocument(_Document):
    """As ``carten calibrate --json`` writes it."""

    model: str
    units: dict[str, str] = {}
    scales: dict[str, float]
    before: dict[str, Quality]
    after: dict[str, Quality]


class SpeedDocument(_Document):
    """As ``carten speed --json`` writes it."""

    timings: list[Timing]

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, content: Any) -> Any:
        first = {name: value for name, value in content.items() if name != "compared"}
        compared = content.get("compared", [])
        if not isinstance(compared, list):
            raise ValueError("compared is a list of timings")
        return {"timings": [first, *compared]}


Document = JobDocument | ErrorsDocument | CalibrationDocument | SpeedDocument
_KEYS: Mapping[type[Document], frozenset[str]] = {
    JobDocument: frozenset({"job", "results"}),
    ErrorsDocument: frozenset({"structures", "properties"}),
    CalibrationDocument: frozenset({"scales", "before", "after"}),
    SpeedDocument: frozenset({"us_per_atom", "operators"}),
}
"""By which documents are told apart."""


def read_json(path: Path) -> Document | None:
    """What a JSON file holds; None if it is none of these documents.

    Raises:
        DataError: it is too large, no JSON, or a document of which something is missing or of the wrong type.
    """
    if (size := path.stat().st_size) > MAX_BYTES:
        raise DataError(f"{path}: {size / 1e6:.0f} MB of JSON are not read, at most {MAX_BYTES / 1e6:.0f} MB")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON, half-written perhaps: {error}") from error
    if not isinstance(content, dict):
        return None
    kind = next((kind for kind, keys in _KEYS.items() if keys <= content.keys()), None)
    if kind is None:
        return None
    try:
        return TypeAdapter[Document](kind).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}: {where and f'{where}: '}{first['msg']}, found {first['input']!r:.60}") from error
