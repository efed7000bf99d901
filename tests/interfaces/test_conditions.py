"""Inputs in the calculator: where it finds them, and that they are set per call."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from numpy.typing import NDArray

import carten
from carten.errors import DataError
from carten.interfaces.ase import Calculator
from carten.model.conditions import Exchange
from carten.properties.routes import Property
from carten.properties.spec import input_table, property_table
from properties.cases import build, other_solid

ENERGY = property_table()["energy"]
TABLE = input_table()


def bare() -> Atoms:
    atoms = other_solid()
    atoms.info.clear()
    for name in ("magmoms", "collinear_magmoms", "partial_charges"):
        del atoms.arrays[name]
    return atoms


def in_field(field: list[float]) -> tuple[Atoms, Calculator]:
    atoms = bare()
    atoms.info["electric_field"] = field
    atoms.calc = carten.Calculator(build((ENERGY,), (TABLE["electric_field"],)))
    return atoms, atoms.calc


def test_fields_are_set_from_call_to_call():
    """In info, for all structures in the calculator, which goes first, or not at all: the default."""
    atoms, calculator = in_field([0.0, 0.0, 1.0])
    one = atoms.get_potential_energy()
    atoms.info["electric_field"] = [0.0, 0.0, 0.0]
    zero = atoms.get_potential_energy()
    del atoms.info["electric_field"]
    assert atoms.get_potential_energy() == zero != one
    calculator.inputs["electric_field"] = [0.0, 0.0, 1.0]
    assert atoms.get_potential_energy() == one
    atoms.info["electric_field"] = [0.0, 0.0, 0.0]
    assert atoms.get_potential_energy() == one


def test_nothing_is_evaluated_twice_in_the_same_field():
    atoms, calculator = in_field([0.1, 0.0, 0.0])
    atoms.get_potential_energy()
    results = dict(calculator.results)
    atoms.get_forces()
    assert all(calculator.results[name] is value for name, value in results.items())


@pytest.mark.parametrize("name", ["polarizability", "dielectric", "born_charges", "hessian", "raman", "elastic"])
def test_every_response_has_its_name(name):
    atoms, calculator = in_field([0.1, 0.0, 0.0])
    value = calculator.get_property(name, atoms)
    row, n = calculator.model.properties[name], len(atoms)
    shapes = {"structure": row.shape, "atom": (n, *row.shape), "pair": (3 * n, 3 * n)}
    assert value.shape == shapes[row.scope]
    if row.ase:
        np.testing.assert_array_equal(calculator.get_property(row.ase, atoms), value)
        assert row.ase in calculator.implemented_properties


def test_what_is_per_volume_needs_a_cell():
    atoms, calculator = in_field([0.1, 0.0, 0.0])
    atoms.set_cell(None)
    atoms.pbc = False
    with pytest.raises(PropertyNotImplementedError, match=r"dielectric is per volume, .* has no cell: set atoms.cell"):
        calculator.get_property("dielectric", atoms)


def test_hessians_are_those_of_ase_by_differences():
    atoms, calculator = in_field([0.1, 0.0, 0.0])
    hessian = calculator.get_property("hessian", atoms)
    exact = Calculator(calculator.model, backend="reference")
    differences, step = np.empty_like(hessian), 1e-4
    for k in range(len(hessian)):
        pushed = []
        for sign in (-1, 1):
            moved = atoms.copy()
            moved.positions.flat[k] += sign * step
            moved.calc = exact
            pushed.append(-moved.get_forces().ravel())
        differences[k] = (pushed[1] - pushed[0]) / (2 * step)
    np.testing.assert_allclose(hessian, differences, atol=1e-6 * np.abs(hessian).max())


def energy_with(row: object, atoms: Atoms) -> float:
    atoms.calc = carten.Calculator(build((ENERGY,), (row,)))
    return float(atoms.get_potential_energy())


@pytest.mark.parametrize("name", ["partial_charges", "magmoms", "collinear_magmoms"])
def test_initial_charges_and_moments_of_ase_are_inputs(name):
    row = TABLE[name]
    values = np.random.default_rng(0).normal(size=(4, *row.shape))
    named, by_ase = bare(), bare()
    named.arrays[name] = values
    (by_ase.set_initial_charges if name == "partial_charges" else by_ase.set_initial_magnetic_moments)(values)
    assert energy_with(row, named) == energy_with(row, by_ase)
    by_ase.arrays[name] = 0.5 * values
    assert energy_with(row, by_ase) != energy_with(row, named), "the name of the row goes first"
    with pytest.raises(DataError, match=f"input {name} .* is missing and has no default"):
        energy_with(row, bare())


def test_moments_of_the_wrong_kind_are_refused():
    atoms = bare()
    atoms.set_initial_magnetic_moments([1.0, -1.0, 1.0, 0.0])
    with pytest.raises(DataError, match=r"of magmoms has shape \(4,\), expected \(4, 3\)"):
        energy_with(replace(TABLE["magmoms"], embed=Exchange()), atoms)


def test_magnetic_forces_follow_the_moments():
    row: Property = property_table()["magnetic_forces"]
    atoms = bare()
    moments: NDArray[np.float64] = np.random.default_rng(1).normal(size=(4, 3))
    atoms.calc = carten.Calculator(build((ENERGY, row), (replace(TABLE["magmoms"], embed=Exchange()),)))
    energies, step = [], 1e-3
    for sign in (-1, 1):
        pushed = moments.copy()
        pushed[2, 1] += sign * step
        atoms.set_initial_magnetic_moments(pushed)
        energies.append(atoms.get_potential_energy())
    atoms.set_initial_magnetic_moments(moments)
    force = atoms.calc.get_property("magnetic_forces", atoms)[2, 1]
    assert force == pytest.approx((energies[0] - energies[1]) / (2 * step), rel=1e-5)
