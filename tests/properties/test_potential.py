"""A model from the outside: what it returns, in which precision, from which seed, and what it refuses."""

import numpy as np
import pytest
import torch
from ase import Atoms

from carten.data.neighbours import graph
from carten.errors import ModelError
from carten.model.config import NetworkConfig
from carten.properties.potential import Potential
from carten.properties.routes import Derivative, Property, Sum
from carten.properties.spec import property_table
from contract import graphs, results
from model import models
from model.models import crystal, molecule, slab, wire

OPTIONS = {"l_max_edges": 2, "l_max_features": 1, "correlation_order": 2}
ENERGY = (property_table()["energy"],)


@pytest.fixture
def model():
    return models.build(OPTIONS)


# --- what is returned -------------------------------------------------------------------------------------------------


def test_a_model_of_energies_has_what_follows_from_them():
    model = models.build(OPTIONS, ENERGY)
    first = {"energies", "energy", "forces", "stress", "virial", "virials", "stresses"}
    assert set(model.usual) == first
    assert set(model.properties) == first | {"hessian", "elastic", "internal_strain"}
    values = model(graphs(model, [crystal(), slab()]))
    shapes = {name: tuple(value.shape) for name, value in values.items()}
    assert shapes == {
        "energies": (5,),
        "energy": (2,),
        "forces": (5, 3),
        "stress": (2, 3, 3),
        "virial": (2, 3, 3),
        "virials": (5, 3, 3),
        "stresses": (5, 3, 3),
    }


def test_only_what_is_asked_for_and_the_same_as_all_together(model):
    graph = graphs(model, [crystal()])
    together = model(graph)
    for name in model.usual:
        alone = model(graph, [name])
        assert list(alone) == [name]
        torch.testing.assert_close(alone[name], together[name], rtol=1e-12, atol=1e-15)
    assert list(model(graph, ["stress", "dipole"])) == ["stress", "dipole"]


def test_virial_stress_and_atomic_virials_agree(model):
    values = results(model, crystal(), slab())
    volumes = np.array([crystal().get_volume(), slab().get_volume()])
    np.testing.assert_allclose(values["virial"], -values["stress"] * volumes[:, None, None], rtol=1e-12, atol=1e-16)
    sums = np.stack([values["virials"][:2].sum(0), values["virials"][2:].sum(0)])
    np.testing.assert_allclose(sums, values["virial"], rtol=1e-10, atol=1e-14)
    np.testing.assert_array_equal(values["stress"], values["stress"].swapaxes(1, 2))


def test_total_force_and_torque_vanish(model):
    forces, positions = results(model, molecule())["forces"], molecule().positions
    assert np.abs(forces).max() > 1e-3
    assert np.abs(forces.sum(0)).max() < 1e-14
    assert np.abs(np.cross(positions, forces).sum(0)).max() < 1e-14


def test_stress_exists_where_there_is_a_volume(model):
    """Without one it is not a number, in this structure alone, and the virial is there all the same."""
    values = model(graphs(model, [molecule(), crystal(), wire(), slab()]))
    there = torch.isfinite(values["stress"]).all(2).all(1)
    assert there.tolist() == [False, True, False, True]
    assert torch.isfinite(values["virial"]).all()
    assert torch.isfinite(values["forces"]).all()


def test_missing_stress_does_not_spoil_the_gradient_of_the_others(model):
    model.train()
    stress = model(graphs(model, [molecule(), crystal()]), ["stress"])["stress"]
    torch.nansum(stress**2).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(torch.isfinite(g).all() for g in gradients)


def test_training_keeps_the_graph_and_evaluation_does_not(model):
    graph = graphs(model, [crystal()])
    assert not any(value.requires_grad for value in model(graph).values())
    assert all(value.requires_grad for value in model.train()(graph).values())


def test_forces_without_gradients_outside():
    model = models.build(OPTIONS).freeze()
    graph = graphs(model, [crystal()])
    expected = model(graph)["forces"]
    with torch.no_grad():
        assert torch.equal(model(graph)["forces"], expected)
    with torch.inference_mode():
        assert torch.is_inference_mode_enabled()
        assert torch.equal(model(graph)["forces"], expected)
    assert expected.abs().max() > 1e-3


def test_the_graph_is_left_as_it_is(model):
    graph = graphs(model, [crystal()])
    before = {name: value.clone() for name, value in vars(graph).items() if isinstance(value, torch.Tensor)}
    first, second = model(graph), model(graph)
    for name, value in before.items():
        assert torch.equal(getattr(graph, name), value)
        assert not getattr(graph, name).requires_grad
    for name, value in first.items():
        assert torch.equal(value, second[name])


def test_an_intensive_property_is_the_mean():
    model = models.build(OPTIONS, models.ANY)
    one, two = results(model, crystal()), results(model, crystal() * (2, 1, 1))
    np.testing.assert_allclose(one["gap"], two["gap"], rtol=1e-12)


# --- seeds and global state -------------------------------------------------------------------------------------------


def test_a_seed_decides_the_weights():
    first, again, other = (dict(models.build(OPTIONS, seed=seed).state_dict()) for seed in (3, 3, 4))
    assert all(torch.equal(first[name], again[name]) for name in first)
    different = [name for name in first if name.startswith("network") and not torch.equal(first[name], other[name])]
    assert len(different) == len([name for name in first if name.startswith("network")])


def test_global_state_is_neither_used_nor_changed():
    state, dtype = torch.get_rng_state(), torch.get_default_dtype()
    model = models.build(OPTIONS)
    model(graphs(model, [crystal()]))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.get_default_dtype() == dtype


def test_the_default_dtype_does_not_matter():
    expected = results(models.build(OPTIONS), crystal())
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64 if before == torch.float32 else torch.float32)
        found = results(models.build(OPTIONS), crystal())
    finally:
        torch.set_default_dtype(before)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_all_parameters_are_float64_and_used(model):
    """No tensor of weights is without effect on the properties."""
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    values = model.train()(graphs(model, [crystal(), slab()]))
    total = torch.stack([(value**2).sum() for value in values.values()]).sum()
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    unused = [name for name, g in zip(names, gradients, strict=True) if g is None or not g.any()]
    assert unused == []


# --- precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cast", [lambda m: m.to(torch.float32), lambda m: m.float(), lambda m: m.to("cpu", torch.float32)]
)
def test_references_keep_float64(model, cast):
    cast(model)
    assert model.dtype == torch.float32
    for head in model.heads.values():
        assert {b.dtype for b in (head.reference, head.shift, head.scale, head.assembly)} == {torch.float64}
    state = model.state_dict()
    assert {v.dtype for k, v in state.items() if k.endswith(("reference", "shift", "scale"))} == {torch.float64}
    assert {v.dtype for k, v in state.items() if "weight" in k} == {torch.float32}


def test_references_survive_to_the_last_bit(model):
    value = 1.0 + 2.0**-40
    model.heads["energies"].reference.fill_(value)
    model.float().double()
    assert (model.heads["energies"].reference == value).all()


def test_float32_agrees_to_its_precision():
    """Thousands of operations of 6e-8, relative to the largest value."""
    exact = results(models.build(OPTIONS), molecule(), crystal())
    model = models.build(OPTIONS).float()
    found = model(graphs(model, [molecule(), crystal()]))
    for name, values in exact.items():
        assert np.abs(found[name].numpy() - values).max() <= 2e-5 * np.abs(values).max(), name
    assert found["energy"].dtype == found["energies"].dtype == torch.float64


def test_small_differences_survive_large_references():
    """Energies of -1e6 eV: a float32 model still resolves changes of 1e-6 eV between structures."""
    plain, model = (models.build(OPTIONS).float() for _ in range(2))
    model.heads["energies"].reference.fill_(-1e6)
    moved = molecule()
    moved.positions[0, 0] += 0.01
    (a, b), (c, d) = (m(graphs(m, [molecule(), moved]), ["energy"])["energy"].tolist() for m in (plain, model))
    assert abs((b - a) - (d - c)) < 1e-8
    assert abs(b - a) > 1e-6


def test_positions_far_from_the_origin_lose_nothing():
    """Edge vectors are formed in the precision of the graph, not of the model."""
    model = models.build(OPTIONS).float()
    near, far = molecule(), molecule()
    far.positions += 1e5
    (a,), (b,) = (model(graph(atoms, model.cutoff), ["energy"])["energy"].tolist() for atoms in (near, far))
    assert abs(a - b) < 1e-6 * abs(a), "rounded to float32, positions at 1e5 A would be wrong by 0.01 A"


# --- reference energies -----------------------------------------------------------------------------------------------


def test_energies_are_reference_plus_shift_plus_scaled_readout(model):
    before = results(model, molecule())
    head = model.heads["energies"]
    reference = torch.tensor([-13.6, -1030.1, -1486.4, -2042.6], dtype=torch.float64)
    head.reference[:, 0] = reference
    head.shift[:, 0] = 0.25
    head.scale.fill_(2.0)
    after = results(model, molecule())
    of_atom = dict(zip(models.ELEMENTS, reference.tolist(), strict=True))
    expected = np.array([of_atom[z] for z in molecule().numbers]) + 0.25 + 2.0 * before["energies"]
    np.testing.assert_allclose(after["energies"], expected, rtol=1e-14)
    np.testing.assert_allclose(after["energy"], expected.sum(keepdims=True), rtol=1e-14)
    np.testing.assert_allclose(after["forces"], 2.0 * before["forces"], rtol=1e-12, atol=1e-15)
    np.testing.assert_array_equal(after["dipole"], before["dipole"])


def test_a_tensor_has_references_for_its_trace_only():
    """The polarizability of an atom is isotropic: a reference adds to every diagonal element equally."""
    model = models.build(OPTIONS)
    before = results(model, molecule())["polarizability"]
    model.heads["polarizability"].reference.fill_(np.sqrt(3.0))
    change = results(model, molecule())["polarizability"] - before
    np.testing.assert_allclose(change[0], len(molecule()) * np.eye(3), atol=1e-12)
    assert model.heads["dipole"].reference.shape == (len(models.ELEMENTS), 0)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 2, 92, 118, 119, 500, -1])
def test_an_unknown_element(model, number):
    graph = graphs(model, [molecule()])
    graph.numbers[1] = number
    with pytest.raises(ModelError, match=rf"knows the atomic numbers \[1, 6, 7, 8\], found \[{number}\]: use a model"):
        model(graph)


@pytest.mark.parametrize("elements", [(), (0, 1), (1, 119), (-1,)])
def test_elements_that_do_not_exist(elements):
    with pytest.raises(ModelError, match="atomic numbers from 1 to 118"):
        Potential(NetworkConfig(n_channels=2), elements, ENERGY)


def test_a_property_the_model_does_not_have(model):
    with pytest.raises(ModelError, match=r"no property 'magmoms' here; there are: .*energy.*dipole"):
        model(graphs(model, [molecule()]), ["energy", "magmoms"])


def message(options, row):
    with pytest.raises(ModelError) as caught:
        models.build(options, (row,))
    return str(caught.value)


def test_a_rank_the_network_lacks_names_the_option():
    found = message({"l_max_edges": 1, "l_max_features": 0}, models.BUILT_IN[2])
    assert "'polarizability' needs features of rank 2, the network has up to 1: set model.l_max_edges: 2" in found
    models.build({"l_max_edges": 2, "l_max_features": 0}, models.BUILT_IN)


def test_pseudotensors_name_the_option():
    row = Property("moment", "structure", "i", +1, "mu_B")
    assert "'moment' needs pseudotensors 1+" in message({}, row)
    assert "set model.odd_products: true" in message({}, row)
    models.build({"odd_products": True}, (row,))


def test_an_antisymmetric_tensor_is_a_pseudovector():
    row = Property("curl", "structure", "ij=-ji", +1, "")
    assert "odd_products: true" in message({}, row)
    values = results(models.build({"odd_products": True, "l_max_edges": 2}, (row,)), molecule())["curl"]
    np.testing.assert_array_equal(values, -values.swapaxes(1, 2))
    assert np.abs(values).max() > 1e-6


@pytest.mark.parametrize(
    ("row", "options"),
    [
        (Property("moment", "structure", "i", +1, ""), {"correlation_order": 1, "n_layers": 1}),
        (Property("chirality", "structure", "", -1, ""), {"correlation_order": 3, "n_layers": 1}),
    ],
)
def test_parts_that_no_product_makes(row, options):
    """Instead of a property that is zero for every structure."""
    found = message({**options, "odd_products": True, "l_max_edges": 3}, row)
    assert f"{row.name!r} needs features" in found
    assert "increase model.correlation_order, model.l_max_edges or model.n_layers" in found
    better = models.build({**options, "odd_products": True, "l_max_edges": 3, "n_layers": 2}, (row,))
    assert np.abs(results(better, molecule())[row.name]).max() > 1e-9


def test_spatial_products_have_no_odd_ones():
    with pytest.raises(ValueError, match="'spatial' has no odd products: set odd_products: false, or kind: recursive"):
        models.build({"odd_products": True, "product": {"kind": "spatial"}})


def test_a_derivative_of_an_input_that_is_not_there():
    row = Property("response", "structure", "i", -1, "e*Angstrom", (Derivative("energy", ("wind",), sign=-1),))
    with pytest.raises(ModelError, match=r"respect to 'wind', which the model is not told: .* positions, strain; add"):
        models.build(OPTIONS, (row,))


def test_properties_that_are_obtained_from_each_other():
    rows = (Property("a", "structure", "", +1, "", (Sum("b"),)), Property("b", "atom", "", +1, "", (Sum("a"),)))
    with pytest.raises(ModelError, match="can't be obtained from itself: a from b from a"):
        models.build(OPTIONS, rows)


def test_a_single_atom(model):
    values = results(model, Atoms("N"))
    assert not values["forces"].any()
    assert np.isfinite(values["energy"]).all()


def test_no_atoms(model):
    values = results(model, Atoms(), names=["energy", "forces", "hessian"])
    assert values["energy"].tolist() == [0.0]
    assert values["forces"].shape == (0, 3)
    assert values["hessian"].shape == (0, 3, 3)


def test_nothing_is_per_volume_where_there_is_no_volume(model):
    """Asked for whatever there is, a model says nothing of the stress of molecules."""
    values = model(graphs(model, [molecule(), molecule()]))
    assert set(values) == {name for name in model.usual if not model.properties[name].per_volume}
    assert "virial" in values and "stress" not in values
    assert all(torch.isfinite(value).all() for value in values.values())
