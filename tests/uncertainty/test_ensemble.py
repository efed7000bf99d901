"""Ensembles: uncertainties are spreads of members, whatever the kind; means are models; files keep all."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import molecule
from scipy.spatial.transform import Rotation

import carten
from carten.data.neighbours import graph
from carten.errors import ModelError, ModelFileError
from carten.model.graph import batch
from carten.properties import io
from carten.properties.averaged import averaged
from carten.uncertainty import Ensemble, files, has_uncertainty, load_ensemble, save_ensemble
from small import ethanol, oxide, small_model
from uncertainty.ensembles import KINDS, ensemble, plain_model, posterior

NAMES = ("energy", "energies", "forces", "stress")


def system():
    return graph(oxide(), 4.0, {})


@pytest.mark.parametrize("kind", KINDS)
def test_uncertainties_are_spreads_of_the_members(kind):
    several = ensemble(kind, draws=21)  # one more than features: the posterior exactly
    values = several(system(), [*NAMES, *(f"{name}_uncertainty" for name in NAMES)])
    members = several.members(system(), NAMES)
    for name in NAMES:
        each = members[name].numpy()
        expected = np.sqrt(each.var(axis=0, ddof=1).reshape(len(each[0]), -1).mean(axis=1))
        np.testing.assert_allclose(values[f"{name}_uncertainty"].numpy(), expected, rtol=1e-6)
        np.testing.assert_allclose(values[name].numpy(), each.mean(axis=0), rtol=1e-4, atol=1e-5)
        assert expected.min() > 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_forces_of_members_are_derivatives_of_their_energies(kind):
    several, atoms, step = ensemble(kind), oxide(), 1e-4
    forces = several.members(system(), ["forces"])["forces"][:, 1, 2]
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1, 2] += sign * step
        energies.append(several.members(graph(moved, 4.0, {}), ["energy"])["energy"])
    np.testing.assert_allclose(forces.numpy(), (-(energies[0] - energies[1])[:, 0] / (2 * step)).numpy(), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_uncertainties_do_not_change_under_rotations_and_in_batches(kind):
    several, turn = ensemble(kind), Rotation.random(rng=np.random.default_rng(2)).as_matrix()
    names = ["energy_uncertainty", "forces_uncertainty", "stress_uncertainty"]
    turned = oxide()
    turned.set_cell(turned.cell.array @ turn.T, scale_atoms=False)
    turned.positions = turned.positions @ turn.T
    one, two = several(system(), names), several(graph(turned, 4.0, {}), names)
    together = several(batch([system(), graph(ethanol(), 4.0, {})]), names[:2])
    for name in names:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-8)
    for name in names[:2]:
        np.testing.assert_allclose(together[name][: len(one[name])], one[name], rtol=1e-8)


@pytest.mark.parametrize("was", [torch.float64, torch.float32])
def test_mean_of_readouts_is_an_ordinary_model_also_of_tensors(was):
    model = plain_model(n_members=3, properties=("energy", "forces", "dipole"), order=3).to(was).to(torch.float64)
    single = averaged(model)
    assert single.config.n_members == 1 and averaged(single) is single
    values, expected = single(system(), ["energy", "forces", "dipole"]), model(system(), ["energy", "forces", "dipole"])
    for name, value in values.items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-11, atol=1e-13)


def test_posterior_of_energies_is_that_of_a_linear_model():
    several = ensemble("posterior")
    features = several.model.descriptors(system()).numpy()
    covariance = several.uncertainty.covariance.numpy()
    values = several(system(), ["energy_uncertainty", "energies_uncertainty"])
    total = features.sum(axis=0)
    np.testing.assert_allclose(values["energy_uncertainty"], np.sqrt(total @ covariance @ total))
    np.testing.assert_allclose(values["energies_uncertainty"], np.sqrt(np.diag(features @ covariance @ features.T)))


def test_few_draws_have_the_posterior_on_average():
    model = plain_model()
    exact = posterior(model, 21).deviations
    few = [replace(posterior(model, 6), covariance=posterior(model, 6).covariance * k).deviations for k in (1.0, 4.0)]
    assert exact.shape == (21, 20) and few[0].shape == (6, 20)
    torch.testing.assert_close(exact.T @ exact / 20, posterior(model, 6).covariance)
    torch.testing.assert_close(few[1], 2.0 * few[0])
    assert few[0].sum(dim=0).abs().max() < 1e-10
    traces = [float((x.T @ x / (len(x) - 1)).trace()) for x in (few[0], exact)]
    assert 0.4 < traces[0] / traces[1] < 2.5


def test_energies_are_linear_in_the_descriptors():
    model, frames = plain_model(), [ethanol(), molecule("H2O"), oxide()]
    features = carten.descriptors(model, frames, max_atoms=10)
    assert [x.shape for x in features] == [(len(atoms), 20) for atoms in frames]
    weights = [readout.out["0+"].weight["0+"].detach().numpy()[:, 0] for readout in model.heads["energies"].readouts]
    for atoms, values in zip(frames, features, strict=True):
        expected = model(graph(atoms, 4.0, {}), ["energies"])["energies"].numpy()
        np.testing.assert_allclose(values @ np.concatenate(weights), expected, atol=1e-10)


def test_descriptors_of_a_model_without_energy_are_scalars_of_the_network():
    model = plain_model(properties=("polarizability",))
    assert carten.descriptors(model, [ethanol()])[0].shape == (9, model.config.n_channels)


@pytest.mark.parametrize("kind", KINDS)
def test_files_keep_everything(kind, tmp_path):
    several = ensemble(kind, scales={"energy": 1.5, "forces": 0.5})
    save_ensemble(tmp_path / "model.carten", several, [{}] * len(several.models))
    again = load_ensemble(tmp_path / "model.carten")
    names = ["energy", "forces", "energy_uncertainty", "forces_uncertainty"]
    expected, values = several(system(), names), again(system(), names)
    assert again.kind == kind and again.uncertainty.scales == several.uncertainty.scales
    assert has_uncertainty(tmp_path / "model.carten")
    for name in names:
        torch.testing.assert_close(values[name], expected[name], rtol=1e-10, atol=1e-12)


def test_calibrated_uncertainties_are_scaled_also_of_what_was_not_calibrated():
    bare, scaled = ensemble("readouts"), ensemble("readouts", scales={"energy": 2.0, "forces": 3.0})
    names = [f"{name}_uncertainty" for name in NAMES]
    before, after = bare(system(), names), scaled(system(), names)
    for name, factor in zip(names, (2.0, 2.0, 3.0, 3.0), strict=True):
        torch.testing.assert_close(after[name], factor * before[name])


def test_a_committee_is_no_plain_model(tmp_path):
    save_ensemble(tmp_path / "committee.carten", ensemble("committee"), [{}] * 4)
    with pytest.raises(ModelFileError, match=r"committee of several models.*take one of the models it was made of"):
        carten.load(tmp_path / "committee.carten")


def test_a_plain_model_is_no_ensemble(tmp_path):
    io.save(tmp_path / "plain.carten", plain_model(), {})
    assert not has_uncertainty(tmp_path / "plain.carten") and not has_uncertainty(tmp_path / "absent.carten")
    with pytest.raises(ModelError, match=r"plain.carten: the model has no uncertainty: train it with model.n_members"):
        load_ensemble(tmp_path / "plain.carten")
    with pytest.raises(ModelError, match="no uncertainty"):
        next(plain_model().members(system(), ["energy"]))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda: small_model(properties=("energy", "forces", "dipole")), "predicts energy, forces, dipole"),
        (lambda: small_model(elements=(1, 6), properties=("energy", "forces")), "knows the elements 1, 6"),
        (lambda: plain_model().to(torch.float32), "is in torch.float32"),
        (lambda: plain_model(n_members=2), "has members itself"),
        (lambda: plain_model(seed=0), "have the same weights"),
    ],
)
def test_unlike_models_are_refused(other, message, tmp_path):
    for name, model in (("a", plain_model(seed=0)), ("b", other())):
        io.save(tmp_path / f"{name}.carten", model, {})
    with pytest.raises(ModelError, match=message):
        files.join([tmp_path / "a.carten", tmp_path / "b.carten"], tmp_path / "c.carten")
    assert not (tmp_path / "c.carten").exists()


def test_one_model_is_no_committee(tmp_path):
    with pytest.raises(ModelError, match="from 2 to"):
        files.join([tmp_path / "a.carten"], tmp_path / "c.carten")
    with pytest.raises(ModelError, match="no uncertainty"):
        Ensemble([plain_model()])


def test_a_covariance_that_does_not_fit_is_refused(tmp_path):
    model = plain_model()
    model.uncertainty = replace(posterior(model, 8), covariance=torch.eye(3, dtype=torch.float64))
    io.save(tmp_path / "model.carten", model, {})
    with pytest.raises(ModelFileError, match=r"uncertainty.covariance: expected 20 x 20"):
        carten.load(tmp_path / "model.carten")
