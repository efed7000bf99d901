"""Every kind of model satisfies the contract, for all of its properties."""

import pytest
from ase import Atoms

import contract
from model import models
from model.models import MAIN, VARIANTS, crystal, molecule, slab, stretched, wire


@pytest.fixture(params=MAIN)
def main(request):
    return models.model(request.param)


@pytest.fixture(params=VARIANTS)
def variant(request):
    return models.model(request.param)


@pytest.mark.parametrize("structure", [molecule, crystal], ids=lambda f: f.__name__)
def test_rotations_and_reflections(main, structure):
    contract.check_rotations(main, structure())


def test_features(main):
    contract.check_features(main, molecule())


@pytest.mark.parametrize("structure", [crystal, wire], ids=lambda f: f.__name__)
def test_translation(main, structure):
    contract.check_translation(main, structure())


def test_permutation(main):
    contract.check_permutation(main, molecule())


def test_batch(main):
    contract.check_batch(main, [molecule(), crystal(), slab(), wire(), Atoms("N"), Atoms("OH", [[0, 0, 0], [9, 0, 0]])])


def test_batch_with_stress(main):
    contract.check_batch(main, [crystal(), slab(), crystal() * (1, 2, 1)])


def test_additivity(main):
    contract.check_additivity(main, molecule(), stretched())


@pytest.mark.parametrize(("structure", "repeats"), [(crystal, (2, 1, 3)), (slab, (2, 2, 1)), (wire, (3, 1, 1))])
def test_supercell(main, structure, repeats):
    contract.check_supercell(main, structure(), repeats)


def test_primitive_cell_with_one_atom(main):
    """Neighbours are images of the atom itself only."""
    contract.check_supercell(main, Atoms("N", cell=[[1.3, 0.2, 0], [0, 1.6, 0.3], [0.4, 0, 1.9]], pbc=True), (3, 2, 2))


def test_lone_atoms(main):
    contract.check_lone_atoms(main)


def test_smoothness(main):
    contract.check_smoothness(main, stretched())


@pytest.mark.parametrize("structure", [lambda: molecule()[:4], crystal, slab], ids=["molecule", "crystal", "slab"])
def test_derivatives(main, structure):
    contract.check_derivatives(main, structure())


def test_variants_are_equivariant(variant):
    contract.check_rotations(variant, molecule())
    contract.check_features(variant, molecule())


def test_variants_are_smooth(variant):
    contract.check_smoothness(variant, Atoms("CON", positions=[[0, 0, 0], [1.2, 0.8, 0.3], [2.5, -0.4, -0.5]]))


def test_variants_have_the_right_derivatives(variant):
    contract.check_derivatives(variant, crystal())


def test_variants_do_not_depend_on_order_and_cell(variant):
    contract.check_permutation(variant, molecule())
    contract.check_supercell(variant, crystal(), (1, 2, 1))


@pytest.mark.needs("cpp")
def test_back_ends_agree():
    """Values of all properties, and gradients of them with respect to all parameters: third derivatives of plans."""
    options = {"correlation_order": 2, "l_max_edges": 2, "l_max_features": 1, "product": {"weights": "coupled"}}
    rows = models.SCALARS
    fast = models.build(options, rows)
    fast.network.backend = "cpp"
    contract.check_same(models.build(options, rows), fast, [crystal(), slab()])
