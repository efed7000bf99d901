"""Spectra of oscillators whose frequency, dipole derivative and polarizability derivative are known."""

import ase
import numpy as np
import pytest
from ase import units
from ase.build import molecule

from carten.data.labels import Label
from carten.data.neighbours import graph
from carten.errors import DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.model.config import NetworkConfig
from carten.properties.potential import Potential
from carten.properties.routes import Derivative, Property
from carten.properties.spec import input_table, property_table
from carten.workflows.spectrum import INFRARED, LIGHT, infrared, nearest_peaks, raman, rotation_onto, spectrum
from carten.workflows.vibrations import intensities, normal_modes

TIMESTEP, TEMPERATURE, RESOLUTION = 1.0, 300.0, 10.0
LINES = (500.0, 1700.0, 3100.0)


def coordinates(n=40_000):
    """(T, lines) normal coordinates in Å sqrt(amu) with the energy k T each, phases apart."""
    times = TIMESTEP * units.fs * np.arange(n)[:, None]
    omega = 2 * np.pi * LIGHT * np.array(LINES)
    return np.sqrt(2 * units.kB * TEMPERATURE) / omega * np.cos(omega * times + np.array([0.1, 1.0, 2.0]))


def areas(wavenumbers, curve):
    step = wavenumbers[1] - wavenumbers[0]
    return [curve[np.abs(wavenumbers - line) < 100].sum() * step for line in LINES]


def test_the_infrared_constant_is_that_of_the_tables():
    assert pytest.approx(42.2561, rel=1e-5) == INFRARED / 4.80320471**2  # km/mol per (D/Å)^2/amu


def test_infrared_bands_of_harmonic_oscillators():
    slopes = np.array([[0.1, 0.0, 0.0], [0.0, 0.2, 0.1], [0.3, 0.0, -0.2]])
    wavenumbers, curve = infrared(1.5 + coordinates() @ slopes, TIMESTEP, TEMPERATURE, RESOLUTION)
    assert np.allclose(nearest_peaks(wavenumbers, curve, np.array(LINES)), LINES, atol=RESOLUTION / 2)
    assert np.allclose(areas(wavenumbers, curve), INFRARED * np.sum(slopes**2, axis=1), rtol=0.01)


def test_raman_bands_of_harmonic_oscillators():
    slopes = np.array([np.eye(3), np.diag([2.0, -1.0, -1.0]), [[0, 1, 0], [1, 0, 0], [0, 0, 0]]], dtype=float)
    tensors = 5.0 * np.eye(3) + np.einsum("tk,kij->tij", coordinates(), slopes)
    wavenumbers, curve = raman(tensors, TIMESTEP, TEMPERATURE, RESOLUTION)
    # 45 a'^2 + 7/2 ((xx-yy)^2 + (yy-zz)^2 + (zz-xx)^2 + 6 (xy^2 + yz^2 + zx^2))
    assert np.allclose(areas(wavenumbers, curve), [45.0, 63.0, 21.0], rtol=0.01)


def test_normal_modes_of_a_diatomic():
    atoms = ase.Atoms("CO", [[0, 0, 0], [0, 0, 1.13]])
    along = np.array([0.0, 0.0, 1.0, 0.0, 0.0, -1.0])
    wavenumbers, modes = normal_modes(atoms, 119.0 * np.outer(along, along))  # eV/Å^2
    mass = 1 / np.sum(1 / atoms.get_masses())
    assert wavenumbers == pytest.approx([np.sqrt(119.0 / mass) / (2 * np.pi * LIGHT)])
    assert wavenumbers == pytest.approx([2169.8], abs=10.0)  # carbon monoxide has 1.9 kN/m and 2170 cm^-1
    assert np.sum(atoms.get_masses()[:, None] * modes[0] ** 2) == pytest.approx(1.0)


def external(atoms):
    """Orthonormal mass-weighted translations and rotations, (3N, 6), by hand."""
    roots = np.sqrt(atoms.get_masses())
    arms = atoms.positions - atoms.get_center_of_mass()
    moves = [np.tile(axis, (len(atoms), 1)) for axis in np.eye(3)] + [np.cross(axis, arms) for axis in np.eye(3)]
    return np.linalg.qr(np.array([(roots[:, None] * move).ravel() for move in moves]).T)[0]


def hessian_of(atoms, squares, directions):
    """eV/Å^2 from squares of wavenumbers in cm^-2 of mass-weighted directions (3N, k)."""
    roots = np.repeat(np.sqrt(atoms.get_masses()), 3)
    weighted = (2 * np.pi * LIGHT) ** 2 * directions @ np.diag(squares) @ directions.T
    return weighted * np.outer(roots, roots)


def test_soft_vibrations_are_not_mistaken_for_rotations():
    """Forces that are not quite zero leave rotations at 16 cm^-1; a vibration is softer, another one imaginary."""
    atoms = molecule("C2H6")
    moves = external(atoms)
    inner = np.linalg.svd(moves.T)[2][6:].T
    lines = np.r_[-20.0, 12.0, np.linspace(300, 3000, 16)]
    hessian = hessian_of(atoms, np.sign(lines) * lines**2, inner) + hessian_of(atoms, np.full(3, 16.0**2), moves[:, 3:])
    wavenumbers, modes = normal_modes(atoms, hessian)
    assert wavenumbers == pytest.approx(lines, rel=1e-6)
    weighted = np.sqrt(atoms.get_masses())[:, None] * modes
    assert np.allclose(np.einsum("aij,bij->ab", weighted, weighted), np.eye(18), atol=1e-10)
    assert np.abs(weighted.reshape(18, -1) @ moves).max() < 1e-10


def springs(atoms, bonds):
    """The Hessian of springs at their natural length, (first, second, eV/Å^2)."""
    hessian = np.zeros((3 * len(atoms), 3 * len(atoms)))
    for i, j, constant in bonds:
        along = np.zeros((len(atoms), 3))
        unit = (atoms.positions[i] - atoms.positions[j]) / atoms.get_distance(i, j)
        along[i], along[j] = unit, -unit
        hessian += constant * np.outer(along.ravel(), along.ravel())
    return hessian


def test_a_linear_molecule_keeps_its_bends():
    """Carbon dioxide with two springs k: k / m_O and k / m_O (1 + 2 m_O / m_C); 3N - 5 modes, also slightly bent."""
    atoms = ase.Atoms("OCO", [[-1.16, 0, 0], [0, 0, 0], [1.16, 0, 0]])
    oxygen, carbon, _ = atoms.get_masses()
    symmetric, asymmetric = 100.0 / oxygen, 100.0 / oxygen * (1 + 2 * oxygen / carbon)
    for bend in (0.0, 1e-3):
        atoms.positions[1, 1] = bend
        wavenumbers, _ = normal_modes(atoms, springs(atoms, [(0, 1, 100.0), (1, 2, 100.0)]))
        expected = np.sqrt([0.0, 0.0, symmetric, asymmetric]) / (2 * np.pi * LIGHT)
        assert wavenumbers == pytest.approx(expected, rel=1e-3, abs=2.0)


def test_a_periodic_structure_keeps_its_rotations():
    """Two atoms of a crystal at the zone centre: three optical modes of springs along the axes, k / mu."""
    atoms = ase.Atoms("NaCl", [[0, 0, 0], [2.8, 0, 0]], cell=[5.6, 5.6, 5.6], pbc=True)
    block = np.diag([1.0, 2.0, 4.0])
    wavenumbers, _ = normal_modes(atoms, np.block([[block, -block], [-block, block]]))
    mass = 1 / np.sum(1 / atoms.get_masses())
    assert wavenumbers == pytest.approx(np.sqrt(np.array([1.0, 2.0, 4.0]) / mass) / (2 * np.pi * LIGHT))
    assert len(normal_modes(ase.Atoms("Ar"), np.zeros((3, 3)))[0]) == 0


@pytest.fixture(scope="module")
def model():
    """Random weights; dipoles and polarizabilities with their exact derivatives."""
    table = property_table()
    polar = Property("polar", "atom", "ij", +1, "e", (Derivative("dipole", ("positions",)),))
    rows = [table["energy"], table["dipole"], table["polarizability"], polar, table["raman"]]
    return Potential(NetworkConfig(n_channels=4, cutoff=3.0, n_layers=1), [1, 8], rows).double().freeze()


def test_intensities_are_those_of_the_exact_derivatives(model):
    atoms = molecule("H2O")
    masses = np.repeat(atoms.get_masses(), 3)
    modes = (np.eye(9) / np.sqrt(masses)[:, None]).reshape(9, 3, 3)  # one coordinate at a time
    found, activities = intensities(Calculator(model), atoms, modes)
    exact = model(graph(atoms, model.cutoff), ["polar", "raman"])
    slopes = exact["polar"].numpy().transpose(0, 2, 1).reshape(9, 3) / np.sqrt(masses)[:, None]
    assert np.allclose(found, INFRARED * np.sum(slopes**2, axis=1), rtol=1e-3, atol=1e-3 * found.max())
    a = exact["raman"].numpy().transpose(0, 3, 1, 2).reshape(9, 3, 3) / np.sqrt(masses)[:, None, None]
    x, y, z = a[:, 0, 0], a[:, 1, 1], a[:, 2, 2]
    outside = 6 * (a[:, 0, 1] ** 2 + a[:, 1, 2] ** 2 + a[:, 2, 0] ** 2)
    anisotropy = 0.5 * ((x - y) ** 2 + (y - z) ** 2 + (z - x) ** 2 + outside)
    expected = 45 * ((x + y + z) / 3) ** 2 + 7 * anisotropy
    assert np.allclose(activities, expected, rtol=1e-3, atol=1e-3 * expected.max())


def turning(n=400):
    """A rigid molecule that turns, with frames 1 fs apart."""
    frames = []
    for k in range(n):
        frames.append(molecule("H2O"))
        frames[-1].rotate(2.0 * k, (1, 2, 3))
        frames[-1].info["time_ps"] = k / 1000.0
        frames[-1].set_momenta(np.full((3, 3), 0.1))
    return frames


def test_rotation_is_removed(model):
    found = spectrum(model, turning(), temperature=300.0, resolution=200.0)
    lab = np.array([model(graph(f, model.cutoff), ["dipole"])["dipole"].numpy()[0] for f in turning()])
    assert infrared(lab, 1.0, 300.0, 200.0)[1].max() > 1e-3
    assert found.infrared.max() < 1e-12
    assert found.raman.max() < 1e-12


def test_inputs_turn_with_the_molecule():
    """A field that turns with the molecule, as seen from it, does not change: the dipole does not fluctuate."""
    table = property_table()
    rows = [table["energy"], table["dipole"]]
    inputs = [input_table()["electric_field"]]
    told = Potential(NetworkConfig(n_channels=4, cutoff=3.0, n_layers=1), [1, 8], rows, inputs=inputs).double().freeze()
    frames = turning(40)
    for atoms in frames:
        rotation = rotation_onto(atoms, frames[0])
        atoms.info["E"] = rotation @ np.array([0.0, 0.5, 1.0]) / 51.422067  # in atomic units
    labels = {"electric_field": Label(inputs[0], "E", "Hartree/e/Bohr")}
    found = spectrum(told, frames, temperature=300.0, resolution=2000.0, inputs=labels)
    assert found.infrared.max() < 1e-12
    for atoms in frames:
        atoms.info["E"] = np.array([0.0, 0.5, 1.0]) / 51.422067
    assert spectrum(told, frames, temperature=300.0, resolution=2000.0, inputs=labels).infrared.max() > 1e-9


def test_time_and_temperature_come_from_the_frames(model):
    frames = turning(40)
    found = spectrum(model, frames, resolution=2000.0)
    kinetic = frames[0].get_kinetic_energy()
    assert found.temperature == pytest.approx(2 * kinetic / (6 * units.kB))
    assert found.wavenumbers[-1] == pytest.approx(1e15 / 2 / (units._c * 100))  # half the sampling rate


def test_what_is_missing_is_said(model):
    frames = turning(40)
    with pytest.raises(DataError, match="run longer dynamics"):
        spectrum(model, frames, temperature=300.0, resolution=1.0)
    for atoms in frames:
        del atoms.info["time_ps"]
    with pytest.raises(DataError, match="--timestep"):
        spectrum(model, frames)
    with pytest.raises(DataError, match="--temperature"):
        spectrum(model, [molecule("H2O")] * 40, timestep=1.0)
    with pytest.raises(DataError, match="frame 1 has other atoms"):
        spectrum(model, [molecule("H2O"), molecule("H2")], timestep=1.0)
    with pytest.raises(DataError, match="frame 0 is periodic"):
        spectrum(model, [ase.Atoms("HO", [[0, 0, 0], [0, 0, 1]], cell=[9, 9, 9], pbc=True)] * 40, timestep=1.0)
    energies = Potential(NetworkConfig(n_channels=4), [1, 8], [property_table()["energy"]])
    with pytest.raises(ModelError, match="predicts dipole"):
        spectrum(energies, frames)
