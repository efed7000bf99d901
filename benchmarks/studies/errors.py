"""Errors on held-out frames, those of the mean of the training labels, and those of irreducible parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from carten.data.labels import Frame
from carten.data.neighbours import graph
from carten.data.statistics import energies_per_atom, reference_energies
from carten.math.symmetry import decompose
from carten.model.graph import batch
from carten.properties.branches import nearest
from carten.properties.spec import Property
from carten.units import conversion
from carten.workflows.comparison import Comparison

Floats = npt.NDArray[np.float64]
PARTS = {0: "isotropic", 1: "antisymmetric", 2: "symmetric traceless"}


def record(comparison: Comparison, train: Sequence[Frame], test: Sequence[Frame], unit: str) -> dict[str, Any]:
    """Errors in a unit: of the model, of the mean predictor, of elements and, for general tensors, of parts."""
    row = comparison.row
    error = comparison.error * conversion(row.report_unit, unit)
    plain = _mean_prediction(row, train, test)
    reference = np.concatenate([frame.labels[row.name].reshape(-1, 3**row.rank) for frame in test])
    trivial = (_folded(row, plain, reference, test) - reference) * conversion(row.unit, unit)
    if row.extensive and row.rank == 0:
        sizes = comparison.sizes[:, None]
        error, trivial, unit = error / sizes, trivial / sizes, f"{unit}/atom"
    found: dict[str, Any] = {"unit": unit, "rows": len(error), **_both(error), "mean_predictor": _both(trivial)}
    if row.indices == "ij":
        found["parts"] = {
            PARTS[rank]: {**_both(_part(row, error, rank)), "mean_predictor": _both(_part(row, trivial, rank))}
            for rank, _ in decompose(row.indices).parts
        }
    if len(elements := comparison.elements()) > 1:
        scale = conversion(row.report_unit, unit)
        found["elements"] = {name: {"rmse": of.rmse * scale, "mae": of.mae * scale} for name, of in elements.items()}
    return found


def _both(error: Floats) -> dict[str, float]:
    return {"rmse": float(np.sqrt(np.mean(error**2))), "mae": float(np.mean(np.abs(error)))}


def _part(row: Property, error: Floats, rank: int) -> Floats:
    """Cartesian components of one irreducible part; the isotropic one as a single number, a third of the trace."""
    tensors = error.reshape(-1, *row.shape)
    if rank == 0:
        return np.asarray(np.trace(tensors, axis1=1, axis2=2) / 3.0)
    if rank == 1:
        return 0.5 * (tensors - tensors.swapaxes(1, 2))
    even = 0.5 * (tensors + tensors.swapaxes(1, 2))
    return np.asarray(even - np.trace(even, axis1=1, axis2=2)[:, None, None] / 3.0 * np.eye(3))


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
    return nearest(row, torch.from_numpy(values), torch.from_numpy(reference), structures).numpy()
