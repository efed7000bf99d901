"""The choice of structures with a model from a file, and with its uncertainties where it gives any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from carten.learning.selection import UNCERTAINTY, Method, Selection, select
from carten.math.arrays import Floats
from carten.properties.io import load
from carten.properties.potential import Potential
from carten.uncertainty import has_uncertainty, load_ensemble
from carten.workflows.predict import predict


def choose_structures(
    pool: Sequence[Atoms],
    number: int,
    model: Path | None = None,
    method: Method | None = None,
    known: Sequence[Atoms] = (),
) -> Selection:
    """As :func:`carten.learning.selection.select`, with a model file.

    Args:
        pool: candidates.
        number: how many.
        model: file of a model or of an ensemble; an untrained network when omitted.
        method: ``uncertainty`` when omitted if the model gives any, else ``farthest``.
        known: structures that have labels already.
    """
    if model is None:
        return select(pool, number, None, method or "farthest", known)
    potential, uncertainties = read_model(model, pool)
    default: Method = "farthest" if uncertainties is None else "uncertainty"
    return select(pool, number, potential, method or default, known, uncertainties)


def read_model(path: Path, pool: Sequence[Atoms]) -> tuple[Potential, Floats | None]:
    """A model for descriptors, and the largest uncertainty of a force in each structure, eV/Å, if it gives any."""
    if not has_uncertainty(path):
        return load(path), None
    ensemble = load_ensemble(path)
    values = predict(ensemble, pool, [UNCERTAINTY])
    return ensemble.models[0], np.array([value[UNCERTAINTY].max() for value in values])
