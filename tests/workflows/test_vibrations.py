"""Vibrations of molecules against ASE's, thermochemistry against the JANAF tables, animations, bad input."""

from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.vibrations import Vibrations

from carten.errors import DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.workflows import hessian
from carten.workflows.relax import Goal, relax
from carten.workflows.thermochemistry import GasConditions, ideal_gas
from carten.workflows.vibrations import FRAMES, vibrations
from small import ethanol, small_model


@pytest.fixture(scope="module")
def water():
    (relaxed,) = relax(molecule("H2O"), EMT(), Goal(fmax=1e-5))
    return vibrations(relaxed.atoms, EMT())


def test_wavenumbers_are_those_of_ase(water, tmp_path):
    atoms = water.atoms.copy()
    atoms.calc = EMT()
    reference = Vibrations(atoms, name=str(tmp_path / "vib"), delta=hessian.STEP)
    reference.run()
    np.testing.assert_allclose(water.wavenumbers, reference.get_frequencies()[-3:].real, rtol=1e-4)
    assert np.isnan(water.infrared).all() and "infrared_km/mol" not in water.tables()["modes"]
    assert water.warnings() == [] and water.failures() == []


def bent(distance, angle):
    x, y = distance * np.sin(np.radians(angle / 2)), distance * np.cos(np.radians(angle / 2))
    return Atoms("OH2", [[0, 0, 0], [x, y, 0], [-x, y, 0]])


@pytest.mark.parametrize(
    ("atoms", "wavenumbers", "symmetry_number", "entropy", "enthalpy"),
    [
        (Atoms("Ar"), [], 1, 154.845, 6.197),
        (Atoms("N2", [[0, 0, 0], [0, 0, 1.0977]]), [2330.0], 2, 191.609, 8.670),
        (bent(0.9572, 104.52), [1594.7, 3657.1, 3755.9], 2, 188.834, 9.904),
    ],
    ids=["Ar", "N2", "H2O"],
)
def test_the_ideal_gas_is_that_of_the_tables(atoms, wavenumbers, symmetry_number, entropy, enthalpy):
    """Entropy in J/(K mol) and H(298.15 K) - H(0) in kJ/mol at 1 bar: NIST-JANAF, measured wavenumbers."""
    conditions = GasConditions(pressure=1e5, symmetry_number=symmetry_number)
    gas = ideal_gas(atoms, np.array(wavenumbers), -3.0, conditions)
    assert gas.entropy / units.J * units.mol == pytest.approx(entropy, abs=0.25)  # rigid, harmonic
    assert (gas.enthalpy + 3.0 - gas.zero_point) / units.kJ * units.mol == pytest.approx(enthalpy, abs=0.03)
    assert gas.zero_point == pytest.approx(0.5 * sum(wavenumbers) * units.invcm)
    assert gas.gibbs == pytest.approx(gas.enthalpy - 298.15 * gas.entropy)


def test_imaginary_modes_are_named_and_left_out(water):
    saddle = replace(water, wavenumbers=np.array([-500.0, 1600.0, 3700.0]))
    assert "1 imaginary mode (500i cm⁻¹)" in saddle.warnings()[0]
    gas = ideal_gas(water.atoms, saddle.wavenumbers, 0.0, GasConditions())
    assert gas.zero_point == pytest.approx(0.5 * 5300.0 * units.invcm)


def test_modes_are_animated(water, tmp_path):
    water.save(tmp_path)
    frames = ase.io.read(tmp_path / "vibrations.extxyz", ":")
    assert len(frames) == 3 * FRAMES and [frames[k * FRAMES].info["mode"] for k in range(3)] == [1, 2, 3]
    for frame in frames:
        np.testing.assert_allclose(frame.get_center_of_mass(), water.atoms.get_center_of_mass(), atol=1e-6)
    np.testing.assert_allclose(frames[FRAMES].positions, water.atoms.positions, atol=1e-7)
    assert frames[FRAMES].info["wavenumber"] == pytest.approx(water.wavenumbers[1])


@pytest.mark.needs("cpp")
def test_a_model_with_dipoles_has_intensities(tmp_path):
    result = vibrations(ethanol(), Calculator(small_model()))
    assert result.wavenumbers.shape == result.infrared.shape == (21,)
    assert (result.infrared >= 0).all() and np.isnan(result.raman).all()
    assert "run carten relax first" in result.failures()[0]
    names = [path.name for path in result.save(tmp_path)]
    assert names == [f"vibrations{end}" for end in (".json", "-modes.csv", ".extxyz", ".svg", ".png")]


def test_a_single_atom_has_no_modes(tmp_path):
    result = vibrations(Atoms("Cu"), EMT())
    assert len(result.wavenumbers) == 0 and result.gas.zero_point == 0.0
    assert all(path.exists() for path in result.save(tmp_path))


def test_bad_input():
    with pytest.raises(DataError, match="periodic: use phonons"):
        vibrations(bulk("Cu"), EMT())
    with pytest.raises(DataError, match="no atoms"):
        vibrations(Atoms(), EMT())
    with pytest.raises(ModelError, match="Ar"):
        vibrations(Atoms("Ar"), Calculator(small_model()))
    with pytest.raises(ValueError, match="spin must be"):
        GasConditions(spin=0.3)
    with pytest.raises(ValueError, match="temperature must be positive"):
        GasConditions(temperature=0.0)
