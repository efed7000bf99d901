"""Models with terms satisfy the contract: everything that follows from the energy follows from the terms."""

import numpy as np
import pytest
import torch
from ase import Atoms

import contract
from carten.errors import ModelError
from carten.physics.dispersion import D3Config, D4Config
from carten.physics.term import TermConfig
from carten.physics.zbl import ZblConfig
from carten.properties.io import load, save
from model.models import crystal, molecule, slab, stretched, wire
from small import small_model

ELEMENTS = (1, 6, 7, 8)
ROWS = ("energy", "forces", "stress")
TERMS = {
    "zbl": ZblConfig(cutoff=2.5),
    "d3": D3Config(functional="pbe", cutoff=9.0),
    "d4": D4Config(functional="pbe", cutoff=9.0, three_body_cutoff=5.0),
}
LOCAL = [name for name, term in TERMS.items() if term.local]
MOLECULES_AND_CRYSTALS = ("d4",)
"""Terms that refuse slabs and wires."""
TOLERANCES = {"d3": 1e-3}
"""Of derivatives of periodic structures: coordination numbers count neighbours by a function that is 1e-7 far away and
is cut off at 21 Å, so that energies jump a little when atoms cross."""
SUMS = {"d4": 1e-6}
"""Of equal lattices: the Ewald sums behind the charges are as exact as this."""


def model(*terms: TermConfig, dtype: torch.dtype = torch.float64):
    return small_model(ELEMENTS, ROWS, dtype, terms=terms)


@pytest.fixture(params=TERMS)
def name(request):
    return request.param


@pytest.fixture
def with_term(name):
    return model(TERMS[name])


@pytest.fixture(params=LOCAL)
def with_local_term(request):
    return model(TERMS[request.param])


def test_the_term_adds_to_the_energies_of_atoms_and_to_all_that_follows(name):
    """Else none of the other tests would see it."""
    names = ("energies", *ROWS, "virial", "hessian", "elastic")
    found, without = (contract.results(m, crystal(), names=names) for m in (model(TERMS[name]), model()))
    assert all(abs(found[row] - without[row]).max() > 1e-5 for row in names)


def test_rotations_and_reflections(with_term):
    contract.check_rotations(with_term, molecule())
    contract.check_rotations(with_term, crystal())


def test_translation(with_term):
    contract.check_translation(with_term, crystal())


def test_permutation(with_term):
    contract.check_permutation(with_term, molecule())


def test_batch(with_term, name):
    partly = [] if name in MOLECULES_AND_CRYSTALS else [slab(), wire()]
    contract.check_batch(with_term, [molecule(), crystal(), *partly, Atoms("N")])


@pytest.mark.parametrize(("structure", "repeats"), [(crystal, (2, 1, 2)), (slab, (2, 1, 1)), (wire, (2, 1, 1))])
def test_supercell(with_term, name, structure, repeats):
    if name in MOLECULES_AND_CRYSTALS and structure is not crystal:
        with pytest.raises(ModelError, match="periodic in three directions, found pbc"):
            contract.results(with_term, structure())
        return
    contract.check_supercell(with_term, structure(), repeats, SUMS.get(name, contract.EXACT))


@pytest.mark.parametrize("structure", [lambda: molecule()[:4], crystal, slab], ids=["molecule", "crystal", "slab"])
def test_derivatives(with_term, name, structure):
    if name in MOLECULES_AND_CRYSTALS and structure is slab:
        return
    tolerance = TOLERANCES.get(name, contract.DIFFERENCE) if structure().pbc.any() else contract.DIFFERENCE
    contract.check_derivatives(with_term, structure(), tolerance)


@pytest.mark.parametrize("structure", [lambda: molecule()[:3], crystal], ids=["molecule", "crystal"])
def test_hessian(with_term, name, structure):
    """Derivatives of forces, by central differences."""
    atoms, step = structure(), contract.STEP
    n, columns = len(atoms), []
    for place in np.ndindex(n, 3):
        moved = [atoms.copy() for _ in range(4)]
        for copy, factor in zip(moved, (-2, -1, 1, 2), strict=True):
            copy.positions[place] += factor * step
        forces = [contract.results(with_term, copy, names=["forces"])["forces"] for copy in moved]
        columns.append((-forces[0] + 8 * forces[1] - 8 * forces[2] + forces[3]) / (12 * step))
    expected = np.array(columns).reshape(n, 3, n, 3).transpose(0, 2, 1, 3).reshape(n * n, 3, 3)
    found = contract.results(with_term, atoms, names=["hessian"])["hessian"]
    assert abs(found - expected).max() < TOLERANCES.get(name, 1e-5) * abs(expected).max()


def test_additivity(with_local_term):
    contract.check_additivity(with_local_term, molecule(), stretched())


def test_smoothness(with_local_term):
    contract.check_smoothness(with_local_term, stretched())


def test_lone_atoms(with_local_term):
    contract.check_lone_atoms(with_local_term)


def test_a_file_keeps_the_term(name, tmp_path):
    saved = model(TERMS[name])
    save(tmp_path / "model.carten", saved, {})
    loaded = load(tmp_path / "model.carten")
    assert loaded.term_configs == (TERMS[name],)
    found, expected = (contract.results(m, molecule(), crystal()) for m in (loaded, saved))
    contract.require_equal("file", found, expected)


def test_a_model_in_float32_evaluates_the_term_in_float64(name):
    """What a term adds does not depend on the dtype of the network."""
    added = []
    for dtype in (torch.float64, torch.float32):
        exact, without = (
            m(contract.graphs(model(), [molecule()]), ["energy"])["energy"]
            for m in (model(TERMS[name], dtype=dtype), model(dtype=dtype))
        )
        added.append(float(exact - without))
    assert added[1] == pytest.approx(added[0], abs=1e-9)
