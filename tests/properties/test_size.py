"""Models that no memory holds, or whose parts can't be named, are refused before they are built."""

import time

import numpy as np
import pytest
import torch
from ase import Atoms
from torch import nn

from carten.data.neighbours import graph
from carten.errors import ModelError
from carten.model.conditions import Input, Scalar
from carten.model.config import NetworkConfig
from carten.properties.potential import Potential
from carten.properties.routes import Property
from carten.properties.size import parameters
from carten.properties.spec import input_table, property_table

ENERGY = (property_table()["energy"],)


def build(options, elements=(1, 8), neighbours=10.0, rows=ENERGY, inputs=()):
    return Potential(NetworkConfig.model_validate(options), elements, rows, neighbours, inputs=inputs)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"preset": "ictp", "n_channels": 16},
        {"l_max_edges": 2, "l_max_features": 1, "n_channels": 8, "correlation_order": 4},
        {"n_layers": 3, "l_max_features": 0, "n_channels": 32},
        {"product": {"kind": "spatial"}, "n_channels": 8},
        {"odd_products": True, "n_channels": 4, "l_max_edges": 2},
    ],
)
@pytest.mark.parametrize("elements", [(1,), (1, 6, 7, 8, 16)])
def test_the_estimate_is_rather_more_than_less(options, elements):
    model = build({**options, "radial": {"hidden": (8,)}}, elements)
    exact = sum(parameter.numel() for parameter in model.parameters())
    config = model.config.model_copy(update={"time_reversal": False})  # nothing that these models are told reverses
    assert exact <= parameters(config, len(elements)) < 10 * exact  # of odd products; 4 of the others


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_channels": 60_000}, r"about [\d,]+ parameters, at most 500,000,000 .* decrease model\.n_channels"),
        ({"n_layers": 10**6}, r"about [\d,]+ parameters"),
        ({"radial": {"hidden": (10**6, 10**6)}}, r"parameters.* model\.radial\.hidden"),
        ({"l_max_edges": 8, "correlation_order": 6}, r"have about .* paths.* decrease model\.correlation_order"),
    ],
)
def test_what_can_not_be_built_is_refused_at_once(options, message):
    start = time.process_time()
    with pytest.raises(ModelError, match=message):
        build(options)
    assert time.process_time() - start < 5.0  # of the processor: nothing was begun


@pytest.mark.parametrize("neighbours", [0.0, float("nan"), float("inf"), -1.0])
def test_data_without_neighbours_are_refused(neighbours):
    with pytest.raises(ModelError, match="no two atoms of the training data are within the cutoff of 5 Å"):
        build({}, neighbours=neighbours)


@pytest.mark.parametrize("name", ["my.dipole", "", "type", "keys", "forward", "training", "_modules"])
def test_names_that_modules_can_not_have(name):
    """They would be a KeyError of PyTorch's, or hide a method."""
    with pytest.raises(ModelError, match="can't be called"):
        build({}, rows=(*ENERGY, Property(name, "atom", "", +1, "")))
    with pytest.raises(ModelError, match="can't be called"):
        build({}, inputs=(Input(name, "structure", "", +1, "", Scalar()),))


@pytest.mark.parametrize("options", [{"n_layers": 1}, {"l_max_features": 0}])
def test_tensors_that_no_energy_can_depend_on(options):
    """Dipoles, which are -dE/dF, would be zero for every structure."""
    field = input_table()["electric_field"]
    with pytest.raises(ModelError, match=r"depend on the input .electric_field.*increase model\.correlation_"):
        build({"correlation_order": 1, **options}, inputs=(field,))
    structure = graph(Atoms("OH", [[0, 0, 0], [0.6, 0.7, 0.3]]), 5.0, {"electric_field": np.full((1, 3), 0.3)})
    for better in ({"correlation_order": 2, **options}, {"correlation_order": 1}):
        model = build({"n_channels": 4, **better}, inputs=(field,)).eval()
        assert model(structure, ["dipole"])["dipole"].abs().max() > 1e-5


def test_names_that_modules_can_have():
    name = "a-name with: ünicode"
    model = build({"n_channels": 2}, rows=(*ENERGY, Property(name, "atom", "", +1, "")))
    assert name in model.heads
    assert isinstance(model.heads, nn.ModuleDict)
    assert not torch.isnan(model.heads[name].scale)
