"""Properties from the results of a step of a library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from carten.math.arrays import Floats


@dataclass(frozen=True)
class Row:
    """A property: what its values are per, their rank, and where a library has them (see :mod:`carten.deploy.bind`)."""

    name: str
    scope: str
    rank: int
    ase: str
    per_volume: bool
    source: str


_RESULTS = {"energy": "energies", "stress": "virial", "stresses": "virials"}
"""Of a step that properties of other names follow from; names of readouts may contain spaces."""


def result_of(source: str) -> str:
    """The result of a step that a property follows from."""
    kind, _, readout = source.partition(" ")
    if kind == "spread":
        return f"{result_of(readout.partition(' ')[0])}_deviations"
    return readout or _RESULTS.get(kind, kind)


def value_of(row: Row, results: Mapping[str, Floats], volume: float) -> Floats:
    """A property, (1, 3, ..) or (N, 3, ..), from the results of a step in a cell of this volume (Å³; nan without)."""
    values = _values(row.source, results, volume)
    return values.reshape(len(values), *(3,) * row.rank)


def _values(source: str, results: Mapping[str, Floats], volume: float) -> Floats:
    kind, _, readout = source.partition(" ")
    match kind:
        case "spread":
            predicted, _, scale = readout.partition(" ")
            spread = _spread(predicted, results[result_of(source)])
            return float(scale) * (spread / volume if predicted == "stress" else spread)
        case "energy":
            return np.array([results["energies"].sum()])
        case "stress":
            return results["virial"][None] / -volume
        case "virial":
            return results["virial"][None]
        case "stresses":
            return results["virials"] / -volume
        case "sum":
            return np.array([results[readout].sum(axis=0)])
        case "mean":
            return np.array([results[readout].mean(axis=0)])
    return results[kind]


def _spread(kind: str, deviations: Floats) -> Floats:
    """Standard deviations of a component, (1,) or (N,), from how members deviate."""
    match kind:
        case "energies":
            squares = np.square(deviations).sum(axis=1)
        case "energy":
            squares = np.square(deviations.sum(axis=0, keepdims=True)).sum(axis=1)
        case "forces":
            squares = np.square(deviations).sum(axis=0).mean(axis=1)
        case _:
            squares = np.square(deviations).sum(axis=0).mean(keepdims=True)[0]
    return np.asarray(np.sqrt(squares))
