"""What is said of single labels and inputs: ranges, outliers, symmetry, sum rules."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from carten.data.collection import Collection
from carten.data.findings import InputReport, LabelReport, Outlier
from carten.data.labels import Frame, Label
from carten.data.layouts import obeying
from carten.data.statistics import ReferenceEnergies
from carten.data.table import StructureTable
from carten.math.arrays import Array
from carten.model.conditions import Category, Input
from carten.physics.names import CHARGE, FIELD
from carten.properties.routes import NET_CHARGE, Property

OUTLIER = 8.0  # robust standard deviations
BROAD = 0.05  # with more outliers than this fraction, the distribution is broad and no structure stands out
SHOWN = 5


class LabelCollector:
    """What is said of a property, collected while frames pass by; a few numbers are kept of each."""

    def __init__(self, label: Label) -> None:
        self.label = label
        self.numbers = array("q")  # of the frames that carry it
        self._values = array("d")  # one for each, of which outliers are sought
        self._components = _Moments()
        self._asymmetry: tuple[float, int] | None = None
        total = getattr(label.row, "total", "")
        self._total = CHARGE if total == NET_CHARGE else str(total)
        self._sums = {name: (array("q"), array("d")) for name in ("", self._total)}
        self._zero = 0

    def add(self, number: int, frame: Frame) -> None:
        """Look at the frame of this number."""
        value = frame.labels.get(self.label.name)
        if value is None:
            return
        self.numbers.append(number)
        self._values.append(_compared(self.label.row, value, len(frame)))
        self._components.add(value)
        self._zero += len(frame) > 1 and not value.any()
        self._see_symmetry(number, value)
        if self._total:
            for name in {"", self._total}:
                if not name or name in frame.inputs:
                    rest = value.sum(axis=0) - _expected_sum(self.label.row, frame.inputs, name)
                    self._sums[name][0].append(number)
                    self._sums[name][1].append(float(np.linalg.norm(rest)))

    def energies(self) -> tuple[Array, Array]:
        """Numbers of frames, and their labels of one component."""
        return np.asarray(self.numbers), np.asarray(self._values)

    def report(self, collection: Collection, references: ReferenceEnergies | None) -> LabelReport:
        """What there is to say."""
        row, numbers = self.label.row, np.asarray(self.numbers)
        compared, values = _described(row), np.asarray(self._values)
        if row.name == "energy":
            table = collection.table
            values = values / table.n_atoms[numbers]
            if references is not None:
                compared = "energy per atom above the reference energies"
                values = values - _reference_per_atom(table, references)[table.composition[numbers]]
        n_outliers, worst = _outliers(values)
        outliers = (Outlier(collection.where(int(numbers[i])), float(values[i]), float(s)) for i, s in worst)
        asymmetry, at = self._asymmetry or (None, -1)
        total = self._total if len(self._sums[self._total][0]) and self._total in {*self._sums} else ""
        return LabelReport(
            name=self.label.name,
            key=self.label.file_key,
            unit=row.unit,
            carried=len(numbers),
            lowest=self._components.lowest,
            highest=self._components.highest,
            mean=self._components.mean,
            rms=self._components.rms,
            compared=compared,
            n_outliers=n_outliers,
            outliers=tuple(outliers),
            asymmetry=asymmetry,
            asymmetric=collection.where(at) if at >= 0 else "",
            sums=self._sum_rule(total, collection),
            total=total,
            zero=self._zero,
        )

    def _see_symmetry(self, number: int, value: Array) -> None:
        row = self.label.row
        reciprocal = isinstance(row, Property) and row.reciprocal
        if not reciprocal and (row.rank < 2 or "=" not in row.indices):
            return
        scale = float(np.sqrt(np.mean(value**2)))
        defect = float(np.abs(value - obeying(row, value)).max()) / scale if scale > 0.0 else 0.0
        if self._asymmetry is None:
            self._asymmetry = (0.0, -1)
        if defect > self._asymmetry[0]:
            self._asymmetry = (defect, number)

    def _sum_rule(self, total: str, collection: Collection) -> tuple[float, float, str] | None:
        numbers, lengths = (np.asarray(column) for column in self._sums[total])
        if not self._total or not len(lengths):
            return None
        largest = int(lengths.argmax())
        rms = float(np.sqrt(np.mean(lengths**2)))
        return rms, float(lengths[largest]), collection.where(int(numbers[largest]))


class InputCollector:
    """What is said of an input, collected while frames pass by."""

    def __init__(self, label: Label) -> None:
        self.label = label
        self.count = 0
        self._components = _Moments()
        self._categories: Counter[int] = Counter()

    def add(self, frame: Frame) -> None:
        """Look at a frame."""
        value = frame.inputs.get(self.label.name)
        if value is not None:
            self.count += 1
            self._components.add(value)
            if self._kind is not None:
                self._categories.update(int(index) for index in np.unique(value))

    @property
    def _kind(self) -> Category | None:
        row = self.label.row
        return row.embed if isinstance(row, Input) and isinstance(row.embed, Category) else None

    def report(self) -> InputReport:
        """What there is to say."""
        kind, label = self._kind, self.label
        values = () if kind is None else kind.values
        counts = tuple((value, self._categories[index]) for index, value in enumerate(values))
        low, high = self._components.lowest, self._components.highest
        return InputReport(label.name, label.file_key, label.row.unit, self.count, low, high, counts)


class _Moments:
    """Range, mean and root mean square of numbers that pass by."""

    def __init__(self) -> None:
        self.lowest, self.highest = np.inf, -np.inf
        self._count, self._sum, self._squares = 0, 0.0, 0.0

    def add(self, values: Array) -> None:
        values = values.astype(np.float64)
        self.lowest = min(self.lowest, float(values.min(initial=np.inf)))
        self.highest = max(self.highest, float(values.max(initial=-np.inf)))
        self._count += values.size
        self._sum += float(values.sum())
        self._squares += float((values**2).sum())

    @property
    def mean(self) -> float:
        return self._sum / max(self._count, 1)

    @property
    def rms(self) -> float:
        return float(np.sqrt(self._squares / max(self._count, 1)))


def _compared(row: Any, value: Array, n_atoms: int) -> float:
    """The number of which outliers are sought; energies before anything is subtracted."""
    if row.name == "energy":
        return float(value)
    if row.scope == "atom":
        return float(np.linalg.norm(value.reshape(len(value), -1), axis=1).max())
    size = float(value) if row.rank == 0 else float(np.linalg.norm(value))
    return size / n_atoms if row.extensive else size


def _described(row: Any) -> str:
    """The same in words."""
    if row.scope == "atom":
        return "largest value of an atom" if row.rank == 0 else "largest norm of an atom"
    return ("value" if row.rank == 0 else "norm") + (" per atom" if row.extensive else "")


def _reference_per_atom(table: StructureTable, references: ReferenceEnergies) -> Array:
    """Mean reference energy of the atoms of each composition, eV; 0 where no composition is used."""
    energies = np.zeros(table.compositions.shape[1])
    energies[list(references.values)] = list(references.values.values())
    means: Array = table.compositions @ energies / np.maximum(table.compositions.sum(axis=1), 1)
    return means


def _outliers(values: Array) -> tuple[int, list[tuple[int, float]]]:
    """How many, and the worst with their scores."""
    distance = np.abs(values - np.median(values))
    scale = 1.4826 * float(np.median(distance))
    if scale <= 1e-12 * float(np.abs(values).max(initial=0.0)):  # more than half of all values are equal
        return 0, []
    scores = distance / scale
    beyond = int(np.count_nonzero(scores > OUTLIER))
    shown = min(beyond, SHOWN) if beyond <= max(1, BROAD * len(values)) else 0
    return beyond, [(int(i), float(scores[i])) for i in np.argsort(-scores, kind="stable")[:shown]]


def _expected_sum(row: Any, inputs: Mapping[str, Array], total: str) -> Array | float:
    """What labels of atoms add up to: a field pulls on a structure by its total charge."""
    if row.name == "forces" and CHARGE in inputs and FIELD in inputs:
        return np.asarray(inputs[CHARGE][0] * inputs[FIELD][0])
    if not total:
        return 0.0
    return np.asarray(inputs[total][0] * (np.eye(3) if row.rank == 2 else 1.0))
