"""Charges of fragments that are prescribed: sums to round-off, batches, files, the calculator, bad input."""

from dataclasses import replace
from itertools import pairwise

import ase.io
import numpy as np
import pytest
from ase import Atoms

import contract
from carten.errors import DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.model.conditions import Coupled, Scalar
from carten.physics.charges import ChargesConfig
from carten.properties.io import load, save
from carten.properties.potential import Potential
from carten.properties.spec import input_table, property_table
from carten.workflows.predict import predict
from model.models import crystal, molecule, slab
from physics.test_charges import ROWS, charged, model
from small import small_model

ROUTES = ("balanced", "equalised", "equilibrated")


def of_route(name: str, rows=ROWS[:2], **options) -> Potential:
    row = property_table()["charges"]
    row = replace(row, routes=tuple(route for route in row.routes if route.name == name))
    return model(ChargesConfig(sigma=0.7, accuracy=1e-9), rows=(*rows, row), **options)


@pytest.fixture(params=ROUTES, scope="module")
def one(request):
    return of_route(request.param)


def divided(atoms: Atoms, labels, charges) -> Atoms:
    """The structure with labels of atoms and a charge for each label."""
    atoms = charged(atoms)[0]
    atoms.arrays["fragment"] = np.array(labels)
    atoms.arrays["fragment_charge"] = np.array([charges.get(label, 0.0) for label in labels], dtype=float)
    return atoms


def pair(distance: float = 4.0) -> Atoms:
    """Two molecules of 5 and 3 atoms, total charge -1."""
    other = molecule()[:3]
    other.positions += [distance, 0.0, 0.0]
    return divided(molecule() + other, [0] * 5 + [1] * 3, {0: 0.5, 1: -1.5})


def charges_of(of: Potential, *structures: Atoms) -> list[np.ndarray]:
    found = contract.results(of, *structures, names=["charges"])["charges"]
    starts = np.cumsum([0, *(len(atoms) for atoms in structures)])
    return [found[a:b] for a, b in pairwise(starts)]


def test_fragments_have_the_charges_that_are_prescribed(one):
    (found,) = charges_of(one, pair())
    assert found[:5].sum() == pytest.approx(0.5, abs=1e-14) and found[5:].sum() == pytest.approx(-1.5, abs=1e-14)


def test_the_rest_has_what_is_left(one):
    """Of labels in any order, whatever they are; single atoms too."""
    atoms = divided(pair(), [7, -1, 7, -1, 3, -1, 3, -1], {7: 0.25, 3: 1.0})
    (found,) = charges_of(one, atoms)
    labels = atoms.arrays["fragment"]
    sums = [found[labels == label].sum() for label in (7, 3, -1)]
    assert sums == pytest.approx([0.25, 1.0, -2.25], abs=1e-14)
    atoms = divided(molecule(), range(5), dict(enumerate([0.1, -0.2, -1.0, 0.3, -0.2])))
    assert charges_of(one, atoms)[0] == pytest.approx([0.1, -0.2, -1.0, 0.3, -0.2], abs=1e-14)


def test_one_fragment_is_the_structure(one):
    whole = charged(pair())[0]
    del whole.arrays["fragment"], whole.arrays["fragment_charge"]
    expected = charges_of(one, whole)[0]
    for labels, given in ((np.zeros(8), {0: -1.0}), (np.full(8, 2), {2: -1.0}), (np.full(8, -1), {})):
        assert charges_of(one, divided(whole, labels, given))[0] == pytest.approx(expected, abs=1e-13)


def test_structures_of_a_batch_have_fragments_of_their_own(one):
    """The same labels mean others, and some structures have none."""
    plain = charged(molecule(), slab(), crystal())[2]
    plain.arrays["fragment"], plain.arrays["fragment_charge"] = np.full(2, -1), np.zeros(2)
    cell = divided(crystal(), [1, 0], {1: 0.7, 0: -1.7})
    contract.check_batch(one, [pair(), cell, plain, divided(slab(), [0, 0, -1], {0: 1.0}), pair(5.0)])


def test_energies_and_forces_are_those_of_the_fragments(one):
    """Forces are differences; apart, the fragments attract as their charges say."""
    contract.check_derivatives(one, pair())
    contract.check_rotations(one, pair())
    other = pair()
    other.arrays["fragment_charge"] = np.array([-0.5] * 5 + [-0.5] * 3)
    changed = [contract.results(one, atoms, names=["energy"])["energy"][0] for atoms in (pair(), other)]
    assert abs(changed[1] - changed[0]) > 0.1
    near, far = (contract.results(one, pair(d), names=["energy"])["energy"][0] for d in (100.0, 200.0))
    expected = -14.399645 * 0.5 * 1.5 * (1 / 100.0 - 1 / 200.0)
    assert near - far == pytest.approx(expected, rel=0.05), "charges, and dipoles that are smaller by size / distance"


def test_molecules_apart_that_equilibrate_do_not_exchange_charge():
    """Prescribed to be neutral, a molecule has the charges that it has alone."""
    of = of_route("equilibrated", inputs=(replace(input_table()["total_charge"], embed=Coupled()),))
    apart = pair(1e5)
    apart.arrays["fragment_charge"] = np.array([0.0] * 5 + [-1.0] * 3)
    (both,) = charges_of(of, apart)
    alone = molecule()
    alone.info["total_charge"] = 0.0
    assert both[:5] == pytest.approx(charges_of(of, alone)[0], abs=1e-4)  # the field of an ion at 1e5 Å: 1e-9 V/Å
    del apart.arrays["fragment"], apart.arrays["fragment_charge"]
    assert abs(charges_of(of, apart)[0][:5].sum()) > 1e-3


# --- files and the calculator -----------------------------------------------------------------------------------------


def test_the_calculator_is_told_at_every_call(one, tmp_path):
    """Also in float32, of a file that knows nothing of fragments."""
    save(tmp_path / "model.carten", one, {})
    for dtype in ("float64", "float32"):
        atoms = pair()
        atoms.calc = Calculator(tmp_path / "model.carten", dtype=dtype)
        assert atoms.get_charges()[:5].sum() == pytest.approx(0.5, abs=1e-13)
        energy = atoms.get_potential_energy()
        atoms.arrays["fragment_charge"] = np.array([1.0] * 5 + [-2.0] * 3)
        assert atoms.get_charges()[:5].sum() == pytest.approx(1.0, abs=1e-13)
        assert atoms.get_potential_energy() != energy
        atoms.calc.inputs = {"fragment": [0] * 4 + [-1] * 4, "fragment_charge": [0.3] * 4 + [0.0] * 4}
        assert atoms.get_charges()[:4].sum() == pytest.approx(0.3, abs=1e-13)
        atoms.calc.inputs = {}
        del atoms.arrays["fragment"], atoms.arrays["fragment_charge"]
        assert atoms.get_charges().sum() == pytest.approx(-1.0, abs=1e-13)


def test_models_saved_before_there_were_fragments(one, tmp_path):
    """Their files do not list the inputs."""
    save(tmp_path / "model.carten", one, {})
    loaded = load(tmp_path / "model.carten")
    older = Potential(
        loaded.config, loaded.elements, [loaded.properties[name] for name in loaded.requested], loaded.neighbours,
        inputs=[input_table()["total_charge"]], terms=loaded.term_configs,
    )  # fmt: skip
    older.load_state_dict(one.state_dict())
    contract.require_equal("older", *(contract.results(m, pair()) for m in (older.freeze(), one)))


def test_files_of_structures_prescribe_them(one, tmp_path):
    none = charged(molecule())[0]
    ase.io.write(tmp_path / "in.extxyz", [pair(), none])
    first, second = predict(one, ase.io.read(tmp_path / "in.extxyz", ":"), ["charges"])
    assert first["charges"][5:].sum() == pytest.approx(-1.5, abs=1e-13)
    assert second["charges"].sum() == pytest.approx(-1.0, abs=1e-13)


def test_training_sees_them(one):
    """Gradients of a loss of forces at charges that are prescribed."""
    of = of_route(one.properties["charges"].routes[0].name).train().requires_grad_()
    of(contract.graphs(of, [pair()]), ["forces"])["forces"].square().sum().backward()
    heads = [head for name, head in of.heads.items() if name != "energies"]
    assert any(bool(p.grad.abs().max() > 0) for head in heads for p in head.parameters())


def test_the_network_is_told_where_that_is_asked_for():
    row = replace(input_table()["fragment_charge"], embed=Scalar())
    of = of_route("balanced", inputs=(row,))
    (found,) = charges_of(of, pair())
    assert found[:5].sum() == pytest.approx(0.5, abs=1e-14)
    assert "fragment_charge" in of.network.inputs.embeddings and "fragment" not in of.network.inputs.embeddings


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "given", "message"),
    [
        ([0] * 8, [0.5] * 5 + [-1.5] * 3, r"structure 1 .* fragment 0 have one fragment_charge.*found -1.5, 0.5 e"),
        ([0] * 5 + [1] * 3, [0.5] * 5 + [0.5] * 3, r"fragments add up to 1 e, its total_charge is -1 e: correct one"),
        ([0.5] * 8, [-1.0] * 8, r"fragment is a label of atoms, a whole number from 0.*found 0.5"),
        ([-2] * 8, [-1.0] * 8, r"a whole number from 0, or -1 in no fragment; found -2"),
        ([-1] * 8, [-1.0] * 8, r"an atom in no fragment has a fragment_charge, -1 e; give it the label"),
    ],
)
def test_what_is_prescribed_has_to_fit(one, labels, given, message):
    atoms = pair()
    atoms.arrays["fragment"], atoms.arrays["fragment_charge"] = np.array(labels, dtype=float), np.array(given)
    with pytest.raises(ModelError, match=message):
        charges_of(one, pair(), atoms)


@pytest.mark.parametrize("name", ["fragment", "fragment_charge"])
def test_labels_and_charges_go_together(one, name):
    atoms = pair()
    del atoms.arrays[name]
    other = {"fragment": "fragment_charge", "fragment_charge": "fragment"}[name]
    with pytest.raises(ModelError, match=f"carry the input '{other}' without '{name}': give both, or neither"):
        charges_of(one, atoms)
    atoms.calc = Calculator(one)
    with pytest.raises(DataError, match=f"carries the input {other} without {name}: give both, or neither"):
        atoms.get_charges()


def test_models_whose_charges_are_free():
    free = small_model((1, 6, 7, 8), (*ROWS[:2], "charges"))
    atoms = pair()
    atoms.calc = Calculator(free)
    with pytest.raises(ModelError, match=r"sets fragment_charge, but .*route: balanced, equalised or equilibrated"):
        atoms.get_charges()
    with pytest.raises(ModelError, match="the input 'fragment', which the model does not know"):
        free(torch_graph(atoms))
    with pytest.raises(ModelError, match=r"input 'fragment' has embed: coupled .*route to balanced, equalised"):
        small_model((1, 6, 7, 8), (*ROWS[:2], "charges"), inputs=(input_table()["fragment"],))


def torch_graph(atoms: Atoms):
    from carten.data.neighbours import graph

    return graph(atoms, 4.0, {name: atoms.arrays[name] for name in ("fragment", "fragment_charge")})


def test_a_total_charge_that_the_network_is_not_told():
    """Charges add up to it all the same."""
    row = replace(input_table()["total_charge"], embed=Coupled())
    for route in ROUTES:
        of = of_route(route, inputs=(row,))
        assert of.network.inputs is None
        found = charges_of(of, *charged(molecule(), crystal()))
        assert [x.sum() for x in found] == pytest.approx([-1.0, 2.0], abs=1e-14)
    with pytest.raises(ModelError, match=r"input 'total_charge' has embed: coupled .*route to balanced, equalised"):
        small_model((1, 6, 7, 8), ROWS[:2], inputs=(row,))
