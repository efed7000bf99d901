"""Charges that interact, in an electric field that the network is not told."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

import contract
from carten.errors import DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.model.conditions import Coupled
from carten.physics.charges import ChargesConfig, LesConfig
from carten.properties.io import load, save
from carten.properties.spec import input_table, property_table
from carten.train.conditions import input_row
from carten.train.config import InputConfig
from model.models import crystal, molecule, slab
from physics.test_charges import ROWS, charged, model
from small import small_model

FIELD = np.array([0.11, -0.07, 0.23])
TERMS = {
    "les": LesConfig(neutral=True, accuracy=1e-9),
    "dipoles, charges that are free": LesConfig(dipoles=True, accuracy=1e-9),
    "charges": ChargesConfig(accuracy=1e-9),
}


def put(*structures: Atoms, field=FIELD) -> list[Atoms]:
    for atoms in charged(*structures):
        atoms.info["electric_field"] = np.asarray(field, dtype=float)
    return list(structures)


def polarized(term: LesConfig, rows=ROWS):
    """A model that has the polarization as well."""
    name = "latent_multipoles" if term.dipoles else "latent"
    row = property_table()["polarization"]
    return model(term, rows=(*rows, replace(row, routes=tuple(route for route in row.routes if route.name == name))))


@pytest.fixture(params=TERMS)
def with_term(request):
    return model(TERMS[request.param])


def test_forces_are_differences_of_the_energy_in_molecules(with_term):
    contract.check_derivatives(with_term, put(molecule())[0])


def test_the_energy_falls_with_the_polarization():
    """Neutral molecules, at any field; ions are pulled as a whole too, about the origin."""
    for term in (TERMS["les"], TERMS["dipoles, charges that are free"]):
        one = polarized(term)
        for atoms in put(molecule(), crystal()):
            slope = contract.central_differences(one, atoms, "energy", "electric_field")
            expected = contract.results(one, atoms, names=["polarization"])["polarization"]
            assert abs(expected).max() > 0.05 and slope == pytest.approx(-expected, abs=1e-9)


def test_without_a_field_nothing_changes(with_term):
    structures = charged(molecule(), crystal(), slab())
    before = contract.results(with_term, *structures)
    after = contract.results(with_term, *put(*structures, field=[0, 0, 0]))
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert abs(contract.results(with_term, *put(*structures))["forces"] - before["forces"]).max() > 0.01


@pytest.mark.parametrize("structure", [molecule, crystal, slab])
def test_a_structure_is_pulled_by_its_total_charge(with_term, structure):
    atoms = put(structure())[0]
    total = atoms.info["total_charge"] if "total_charge" in with_term.inputs else 0.0
    forces = contract.results(with_term, atoms, names=["forces"])["forces"]
    assert forces.sum(0) == pytest.approx(total * FIELD, abs=1e-10)


@pytest.mark.parametrize("structure", [molecule, crystal, slab])
def test_forces_are_born_charges_times_the_field(structure):
    one = model(TERMS["dipoles, charges that are free"])
    atoms = charged(structure())[0]
    found = contract.results(one, atoms, names=["forces", "born_charges"])
    expected = found["forces"] + np.einsum("ixa,x->ia", found["born_charges"], FIELD)
    assert contract.results(one, *put(atoms), names=["forces"])["forces"] == pytest.approx(expected, abs=1e-10)


def test_forces_and_stress_do_not_depend_on_the_images_that_are_given(with_term):
    for structure in (crystal().repeat((2, 1, 1)), slab()):
        atoms = put(structure)[0]
        moved = atoms.copy()
        moved.positions += (np.arange(len(atoms))[:, None] % [2, 3, 4] * atoms.pbc) @ atoms.cell.array
        names = ["forces", "virial"]
        found, expected = (contract.results(with_term, x, names=names) for x in (moved, atoms))
        contract.require_equal("images", found, expected, 1e-9)


def boxed(length: float) -> Atoms:
    return Atoms(molecule(), cell=np.eye(3) * length + 0.1, pbc=True)


def test_in_large_cells_forces_are_those_of_the_molecule():
    """The error falls with the fourth power of the length, as that of the two sines that stand for a distance."""
    one = model(TERMS["les"])

    def pull(atoms: Atoms) -> np.ndarray:
        (field,), (none,) = put(atoms.copy()), charged(atoms.copy())
        return np.subtract(*(contract.results(one, x, names=["forces"])["forces"] for x in (field, none)))

    free = pull(molecule())
    errors = [abs(pull(boxed(length)) - free).max() for length in (20.0, 40.0)]
    assert errors[1] < 1e-4 * abs(free).max() and errors[1] == pytest.approx(errors[0] / 16, rel=0.1)


def test_stress_is_that_at_a_fixed_drop_of_the_potential():
    """``a . E`` of every lattice vector stays while the cell is strained."""
    one, atoms, step = model(TERMS["dipoles, charges that are free"]), charged(boxed(40.0))[0], 1e-3

    def virial(at: Atoms) -> np.ndarray:
        return contract.results(one, at, names=["virial"])["virial"][0]

    def energy(strain: np.ndarray) -> float:
        moved = contract.deformed(atoms, np.eye(3) + strain)
        field = np.linalg.solve(np.eye(3) + strain, FIELD)
        (inside,), (outside,) = put(moved.copy(), field=field), put(moved, field=[0, 0, 0])
        return np.subtract(*(contract.results(one, x, names=["energy"])["energy"][0] for x in (inside, outside)))

    expected = np.zeros((3, 3))
    for a, b in np.ndindex(3, 3):
        strain = np.zeros((3, 3))
        strain[a, b] += step / 2
        strain[b, a] += step / 2
        expected[a, b] = -(energy(strain) - energy(-strain)) / (2 * step)
    found = virial(*put(atoms.copy())) - virial(atoms)
    assert abs(expected).max() > 1e-3 and abs(found - expected).max() < 0.01 * abs(expected).max()


def test_a_field_across_a_slab_is_that_of_an_open_direction():
    """Forces and the stress in the plane are differences there; the energy does not depend on images in the plane."""
    one, atoms = model(TERMS["les"]), slab()
    normal = np.linalg.solve(np.where(atoms.pbc[:, None], atoms.cell.array, np.eye(3)), (~atoms.pbc).astype(float))
    atoms = put(atoms, field=0.3 * normal / np.linalg.norm(normal))[0]
    found = contract.results(one, atoms, names=["forces", "virial"])
    expected = [-contract.central_differences(one, atoms, "energy", wrt) for wrt in ("positions", "strain")]
    assert found["forces"] == pytest.approx(expected[0], abs=1e-8)
    plane = atoms.cell.array[atoms.pbc]
    assert plane @ found["virial"][0] @ plane.T == pytest.approx(plane @ expected[1][0] @ plane.T, abs=1e-6)
    moved = atoms.copy()
    moved.positions[0] += atoms.cell.array[atoms.pbc].sum(0)
    found = [contract.results(one, x, names=["energy"])["energy"][0] for x in (atoms, moved)]
    assert found[1] == pytest.approx(found[0], abs=1e-10)


@pytest.mark.parametrize("structure", [lambda: molecule()[:3], crystal], ids=["molecule", "crystal"])
def test_second_derivatives(structure):
    """Of the energy in a field: Hessians, and gradients of a loss of forces, as differences of forces."""
    one, (atoms,), step = model(TERMS["les"]), put(structure()), 1e-4
    n = len(atoms)

    def forces(at: Atoms) -> np.ndarray:
        return contract.results(one, at, names=["forces"])["forces"]

    columns = []
    for place in np.ndindex(n, 3):
        ends = [atoms.copy(), atoms.copy()]
        for sign, copy in zip((1, -1), ends, strict=True):
            copy.positions[place] += sign * step
        columns.append((forces(ends[1]) - forces(ends[0])) / (2 * step))
    expected = np.array(columns).reshape(n, 3, n, 3)  # [moved, felt]
    found = contract.results(one, atoms, names=["hessian"])["hessian"].reshape(n, n, 3, 3).transpose(0, 2, 1, 3)
    assert found.transpose(2, 3, 0, 1) == pytest.approx(expected, abs=1e-6)

    weight = next(p for p in one.heads["latent_charges"].parameters() if p.dim() > 1)
    one.train().requires_grad_()
    loss = one(contract.graphs(one, [atoms]), ["forces"])["forces"].square().sum()
    (gradient,) = torch.autograd.grad(loss, weight)
    one.eval()
    along, values = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0), dtype=weight.dtype), []
    for sign in (1, -1):
        with torch.no_grad():
            weight += sign * step * along
        values.append((forces(atoms) ** 2).sum())
        with torch.no_grad():
            weight -= sign * step * along
    assert float((gradient * along).sum()) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_structures_of_a_batch_have_fields_of_their_own(with_term):
    structures = [*put(molecule(), crystal()), *put(slab(), field=[0, 0, 0]), *put(molecule(), field=-FIELD)]
    contract.check_batch(with_term, structures)


def test_a_field_turns_with_the_structure(with_term):
    contract.check_rotations(with_term, put(crystal())[0])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_calculator_is_told_the_field_at_every_call(dtype, tmp_path):
    save(tmp_path / "model.carten", model(TERMS["les"]), {})
    assert isinstance(load(tmp_path / "model.carten").inputs["electric_field"].embed, Coupled)
    calculator, atoms = Calculator(tmp_path / "model.carten", dtype=dtype), crystal()
    atoms.calc = calculator
    free, stress = atoms.get_forces(), atoms.get_stress()
    born = calculator.get_property("born_charges", atoms)
    tolerance = 1e-9 if dtype == "float64" else 2e-4
    for field in (FIELD, 2 * FIELD):
        calculator.inputs["electric_field"] = field
        expected = free + np.einsum("ixa,x->ia", born, field)
        assert atoms.get_forces() == pytest.approx(expected, abs=tolerance)
    assert abs(atoms.get_stress() - stress).max() > 1e-5
    del calculator.inputs["electric_field"]
    atoms.info["electric_field"] = -FIELD
    expected = free - np.einsum("ixa,x->ia", born, FIELD)
    assert atoms.get_forces() == pytest.approx(expected, abs=tolerance)


def test_a_field_that_the_network_is_told_is_left_to_it():
    learned = small_model((1, 6, 7, 8), ("energy",), inputs=(input_table()["electric_field"],), terms=(LesConfig(),))
    assert not learned.terms[0].coupled and "polarizability" in learned.properties
    coupled = model(LesConfig())
    assert coupled.terms[0].coupled and coupled.network.inputs is None
    assert not {"polarizability", "dielectric", "dipole"} & {*coupled.properties}, "nothing but charges moves"


def test_charges_can_be_trained_in_fields_that_the_network_is_not_told():
    row = input_row("electric_field", InputConfig(embed="coupled", key="field"))
    one = small_model((1, 6, 7, 8), ("energy",), inputs=(row,), terms=(LesConfig(),)).train().requires_grad_()
    assert one.terms[0].coupled and one.network.inputs is None
    (inside,), (outside,) = put(crystal()), put(crystal(), field=[0, 0, 0])
    for name in ("energy", "forces"):
        found, without = (one(contract.graphs(one, [atoms]), [name])[name] for atoms in (inside, outside))
        parameters = list(one.heads["latent_charges"].parameters())
        gradients = torch.autograd.grad((found - without).square().sum(), parameters)
        assert any(bool(gradient.abs().max() > 1e-8) for gradient in gradients)
    with pytest.raises(ModelError, match=r"'electric_field' has embed: coupled .*list terms: les or charges"):
        small_model((1, 6, 7, 8), ("energy",), inputs=(row,))


def test_bad_input():
    seen, kinds = contract.graphs(model(LesConfig()), put(molecule())), model(LesConfig(channels=2))
    with pytest.raises(ModelError, match="carry the input 'electric_field', which the model does not know"):
        kinds(seen)
    with pytest.raises(ModelError, match=r"'electric_field': expected shape \(1, 3\) .*found \(1, 2\)"):
        contract.results(model(LesConfig()), *put(molecule(), field=[0.1, 0.2]))
    atoms = molecule()
    for wrong, said in (([0.1, 0.2], r"has shape \(2,\), expected \(3,\)"), ([0, 0, np.nan], "not a finite number")):
        atoms.calc = Calculator(model(LesConfig()), inputs={"electric_field": wrong})
        with pytest.raises(DataError, match=f"electric_field.* {said}"):
            atoms.get_forces()
    atoms.calc = Calculator(model(), inputs={"electric_field": FIELD})
    with pytest.raises(ModelError, match=r"input 'electric_field', which the model does not know"):
        atoms.get_forces()
