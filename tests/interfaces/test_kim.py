"""Portable models of KIM: LAMMPS of Debian gives what the ASE calculator gives, with ghosts that reach all layers."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.stress import full_3x3_to_voigt_6_stress

from carten.errors import ConfigError, ModelError
from carten.interfaces.kim import export_portable_model
from carten.model.config import NetworkConfig
from carten.properties.io import save
from carten.properties.potential import Potential
from carten.properties.spec import input_table, property_table
from parts import lammps_with_kim

pytestmark = [pytest.mark.needs("cpp"), pytest.mark.timeout(600)]
INPUT = """
kim init Water_{layers} {units}
atom_style atomic
box tilt large
read_data structure.data
kim interactions {symbols}
compute energies all pe/atom
compute stresses all stress/atom NULL virial
compute sums all reduce sum c_stresses[4]
dump atoms all custom 1 atoms.dump id fx fy fz c_energies
dump_modify atoms sort id format float %.17g
thermo_style custom step pe pxx pyy pzz pxy pxz pyz c_sums
thermo_modify norm no
run 0
print "answer: $(pxx:%.17g) $(pyy:%.17g) $(pzz:%.17g) $(pyz:%.17g) $(pxz:%.17g) $(pxy:%.17g) $(c_sums/vol:%.17g)"
"""
KCAL, ATMOSPHERE = 23.060549, 1.01325


def saved(path: Path, n_layers: int, **options) -> Path:
    sizes = {"n_channels": 8, "l_max_edges": 2, "l_max_features": 1, "correlation_order": 2, "cutoff": 4.0}
    network = NetworkConfig.model_validate({"n_layers": n_layers, "radial": {"hidden": (8,)}, **sizes})
    model = Potential(network, [1, 8], [property_table()["energy"]], neighbours=20.0, seed=1, **options)
    model.heads["energies"].scale.fill_(0.5)
    save(path, model.eval(), provenance={})
    return path


def waters() -> Atoms:
    rng, atoms = np.random.default_rng(0), Atoms()
    for corner in np.ndindex(2, 2, 2):
        water = molecule("H2O")
        water.rattle(0.03, rng=rng)
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.translate(3.2 * np.array(corner))
        atoms += water
    atoms.set_cell(np.array([[1.0, 0, 0], [0.12, 1.01, 0], [-0.1, 0.08, 1.02]]) * 6.4)
    atoms.pbc = True
    return atoms


def shell(command: list[str], folder: Path) -> str:
    environment = {**os.environ, "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    environment |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with models of one and of two layers, which KIM finds from there."""
    folder = tmp_path_factory.mktemp("kim")
    for layers in (1, 2):
        model = saved(folder / f"{layers}.carten", layers)
        export_portable_model(model, folder / "source" / f"Water_{layers}", dtype="float64")
        shell(["kim-api-collections-management", "install", "CWD", f"source/Water_{layers}"], folder)
    return folder


@pytest.mark.needs("kim")
@pytest.mark.parametrize(("layers", "processes", "units"), [(1, 1, "metal"), (2, 1, "metal"), (2, 2, "real")])
def test_lammps_through_kim_gives_what_ase_gives(installed, layers, processes, units):
    from carten.interfaces.ase import Calculator
    from carten.interfaces.lammps.agreement import BAR, by_ase, write_data_file

    atoms = waters()
    prism, symbols = write_data_file(atoms, installed / "structure.data")
    text = INPUT.format(layers=layers, units=units, symbols=" ".join(symbols))
    (installed / "in.kim").write_text(text)
    launch = ["/usr/bin/mpiexec", "--oversubscribe", "-n", str(processes)] if processes > 1 else []
    output = shell([*launch, str(lammps_with_kim()), "-in", "in.kim", "-log", "none"], installed)
    table = np.loadtxt(installed / "atoms.dump", skiprows=9)
    answer = [float(word) for line in output.splitlines() if line.startswith("answer: ") for word in line.split()[1:]]
    expected = by_ase(atoms, Calculator(installed / f"{layers}.carten", dtype="float64"))
    energy, pressure, tolerance = (1.0, BAR, 1e-10) if units == "metal" else (KCAL, BAR / ATMOSPHERE, 1e-6)
    assert np.abs(expected.forces).max() > 0.1
    np.testing.assert_allclose(prism.vector_to_ase(table[:, 1:4]) / energy, expected.forces, atol=tolerance)
    np.testing.assert_allclose(table[:, 4] / energy, expected.energies, atol=tolerance)
    xx, yy, zz, yz, xz, xy = -np.array(answer[:6]) / pressure
    stress = full_3x3_to_voigt_6_stress(prism.tensor2_to_ase(np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])))
    np.testing.assert_allclose(stress, expected.stress, atol=1e-9 if units == "metal" else 1e-7)
    assert -answer[6] == pytest.approx(answer[5], rel=1e-9)  # of atoms, summed up


def test_what_kim_cannot_have(tmp_path):
    model = saved(tmp_path / "charged.carten", 1, inputs=(input_table()["total_charge"],))
    with pytest.raises(ModelError, match="needs total_charge, but KIM gives a model atoms and elements only"):
        export_portable_model(model, tmp_path / "Charged")
    with pytest.raises(ConfigError, match="letters, digits and _"):
        export_portable_model(model, tmp_path / "charged-water")
    assert not (tmp_path / "Charged").exists()
