"""Networks with fixed weights as two calls of compiled code: the same numbers as operator by operator."""

import copy

import pytest
import torch
from ase.build import bulk, molecule

from carten.data.neighbours import graph
from carten.model.config import NetworkConfig
from carten.model.graph import batch
from carten.ops import sequence
from carten.ops.record import recorded
from carten.properties.potential import Potential
from carten.properties.routes import Derivative, Property
from carten.properties.spec import property_table

pytestmark = pytest.mark.needs("cpp")
SMALL = {"n_channels": 4, "l_max_edges": 2, "l_max_features": 1, "correlation_order": 2, "n_readout_channels": 4}
CASES = [
    {},
    {"preset": "ictp"},
    {"n_channels": 21, "n_layers": 3},
    {"n_channels": 131, "n_layers": 1},
    {"odd_products": True, "product": {"elements": False}},
]


def potential(dtype: torch.dtype = torch.float64, **options: object) -> Potential:
    rows = [property_table()[name] for name in ("energy", "forces", "dipole")]
    model = Potential(NetworkConfig.model_validate({**SMALL, **options}), [1, 6, 8], rows, 8.0)
    return model.to(dtype).freeze(tabulate=True)


def structures(dtype: torch.dtype = torch.float64) -> object:
    atoms = [molecule("CH3CH2OH"), molecule("H2O"), bulk("C", "fcc", a=3.5, cubic=True)]
    atoms[0].rattle(0.1, seed=1)
    atoms[2].rattle(0.1, seed=2)
    return batch([graph(each, 5.0, dtype=dtype) for each in atoms])


@pytest.mark.parametrize("options", CASES, ids=str)
def test_compiled_networks_give_what_their_operators_give(options: dict[str, object]) -> None:
    """Energies, forces and slopes of dipoles, for which gradients of other parts of the features are asked for."""
    model, names = potential(**options), ["energy", "forces", "stress", "dipole", "born_charges"]
    names = [name for name in names if name in model.properties]
    found = model(structures(), names)
    assert model.network._call is not None
    with recorded() as plans:
        expected = model(structures(), names)
    assert plans
    for name in names:
        scale = float(expected[name].nan_to_num().abs().max())
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-12 * scale, equal_nan=True)


def test_float32_and_two_threads() -> None:
    model = potential(torch.float32, n_channels=40)
    one = model(structures(torch.float32), ["energy", "forces"])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        two = model(structures(torch.float32), ["energy", "forces"])
        again = model(structures(torch.float32), ["energy", "forces"])
    finally:
        torch.set_num_threads(before)
    for name, value in two.items():
        assert torch.equal(value, again[name])
        torch.testing.assert_close(value, one[name], rtol=0, atol=2e-6 * float(value.abs().max()))


def test_large_and_small_workspaces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays of large ones are allocated one by one; both reuse those that are not needed any more."""
    model = potential()
    together = model(structures(), ["forces"])["forces"]
    monkeypatch.setattr(sequence, "LARGE", 0)
    assert torch.equal(model(structures(), ["forces"])["forces"], together)


def test_gradients_can_be_taken_again_and_energies_alone_are_the_same() -> None:
    model = potential()
    sample = structures()
    element = model.element_of[sample.numbers]
    vectors = sample.edge_vectors().requires_grad_()
    layers = model.network(vectors, sample.edge_index, element, exact=False, again=False)
    last = next(iter(layers[-1].values()))
    first = next(iter(layers[0].values()))
    (one,) = torch.autograd.grad(last.sum(), vectors, retain_graph=True)
    (other,) = torch.autograd.grad(first.sum(), vectors, retain_graph=True)
    (both,) = torch.autograd.grad(last.sum() + first.sum(), vectors)
    torch.testing.assert_close(both, one + other, rtol=0, atol=1e-12 * float(both.abs().max()))
    alone = model(sample, ["energy"])["energy"]
    torch.testing.assert_close(alone, model(sample, ["energy", "forces"])["energy"], rtol=0, atol=0)


def test_casting_and_copying_compile_anew() -> None:
    model = potential()
    exact = model(structures(), ["forces"])["forces"]
    copied = copy.deepcopy(model)
    assert torch.equal(copied(structures(), ["forces"])["forces"], exact)
    single = model.to(torch.float32)(structures(torch.float32), ["forces"])["forces"]
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), exact, rtol=0, atol=1e-5 * float(exact.abs().max()))


def test_an_atom_without_neighbours() -> None:
    model = potential()
    lone = graph(molecule("H"), model.cutoff)
    found = model(lone, ["energy", "forces"])
    with recorded():
        expected = model(lone, ["energy", "forces"])
    assert torch.equal(found["forces"], torch.zeros(1, 3, dtype=torch.float64))
    torch.testing.assert_close(found["energy"], expected["energy"], rtol=1e-14, atol=0)


def test_values_of_atoms_are_differentiated_in_strain() -> None:
    """Which differentiates their derivatives, as compiled code does not: it must not be asked to."""
    table = property_table()
    slopes = Property("slopes", "atom", "ij=ji", +1, "e", (Derivative("charges", ("strain",)),))
    model = Potential(NetworkConfig.model_validate(SMALL), [1, 6, 8], [table["charges"], slopes], 8.0).eval()
    exact = model(structures(), ["slopes"])["slopes"]
    assert exact.abs().max() > 1e-2
    found = model.freeze(tabulate=True)(structures(), ["slopes"])["slopes"]
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-5 * float(exact.abs().max()))
