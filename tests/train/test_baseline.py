"""What untrained models predict has the size of the labels."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from carten.data.labels import Label, read_frames
from carten.data.neighbours import graph
from carten.datasets import path
from carten.model.conditions import Category, Coupled, Input, Scalar
from carten.model.config import NetworkConfig
from carten.model.graph import batch
from carten.properties.potential import Potential
from carten.properties.routes import Multipole
from carten.properties.spec import input_table, property_table
from carten.train.baseline import set_readout_baselines


@pytest.fixture(scope="module")
def frames():
    label = Label(property_table()["dipole"])
    return [frame for frame in read_frames(path("ethanol_xtb_test"), [label]) if len(frame) == 9]


@pytest.mark.parametrize("seed", range(3))
def test_an_untrained_multipole_has_the_size_of_the_labels(frames, seed):
    row = replace(property_table()["dipole"], routes=(Multipole(),))
    model = Potential(NetworkConfig(n_channels=8, n_layers=1), [1, 6, 8], [row], seed=seed)
    set_readout_baselines(model, [row], frames)
    labels = np.sqrt(np.mean([frame.labels["dipole"] ** 2 for frame in frames]))
    assert labels / 100 < _size(model, frames) < labels
    radius = np.sqrt(np.mean([(frame.positions - frame.positions.mean(axis=0)) ** 2 for frame in frames]))
    assert float(model.heads["atomic_dipoles"].scale) == pytest.approx(labels / 9)
    assert float(model.heads["charges"].scale) == pytest.approx(labels / 9 / radius)


def test_labelled_charges_keep_their_own_scale(frames):
    dipole = replace(property_table()["dipole"], routes=(Multipole(),))
    charges = property_table()["charges"]
    labelled = [replace(frame, labels={**frame.labels, "charges": np.linspace(-1.0, 1.0, 9)}) for frame in frames]
    model = Potential(NetworkConfig(n_channels=8, n_layers=1), [1, 6, 8], [dipole, charges])
    set_readout_baselines(model, [charges], labelled)
    alone = float(model.heads["charges"].scale)
    set_readout_baselines(model, [charges, dipole], labelled)
    assert float(model.heads["charges"].scale) == alone
    assert float(model.heads["atomic_dipoles"].scale) != 1.0


def equilibrated(name):
    row, wanted = property_table()[name], {"charges": "equilibrated", "dipole": "charges"}[name]
    return replace(row, routes=tuple(route for route in row.routes if route.name == wanted))


def test_charges_that_equilibrate_have_the_size_of_the_labels(frames):
    rows, told = [equilibrated("charges")], [replace(input_table()["total_charge"], default=0.0, embed=Coupled())]
    model = Potential(NetworkConfig(n_channels=8, n_layers=1), [1, 6, 8], rows, inputs=told).to(torch.float64)
    labelled = [replace(frame, labels={"charges": np.linspace(-1.0, 1.0, 9)}) for frame in frames]
    set_readout_baselines(model, rows, labelled)
    values = model(batch([graph(frame, model.cutoff) for frame in labelled]), ["charges"])["charges"]
    labels = np.sqrt(np.mean(np.linspace(-1.0, 1.0, 9) ** 2))
    assert labels / 3 < float(values.square().mean().sqrt()) < 3 * labels


def test_dipoles_of_charges_that_equilibrate_have_the_size_of_the_labels(frames):
    row, told = equilibrated("dipole"), [replace(input_table()["total_charge"], default=0.0, embed=Coupled())]
    model = Potential(NetworkConfig(n_channels=8, n_layers=1), [1, 6, 8], [row, equilibrated("charges")], inputs=told)
    set_readout_baselines(model, [row], frames)
    labels = np.sqrt(np.mean([frame.labels["dipole"] ** 2 for frame in frames]))
    assert labels / 100 < _size(model, frames) < labels


def _size(model, frames):
    structures = batch([graph(frame, model.cutoff, frame.inputs, torch.float32) for frame in frames])
    return float(model(structures, ["dipole"])["dipole"].detach().square().mean().sqrt())


@pytest.mark.parametrize("embed", [Category((0, 1, 2)), Scalar()])
def test_inputs_change_an_untrained_model_a_little(frames, embed):
    told = Input("state", "structure", "", +1, "", embed)
    config = NetworkConfig(n_channels=16, n_layers=2, correlation_order=3)
    dipole = [property_table()["dipole"]]
    plain, knowing = Potential(config, [1, 6, 8], dipole), Potential(config, [1, 6, 8], dipole, inputs=[told])
    state = np.array([2]) if isinstance(embed, Category) else np.array([1.0])
    sizes = [_size(plain, frames), _size(knowing, [replace(frame, inputs={"state": state}) for frame in frames])]
    assert 0.1 < sizes[1] / sizes[0] < 10.0
