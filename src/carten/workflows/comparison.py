"""Errors of predictions: one comparison per property, in the unit its row reports, with every mean derived from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from ase.data import chemical_symbols

from carten.math.arrays import Floats
from carten.math.symmetry import decompose
from carten.properties.routes import NET_CHARGE, Property
from carten.uncertainty.quality import Quality

Integers = npt.NDArray[np.int64]

_PARTS = ("isotropic", "antisymmetric", "traceless")


@dataclass(frozen=True)
class ErrorStatistics:
    """Statistics of errors ``e = predicted - reference`` over ``count`` components.

    ``rmse = sqrt(mean e^2)``, ``mae = mean |e|``, ``max = max |e|``, ``bias = mean e``, in ``unit``;
    ``spread = sqrt(mean (x - mean x)^2)`` of the references is the RMSE of predicting their mean.
    """

    unit: str
    count: int
    rmse: float
    mae: float
    max: float
    bias: float
    spread: float

    @classmethod
    def of(cls, reference: Floats, predicted: Floats, unit: str) -> ErrorStatistics:
        """ErrorStatistics over all components of two arrays of equal shape."""
        error = (predicted - reference).ravel()
        return cls(
            unit=unit,
            count=error.size,
            rmse=float(np.sqrt(np.mean(error**2))),
            mae=float(np.mean(np.abs(error))),
            max=float(np.max(np.abs(error))),
            bias=float(np.mean(error)),
            spread=float(np.sqrt(np.mean((reference - reference.mean(axis=0)) ** 2))),
        )


@dataclass(frozen=True)
class Comparison:
    """Labels of one property and what a model predicts for them.

    Args:
        row: the property.
        reference: (rows, components) labels, in ``row.report_unit``.
        predicted: (rows, components), in ``row.report_unit``.
        structure: (rows,) the structure of each row, as its position in the data.
        numbers: (rows,) atomic number of each row of an atom property, 0 for structures.
        sizes: (rows,) atoms of the row's structure.
        uncertainty: (rows,) of one component, in ``row.report_unit``; None where the model has none.
    """

    row: Property
    reference: Floats
    predicted: Floats
    structure: Integers
    numbers: Integers
    sizes: Integers
    uncertainty: Floats | None = None

    @property
    def error(self) -> Floats:
        """``predicted - reference``, (rows, components)."""
        return self.predicted - self.reference

    def total(self) -> ErrorStatistics:
        """Over all components of all rows."""
        return ErrorStatistics.of(self.reference, self.predicted, self.row.report_unit)

    @cached_property
    def quality(self) -> Quality | None:
        """How the uncertainties compare with the errors."""
        return None if self.uncertainty is None else Quality.of(self.error, self.uncertainty)

    def per_atom(self) -> ErrorStatistics | None:
        """Of values divided by the number of atoms, for an extensive property of structures."""
        if not self.row.extensive:
            return None
        sizes = self.sizes[:, None]
        return ErrorStatistics.of(self.reference / sizes, self.predicted / sizes, f"{self.row.report_unit}/atom")

    def details(self) -> Iterator[tuple[str, ErrorStatistics]]:
        """All that :meth:`total` is made of or leaves out, with names for people."""
        for name, statistics in (("per atom", self.per_atom()), ("sum of atoms", self.sums())):
            if statistics is not None:
                yield name, statistics
        yield from self.parts().items()
        yield from self.elements().items()

    def parts(self) -> dict[str, ErrorStatistics]:
        """Of the irreducible parts of tensors that have several: isotropic, antisymmetric, traceless for rank two.

        Each of the 2l + 1 numbers of a part is given as the largest Cartesian component it makes: a third of the trace,
        ``(T_xy - T_yx) / 2``, ``(T_xy + T_yx) / 2``, ..
        """
        decomposition = decompose(self.row.indices)
        if self.row.rank < 2 or sum(copies for _, copies in decomposition.parts) < 2:
            return {}
        reference, predicted = (
            decomposition.pack(values.reshape(-1, *self.row.shape)) for values in (self.reference, self.predicted)
        )
        statistics = {}
        for l, _ in decomposition.parts:
            name = _PARTS[l] if self.row.rank == 2 else f"rank {l}"
            size = np.abs(decomposition.basis(l)).max(axis=tuple(range(2, 2 + self.row.rank)))
            labels, values = ((size * part[l]).reshape(len(self.reference), -1) for part in (reference, predicted))
            statistics[name] = ErrorStatistics.of(labels, values, self.row.report_unit)
        return statistics

    def elements(self) -> dict[str, ErrorStatistics]:
        """By chemical element, for a property of atoms."""
        elements = np.unique(self.numbers[self.numbers > 0])
        return {chemical_symbols[number]: self.chosen(self.numbers == number).total() for number in elements}

    def sums(self) -> ErrorStatistics | None:
        """Of sums over the atoms of each structure, where a rule says what they are: zero, or the sums of the labels.

        Born charges that add up to the net charge, a whole number, obey the acoustic sum rule.
        """
        if not self.row.total:
            return None
        _, position = np.unique(self.structure, return_inverse=True)
        reference, predicted = (_added(values, position) for values in (self.reference, self.predicted))
        match self.row.total:
            case "zero":
                expected = np.zeros_like(reference)
            case total if total == NET_CHARGE:
                charges = np.round(reference.reshape(-1, 3, 3).trace(axis1=1, axis2=2) / 3)
                expected = (charges[:, None, None] * np.eye(3)).reshape(reference.shape)
            case _:
                expected = reference
        return ErrorStatistics.of(expected, predicted, self.row.report_unit)

    def by_structure(self) -> dict[int, float]:
        """Root mean square error of each structure, per atom where the property is extensive."""
        error = self.error / self.sizes[:, None] if self.row.extensive else self.error
        squared = np.mean(error**2, axis=1)
        structures, position = np.unique(self.structure, return_inverse=True)
        mean = np.bincount(position, weights=squared) / np.bincount(position)
        return {int(index): float(value) for index, value in zip(structures, np.sqrt(mean), strict=True)}

    def chosen(self, rows: npt.NDArray[np.bool_]) -> Comparison:
        """Of some of the rows."""
        return Comparison(
            self.row,
            self.reference[rows],
            self.predicted[rows],
            self.structure[rows],
            self.numbers[rows],
            self.sizes[rows],
            None if self.uncertainty is None else self.uncertainty[rows],
        )

    def by_group(self, groups: Sequence[str]) -> dict[str, Comparison]:
        """By the group of the structure, in the order of their names.

        Args:
            groups: the name of the group of each structure of the data.
        """
        names = np.array(groups, dtype=object)[self.structure]
        return {name: self.chosen(names == name) for name in sorted(set(names))}


def _added(values: Floats, position: Integers) -> Floats:
    """Sums of the rows (rows, components) that have a position in common."""
    total = np.zeros((int(position.max()) + 1, values.shape[1]))
    np.add.at(total, position, values)
    return total
