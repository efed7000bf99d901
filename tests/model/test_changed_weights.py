"""Weights that change after loading: predictions are those of the present weights, as a fresh load of them gives."""

import copy
import pickle

import numpy as np
import pytest
import torch
from ase.build import molecule

from carten import Calculator, load
from carten.data.neighbours import graph
from carten.model.config import NetworkConfig
from carten.properties.io import save
from carten.properties.potential import Potential
from carten.properties.spec import property_table

NAMES = ["energy", "forces"]


def potential(seed: int, **options: object) -> Potential:
    rows = property_table()
    base = {"n_channels": 4, "l_max_edges": 2, "l_max_features": 1, "correlation_order": 2, "n_readout_channels": 4}
    return Potential(NetworkConfig.model_validate({**base, **options}), [1, 6, 8], [rows["energy"]], 8.0, seed=seed)


@pytest.fixture
def first(tmp_path):
    return loaded(potential(1), tmp_path / "first.carten")


@pytest.fixture
def second(tmp_path):
    return loaded(potential(2), tmp_path / "second.carten")


def loaded(model, path):
    save(path, model, {}, overwrite=True)
    return load(path)


def values(model):
    structure = graph(molecule("CH3CH2OH"), model.cutoff)
    return {name: value.detach().clone() for name, value in model(structure, NAMES).items()}


def require_same(found, expected):
    for name in NAMES:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-10, atol=1e-12)


def require_different(found, other):
    assert float((found["forces"] - other["forces"]).abs().max()) > 1e-3


def test_load_state_dict(first, second):
    before = values(first)
    first.load_state_dict(second.state_dict())
    require_same(values(first), values(second))
    require_different(values(first), before)


def test_load_state_dict_that_replaces_the_tensors(first, second):
    values(first)
    first.load_state_dict({name: value.clone() for name, value in second.state_dict().items()}, assign=True)
    require_same(values(first), values(second))


@pytest.mark.parametrize("fused", [False, True])
def test_fine_tuning(first, tmp_path, fused):
    before = values(first)
    structure = graph(molecule("CH3CH2OH"), first.cutoff)
    first.train().requires_grad_(True)
    optimiser = torch.optim.Adam(first.parameters(), lr=1e-2, fused=fused)
    for _ in range(3):
        optimiser.zero_grad()
        found = first(structure, NAMES)
        ((found["energy"] - 5.0).square().sum() + found["forces"].square().sum()).backward()
        optimiser.step()
    first.eval()
    require_different(values(first), before)
    require_same(values(first), values(loaded(first, tmp_path / "tuned.carten")))


def test_an_operation_in_place(first, second):
    values(first)
    with torch.no_grad():
        for mine, other in zip(first.parameters(), second.parameters(), strict=True):
            mine.copy_(other)
    require_same(values(first), values(second))


def test_functional_call(first, second):
    structure = graph(molecule("CH3CH2OH"), first.cutoff)
    own, other = values(first), values(second)
    for _ in range(2):
        found = torch.func.functional_call(first, dict(second.named_parameters()), (structure, NAMES))
        require_same(found, other)
        require_same(values(first), own)


def test_functional_call_with_weights_at_the_same_address(first):
    """Weights that were freed leave their memory to the next ones."""
    structure = graph(molecule("CH3CH2OH"), first.cutoff)
    energies = []
    for scale in (1.0, 1.1, 1.2):
        weights = {name: value * scale for name, value in first.named_parameters()}
        energies.append(float(torch.func.functional_call(first, weights, (structure, ["energy"]))["energy"]))
        del weights
    assert len({round(energy, 9) for energy in energies}) == 3


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_are_independent(first, second, duplicate):
    before = values(first)
    twin = duplicate(first)
    require_same(values(twin), before)
    twin.load_state_dict(second.state_dict())
    require_same(values(twin), values(second))
    require_same(values(first), before)


def test_another_dtype_and_back_keeps_what_has_changed(first, second):
    values(first)
    first.load_state_dict(second.state_dict())
    first.to(torch.float32).to(torch.float64)
    found, expected = values(first)["forces"], values(second)["forces"]
    assert float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def test_a_sharp_model_opens_and_is_exact(tmp_path, monkeypatch):
    """Its radial functions vary faster than the finest table."""
    sharp = potential(1, cutoff=6.0, radial={"n_basis": 64, "basis": "chebyshev"})
    with torch.no_grad():
        for name, weight in sharp.named_parameters():
            if ".radial." in name:
                weight.mul_(2.0)
    save(path := tmp_path / "sharp.carten", sharp, {})
    opened = load(path)
    require_same(values(opened), values(sharp.eval()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # it is said when the library is made
    atoms = molecule("CH3CH2OH")
    with pytest.warns(UserWarning, match="tables can't reproduce the radial functions"):
        atoms.calc = Calculator(path)
    expected = values(sharp)["forces"].numpy()
    np.testing.assert_allclose(atoms.get_forces(), expected, rtol=0, atol=1e-12 * np.abs(expected).max())
