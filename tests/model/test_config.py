"""Hyperparameters: presets, what overrides them, and what is refused."""

import pytest
from pydantic import ValidationError

from carten.model.config import NetworkConfig, ProductConfig


def test_defaults_are_those_of_the_papers():
    config = NetworkConfig()
    assert (config.n_layers, config.n_channels, config.correlation_order) == (2, 64, 3)
    assert (config.l_max_edges, config.l_max_features, config.cutoff) == (3, 2, 5.0)
    assert (config.radial.basis, config.radial.n_basis, config.radial.hidden) == ("bessel", 8, (64, 64, 64))
    assert config.radial.envelope_power == 5


@pytest.mark.parametrize(
    ("preset", "paths", "weights"),
    [("carten", "symmetric", "channelwise"), ("tace", "full", "coupled"), ("ictp", "full", "coupled")],
)
def test_presets(preset, paths, weights):
    product = NetworkConfig(preset=preset).product
    assert (product.paths, product.weights) == (paths, weights)


def test_keys_override_the_preset_one_by_one():
    config = NetworkConfig.model_validate({"preset": "ictp", "product": {"paths": "symmetric"}})
    assert config.product == ProductConfig(paths="symmetric", weights="coupled")


@pytest.mark.parametrize("preset", ["carten", "tace", "ictp"])
def test_a_resolved_configuration_is_itself(preset):
    config = NetworkConfig.model_validate({"preset": preset, "product": {"elements": False}, "radial": {"hidden": [8]}})
    assert NetworkConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"preset": "mace"}, "preset"),
        ({"cutoff": 0.0}, "cutoff"),
        ({"cutoff": float("nan")}, "cutoff"),
        ({"cutoff": float("inf")}, "cutoff"),
        ({"n_layers": 0}, "n_layers"),
        ({"n_channels": 0}, "n_channels"),
        ({"correlation_order": 0}, "correlation_order"),
        ({"l_max_edges": -1}, "l_max_edges"),
        ({"l_max_features": 9}, "l_max_features"),
        ({"n_chanels": 8}, "n_chanels"),
        ({"radial": {"basis": "gauss"}}, "radial.basis"),
        ({"radial": {"hidden": [0]}}, "radial.hidden.0"),
        ({"radial": {"envelope_power": 1}}, "radial.envelope_power"),
        ({"product": {"kind": "fast"}}, "product.kind"),
        ({"product": {"weight": "coupled"}}, "product.weight"),
        ({"product": 3}, "product"),
    ],
)
def test_wrong_values_are_refused_at_their_place(wrong, where):
    with pytest.raises(ValidationError) as caught:
        NetworkConfig.model_validate(wrong)
    assert where in {".".join(map(str, error["loc"])) for error in caught.value.errors()}


def test_spatial_products_are_even():
    with pytest.raises(ValidationError, match="'spatial' has no odd products"):
        NetworkConfig.model_validate({"odd_products": True, "product": {"kind": "spatial"}})


@pytest.mark.parametrize("preset", ["tace", "ictp"])
def test_options_of_a_preset_in_another_are_refused(preset):
    with pytest.raises(ValidationError, match="'spatial' has neither paths nor coupled weights, found paths 'full'"):
        NetworkConfig.model_validate({"preset": preset, "product": {"kind": "spatial"}})
    with pytest.raises(ValidationError, match="orders 'apart' is of coupled weights"):
        NetworkConfig.model_validate({"product": {"orders": "apart"}})
    with pytest.raises(ValidationError, match="orders 'apart' is of coupled weights"):
        NetworkConfig.model_validate({"preset": "tace", "product": {"weights": "channelwise"}})


def test_products_have_no_more_channels_than_features():
    assert NetworkConfig.model_validate({"product": {"channels": 16}}).n_product_channels == 16
    with pytest.raises(ValidationError, match=r"product.channels is 65, more than the 64 channels .* at most 64"):
        NetworkConfig.model_validate({"product": {"channels": 65}})


def test_a_configuration_does_not_change():
    with pytest.raises(ValidationError, match="frozen"):
        NetworkConfig().n_layers = 3
