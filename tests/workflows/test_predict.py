"""Predictions of many structures are those of each alone, and survive a file."""

import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from carten.data.labels import Label, frames_from, read_frames
from carten.errors import ModelError
from carten.interfaces.ase import Calculator
from carten.properties.spec import input_table, property_table
from carten.workflows.predict import predict, with_values
from properties.cases import build
from small import diamond, ethanol, oxide, small_model

MODEL = small_model(properties=("energy", "forces", "stress", "dipole", "polarizability", "charges"))


@pytest.mark.parametrize("max_atoms", [1, 20, 1000])
def test_batches_do_not_change_predictions(max_atoms):
    frames = [ethanol(), oxide(), diamond(), ethanol()]
    found = list(predict(MODEL, frames, max_atoms=max_atoms))
    assert len(found) == 4
    for atoms, values in zip(frames, found, strict=True):
        atoms.calc = Calculator(MODEL)
        assert values["energy"] == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
        np.testing.assert_allclose(values["forces"], atoms.get_forces(), atol=1e-12)
        np.testing.assert_allclose(values["polarizability"], atoms.calc.get_property("polarizability"), atol=1e-12)
    np.testing.assert_allclose(found[1]["stress"], frames[1].get_stress(voigt=False), atol=1e-12)


def test_only_what_is_asked_for():
    assert set(next(predict(MODEL, [oxide()], ["charges"]))) == {"charges"}
    with pytest.raises(ModelError, match="does not predict magmoms; it predicts"):
        next(predict(MODEL, [oxide()], ["magmoms"]))


def test_a_file_keeps_predictions(tmp_path):
    atoms = oxide()
    values = next(predict(MODEL, [atoms]))
    ase.io.write(tmp_path / "out.extxyz", with_values(atoms, values, MODEL.properties))
    read = ase.io.read(tmp_path / "out.extxyz")
    assert read.get_potential_energy() == pytest.approx(float(values["energy"]), rel=1e-10)
    np.testing.assert_allclose(read.get_forces(), values["forces"], atol=1e-8)
    np.testing.assert_allclose(read.get_stress(voigt=False), values["stress"], rtol=1e-8, atol=1e-12)
    np.testing.assert_allclose(read.get_charges(), values["charges"], atol=1e-8)
    np.testing.assert_allclose(np.reshape(read.info["polarizability"], (3, 3)), values["polarizability"], rtol=1e-7)


def test_all_properties_are_read_back_from_a_file(tmp_path):
    """As labels: stresses of atoms too, which ASE keeps as six components."""
    names = [name for name in MODEL.properties if MODEL.properties[name].scope != "pair"]
    values = next(predict(MODEL, [diamond()], [name for name in names if name != "quadrupole"]))
    assert "stresses" in values
    ase.io.write(tmp_path / "out.extxyz", with_values(diamond(), values, MODEL.properties))
    (frame,) = read_frames(tmp_path / "out.extxyz", [Label(MODEL.properties[name]) for name in values])
    for name, value in values.items():
        value = (value + value.swapaxes(1, 2)) / 2 if name == "stresses" else value
        np.testing.assert_allclose(frame.labels[name], value, atol=1e-7, err_msg=name)


def test_a_prefix_keeps_the_labels():
    atoms = ethanol()
    atoms.calc = SinglePointCalculator(atoms, energy=-1.5)
    values = next(predict(MODEL, [atoms], ["energy", "forces"]))
    found = with_values(atoms, values, MODEL.properties, prefix="carten_")
    assert found.get_potential_energy() == -1.5
    assert found.info["carten_energy"] == float(values["energy"])
    np.testing.assert_array_equal(found.arrays["carten_forces"], values["forces"])
    assert with_values(atoms, values, MODEL.properties).get_potential_energy() == float(values["energy"])


def test_unknown_elements_are_named_with_their_structure():
    atoms = ethanol()
    atoms.numbers[0] = 26
    with pytest.raises(ModelError, match=r"structure 1: the model does not know Fe \(atom 0\)"):
        list(predict(MODEL, [ethanol(), atoms]))


def test_inputs_are_found_under_the_names_of_the_files():
    """In the unit of the files too; under the name of the row otherwise."""
    row = input_table()["electric_field"]
    model = build((property_table()["energy"],), (row,))
    named, other = oxide(), oxide()
    named.info["electric_field"] = [0.0, 0.0, 0.51422067]
    other.info["E"] = [0.0, 0.0, 0.01]
    labels = {"electric_field": Label(row, "E", "Hartree/e/Bohr")}
    found = [float(values["energy"]) for values in predict(model, [named, other, oxide()], ["energy"], inputs=labels)]
    assert found[0] == pytest.approx(found[1], rel=1e-9)
    assert abs(found[2] - found[0]) > 1e-9


def test_hessians_survive_a_file(tmp_path):
    values = next(predict(MODEL, [oxide()], ["hessian"]))
    ase.io.write(tmp_path / "out.extxyz", with_values(oxide(), values, MODEL.properties))
    label = Label(property_table()["hessian"])
    (frame,) = frames_from([("read", ase.io.read(tmp_path / "out.extxyz"))], [label])
    np.testing.assert_allclose(frame.labels["hessian"], values["hessian"], atol=1e-7)
