"""Models in i-PI: the same numbers as the ASE calculator in atomic units, batches, whole runs, direct and by socket."""

import json
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.units import Bohr, Hartree

from carten.errors import DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.properties.io import save
from small import oxide, small_model

pytestmark = pytest.mark.needs("ipi")

CONSTANTS = 1e-6
"""Relative: i-PI and ASE have constants of other years."""

RUN = """
<simulation verbosity="low">
  <output prefix="run"><properties stride="1" filename="out">
    [ step, conserved{{electronvolt}}, potential{{electronvolt}}, pressure_cv{{megapascal}} ]
  </properties></output>
  <total_steps>4</total_steps>
  <prng><seed>31415</seed></prng>
  {field}
  <system>
    <initialize nbeads="4"><file mode="ase" units="angstrom">start.xyz</file>
      <velocities mode="thermal" units="kelvin">300</velocities></initialize>
    <forces><force forcefield="carten"/></forces>
    <motion mode="dynamics"><dynamics mode="nvt"><timestep units="femtosecond">0.25</timestep>
      <thermostat mode="pile_g"><tau units="femtosecond">100</tau></thermostat></dynamics></motion>
    <ensemble><temperature units="kelvin">300</temperature></ensemble>
  </system>
</simulation>
"""
DIRECT = """<ffdirect name="carten"><pes>custom</pes><pes_path>{driver}</pes_path><batch_size>{batch}</batch_size>
  <parameters>{{template: start.xyz, model: model.carten}}</parameters></ffdirect>"""
SOCKET = """<ffsocket name="carten" mode="unix"><address>{address}</address></ffsocket>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ipi")
    save(folder / "model.carten", small_model(), provenance={})
    atoms = oxide() * (2, 1, 1)
    ase.io.write(folder / "start.xyz", atoms, format="extxyz")
    return folder


def driver_of(folder: Path, **options):
    from carten.interfaces.ipi_driver import CartenDriver

    return CartenDriver(str(folder / "start.xyz"), str(folder / "model.carten"), **options)


def structure(folder: Path, shift: float = 0.0) -> ase.Atoms:
    atoms = ase.io.read(folder / "start.xyz")
    atoms.positions[0] += shift
    atoms.calc = Calculator(folder / "model.carten")
    return atoms


def in_atomic_units(atoms: ase.Atoms) -> tuple[np.ndarray, np.ndarray]:
    return atoms.cell.array.T / Bohr, atoms.positions / Bohr


def test_results_are_those_of_ase(folder):
    atoms = structure(folder)
    energy, forces, virial, extras = driver_of(folder, properties="dipole")(*in_atomic_units(atoms))
    assert energy * Hartree == pytest.approx(atoms.get_potential_energy(), rel=CONSTANTS)
    np.testing.assert_allclose(forces * Hartree / Bohr, atoms.get_forces(), rtol=100 * CONSTANTS, atol=1e-6)
    expected = -atoms.get_stress(voigt=False) * atoms.get_volume()
    np.testing.assert_allclose(virial * Hartree, expected, rtol=100 * CONSTANTS, atol=1e-6)
    assert np.abs(expected - np.diag(np.diag(expected))).max() > 1e-3  # the cell is triclinic
    np.testing.assert_allclose(json.loads(extras)["dipole"], atoms.get_dipole_moment(), rtol=1e-4, atol=1e-7)


def test_a_structure_is_evaluated_once(folder, monkeypatch):
    driver = driver_of(folder, properties="dipole")
    cell, positions = in_atomic_units(structure(folder))
    driver(cell, positions)
    paths = driver._bead(0).calc._paths
    evaluate, evaluations = paths.evaluate, []
    monkeypatch.setattr(paths, "evaluate", lambda *arguments: evaluations.append(arguments) or evaluate(*arguments))
    driver(cell, positions + 0.01)
    assert len(evaluations) == 1


def test_a_molecule_has_no_virial(folder, tmp_path):
    molecule = ase.Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.2]])
    ase.io.write(tmp_path / "start.xyz", molecule, format="extxyz")
    save(tmp_path / "model.carten", small_model(), provenance={})
    energy, _, virial, _ = driver_of(tmp_path)(np.eye(3) * 100.0, molecule.positions / Bohr)
    molecule.calc = Calculator(folder / "model.carten")
    assert energy * Hartree == pytest.approx(molecule.get_potential_energy(), rel=CONSTANTS)
    assert not virial.any()


def test_the_virial_of_a_slab_is_the_slope_of_the_energy_in_the_strain(folder, tmp_path):
    atoms = structure(folder)
    atoms.pbc = [True, True, False]
    ase.io.write(tmp_path / "start.xyz", atoms, format="extxyz")
    save(tmp_path / "model.carten", small_model(), provenance={})
    virial = driver_of(tmp_path)(*in_atomic_units(atoms))[2] * Hartree
    step, energies = 1e-4, []
    for sign in (-1, 1):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array * [1 + sign * step, 1, 1], scale_atoms=True)
        strained.calc = Calculator(tmp_path / "model.carten")
        energies.append(strained.get_potential_energy())
    assert virial[0, 0] == pytest.approx(-(energies[1] - energies[0]) / (2 * step), rel=1e-4)
    assert abs(virial[0, 0]) > 0.1


def test_a_batch_is_its_structures(folder):
    beads = [in_atomic_units(structure(folder, 0.02 * bead)) for bead in range(3)]
    driver = driver_of(folder)
    together = driver([cell for cell, _ in beads], [positions for _, positions in beads])
    for (cell, positions), (energy, forces, virial, _) in zip(beads, together, strict=True):
        alone = driver_of(folder)(cell, positions)
        assert energy == alone[0]
        np.testing.assert_array_equal(forces, alone[1])
        np.testing.assert_array_equal(virial, alone[2])
    assert together[0][0] != together[2][0]


def lines_of(folder: Path, name: str, field: str) -> list[str]:
    """Properties of a run with four beads."""
    place = folder / name
    place.mkdir()
    for file in ("model.carten", "start.xyz"):
        (place / file).symlink_to(folder / file)
    (place / "input.xml").write_text(RUN.format(field=field))
    command = [str(Path(sys.executable).with_name("i-pi")), "input.xml"]
    server = subprocess.Popen(command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    drivers = []
    if "ffsocket" in field:
        drivers = [_client(place, field) for _ in range(2)]
    try:
        output, _ = server.communicate(timeout=240)
    finally:
        server.kill()
        for driver in drivers:
            driver.kill()
            driver.wait()
    assert server.returncode == 0, output
    return [line for line in (place / "run.out").read_text().splitlines() if not line.startswith("#")]


def _client(place: Path, field: str) -> subprocess.Popen:
    from carten.interfaces import ipi_driver

    address = field.partition("<address>")[2].partition("<")[0]
    for _ in range(600):
        if Path(f"/tmp/ipi_{address}").exists():
            break
        time.sleep(0.1)
    command = [
        str(Path(sys.executable).with_name("i-pi-py_driver")), "-u", "-a", address, "-m", "custom",
        "-P", ipi_driver.__file__, "-o", "template=start.xyz,model=model.carten",
    ]  # fmt: skip
    return subprocess.Popen(command, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_runs_agree_directly_in_batches_and_by_socket(folder):
    from carten.interfaces import ipi_driver

    driver = ipi_driver.__file__
    batched = lines_of(folder, "batched", DIRECT.format(driver=driver, batch=4))
    assert len(batched) == 5
    assert lines_of(folder, "single", DIRECT.format(driver=driver, batch=1)) == batched
    address = f"carten-test-{time.time_ns()}"
    assert lines_of(folder, "socket", SOCKET.format(address=address)) == batched


def test_wrong_arguments(folder, tmp_path):
    with pytest.raises(ModelError, match="does not predict moment"):
        driver_of(folder, properties="moment")
    (tmp_path / "empty.xyz").write_text("")
    from carten.interfaces.ipi_driver import CartenDriver

    for template in ("empty.xyz", "missing.xyz"):
        with pytest.raises(DataError, match=template):
            CartenDriver(str(tmp_path / template), str(folder / "model.carten"))
    with pytest.raises(ValueError, match="2 cells"):
        driver_of(folder)([np.eye(3), np.eye(3)], [np.zeros((6, 3))])
