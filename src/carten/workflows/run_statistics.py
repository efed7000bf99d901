"""Statistics over results of the same job: means and standard errors of their numbers and tables."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
from matplotlib.figure import Figure

from carten.math.arrays import Array, Floats
from carten.workflows.results import JobResult, Quantity

Result = TypeVar("Result", bound=JobResult)
PANELS = 6
"""Columns that a picture shows."""


@dataclass(frozen=True)
class RunStatistics(JobResult, Generic[Result]):
    """Independent runs of one job, such as replicas of dynamics.

    Args:
        names: of the runs.
        results: of the runs.
        lost: why others have none, by name.
    """

    names: tuple[str, ...]
    results: tuple[Result, ...]
    lost: Mapping[str, str] = field(default_factory=dict)

    @property
    def job(self) -> str:  # type: ignore[override]  # that of the results
        return self.results[0].job

    @property
    def numbers(self) -> dict[tuple[str, str], Floats]:
        """(runs,) numbers by name and unit, of those that all runs have."""
        every = [{(name, unit): value for name, value, unit in result.quantities()} for result in self.results]
        return {
            key: np.array([values[key] for values in every], dtype=np.float64)
            for key, first in every[0].items()
            if _is_number(first) and all(_is_number(values.get(key)) for values in every)
        }

    def quantities(self) -> list[Quantity]:
        listed = [Quantity("runs", len(self.results))]
        for (name, unit), values in self.numbers.items():
            listed.append(Quantity(name, float(values.mean()), unit))
            if len(values) > 1:
                listed.append(Quantity(f"{name}, standard error", _error(values).item(), unit))
        return listed

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        runs = {f"{name} {unit}".strip(): values for (name, unit), values in self.numbers.items()}
        return {"runs": {"run": np.array(self.names, dtype=object), **runs}, **dict(self._means())}

    def _means(self) -> Iterator[tuple[str, dict[str, Array]]]:
        """Tables whose first columns agree, as means and standard errors of the others."""
        tables = [result.tables() for result in self.results]
        for name, columns in tables[0].items():
            rivals = [table.get(name, {}) for table in tables]
            first = next(iter(columns))
            if len(rivals) < 2 or not all(_agree(columns, rival, first) for rival in rivals):
                continue
            means: dict[str, Array] = {first: columns[first]}
            for heading in (heading for heading in columns if heading != first and "error" not in heading):
                values = np.array([rival[heading] for rival in rivals])
                means |= {heading: values.mean(axis=0), f"{heading}, standard error": _error(values)}
            yield name, means

    def failures(self) -> list[str]:
        lost = [f"{name}: {reason}" for name, reason in self.lost.items()]
        each = zip(self.names, self.results, strict=True)
        return lost + [f"{name}: {failure}" for name, result in each for failure in result.failures()]

    def warnings(self) -> list[str]:
        each = zip(self.names, self.results, strict=True)
        return [f"{name}: {warning}" for name, result in each for warning in result.warnings()]

    def draw(self, figure: Figure) -> None:
        means = next(self._means(), None)
        if means is None:
            figure.subplots().axis("off")
            return
        first, *headings = [heading for heading in means[1] if not heading.endswith(", standard error")]
        axes = figure.subplots()
        for number, heading in enumerate(headings[:PANELS]):
            values, error = means[1][heading], means[1][f"{heading}, standard error"]
            axes.plot(means[1][first], values, color=f"C{number}", linewidth=1.2, label=heading)
            axes.fill_between(
                means[1][first], values - error, values + error, color=f"C{number}", alpha=0.25, linewidth=0.0
            )
        axes.set(xlabel=first, ylabel=means[0])
        axes.legend(fontsize=8.0)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and math.isfinite(value)


def _error(values: Floats) -> Floats:
    """Standard error of the mean over the first axis."""
    return np.asarray(values.std(axis=0, ddof=1) / math.sqrt(len(values)))


def _agree(columns: Mapping[str, Array], rival: Mapping[str, Array], first: str) -> bool:
    if set(rival) != set(columns) or any(np.asarray(column).dtype.kind not in "fi" for column in columns.values()):
        return False
    one, other = np.asarray(columns[first], dtype=np.float64), np.asarray(rival[first], dtype=np.float64)
    return one.shape == other.shape and bool(np.allclose(one, other))
