"""Calibration: how large errors are where a model says that it is uncertain, and the scale that makes both agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from carten.data.labels import Frame
from carten.errors import DataError
from carten.properties.members import Uncertainty
from carten.properties.potential import Potential
from carten.text import html_table, number
from carten.uncertainty.ensemble import Ensemble
from carten.uncertainty.posterior import TRAINED_ON, last_layer_covariance
from carten.uncertainty.quality import Quality, fitting_scale
from carten.units import conversion
from carten.workflows.comparison import Comparison
from carten.workflows.evaluate import evaluate

FEWEST = 10
"""Structures that a scale can be had from."""


@dataclass(frozen=True)
class Calibration:
    """Uncertainties of a model before and after calibration.

    Args:
        ensemble: the model with its new scales.
        before: by property, without a scale.
        after: by property; the scale that each half of the structures has is that of the other half.
    """

    ensemble: Ensemble
    before: Mapping[str, Quality]
    after: Mapping[str, Quality]

    def _repr_html_(self) -> str:
        rows = [("uncertainty", "scale", "errors within 90 %", "without a scale")]
        for name, quality in self.after.items():
            scale = self.ensemble.uncertainty.scales.get(name, 1.0)
            before = f"{100.0 * self.before[name].coverage:.1f} %"
            rows.append((name, number(scale), f"{100.0 * quality.coverage:.1f} %", before))
        return html_table(rows)


def calibrate(
    ensemble: Ensemble,
    frames: Sequence[Frame],
    max_atoms: int = 500,
    advance: Callable[[int], None] | None = None,
) -> Calibration:
    """Choose the scales of uncertainties so that intervals of 90 % hold 90 % of the errors.

    Args:
        ensemble: it stays as it is.
        frames: labelled structures that the model was not trained on.
        max_atoms: evaluated together, unless one structure has more.
        advance: called with the number of structures done after every batch.

    Raises:
        DataError: there are fewer than ten structures, or none carries a label.
    """
    if len(frames) < FEWEST:
        raise DataError(f"calibration needs at least {FEWEST} structures, found {len(frames)}: more are better")
    bare = Ensemble(ensemble.models, replace(ensemble.uncertainty, scales={}))
    comparisons = evaluate(bare, frames, max_atoms=max_atoms, advance=advance).comparisons
    compared = {
        name: (comparison, comparison.uncertainty)
        for name, comparison in comparisons.items()
        if comparison.uncertainty is not None and len(comparison.uncertainty) > 1
    }
    scales = {name: fitting_scale(comparison.error, spread) for name, (comparison, spread) in compared.items()}
    facts = {**ensemble.uncertainty.facts, "calibrated_on": len(frames)}
    return Calibration(
        Ensemble(ensemble.models, replace(ensemble.uncertainty, scales=scales, facts=facts)),
        {name: Quality.of(comparison.error, spread) for name, (comparison, spread) in compared.items()},
        {name: _crossed(comparison) for name, (comparison, _) in compared.items()},
    )


def _crossed(comparison: Comparison) -> Quality:
    """Uncertainties of each half of the structures, scaled as the other half asks for."""
    if comparison.uncertainty is None:
        raise DataError("there are no uncertainties to calibrate")
    structures = np.unique(comparison.structure)
    first = np.isin(comparison.structure, structures[::2])
    scaled = comparison.uncertainty.copy()
    for half in (first, ~first):
        scaled[half] *= fitting_scale(comparison.error[~half], comparison.uncertainty[~half])
    return Quality.of(comparison.error, scaled)


def with_posterior(
    model: Potential,
    trained_on: Sequence[Frame],
    held_out: Sequence[Frame],
    draws: int = 16,
    max_atoms: int = 500,
    advance: Callable[[int], None] | None = None,
) -> Ensemble:
    """A model with the posterior of its last layer, see :mod:`carten.uncertainty.posterior`.

    Args:
        model: trained; it gets the posterior.
        trained_on: the structures that it was trained on.
        held_out: labelled structures that it was not trained on; its errors on them are the noise of the posterior.
        draws: by which the posterior reaches forces and other derivatives.
        max_atoms: evaluated together, unless one structure has more.
        advance: called with the number of structures done after every batch.

    Raises:
        ModelError: the model has no energies, or several readouts.
        DataError: structures carry no labels of energy or forces.
    """
    names = [name for name in TRAINED_ON if name in model.properties]
    comparisons = evaluate(model, held_out, names, max_atoms).comparisons
    errors = {}
    for name, comparison in comparisons.items():
        factor = conversion(comparison.row.report_unit, comparison.row.unit)
        errors[name] = max(comparison.total().rmse * factor, 1e-9)
    covariance = last_layer_covariance(model, trained_on, errors, max_atoms, advance)
    facts = {"posterior_of": len(trained_on), **{f"{name}_rmse": error for name, error in errors.items()}}
    return Ensemble([model], Uncertainty({}, covariance, draws, facts))
