"""Energies that dynamics adds: a spring on the centre of mass against its closed form, PLUMED against its own files."""

import csv

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from carten.errors import ConfigError, DataError
from carten.workflows.md import Settings, run_dynamics
from carten.workflows.restraints import CentreRestraint, restrained

SPRING = 2.0  # eV/Å^2


def pair(speed: float = 0.0) -> Atoms:
    """Copper and gold, at rest but for their common motion along x."""
    atoms = Atoms("CuAu", [[0, 0, 0], [0, 0, 2.4]])
    atoms.calc = EMT()
    atoms.set_velocities([[speed, 0, 0]] * 2)
    return atoms


def log(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def test_a_centre_on_a_spring_oscillates(tmp_path):
    """At the frequency sqrt(k / M), with the amplitude v / frequency, energy going to and fro and none lost."""
    speed = 0.02
    atoms = pair(speed)
    mass = atoms.get_masses().sum()
    frequency, start = np.sqrt(SPRING / mass), atoms.get_center_of_mass()
    quarter = 0.5 * np.pi / frequency / units.fs
    run_dynamics(atoms, Settings(400, quarter / 400, centre_spring=SPRING), tmp_path / "md.extxyz")
    shift = atoms.get_center_of_mass() - start
    assert shift == pytest.approx([speed / frequency, 0.0, 0.0], rel=1e-4, abs=1e-6)
    columns = log(tmp_path / "md.csv")
    assert columns["restraint_eV"][-1] == pytest.approx(0.5 * SPRING * shift[0] ** 2, rel=1e-4)
    assert np.ptp(columns["conserved_eV"]) < 1e-2 * columns["restraint_eV"][-1]
    assert columns["potential_eV"][-1] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    last = ase.io.read(tmp_path / "md.extxyz")
    assert not last.constraints and not atoms.constraints
    assert last.get_forces() == pytest.approx(EMT().get_forces(atoms), abs=1e-7)


def test_its_forces_are_the_slope_of_its_energy():
    atoms = pair()
    atoms.positions[0] += [0.3, -0.2, 0.1]
    spring = CentreRestraint(SPRING, np.zeros(3))
    forces = np.zeros((2, 3))
    spring.adjust_forces(atoms, forces)
    for atom in range(2):
        for axis in range(3):
            energies = []
            for step in (1e-4, -1e-4):
                moved = atoms.copy()
                moved.positions[atom, axis] += step
                energies.append(spring.adjust_potential_energy(moved))
            assert forces[atom, axis] == pytest.approx((energies[1] - energies[0]) / 2e-4, rel=1e-6)


def test_a_continued_run_has_the_same_spring(tmp_path):
    settings = {"ensemble": "langevin", "interval": 4, "seed": 5, "centre_spring": SPRING}
    run_dynamics(pair(), Settings(steps=16, **settings), tmp_path / "whole.extxyz")
    run_dynamics(pair(), Settings(steps=8, **settings), tmp_path / "parts.extxyz")
    moved = pair()
    moved.positions += 1.0  # where the structure is does not matter when a run goes on
    run_dynamics(moved, Settings(steps=16, **settings), tmp_path / "parts.extxyz", restart=True)
    assert (tmp_path / "parts.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    with pytest.raises(DataError, match=r"centre_spring was 2\.0, now not set"):
        run_dynamics(pair(), Settings(20, interval=4, seed=5, ensemble="langevin"), tmp_path / "parts.extxyz", True)


def test_the_temperature_counts_the_centre(tmp_path):
    """All 3 N degrees of freedom are those of the thermostat, N - 1 atoms' with a centre that does not move."""
    atoms = bulk("Cu", cubic=True)
    with restrained(atoms, [CentreRestraint(SPRING, atoms.get_center_of_mass())]):
        assert atoms.get_number_of_degrees_of_freedom() == 12
    atoms.set_constraint(FixAtoms([0]))
    with restrained(atoms, [CentreRestraint(SPRING, atoms.get_center_of_mass())]):
        assert atoms.get_number_of_degrees_of_freedom() == 9
    assert [type(constraint) for constraint in atoms.constraints] == [FixAtoms]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"centre_spring": 0.0}, "above 0, found 0.0"),
        ({"centre_spring": float("nan")}, "above 0, found nan"),
        ({"centre_spring": 1.0, "ensemble": "npt"}, "use bussi or langevin"),
        ({"plumed": "d: DISTANCE ATOMS=1,2", "ensemble": "npt"}, "use bussi or langevin"),
    ],
)
def test_settings_that_make_no_sense(options, word):
    with pytest.raises(ConfigError, match=word):
        Settings(1, **options)


# --- PLUMED -------------------------------------------------------------------------------------------------------

METADYNAMICS = """
UNITS LENGTH=A ENERGY=eV
# a comment: FILE=none
d: DISTANCE ATOMS=1,2
METAD ARG=d SIGMA=0.05 HEIGHT=0.01 PACE=10 FILE=hills LABEL=metad
PRINT ARG=d,metad.bias FILE=colvar
"""


@pytest.mark.needs("plumed")
def test_a_wall_of_plumed_is_that_of_its_formula(tmp_path, monkeypatch):
    """Energies of a harmonic restraint at all frames; the frames have forces and energies of the model alone."""
    monkeypatch.chdir(tmp_path)
    text = "UNITS LENGTH=A ENERGY=eV\nd: DISTANCE ATOMS=1,2\nRESTRAINT ...\n  ARG=d AT=2.5\n  KAPPA=3\n... RESTRAINT\n"
    atoms = pair()
    run_dynamics(atoms, Settings(100, 1.0, plumed=text), tmp_path / "md.extxyz")
    frames, columns = ase.io.read(tmp_path / "md.extxyz", ":"), log(tmp_path / "md.csv")
    distances = np.array([frame.get_distance(0, 1) for frame in frames])
    assert columns["restraint_eV"] == pytest.approx(1.5 * (distances - 2.5) ** 2, abs=1e-6)
    assert np.ptp(columns["conserved_eV"]) < 0.02 * np.ptp(columns["restraint_eV"])
    assert frames[-1].get_forces() == pytest.approx(EMT().get_forces(frames[-1]), abs=1e-6)


@pytest.mark.needs("plumed")
def test_metadynamics_goes_on_with_its_hills(tmp_path, monkeypatch):
    """The bias at the end is the sum of Gaussians in the file of hills; a run in parts has the same hills."""
    settings = {"ensemble": "langevin", "timestep": 1.0, "interval": 10, "seed": 3, "plumed": METADYNAMICS}
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        if name == "parts":
            run_dynamics(pair(), Settings(steps=45, **settings), tmp_path / name / "md.extxyz")
            with (tmp_path / name / "hills").open("a") as file:
                file.write(" 0.05 2.4 0.05 9.0 -1\n")  # as of steps after the last state
        run_dynamics(pair(), Settings(steps=100, **settings), tmp_path / name / "md.extxyz", restart=name == "parts")
    hills = [np.loadtxt(tmp_path / name / "hills") for name in ("whole", "parts")]
    assert hills[0].shape == hills[1].shape == (10, 5)
    assert hills[1] == pytest.approx(hills[0], abs=1e-6)
    last, columns = ase.io.read(tmp_path / "whole" / "md.extxyz"), log(tmp_path / "whole" / "md.csv")
    steps = last.get_distance(0, 1) - hills[0][:-1, 1]  # the last hill came after the bias of this step
    heights = hills[0][:-1, 3] * np.exp(-0.5 * (steps / 0.05) ** 2)
    assert columns["restraint_eV"][-1] == pytest.approx(heights.sum(), abs=1e-3) and heights.sum() > 0.01


@pytest.mark.needs("plumed")
def test_plumed_says_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r'PLUMED: .*"DISTANC" is not known.*correct the input'):
        run_dynamics(pair(), Settings(1, plumed="d: DISTANC ATOMS=1,2"), tmp_path / "md.extxyz")
    assert not (tmp_path / "md.extxyz").exists()
    run_dynamics(pair(), Settings(20, plumed=METADYNAMICS), tmp_path / "md.extxyz")
    (tmp_path / "hills").unlink()
    with pytest.raises(DataError, match="hills, a file of PLUMED, is missing"):
        run_dynamics(pair(), Settings(30, plumed=METADYNAMICS), tmp_path / "md.extxyz", restart=True)


def test_plumed_that_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("carten.workflows.restraints.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="PLUMED is not installed: pip install plumed"):
        run_dynamics(pair(), Settings(1, plumed="d: DISTANCE ATOMS=1,2"), tmp_path / "md.extxyz")
    assert not list(tmp_path.iterdir())
