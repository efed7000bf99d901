"""The calculator: values, conventions, what is evaluated when, and its errors."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import voigt_6_to_full_3x3_stress

import carten
from carten.data.neighbours import graph
from carten.errors import DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.interfaces.paths import ModelPaths
from carten.properties.io import save
from carten.properties.spec import input_table
from small import diamond, ethanol, oxide, small_model

STEP = 1e-4
TOLERANCE = 1e-6
"""Central differences: truncation, STEP^2 f''' / 6, and round-off, 1e-16 E / STEP, are below 1e-7 for E of 1 eV."""


TABLES = 2e-6
"""Error of tables of radial functions, relative to the largest force."""


@pytest.fixture
def evaluations(monkeypatch):
    """Properties and inputs of every evaluation."""
    calls, evaluate = [], ModelPaths.evaluate

    def noted(self, atoms, names, told):
        calls.append((list(names), {name: np.asarray(value).tolist() for name, value in told.items()}))
        return evaluate(self, atoms, names, told)

    monkeypatch.setattr(ModelPaths, "evaluate", noted)
    return calls


def close(found, expected, tolerance: float = TABLES) -> bool:
    scale = max(np.abs(expected).max(), 1.0)
    return np.shape(found) == np.shape(expected) and bool(np.abs(found - expected).max() <= tolerance * scale)


def energy_at(atoms: Atoms, positions=None, cell=None) -> float:
    moved = atoms.copy()
    if cell is not None:
        moved.set_cell(cell, scale_atoms=True)
    if positions is not None:
        moved.positions = positions
    moved.calc = Calculator(atoms.calc.model, skin=0.0)
    return moved.get_potential_energy()


def test_results_are_those_of_the_model():
    atoms, model = oxide(), small_model()
    atoms.calc = Calculator(model)
    expected = {name: value.numpy() for name, value in model(graph(atoms, model.cutoff)).items()}
    assert close(atoms.get_potential_energy(), expected["energy"][0])
    assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()
    assert close(atoms.get_forces(), expected["forces"])
    assert close(atoms.get_potential_energies(), expected["energies"])
    assert close(atoms.get_stress(voigt=False), expected["stress"][0])
    assert close(atoms.get_dipole_moment(), expected["dipole"][0])
    assert close(atoms.calc.get_property("virials", atoms), expected["virials"])
    assert close(atoms.calc.get_property("virial", atoms), expected["virial"][0])
    assert close(atoms.calc.get_property("stresses", atoms), expected["stresses"])
    assert atoms.calc.path == "library"


@pytest.mark.parametrize("make", [ethanol, oxide])
def test_forces_are_minus_the_gradient(make):
    atoms = make()
    atoms.calc = Calculator(small_model())
    forces = atoms.get_forces()
    assert np.abs(forces).max() > 1e-2
    for atom, axis in ((0, 0), (1, 1), (2, 2)):
        step = np.zeros_like(atoms.positions)
        step[atom, axis] = STEP
        ends = [energy_at(atoms, atoms.positions + sign * step) for sign in (1, -1)]
        assert forces[atom, axis] == pytest.approx((ends[1] - ends[0]) / (2 * STEP), abs=TOLERANCE)


def test_stress_is_the_strain_derivative_in_the_order_of_ase():
    atoms = oxide()
    atoms.calc = Calculator(small_model())
    stress = atoms.get_stress()
    assert np.abs(stress).max() > 1e-3
    for component, (i, j) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        ends = []
        for sign in (1, -1):
            strain = np.zeros((3, 3))
            strain[i, j] += sign * STEP / 2
            strain[j, i] += sign * STEP / 2
            ends.append(energy_at(atoms, cell=atoms.cell.array @ (np.eye(3) + strain)))
        derivative = (ends[0] - ends[1]) / (2 * STEP * atoms.get_volume())
        assert stress[component] == pytest.approx(derivative, abs=TOLERANCE)
    np.testing.assert_array_equal(atoms.get_stress(voigt=False), voigt_6_to_full_3x3_stress(stress))


def test_nothing_is_evaluated_twice(evaluations):
    atoms = oxide()
    atoms.calc = Calculator(small_model())
    atoms.get_potential_energy()
    atoms.get_forces()
    atoms.get_stress()
    atoms.get_potential_energies()
    assert [names for names, _ in evaluations] == [["energy", "energies", "forces", "stress"]]
    atoms.get_dipole_moment()
    atoms.get_dipole_moment()
    assert [names for names, _ in evaluations[1:]] == [["dipole"]]
    atoms.rattle(0.01, seed=1)
    atoms.get_forces()
    assert len(evaluations) == 3


def test_molecules_have_no_stress(evaluations):
    atoms = ethanol()
    atoms.calc = Calculator(small_model())
    atoms.get_forces()
    assert [names for names, _ in evaluations] == [["forces", "energies", "energy"]]
    with pytest.raises(PropertyNotImplementedError, match="stress is per volume, C2H6O has no cell"):
        atoms.get_stress()


def test_the_skin_does_not_change_results():
    """But for rounding: pairs beyond the cutoff change where sums are split."""
    atoms, other = diamond(), diamond()
    atoms.calc, other.calc = Calculator(small_model(), skin=1.0), Calculator(small_model(), skin=0.0)
    for seed in range(5):
        atoms.rattle(0.05, seed=seed)
        other.positions = atoms.positions
        assert atoms.get_potential_energy() == pytest.approx(other.get_potential_energy(), rel=1e-14)
        np.testing.assert_allclose(atoms.get_forces(), other.get_forces(), atol=1e-14)


def test_single_precision_is_close_and_does_not_depend_on_the_origin():
    atoms = ethanol()
    atoms.calc = Calculator(small_model())
    exact = atoms.get_forces()
    atoms.calc = Calculator(small_model(), dtype="float32")
    near = atoms.get_forces()
    atoms.positions += 1e4
    far = atoms.get_forces()
    assert atoms.calc.model.dtype == torch.float32
    scale = np.abs(exact).max()
    assert 0.0 < np.abs(near - exact).max() < 1e-5 * scale
    assert np.abs(far - near).max() < 1e-5 * scale  # 1e4 Å in float32 would be wrong by 1e-3 Å


@pytest.fixture
def charged(evaluations):
    """Ethanol and a calculator whose model is told the total charge and the partial charges; and all evaluations."""
    names = {name: input_table()[name] for name in ("total_charge", "partial_charges", "electric_field")}
    atoms = ethanol()
    atoms.calc = Calculator(small_model(inputs=tuple(names.values())))
    atoms.info["total_charge"] = 1.0
    atoms.set_initial_charges(np.linspace(-1.0, 1.0, 9))
    return atoms, evaluations


def test_inputs_are_read_from_the_structure(charged):
    atoms, calls = charged
    before = atoms.get_potential_energy()
    told = calls[0][1]
    assert told["total_charge"] == [1.0]
    assert told["partial_charges"] == atoms.get_initial_charges().tolist()
    assert told["electric_field"] == [[0.0, 0.0, 0.0]]
    atoms.get_forces()
    assert len(calls) == 1
    atoms.info["total_charge"] = 0.0
    assert abs(atoms.get_potential_energy() - before) > 1e-6
    atoms.info["electric_field"] = [0.0, 0.1, 0.0]
    atoms.get_potential_energy()
    assert [len(calls), calls[-1][1]["electric_field"]] == [3, [[0.0, 0.1, 0.0]]]


def test_inputs_of_the_calculator_come_first_and_can_change(charged):
    atoms, calls = charged
    atoms.calc.inputs["total_charge"] = -1.0
    atoms.get_potential_energy()
    atoms.calc.inputs["total_charge"] = -2.0
    atoms.get_potential_energy()
    atoms.get_potential_energy()
    assert [told["total_charge"] for _, told in calls] == [[-1.0], [-2.0]]


def test_missing_and_misshapen_inputs_are_errors(charged):
    atoms, _ = charged
    atoms.info.clear()
    with pytest.raises(DataError, match=r'C2H6O: input total_charge \("total_charge"\) is missing'):
        atoms.get_potential_energy()
    atoms.info["total_charge"] = [1.0, 2.0]
    with pytest.raises(DataError, match=r"total_charge has shape \(2,\)"):
        atoms.get_potential_energy()


def test_a_file_is_a_model(tmp_path):
    path = tmp_path / "model.carten"
    save(path, small_model(), {})
    atoms = ethanol()
    atoms.calc = carten.Calculator(path)
    found = atoms.get_potential_energy()
    atoms.calc = carten.Calculator(str(path), dtype="float32")
    assert atoms.get_potential_energy() == pytest.approx(found, rel=1e-5)
    assert carten.load(path).elements == (1, 6, 8)


def test_unknown_elements_are_named():
    atoms = Atoms("OFeH2Fe", positions=np.arange(15.0).reshape(5, 3))
    atoms.calc = Calculator(small_model())
    with pytest.raises(ModelError, match=r"H2Fe2O: .* know Fe \(atom 1 and others\), it knows H, C, O: use a model"):
        atoms.get_potential_energy()


def test_what_the_model_does_not_have_is_refused():
    atoms = ethanol()
    atoms.calc = Calculator(small_model())
    with pytest.raises(PropertyNotImplementedError):
        atoms.get_charges()
    assert "charges" not in atoms.calc.implemented_properties


def test_two_atoms_at_one_place_are_an_error():
    atoms = ethanol()
    atoms.positions[3] = atoms.positions[4]
    atoms.calc = Calculator(small_model())
    with pytest.raises(DataError, match="atoms 3 and 4 coincide"):
        atoms.get_forces()


def test_a_single_atom_and_no_neighbours():
    atoms = Atoms("C")
    atoms.calc = Calculator(small_model())
    alone = atoms.get_potential_energy()
    np.testing.assert_array_equal(atoms.get_forces(), np.zeros((1, 3)))
    pair = Atoms("C2", positions=[[0, 0, 0], [0, 0, 50]])
    pair.calc = Calculator(small_model())
    assert pair.get_potential_energy() == pytest.approx(2 * alone, rel=1e-12)


def test_an_unknown_dtype_is_an_error():
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float64', found 'half'"):
        Calculator(small_model(), dtype="half")
