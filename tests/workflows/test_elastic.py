"""Elastic tensors against finite strains with relaxed ions, under stress and without; responses to fields; moduli."""

from dataclasses import replace

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.optimize import BFGS
from ase.units import GPa

from carten.errors import DataError
from carten.interfaces.ase import Calculator
from carten.physics.zbl import ZblConfig
from carten.properties.spec import input_table
from carten.workflows.elastic import C_PER_M2, COULOMB, elastic
from carten.workflows.moduli import VOIGT_PAIRS, averages, young_moduli
from carten.workflows.relax import Goal, relax
from carten.workflows.strains import _differences, strain_derivatives
from small import small_model, stiff_model


def relaxed(atoms, calculator, cell=True):
    (result,) = relax(atoms, calculator, Goal(1e-5, 1e-4, cell=cell, steps=2000))
    assert result.converged
    atoms = result.atoms
    atoms.calc = None
    return atoms


def slope(atoms, calculator, i, j, values, follow=True, step=1e-3):
    """Central difference in a symmetric strain, of ions that follow it."""
    results = []
    for sign in (1.0, -1.0):
        deformation = np.eye(3)
        deformation[i, j] += sign * step / 2
        deformation[j, i] += sign * step / 2
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
        strained.calc = calculator
        if follow:
            assert BFGS(strained, logfile=None).run(fmax=1e-6, steps=500)
        results.append(values(strained))
    return (results[0] - results[1]) / (2 * step)


def test_hexagonal_crystal_of_another_calculator():
    """EMT's hcp copper: ions follow strains in the plane."""
    atoms = relaxed(bulk("Cu", "hcp", a=2.55, c=4.2), EMT())
    result = elastic(atoms, EMT())
    assert result.failures() == [] and result.warnings() == [] and result.stable
    for column in (0, 2, 3, 5):
        reference = slope(atoms, EMT(), *VOIGT_PAIRS[column], lambda a: a.get_stress()) / GPa
        np.testing.assert_allclose(result.stiffness[:, column], reference, atol=1e-3 * result.stiffness.max())
    assert result.clamped[0, 0] - result.stiffness[0, 0] > 0.01 * result.stiffness[0, 0]
    c = result.stiffness
    assert c[5, 5] == pytest.approx((c[0, 0] - c[0, 1]) / 2, rel=1e-3)


@pytest.fixture(scope="module")
def model():
    """A model with a crystal at its minimum, in which ions follow a shear."""
    calculator = Calculator(stiff_model())
    start = bulk("C")
    start.rattle(0.1, seed=2)
    return calculator, relaxed(start, calculator)


@pytest.mark.needs("cpp")
@pytest.mark.parametrize("pressure", [0.0, 20.0])
def test_derivatives_of_a_model_are_finite_strains(model, pressure):
    calculator, atoms = model
    if pressure:
        atoms = atoms.copy()
        atoms.set_cell(0.97 * atoms.cell, scale_atoms=True)
        atoms = relaxed(atoms, calculator, cell=False)
    result = elastic(atoms, calculator)
    assert (np.abs(result.derivatives.stress).max() / GPa > 1.0) == bool(pressure)
    assert bool(result.warnings()) == bool(pressure)
    for column in (0, 3):
        for name, follow in (("stiffness", True), ("clamped", False)):
            reference = slope(atoms, calculator, *VOIGT_PAIRS[column], lambda a: a.get_stress(), follow) / GPa
            tensor = getattr(result, name)
            np.testing.assert_allclose(tensor[:, column], reference, atol=1e-3 * np.abs(tensor).max())


@pytest.mark.needs("cpp")
def test_differences_are_derivatives(model):
    calculator, atoms = model
    strained = atoms.copy()
    strained.set_cell(strained.cell @ np.diag([1.02, 1.0, 0.99]), scale_atoms=True)
    exact = strain_derivatives(strained, calculator)
    strained.calc = calculator
    clamped, coupling = _differences(strained, calculator)
    np.testing.assert_allclose(clamped, exact.clamped, atol=1e-4 * np.abs(exact.clamped).max())
    np.testing.assert_allclose(coupling, exact.coupling, atol=1e-4 * np.abs(exact.coupling).max())


@pytest.mark.needs("cpp")
def test_responses_to_fields_are_those_of_relaxed_ions():
    """Polarization of ions that follow a field, and a strain, by central differences."""
    model = small_model(
        properties=("energy", "forces", "stress"),
        inputs=(input_table()["electric_field"],),
        terms=(ZblConfig(),),
        seed=5,
    )
    model.heads["energies"].scale.fill_(3.0)
    calculator = Calculator(model)
    start = bulk("CO", "zincblende", a=3.4)
    start.rattle(0.1, seed=2)
    atoms = relaxed(start, calculator, cell=False)
    result = elastic(atoms, calculator).response
    difference, step = result.dielectric_relaxed - result.dielectric, 0.02
    polarizations = []
    for sign in (1.0, -1.0):
        calculator.inputs["electric_field"] = sign * step * np.array([1.0, 0.0, 0.0])
        moved = atoms.copy()
        moved.calc = calculator
        assert BFGS(moved, logfile=None).run(fmax=1e-6, steps=500)
        polarizations.append(calculator.get_property("polarization", moved))
    calculator.inputs.clear()
    susceptibility = (polarizations[0] - polarizations[1]) / (2 * step) / atoms.get_volume()
    expected = np.eye(3)[0] + 4 * np.pi * COULOMB * susceptibility
    np.testing.assert_allclose(result.dielectric_relaxed[0], expected, rtol=1e-3, atol=1e-3 * np.abs(difference).max())
    reference = slope(atoms, calculator, 1, 2, lambda a: calculator.get_property("polarization", a))
    reference *= C_PER_M2 / atoms.get_volume()
    scale = np.abs(result.piezoelectric_relaxed).max()
    np.testing.assert_allclose(result.piezoelectric_relaxed[:, 1, 2], reference, atol=2e-3 * scale)


def cubic(c11, c12, c44):
    stiffness = np.diag([c11 - c12] * 3 + [c44] * 3).astype(float)
    stiffness[:3, :3] += c12
    return stiffness


def test_moduli_of_cubic_crystals_have_closed_forms():
    c11, c12, c44 = 168.4, 121.4, 75.4  # copper, GPa
    moduli = averages(cubic(c11, c12, c44))
    assert moduli.bulk == pytest.approx([(c11 + 2 * c12) / 3] * 3)
    assert moduli.shear[0] == pytest.approx((c11 - c12 + 3 * c44) / 5)
    assert moduli.shear[1] == pytest.approx(5 * (c11 - c12) * c44 / (4 * c44 + 3 * (c11 - c12)))
    s11 = (c11 + c12) / ((c11 - c12) * (c11 + 2 * c12))
    s12 = -c12 / ((c11 - c12) * (c11 + 2 * c12))
    along = np.array([[1.0, 0.0, 0.0], np.ones(3) / np.sqrt(3)])
    young = young_moduli(cubic(c11, c12, c44), along)
    assert young[0] == pytest.approx(1 / s11)
    assert young[1] == pytest.approx(1 / (s11 - 2 / 3 * (s11 - s12 - 0.5 / c44)))


def test_isotropic_materials_are_isotropic():
    shear, lame = 30.0, 50.0
    moduli = averages(cubic(lame + 2 * shear, lame, shear))
    assert moduli.anisotropy == pytest.approx(0.0, abs=1e-12)
    assert moduli.young == pytest.approx(shear * (3 * lame + 2 * shear) / (lame + shear))
    assert moduli.poisson == pytest.approx(lame / (2 * (lame + shear)))


def test_unstable_crystals_and_forces_are_pointed_out():
    result = elastic(relaxed(bulk("Cu"), EMT()), EMT())
    unstable = replace(result, stiffness=cubic(100.0, 120.0, 50.0))
    assert not unstable.stable and "unstable" in unstable.warnings()[0]
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=0)
    assert "run carten relax first" in elastic(atoms, EMT()).failures()[0]
    with pytest.raises(DataError, match="elastic needs a crystal"):
        elastic(molecule("H2O"), EMT())
