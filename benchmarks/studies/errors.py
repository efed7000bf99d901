"""Errors on held-out frames, errors of predicting the mean training label, and errors of irreducible parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from carten.data.labels import Frame
from carten.data.neighbours import graph
from carten.data.statistics import energies_per_atom, reference_energies
from carten.model.graph import batch
from carten.properties.branches import nearest_branch
from carten.properties.routes import Property
from carten.units import conversion
from carten.workflows.comparison import Comparison, ErrorStatistics

Floats = npt.NDArray[np.float64]


def record(comparison: Comparison, train: Sequence[Frame], test: Sequence[Frame], unit: str) -> dict[str, Any]:
    """Errors in a unit: of the model, of the mean predictor, of elements and, for general tensors, of parts."""
    row, trivial = comparison.row, _of_mean(comparison, train, test)
    scale = conversion(row.report_unit, unit)
    per_atom = row.extensive and row.rank == 0
    pairs = {"": tuple(of.per_atom() if per_atom else of.total() for of in (comparison, trivial))}
    unit = f"{unit}/atom" if per_atom else unit
    if row.indices == "ij":
        plain = trivial.parts()
        pairs |= {name: (part, plain[name]) for name, part in comparison.parts().items()}
    both = {name: {**_both(of, scale), "mean_predictor": _both(mean, scale)} for name, (of, mean) in pairs.items()}
    found: dict[str, Any] = {"unit": unit, "rows": len(comparison.error), **both.pop("")}
    found |= {"parts": both} if both else {}
    if len(elements := comparison.elements()) > 1:
        found["elements"] = {name: _both(of, scale) for name, of in elements.items()}
    return found


def _both(statistics: ErrorStatistics | None, scale: float) -> dict[str, float]:
    return {} if statistics is None else {"rmse": statistics.rmse * scale, "mae": statistics.mae * scale}


def _of_mean(comparison: Comparison, train: Sequence[Frame], test: Sequence[Frame]) -> Comparison:
    """Predictions of the mean predictor, compared with the same labels."""
    row = comparison.row
    reference = np.concatenate([frame.labels[row.name].reshape(-1, 3**row.rank) for frame in test])
    predicted = _folded(row, _mean_prediction(row, train, test), reference, test)
    return replace(comparison, predicted=predicted * conversion(row.unit, row.report_unit))


def _mean_prediction(row: Property, train: Sequence[Frame], test: Sequence[Frame]) -> Floats:
    """The mean label of the training frames: per atom, of each element, or the fit to compositions of energies."""
    level = test[0].inputs.get("fidelity")
    used = [frame for frame in train if row.name in frame.labels and frame.inputs.get("fidelity") == level]
    if row.name == "energy":
        return _of_compositions(used, test)
    if row.scope == "atom":
        return _of_elements(row, used, test)
    sizes = [len(frame) if row.extensive else 1 for frame in used]
    labels = [frame.labels[row.name].reshape(-1, 3**row.rank) for frame in used]
    if row.scope == "pair":
        return np.zeros((sum(len(frame) ** 2 for frame in test), 3**row.rank))
    mean = np.mean([label / size for label, size in zip(labels, sizes, strict=True)], axis=0)
    return np.concatenate([mean * (len(frame) if row.extensive else 1) for frame in test])


def _of_compositions(train: Sequence[Frame], test: Sequence[Frame]) -> Floats:
    references = reference_energies(train, "fitted").values
    shift = energies_per_atom(train, references).mean()
    above = energies_per_atom(test, references) - shift
    return np.array([frame.labels["energy"] - a * len(frame) for frame, a in zip(test, above, strict=True)])[:, None]


def _of_elements(row: Property, train: Sequence[Frame], test: Sequence[Frame]) -> Floats:
    numbers = np.concatenate([frame.numbers for frame in train])
    labels = np.concatenate([frame.labels[row.name].reshape(-1, 3**row.rank) for frame in train])
    means = {number: labels[numbers == number].mean(axis=0) for number in np.unique(numbers)}
    return np.array([means[number] for frame in test for number in frame.numbers])


def _folded(row: Property, values: Floats, reference: Floats, frames: Sequence[Frame]) -> Floats:
    if not row.modulo:
        return values
    structures = batch([graph(frame, 1.0) for frame in frames])
    return nearest_branch(row, torch.from_numpy(values), torch.from_numpy(reference), structures).numpy()
