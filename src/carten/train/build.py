"""The model of a run before its first step."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from carten.data.statistics import statistics
from carten.errors import ConfigError
from carten.properties.potential import Potential
from carten.train.baseline import set_energy_baseline, set_readout_baselines
from carten.train.config import Config
from carten.train.loss import LossTerm
from carten.train.sets import Sets
from carten.train.start import begin
from carten.train.terms import untrained


def build_model(
    config: Config, sets: Sets, terms: Sequence[LossTerm], source: Potential | None = None, backend: str = "auto"
) -> Potential:
    """The model to train: statistics of the training set give its scales and its average number of neighbours.

    Args:
        config: of the run.
        sets: the data.
        terms: of the loss.
        source: the trained model that the run starts from, if any; it gives weights and scales.
        backend: see :func:`carten.ops.library.evaluate`.

    Raises:
        ConfigError: no atom has a neighbour, or the trained model does not fit.
    """
    numbers = statistics(sets.sample)
    if source is None and not numbers.neighbours:
        raise ConfigError(
            f"model.cutoff: no atom in the {len(sets.train)} structures to train on has a neighbour within "
            f"{config.model.cutoff:g} Å: raise it, or add structures of several atoms"
        )
    rows = [term.property for term in terms]
    model = Potential(
        config.model,
        sets.elements,
        [*rows, *untrained(config, rows)],
        numbers.neighbours if source is None else source.neighbours,
        config.seed,
        backend,
        inputs=sets.inputs,
        terms=config.terms,
    )
    model.to(getattr(torch, config.dtype))
    by_energy = any(row.name == "energy" for row in rows)
    if by_energy:
        set_energy_baseline(model, sets.references, sets.sample.frames, numbers)
    others = [row for row in rows if not (by_energy and row.name == "energies")]
    set_readout_baselines(model, others, sets.sample.frames)
    if source is not None:
        begin(model, source, config, sets)
    return model
