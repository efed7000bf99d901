"""What holds for models holds for their libraries, in both precisions."""

import pytest

import contract
from deploy.snapshots import snapshot
from model.models import crystal, model, molecule, slab, stretched

pytestmark = pytest.mark.needs("cpp")
NAMES = ("carten", "tace", "tace with gates", "ictp", "products of fewer channels", "spatial")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 2e-4)])
@pytest.mark.parametrize("name", NAMES)
def test_symmetries(name, dtype, tolerance):
    library = snapshot(model(name), dtype)
    contract.check_rotations(library, molecule(), tolerance)
    contract.check_rotations(library, crystal(), tolerance)
    contract.check_translation(library, slab(), tolerance)
    contract.check_permutation(library, molecule(), tolerance)
    contract.check_additivity(library, molecule(), molecule()[:3], tolerance)
    contract.check_supercell(library, crystal(), (2, 1, 2), tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_lone_atoms(name):
    contract.check_lone_atoms(snapshot(model(name)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("exact", [True, False])
def test_derivatives_are_central_differences(name, exact):
    """With tables as well: the library differentiates what it evaluates."""
    contract.check_derivatives(snapshot(model(name), exact=exact), crystal())


@pytest.mark.parametrize("name", NAMES)
def test_smoothness_at_the_cutoff(name):
    contract.check_smoothness(snapshot(model(name), exact=True), stretched())
