"""What is said of single labels and inputs: ranges, outliers, symmetry, sum rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from carten.data.findings import InputReport, LabelReport, Outlier
from carten.data.labels import Frame, Label
from carten.data.layouts import obeying
from carten.data.statistics import ReferenceEnergies, energies_per_atom
from carten.math.arrays import Array
from carten.model.conditions import Category, Input
from carten.physics.names import CHARGE, FIELD
from carten.properties.routes import NET_CHARGE, Property

OUTLIER = 8.0  # robust standard deviations
BROAD = 0.05  # with more outliers than this fraction, the distribution is broad and no structure stands out
SHOWN = 5


def label_report(label: Label, frames: Sequence[Frame], references: ReferenceEnergies | None) -> LabelReport:
    """What is said of a property that some frames carry."""
    used = [frame for frame in frames if label.name in frame.labels]
    components = np.concatenate([frame.labels[label.name].ravel() for frame in used])
    compared, values = _compared(label.row, used, references)
    n_outliers, worst = _outliers(used, values)
    asymmetry, asymmetric = _asymmetry(label, used)
    total = getattr(label.row, "total", "")
    total = CHARGE if total == NET_CHARGE else total
    total = total if any(total in frame.inputs for frame in used) else ""
    return LabelReport(
        name=label.name,
        key=label.file_key,
        unit=label.row.unit,
        carried=len(used),
        lowest=float(components.min()),
        highest=float(components.max()),
        mean=float(components.mean()),
        rms=float(np.sqrt(np.mean(components**2))),
        compared=compared,
        n_outliers=n_outliers,
        outliers=worst,
        asymmetry=asymmetry,
        asymmetric=asymmetric,
        sums=_sums(label.row, used, total),
        total=total,
        zero=sum(len(frame) > 1 and not frame.labels[label.name].any() for frame in used),
    )


def input_report(label: Label, frames: Sequence[Frame]) -> InputReport:
    """What is said of an input that some frames have."""
    values = [frame.inputs[label.name] for frame in frames if label.name in frame.inputs]
    flat = np.concatenate([value.ravel() for value in values])
    row = label.row
    counts: tuple[tuple[str | int, int], ...] = ()
    if isinstance(row, Input) and isinstance(row.embed, Category):
        each = Counter(int(index) for value in values for index in np.unique(value))
        counts = tuple((value, each[index]) for index, value in enumerate(row.embed.values))
    low, high = float(flat.min()), float(flat.max())
    return InputReport(label.name, label.file_key, row.unit, len(values), low, high, counts)


def _compared(row: Any, frames: Sequence[Frame], references: ReferenceEnergies | None) -> tuple[str, Array]:
    """The number per structure of which outliers are sought, in words and values."""
    labels = [frame.labels[row.name] for frame in frames]
    if row.name == "energy" and references is not None:
        return "energy per atom above the reference energies", energies_per_atom(frames, references.values)
    if row.scope == "atom":
        norms = [np.linalg.norm(label.reshape(len(label), -1), axis=1).max() for label in labels]
        return "largest value of an atom" if row.rank == 0 else "largest norm of an atom", np.array(norms)
    sizes = np.array([len(frame) if row.extensive else 1 for frame in frames])
    per_atom = " per atom" if row.extensive else ""
    if row.rank == 0:
        return f"value{per_atom}", np.array([float(label) for label in labels]) / sizes
    return f"norm{per_atom}", np.array([np.linalg.norm(label) for label in labels]) / sizes


def _outliers(frames: Sequence[Frame], values: Array) -> tuple[int, tuple[Outlier, ...]]:
    distance = np.abs(values - np.median(values))
    scale = 1.4826 * float(np.median(distance))
    if scale <= 1e-12 * float(np.abs(values).max(initial=0.0)):  # more than half of all values are equal
        return 0, ()
    scores = distance / scale
    beyond = int(np.count_nonzero(scores > OUTLIER))
    shown = min(beyond, SHOWN) if beyond <= max(1, BROAD * len(values)) else 0
    worst = np.argsort(-scores, kind="stable")[:shown]
    return beyond, tuple(Outlier(frames[i].where, float(values[i]), float(scores[i])) for i in worst)


def _asymmetry(label: Label, frames: Sequence[Frame]) -> tuple[float | None, str]:
    reciprocal = isinstance(label.row, Property) and label.row.reciprocal
    if not reciprocal and (label.row.rank < 2 or "=" not in label.row.indices):
        return None, ""
    largest, where = 0.0, ""
    for frame in frames:
        value = frame.labels[label.name]
        scale = float(np.sqrt(np.mean(value**2)))
        defect = float(np.abs(value - obeying(label.row, value)).max()) / scale if scale > 0.0 else 0.0
        if defect > largest:
            largest, where = defect, frame.where
    return largest, where


def _sums(row: Any, frames: Sequence[Frame], total: str) -> tuple[float, float, str] | None:
    if not row.total:
        return None
    frames = [frame for frame in frames if not total or total in frame.inputs]
    sums = [frame.labels[row.name].sum(axis=0) - _expected_sum(row, frame.inputs, total) for frame in frames]
    lengths = np.array([np.linalg.norm(total_of_atoms) for total_of_atoms in sums])
    return float(np.sqrt(np.mean(lengths**2))), float(lengths.max()), frames[int(lengths.argmax())].where


def _expected_sum(row: Any, inputs: Mapping[str, Array], total: str) -> Array | float:
    """What labels of atoms add up to: a field pulls on a structure by its total charge."""
    if row.name == "forces" and CHARGE in inputs and FIELD in inputs:
        return np.asarray(inputs[CHARGE][0] * inputs[FIELD][0])
    if not total:
        return 0.0
    return np.asarray(inputs[total][0] * (np.eye(3) if row.rank == 2 else 1.0))
