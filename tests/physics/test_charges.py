"""Latent charges, and predicted charges that interact: models with them satisfy the contract."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from ase import Atoms

import contract
from carten.errors import ModelError
from carten.physics.charges import ChargesConfig, LesConfig
from carten.physics.constants import COULOMB
from carten.properties.io import load, save
from carten.properties.spec import property_table
from model.models import crystal, molecule, slab, wire
from small import small_model

ELEMENTS = (1, 6, 7, 8)
ROWS = ("energy", "forces", "stress")
EXACT = 1e-11
TERMS = {
    "les": LesConfig(accuracy=EXACT),
    "kinds and multipoles": LesConfig(sigma=0.8, channels=2, dipoles=True, quadrupoles=True, accuracy=EXACT),
    "neutral, mesh": LesConfig(neutral=True, dipoles=True, permittivity=1.8, accuracy=1e-4, method="mesh"),
    "charges": ChargesConfig(sigma=0.6, accuracy=EXACT),
}


def charged(*structures: Atoms) -> list[Atoms]:
    for k, atoms in enumerate(structures):
        atoms.info["total_charge"] = (-1.0, 2.0, 0.0)[k % 3]
    return list(structures)


def model(*terms, dtype=torch.float64, rows=ROWS, inputs=()):
    built = small_model(ELEMENTS, rows, dtype, inputs, terms)
    for name in built.heads:
        if name != "energies":
            built.heads[name].get_buffer("scale").fill_(1.0)  # charges that matter
    return built


@pytest.fixture(params=TERMS)
def with_charges(request):
    return model(TERMS[request.param])


def results(one, *structures, names):
    return contract.results(one, *charged(*structures), names=names)


@pytest.mark.parametrize("name", TERMS)
def test_charges_are_in_the_energy_and_all_that_follows(name):
    names = ("energies", *ROWS, "virial", *(("hessian", "elastic") if name == "les" else ()))
    with_term = model(TERMS[name])
    found = results(with_term, crystal(), names=names)
    with_term.terms[0].permittivity = 1e20
    without = results(with_term, crystal(), names=names)
    assert all(abs(found[row] - without[row]).max() > 1e-3 for row in names)


def test_rotations_and_reflections(with_charges):
    if with_charges.terms[0].summation.method != "mesh":  # a mesh has directions
        contract.check_rotations(with_charges, charged(crystal())[0])
    contract.check_rotations(with_charges, charged(molecule())[0])


def test_batch(with_charges):
    contract.check_batch(with_charges, charged(molecule(), crystal(), slab(), Atoms("N"), crystal().repeat(2)))


def test_derivatives(with_charges):
    structures = [molecule()[:4], slab(), crystal()]
    mesh = with_charges.terms[0].summation.method == "mesh"  # which changes with the cell
    for atoms in charged(*structures[: 1 if mesh else 3]):
        contract.check_derivatives(with_charges, atoms)


@pytest.mark.parametrize("name", TERMS)
def test_a_file_keeps_charges(name, tmp_path):
    saved = model(TERMS[name])
    save(tmp_path / "model.carten", saved, {})
    loaded = load(tmp_path / "model.carten")
    assert loaded.term_configs == (TERMS[name],)
    structures = charged(molecule(), crystal())
    found, expected = (contract.results(m, *structures) for m in (loaded, saved))
    contract.require_equal("file", found, expected)


@pytest.mark.parametrize("name", TERMS)
def test_float32(name):
    """The network in float32, the sums in float64."""
    exact, single = (model(TERMS[name], dtype=dtype) for dtype in (torch.float64, torch.float32))
    for row in ("energy", "forces"):
        found, expected = (results(m, crystal(), names=[row])[row] for m in (single, exact))
        assert abs(found - expected).max() < 2e-4 * max(1.0, abs(expected).max())


@pytest.mark.needs("cpp")
@pytest.mark.parametrize("name", TERMS)
def test_back_ends(name, tmp_path):
    """Generated code, in a field too."""
    save(tmp_path / "model.carten", model(TERMS[name]), {})
    structures = charged(molecule(), crystal())
    if name != "kinds and multipoles":
        structures[1].info["electric_field"] = structures[0].info["electric_field"] = [0.1, 0.2, -0.1]
    reference = load(tmp_path / "model.carten", backend="reference")
    names = [*ROWS[:2], "virial", *(["born_charges"] if "born_charges" in reference.properties else [])]
    expected = contract.results(reference, *structures, names=names)
    compiled = contract.results(load(tmp_path / "model.carten", backend="cpp"), *structures, names=names)
    contract.require_equal("cpp", compiled, expected, 1e-10)


def test_charges_add_up_to_the_total():
    structures = charged(molecule(), crystal(), slab())
    for route in property_table()["charges"].routes[1:]:
        row = replace(property_table()["charges"], routes=(route,))
        one = model(TERMS["charges"], rows=(*ROWS[:2], row))
        found = contract.results(one, *structures, names=["charges"])["charges"]
        starts = np.cumsum([0, *(len(atoms) for atoms in structures)])
        sums = [found[a:b].sum() for a, b in pairwise(starts)]
        assert sums == pytest.approx([-1.0, 2.0, 0.0], abs=1e-13)


@pytest.mark.parametrize("name", ["les", "charges"])
def test_beyond_the_cutoff_parts_attract_as_their_charges_say(name):
    """Two molecules apart: the energy that depends on their distance is that of their charges."""
    one = model(TERMS[name])
    first, second = molecule(), molecule()[:3]
    energies, expected = [], []
    for distance in (20.0, 30.0, 60.0):
        other = second.copy()
        other.positions += [distance, 0.0, 0.0]
        atoms = charged(first + other)[0]
        charge = "latent_charges" if name == "les" else "charges"
        found = contract.results(one, atoms, names=["energy", charge])
        q, d = found[charge], atoms.get_all_distances()
        n = len(first)
        energies.append(found["energy"][0])
        expected.append(COULOMB * (q[:n, None] * q[n:] / d[:n, n:]).sum())
    assert abs(expected[0] - expected[2]) > 1e-2
    assert np.diff(energies) == pytest.approx(np.diff(expected), rel=1e-8)


def test_born_charges_are_derivatives_of_the_polarization():
    """In a molecule exactly; in a cell those of the nearest images, so that cells and supercells agree."""
    for term in (LesConfig(neutral=True), LesConfig(neutral=True, dipoles=True)):
        name = "latent_multipoles" if term.dipoles else "latent"
        row = property_table()["polarization"]
        row = replace(row, routes=tuple(route for route in row.routes if route.name == name))
        one, atoms, step = model(term, rows=(*ROWS[:2], row)), molecule(), 1e-4
        found = contract.results(one, atoms, names=["born_charges"])["born_charges"]
        for place in np.ndindex(len(atoms), 3):
            moved = []
            for sign in (1, -1):
                copy = atoms.copy()
                copy.positions[place] += sign * step
                moved.append(contract.results(one, copy, names=["polarization"])["polarization"][0])
            assert found[place[0], :, place[1]] == pytest.approx((moved[0] - moved[1]) / (2 * step), abs=1e-7)
        assert np.abs(found.sum(0)).max() < 1e-12  # acoustic sum rule


def test_born_charges_do_not_depend_on_the_images_that_are_given():
    one, atoms = model(LesConfig(dipoles=True)), crystal().repeat(3)
    moved = atoms.copy()
    moved.positions += moved.cell.array[np.arange(len(moved)) % 3] + 0.7
    found = [contract.results(one, x, names=["born_charges"])["born_charges"] for x in (atoms, moved)]
    assert found[1] == pytest.approx(found[0], abs=1e-10)


def test_born_charges_of_a_large_cell_are_those_of_the_molecule():
    one, atoms = model(LesConfig(dipoles=True)), molecule()
    free = contract.results(one, atoms, names=["born_charges"])["born_charges"]
    left = []
    for length in (30.0, 60.0):
        box = Atoms(atoms, cell=[length] * 3, pbc=True)
        left.append(abs(contract.results(one, box, names=["born_charges"])["born_charges"] - free).max())
    assert left[1] < 1e-5 * abs(free).max() and left[1] == pytest.approx(left[0] / 16, rel=0.05)


def test_latent_charges_can_be_learned_from_polarization_alone():
    row = property_table()["polarization"]
    row = replace(row, routes=tuple(route for route in row.routes if route.name == "latent"))
    one, atoms = model(TERMS["les"], rows=(row,)), molecule()
    assert "energy" not in one.properties
    found = contract.results(one, atoms, names=("polarization", "latent_charges", "born_charges"))
    charges, masses = found["latent_charges"], atoms.get_masses()
    assert np.abs(charges).max() > 1e-3
    charges = charges - masses / masses.sum() * charges.sum()
    assert found["polarization"][0] == pytest.approx(charges @ atoms.positions, abs=1e-6)  # masses of ase and of tables
    assert np.abs(found["born_charges"].sum(axis=0)).max() < 1e-12


@pytest.mark.parametrize("name", ["polarization", "born_charges"])
@pytest.mark.parametrize(
    ("route", "terms", "there"),
    [
        ("latent", (LesConfig(channels=2),), "latent_charges_1, latent_charges_2"),
        ("latent", (LesConfig(dipoles=True),), "latent_charges, latent_dipoles"),
        ("latent_multipoles", (LesConfig(),), "latent_charges"),
        ("latent", (), "none"),
    ],
)
def test_what_does_not_interact_does_not_polarize(name, route, terms, there):
    row = property_table()[name]
    row = replace(row, routes=tuple(one for one in row.routes if one.name == route))
    with pytest.raises(ModelError, match=f"'{name}': follows from all charges .* which are {there}, .* with dipoles"):
        model(*terms, rows=("energy", row))
    assert "born_charges" not in model(LesConfig(channels=2)).properties


def test_training_reaches_the_charges():
    """Gradients of losses of energy, forces and Born charges."""
    for term in (LesConfig(dipoles=True), ChargesConfig()):
        one = small_model(ELEMENTS, ("energy", "forces"), torch.float64, terms=(term,)).train().requires_grad_()
        names = ["energy", "forces", *(["born_charges"] if term.kind == "les" else [])]
        merged = contract.graphs(one, charged(molecule(), crystal()))
        for name in names:
            one.zero_grad()
            one(merged, [name])[name].square().sum().backward()
            taken = [p for source in term.sources for p in one.heads[source.name].parameters()]
            assert all(p.grad is not None for p in taken) and any(bool(p.grad.abs().max() > 0) for p in taken)


def test_bad_input():
    with pytest.raises(ModelError, match="periodic in one direction only"):
        contract.results(model(LesConfig()), wire(), names=["energy"])
    with pytest.raises(ModelError, match=r"do not carry the input 'total_charge'.*set it for each structure"):
        contract.results(model(ChargesConfig()), molecule(), names=["energy"])
    with pytest.raises(ModelError, match=r"takes charges by the route balanced or .* or equilibrated, found readout"):
        model(ChargesConfig(), rows=(*ROWS, "charges"))
    with pytest.raises(ModelError, match=r"virials.*does not divide"):
        model(LesConfig(), rows=(*ROWS, "virials"))
    with pytest.raises(ValueError, match=r"accuracy\n.* greater than or equal to 0.000000000001"):
        LesConfig(accuracy=1e-20)
    with pytest.raises(ValueError, match="set dipoles: true"):
        LesConfig(quadrupoles=True)
