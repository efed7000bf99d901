"""Calibration: quantiles, likelihoods and ranks against their definitions; posteriors against linear regression."""

import numpy as np
import pytest
import torch
from scipy import stats

from carten.data.neighbours import graph
from carten.errors import DataError, ModelError
from carten.model.graph import batch
from carten.uncertainty.posterior import last_layer_covariance
from carten.uncertainty.quality import LEVELS, Quality, fitting_scale
from carten.workflows.calibrate import calibrate, with_posterior
from small import labelled
from uncertainty.ensembles import ensemble, plain_model
from uncertainty.test_calculator import frames


def test_quality_of_normal_errors():
    random = np.random.default_rng(0)
    sigma = np.exp(random.normal(size=20_000))
    errors = sigma[:, None] * random.normal(size=(20_000, 3))
    quality = Quality.of(errors, sigma)
    assert quality.coverage == pytest.approx(0.9, abs=0.01)
    np.testing.assert_allclose(quality.curve, LEVELS, atol=0.01)
    assert quality.nll == pytest.approx(-stats.norm.logpdf(errors, scale=sigma[:, None]).mean())
    sizes = np.sqrt((errors**2).mean(axis=1))
    assert quality.spearman == pytest.approx(stats.spearmanr(sigma, sizes).statistic)
    assert fitting_scale(errors, 0.25 * sigma) == pytest.approx(4.0, rel=0.02)
    assert Quality.of(errors, 10.0 * sigma).coverage > 0.99 and Quality.of(errors, 0.1 * sigma).coverage < 0.2


@pytest.mark.parametrize("kind", ["committee", "posterior"])
def test_calibration_covers_what_it_says(kind):
    several = ensemble(kind, scales={"energy": 7.0})
    data = frames(16)
    calibration = calibrate(several, data)
    again = calibrate(calibration.ensemble, data)
    assert again.ensemble.uncertainty.scales == calibration.ensemble.uncertainty.scales, "old scales do not matter"
    assert several.uncertainty.scales == {"energy": 7.0}, "the ensemble stays as it is"
    quality = calibration.after["forces"]
    assert 0.8 < quality.coverage < 0.97
    assert quality.coverage != pytest.approx(calibration.before["forces"].coverage, abs=0.02)


def test_the_posterior_is_that_of_linear_regression():
    """Against the sum over all labels of outer products of numerical derivatives by the weights."""
    model, data = plain_model(), frames(2)
    errors = {"energy": 0.1, "forces": 0.05}
    covariance = last_layer_covariance(model, data, errors, max_atoms=20)
    layers = [model.heads["energies"].readouts[k].out["0+"].weight["0+"] for k in range(2)]
    graphs = batch([graph(atoms, model.cutoff, {}) for atoms in labelled(2)])
    rows = []
    for layer in layers:
        for k in range(len(layer)):
            with torch.no_grad():
                values = []
                for change in (1.0, -1.0):  # exact for what is linear
                    layer[k, 0] += change
                    with torch.enable_grad():
                        predicted = model(graphs, ["energy", "forces"])
                    values.append(torch.cat([predicted[name].ravel() / errors[name] for name in errors]))
                    layer[k, 0] -= change
            rows.append((values[0] - values[1]) / 2.0)
    jacobian = torch.stack(rows)
    prior = 1.0 / torch.cat(layers).square().mean()
    expected = torch.linalg.inv(jacobian @ jacobian.T + prior * torch.eye(len(jacobian)))
    torch.testing.assert_close(covariance, expected, rtol=1e-5, atol=1e-10)


def test_more_data_make_the_posterior_narrower():
    few, many = (with_posterior(plain_model(), frames(n), frames(2), draws=4) for n in (1, 6))
    one = graph(labelled(7)[-1], few.cutoff, {})
    for name in ("energy_uncertainty", "forces_uncertainty"):
        assert float(many(one, [name])[name].mean()) < float(few(one, [name])[name].mean())


def test_what_can_not_be_calibrated():
    with pytest.raises(DataError, match="at least 10 structures, found 3"):
        calibrate(ensemble("committee"), frames(3))
    with pytest.raises(ModelError, match="4 readouts, which give its uncertainty"):
        last_layer_covariance(plain_model(n_members=4), frames(2), {"energy": 1.0})
    with pytest.raises(ModelError, match="that of energies, which this model does not have"):
        last_layer_covariance(plain_model(properties=("dipole",)), frames(2), {"energy": 1.0})
    bare = [type(frame)(frame.numbers, frame.positions, frame.cell, frame.pbc) for frame in frames(2)]
    with pytest.raises(DataError, match="none of the 2 training structures carries a label of energy"):
        last_layer_covariance(plain_model(), bare, {"energy": 1.0})
