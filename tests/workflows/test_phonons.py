"""Phonons against phonopy's own displacements, longitudinal modes, limits of thermodynamics; thermal expansion."""

import numpy as np
import phonopy
import pytest
from ase import units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from scipy import constants

from carten.errors import DataError
from carten.interfaces.ase import Calculator
from carten.physics.zbl import ZblConfig
from carten.properties.spec import input_table
from carten.workflows.harmonic import ase_atoms, harmonic_crystal
from carten.workflows.phonons import phonons
from carten.workflows.qha import qha
from carten.workflows.relax import Goal, relax
from small import small_model, stiff_model


def relaxed(atoms, calculator):
    (result,) = relax(atoms, calculator, Goal(1e-5, 1e-4, cell=True, steps=2000))
    assert result.converged
    return result.atoms


def displaced(result, calculator):
    """phonopy's own way: forces of displaced supercells."""
    own = phonopy.Phonopy(
        result.phonopy.unitcell, result.phonopy.supercell_matrix, primitive_matrix=result.phonopy.primitive_matrix
    )
    own.generate_displacements(distance=0.005)
    forces = []
    for cell in own.supercells_with_displacements:
        atoms = ase_atoms(cell)
        atoms.calc = calculator
        forces.append(atoms.get_forces())
    own.forces = forces
    own.produce_force_constants()
    return own


@pytest.fixture(scope="module")
def copper():
    return phonons(relaxed(bulk("Cu"), EMT()), EMT(), (3, 3, 3))


def same_frequencies(result, own):
    highest = max(segment.frequencies.max() for segment in result.path)
    for segment in result.path:
        for k in (0, -1, len(segment.q) // 2):
            reference = own.get_frequencies(segment.q[k])
            np.testing.assert_allclose(segment.frequencies[k], reference, atol=1e-3 * highest)


def test_another_calculator(copper):
    same_frequencies(copper, displaced(copper, EMT()))
    assert list(copper.points) == ["Γ", "X", "U", "K", "L", "W"]
    assert copper.warnings() == [] and copper.failures() == []


@pytest.mark.needs("cpp")
def test_force_constants_of_a_model():
    calculator, start = Calculator(stiff_model()), bulk("C")
    start.rattle(0.1, seed=2)
    result = phonons(relaxed(start, calculator), calculator, (2, 2, 1))
    same_frequencies(result, displaced(result, calculator))


def test_longitudinal_modes_of_a_polar_crystal():
    """w_LO^2 - w_TO^2 = Z^2 e^2 / (eps0 eps V mu) in a cubic crystal of two atoms, wherever the energy is lowest."""
    rows = ("energy", "forces", "stress")
    model = small_model(properties=rows, inputs=(input_table()["electric_field"],), terms=(ZblConfig(),), seed=5)
    model.heads["energies"].scale.fill_(3.0)
    calculator, atoms = Calculator(model), bulk("CO", "zincblende", a=3.4)
    crystal = harmonic_crystal(atoms, calculator, (1, 1, 1))
    born = calculator.get_property("born_charges", atoms)[0, 0, 0]
    dielectric = calculator.get_property("dielectric", atoms)[0, 0]
    mass = 1.0 / (1.0 / atoms.get_masses()).sum() * constants.atomic_mass
    square = (born * constants.e) ** 2 / (constants.epsilon_0 * dielectric * atoms.get_volume() * 1e-30 * mass)
    crystal.run_band_structure([np.array([[0.0, 0.0, 0.0], [0.01, 0.0, 0.01]])])
    frequencies = crystal.band_structure.frequencies[0][0]
    squares = np.sort(np.sign(frequencies) * (2e12 * np.pi * frequencies) ** 2)
    optical = sorted(squares, key=lambda x: -abs(x))[:3]
    assert max(optical) - min(optical) == pytest.approx(square, rel=1e-3)


def test_thermal_properties_have_the_right_limits(copper):
    """Dulong and Petit, and half a quantum for each mode of the density of states."""
    assert copper.at(1000.0)[2] == pytest.approx(3 * units.kB / units.J * units.mol, rel=0.01)
    assert copper.at(0.0)[2] == pytest.approx(0.0, abs=1e-6)
    frequencies, states = copper.dos.T
    energy = 0.5 * constants.h * 1e12 / constants.e * np.trapezoid(frequencies * states, frequencies)
    assert copper.thermal[0, 1] == pytest.approx(energy, rel=0.01)
    assert np.trapezoid(states, frequencies) == pytest.approx(3.0, rel=0.01)
    free_energy, entropy = copper.thermal[:, 1], copper.thermal[:, 2] * units.J / units.mol
    np.testing.assert_allclose(-np.gradient(free_energy, copper.thermal[:, 0])[10:-1], entropy[10:-1], rtol=5e-3)


def test_files_are_what_phonopy_loads(copper, tmp_path):
    paths = copper.save(tmp_path)
    names = ["json", "-bands.csv", "-dos.csv", "-thermal.csv", "extxyz", "svg", "png", "yaml"]
    assert [path.name for path in paths] == [f"phonons{name if name[0] == '-' else '.' + name}" for name in names]
    loaded = phonopy.load(paths[-1], log_level=0)
    np.testing.assert_allclose(loaded.get_frequencies([0.5, 0.0, 0.5]), copper.points["X"], atol=1e-4)


def test_imaginary_modes_are_named():
    """bcc copper is unstable under shear: a soft branch towards N."""
    result = phonons(relaxed(bulk("Cu", "bcc", a=2.87), EMT()), EMT(), (4, 4, 4))
    (warning,) = result.warnings()
    assert "the crystal is no minimum" in warning and "THz (imaginary) at q = (" in warning


def test_bad_input():
    with pytest.raises(DataError, match="phonons needs a crystal"):
        phonons(molecule("H2O"), EMT())
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    assert "run carten relax first" in phonons(atoms, EMT(), (1, 1, 1)).failures()[0]


def test_expansion_minimises_the_free_energy():
    atoms = relaxed(bulk("Cu"), EMT())
    result = qha(atoms, EMT(), (2, 2, 2))
    volumes, energies, free_energies = [], [], []
    for share in np.linspace(-0.03, 0.06, 9):
        scaled = atoms.copy()
        scaled.set_cell(atoms.cell * (1 + share) ** (1 / 3), scale_atoms=True)
        scaled.calc = EMT()
        volumes.append(scaled.get_volume())
        energies.append(scaled.get_potential_energy())
        free_energies.append(phonons(scaled, EMT(), (2, 2, 2)).thermal[:, 1])
    for temperature in (0, 300, 700):
        total = np.array(energies) + np.array(free_energies)[:, temperature // 10]
        slope = np.polyder(np.polyfit(np.array(volumes) - volumes[4], total, 5))
        roots = np.roots(slope) + volumes[4]
        (minimum,) = roots[(np.abs(roots.imag) < 1e-9) & (roots.real > volumes[0]) & (roots.real < volumes[-1])].real
        assert np.interp(temperature, result.temperatures, result.volumes) == pytest.approx(minimum, rel=2e-4)
    slope = np.gradient(result.volumes, result.temperatures) / result.volumes
    np.testing.assert_allclose(result.expansion[5:-2], slope[5:-2], rtol=1e-2)
    assert 'temperatures end at' in result.warnings()[0] and result.failures() == []
    with pytest.raises(ValueError, match="at least 5 points"):
        qha(atoms, EMT(), points=3)
