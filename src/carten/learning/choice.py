"""The choice of structures with a model from a file, and with its uncertainties where it gives any."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms

from carten.learning.selection import UNCERTAINTY, Method, Selection, select
from carten.properties.io import load
from carten.properties.potential import Potential
from carten.uncertainty import Ensemble, has_uncertainty, load_ensemble
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
    loaded = read_model(model)
    if isinstance(loaded, Potential):
        return select(pool, number, loaded, method or "farthest", known)
    uncertainties = np.array([value[UNCERTAINTY].max() for value in predict(loaded, pool, [UNCERTAINTY])])
    return select(pool, number, loaded.model, method or "uncertainty", known, uncertainties)


def read_model(path: Path) -> Potential | Ensemble:
    """A model from a file, as an ensemble where it has uncertainties."""
    return load_ensemble(path) if has_uncertainty(path) else load(path)
