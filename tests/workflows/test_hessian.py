"""Hessians: row by row as whole, symmetry as without, any calculator by differences."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.vibrations import Vibrations

from carten.errors import ModelError
from carten.interfaces.ase import Calculator
from carten.properties.spec import input_table
from carten.uncertainty.ensemble import Ensemble
from carten.workflows import hessian as module
from carten.workflows.hessian import force_constants, hessian
from carten.workflows.symmetry import crystal_symmetry
from small import oxide, small_model


def quartz_like() -> Atoms:
    """Two kinds of atoms, several of them equivalent, in a cell without right angles."""
    atoms = bulk("C", "hcp", a=2.6, c=4.2) * (1, 2, 1)
    return atoms + Atoms("O2", [[0.0, 0.0, 1.1], [0.0, 0.0, -1.1]])


@pytest.mark.parametrize("atoms", [molecule("CH3OH"), oxide(), bulk("C") * (2, 1, 2), quartz_like()], ids=str)
def test_rows_make_the_property(atoms, monkeypatch):
    monkeypatch.setattr(module, "ROWS", 6)
    calculator, steps = Calculator(small_model(n_layers=2)), []
    result = hessian(atoms, calculator, lambda *step: steps.append(step))
    reference = calculator.get_property("hessian", atoms)
    np.testing.assert_allclose(result, reference, atol=1e-10 * np.abs(reference).max())
    assert steps[-1][0] == steps[-1][1] <= 3 * len(atoms)


def test_sums_vanish_and_sides_agree():
    """No force where all atoms move together, and the matrix is symmetric, to rounding."""
    atoms = quartz_like()
    atoms.rattle(0.05, seed=1)
    result = hessian(atoms, Calculator(small_model(n_layers=2)))
    scale = np.abs(result).max()
    assert np.abs(result - result.T).max() < 1e-12 * scale
    assert np.abs(result.reshape(-1, len(atoms), 3).sum(axis=1)).max() < 1e-12 * scale


@pytest.mark.parametrize("most", [1, 200], ids=["alone", "three"])
def test_copies_share_the_rows(most, monkeypatch):
    """However many copies there are, also where they do not divide the rows."""
    atoms, calculator = molecule("CH3OH"), Calculator(small_model())
    reference = calculator.get_property("hessian", atoms)
    monkeypatch.setattr(module, "MOST_EDGES", most)
    rows = module.PairRows(atoms, calculator, "hessian", len(atoms))
    assert rows.copies == (1 if most == 1 else most // 31)
    values = rows.of(np.array([4, 0])).transpose(0, 2, 1, 3).reshape(6, -1)
    np.testing.assert_allclose(values, reference[[12, 13, 14, 0, 1, 2]], atol=1e-10 * np.abs(reference).max())


def test_symmetry_leaves_few_rows():
    atoms, steps = bulk("C", cubic=True) * (2, 1, 1), []
    symmetric = hessian(atoms, Calculator(small_model()), lambda *step: steps.append(step))
    assert steps == [(3, 3)]
    full = hessian(atoms, Calculator(small_model()), symmetry=False)
    np.testing.assert_allclose(symmetric, full, atol=1e-10 * np.abs(full).max())


def test_displaced_atoms_are_not_equivalent():
    atoms = bulk("C", cubic=True)
    assert crystal_symmetry(atoms).symbol == "Fd-3m (227)"
    atoms.positions[3] += [0.01, 0.003, 0.0]
    assert len(set(crystal_symmetry(atoms).equivalent)) > 1
    calculator = Calculator(small_model())
    reference = calculator.get_property("hessian", atoms)
    np.testing.assert_allclose(hessian(atoms, calculator), reference, atol=1e-10 * np.abs(reference).max())


def test_inputs_break_symmetry():
    """In a field, atoms that are equivalent by their places are not."""
    atoms = bulk("C", cubic=True)
    atoms.info["electric_field"] = np.array([0.1, 0.2, -0.3])
    calculator = Calculator(small_model(inputs=(input_table()["electric_field"],)))
    reference = calculator.get_property("hessian", atoms)
    np.testing.assert_allclose(hessian(atoms, calculator), reference, atol=1e-10 * np.abs(reference).max())


def test_any_calculator_by_differences(tmp_path):
    atoms = molecule("H2O")
    atoms.calc = EMT()
    vibrations = Vibrations(atoms, name=str(tmp_path / "vib"), delta=module.STEP)
    vibrations.run()
    reference = vibrations.get_vibrations().get_hessian_2d()
    result = hessian(atoms, EMT())
    np.testing.assert_allclose((result + result.T) / 2, reference, atol=1e-6 * np.abs(reference).max())


def test_rows_of_some_atoms_of_a_supercell():
    atoms = bulk("Cu", cubic=True) * (2, 2, 2)
    some, every = force_constants(atoms, [0, 5], EMT()), hessian(atoms, EMT(), symmetry=False)
    every = every.reshape(len(atoms), 3, len(atoms), 3).transpose(0, 2, 1, 3)
    np.testing.assert_allclose(some, every[[0, 5]], atol=2e-5 * np.abs(every).max())


def test_an_unknown_element_is_named():
    with pytest.raises(ModelError, match="Cu"):
        hessian(bulk("Cu"), Calculator(small_model()))


def test_a_committee_has_the_hessian_of_its_forces():
    """The mean of its members, against central differences of its forces."""
    calculator = Calculator(Ensemble([small_model(seed=1), small_model(seed=2)]), backend="reference")
    atoms = molecule("H2O")
    result = hessian(atoms, calculator)
    column = np.zeros(9)
    for sign in (1.0, -1.0):
        moved = atoms.copy()
        moved.positions[1, 2] += sign * 1e-4
        column -= sign * calculator.get_property("forces", moved).ravel() / 2e-4
    np.testing.assert_allclose(result[5], column, atol=1e-6 * np.abs(column).max())
    alone = hessian(atoms, Calculator(small_model(seed=1), backend="reference"))
    assert np.abs(result - alone).max() > 1e-3 * np.abs(result).max()
