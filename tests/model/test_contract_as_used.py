"""The contract for models as people have them: opened from a file, with compiled kernels, in either precision.

Compiled libraries, with radial tables, are in ``tests/deploy``.
"""

import pytest
import torch
from ase import Atoms

import carten
import contract
from carten.properties.io import save
from model import models
from model.models import crystal, molecule, slab, stretched, wire

SINGLE = 1e-4
"""Relative error of float32: thousands of operations of 6e-8, in forces that are a tenth of what adds up."""


@pytest.fixture(scope="module", params=["carten", "tace", "tace with gates", "ictp", "spatial"])
def file(request, tmp_path_factory):
    options, rows = {**models.MAIN, **models.VARIANTS}[request.param]
    save(path := tmp_path_factory.mktemp(request.param.replace(" ", "_")) / "m.carten", models.build(options, rows), {})
    return path


def opened(file, dtype=torch.float64):
    model = carten.load(file, dtype)
    assert model.network.backend == "auto"
    return model


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, contract.EXACT), (torch.float32, SINGLE)], ids=str)
def test_symmetries_and_additivity(file, dtype, tolerance):
    model = opened(file, dtype)
    for structure in (molecule, crystal):
        contract.check_rotations(model, structure(), tolerance)
    for structure in (crystal, wire):
        contract.check_translation(model, structure(), tolerance)
    contract.check_permutation(model, molecule(), tolerance)
    contract.check_batch(model, [molecule(), crystal(), slab(), wire(), Atoms("N")], tolerance)
    contract.check_additivity(model, molecule(), stretched(), tolerance)
    contract.check_supercell(model, crystal(), (2, 1, 3), tolerance)


def test_lone_atoms_and_the_cutoff(file):
    model = opened(file)
    contract.check_lone_atoms(model)
    contract.check_smoothness(model, stretched())


def test_derivatives(file):
    contract.check_derivatives(opened(file), crystal())


def test_it_is_the_model_that_was_saved(file):
    """Compiled kernels against plain torch, float32 against float64."""
    expected = contract.results(carten.load(file, torch.float64, backend="reference"), molecule(), crystal())
    contract.require_equal("kernels", contract.results(opened(file), molecule(), crystal()), expected)
    single = contract.results(opened(file, torch.float32), molecule(), crystal())
    contract.require_equal("float32", single, expected, SINGLE)
    assert any((single[name] != expected[name]).any() for name in expected)
