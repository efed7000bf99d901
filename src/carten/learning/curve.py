"""The learning curve of active learning: a row for each round, as numbers, a table, a picture and files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from matplotlib.figure import Figure

from carten.learning.exploration import DynamicsOutcome
from carten.math.arrays import Array
from carten.workflows.results import JobResult, Quantity

NAN = float("nan")
NAMES = {
    "labels": "labels",
    "minutes": "training (min)",
    "validation": "held out (meV/Å)",
    "energy": "held out (meV/atom)",
    "new": "new (meV/Å)",
    "test": "test (meV/Å)",
    "survived": "dynamics (ps)",
}
"""Titles of columns: errors are RMSE of forces in meV/Å, of energies in meV/atom."""


@dataclass(frozen=True)
class Round:
    """One round: a model, and what came of using it.

    Args:
        labels: structures trained and validated on.
        minutes: of training.
        validation: RMSE of forces on the structures held out, meV/Å.
        energy: RMSE of energies on these, meV/atom.
        new: RMSE of forces on the structures selected with this model, before it has seen their labels, meV/Å; NaN in
            the last round.
        test: RMSE of forces on the test set, meV/Å; NaN without one.
        survived: time in ps that the shortest dynamics of the round lasted, until it exploded or a criterion was met;
            NaN without dynamics.
    """

    labels: int
    minutes: float
    validation: float
    energy: float
    new: float = NAN
    test: float = NAN
    survived: float = NAN


class LearningCurve(JobResult):
    """Rounds of active learning, the final model, and its proof if one was asked for."""

    job: ClassVar[str] = "learn"

    def __init__(
        self,
        rounds: Sequence[Round],
        proof: DynamicsOutcome | None = None,
        remarks: Sequence[str] = (),
        model: Path | None = None,
    ) -> None:
        self.rounds = tuple(rounds)
        self.proof = proof
        self.remarks = list(remarks)
        self.model = model

    def quantities(self) -> list[Quantity]:
        """Those of the final model."""
        last = self.rounds[-1]
        values = [
            Quantity("labels", last.labels),
            Quantity("forces RMSE, validation", last.validation, "meV/Å"),
            Quantity("energy RMSE, validation", last.energy, "meV/atom"),
        ]
        if not np.isnan(last.test):
            values.append(Quantity("forces RMSE, test", last.test, "meV/Å"))
        if self.proof is not None:
            values.append(Quantity(f"dynamics at {self.proof.temperature:g} K", self.proof.picoseconds, "ps"))
        return values

    def columns(self) -> dict[str, Array]:
        """A column for each entry of :class:`Round`, by title."""
        return {title: np.array([getattr(entry, name) for entry in self.rounds]) for name, title in NAMES.items()}

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        return {"rounds": self.columns()}

    def warnings(self) -> list[str]:
        return self.remarks

    def failures(self) -> list[str]:
        return [] if self.proof is None or self.proof.complete else [self.proof.reason]

    def draw(self, figure: Figure) -> None:
        """Errors of forces over the number of labels."""
        axes = figure.subplots()
        labels = [entry.labels for entry in self.rounds]
        shown = {"test": "test", "new": "new structures, before training", "validation": "validation"}
        for k, (name, title) in enumerate(shown.items()):
            values = np.array([getattr(entry, name) for entry in self.rounds])
            if np.isfinite(values).any():
                axes.plot(labels, values, "o-", color=f"C{k}", label=title)
        axes.set(xlabel="labelled structures", ylabel="RMSE of forces (meV/Å)", yscale="log")
        axes.legend()
