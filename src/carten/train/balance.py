"""Weight of each property: its share of the loss of a model that predicts the mean label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from carten.data.consistency import folded
from carten.data.labels import Frame
from carten.properties.planning import sources
from carten.properties.routes import Property
from carten.train.baseline import baseline, energies_by_level
from carten.train.config import PropertyConfig
from carten.train.loss import PENALTIES, LossTerm
from carten.train.sets import Sets

FAINT = 1e-3
"""Share of the loss below which a property hardly moves the weights of a network."""
REASONABLE = (1e-6, 1e6)
"""Of the loss: far smaller gradients drown in the epsilon of an optimiser, far larger ones are always clipped."""


def losses_of_means(terms: Sequence[LossTerm], sets: Sets) -> dict[str, float]:
    """Mean penalty of each property, weights left out, while the prediction is the mean training label.

    As in :mod:`carten.train.baseline`: the part of the mean that no rotation changes, of each element for labels of
    atoms, per atom for extensive ones; energies are relative to reference energies.
    """
    return {term.property.name: _loss(term, sets) for term in terms}


def balanced(
    terms: Sequence[LossTerm], properties: Mapping[str, PropertyConfig], losses: Mapping[str, float]
) -> tuple[LossTerm, ...]:
    """The terms with weights ``auto`` settled: the inverse of the loss of the mean label, 1 where that is 0."""
    names = [term.property.name for term in terms]
    automatic = [properties[name].weight == "auto" for name in names]
    inverse = [1.0 / losses[name] if losses[name] > 0.0 else 1.0 for name in names]
    return tuple(
        replace(term, weight=weight) if auto else term
        for term, auto, weight in zip(terms, automatic, inverse, strict=True)
    )


def lines(terms: Sequence[LossTerm], losses: Mapping[str, float]) -> Iterator[str]:
    """Shares of the loss in words, and what to do about very small ones."""
    parts = {term.property.name: term.weight * losses[term.property.name] for term in terms}
    total = sum(parts.values())
    if total == 0.0:
        return
    shares = ", ".join(f"{name} {100 * part / total:.3g} %" for name, part in parts.items())
    yield f"loss of the mean labels {total:.3g}" + (f": {shares}" if len(parts) > 1 else "")
    taught = {source for term in terms for source in sources(term.property)}  # forces teach the energy
    for name, part in parts.items():
        if 0.0 < part < FAINT * total and name not in taught:
            even = 1.0 / losses[name]
            yield f"{name} hardly counts in the loss: set properties.{name}.weight to auto, or higher, up to {even:.2g}"
    if not REASONABLE[0] < total < REASONABLE[1]:
        yield "the loss is far from 1, which optimisers do not expect: set the weights of properties to auto"


def _loss(term: LossTerm, sets: Sets) -> float:
    frames = [frame for frame in sets.sample.frames if term.property.name in frame.labels]
    residual = torch.from_numpy(_residuals(term.property, frames, sets))
    return float(PENALTIES[term.kind](residual, term.delta).mean()) if len(residual) else 0.0


def _residuals(row: Property, frames: Sequence[Frame], sets: Sets) -> npt.NDArray[np.float64]:
    """Labels less their mean, (rows, components), per atom if extensive."""
    if row.name == "energy":
        references = [{z: level.get(z, 0.0) for z in sets.elements} for level in sets.references or [{}]]
        level = sets.level if sets.references else None
        parts = energies_by_level(frames, references, level)
        return np.concatenate([part - part.mean() for part in parts if len(part)] or [np.zeros(0)])[:, None]
    if row.modulo:
        frames = [replace(frame, labels={row.name: folded(frame.labels[row.name], frame)}) for frame in frames]
    residual = baseline(replace(row, time_parity=1), frames, sets.elements)[1]
    return residual.reshape(len(residual), -1)
