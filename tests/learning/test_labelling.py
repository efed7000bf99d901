"""Labels by programs: they are those of the program, failures are kept apart, interrupted runs go on."""

import json

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from typer.testing import CliRunner

from carten.cli import app
from carten.data.read import read_structures
from carten.errors import ConfigError, DataError
from carten.interfaces.ase import Calculator
from carten.learning.labellers import Labeller, charge_of, multiplicity_of
from carten.learning.labelling import FAILURE, LEVEL, label_structures
from carten.properties.io import save
from small import ethanol, small_model

FRAGILE = """
import os
from ase.calculators.emt import EMT

class Fragile(EMT):
    def calculate(self, atoms, properties, changes):
        print("a calculator that talks", flush=True)
        if len(atoms) == 3:
            os._exit(7)
        super().calculate(atoms, properties, changes)
"""


def copper(n_frames: int = 3) -> list[Atoms]:
    frames = []
    for seed in range(n_frames):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        atoms.info["name"] = f"frame {seed}"
        frames.append(atoms)
    return frames


def test_labels_are_those_of_the_program_whatever_the_number_of_processes(tmp_path):
    frames = copper(5)
    label_structures(frames, Labeller("emt"), tmp_path / "one.extxyz")
    label_structures(frames, Labeller("emt"), tmp_path / "two.extxyz", jobs=2)
    assert (tmp_path / "one.extxyz").read_text() == (tmp_path / "two.extxyz").read_text()
    for (_, labelled), atoms in zip(read_structures(tmp_path / "one.extxyz"), frames, strict=True):
        assert (labelled.info["name"], labelled.info[LEVEL]) == (atoms.info["name"], "emt")
        single = labelled.copy()
        single.calc = EMT()
        assert labelled.get_potential_energy() == pytest.approx(single.get_potential_energy(force_consistent=True))
        assert labelled.get_forces() == pytest.approx(single.get_forces(), abs=1e-7)
        assert labelled.get_stress() == pytest.approx(single.get_stress(), abs=1e-8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.extxyz", "two.extxyz"]


def test_structures_that_fail_are_kept_and_the_rest_goes_on(tmp_path, monkeypatch):
    (tmp_path / "fragile_program.py").write_text(FRAGILE)
    monkeypatch.chdir(tmp_path)
    unknown = Atoms("Fe2", [[0, 0, 0], [0, 0, 2.2]])
    fatal = Atoms("Cu3", [[0, 0, 0], [0, 0, 2.2], [0, 2.2, 0]])
    frames = [*copper(1), unknown, fatal, *copper(2)]
    labelled = label_structures(frames, Labeller("fragile_program:Fragile"), tmp_path / "out.extxyz")
    assert (len(labelled.frames), len(labelled.failed)) == (3, 2)
    reasons = [atoms.info[FAILURE] for _, atoms in read_structures(tmp_path / "out.failed.extxyz")]
    assert "No EMT-potential for Fe" in reasons[0]
    assert reasons[1] == "the calculator ended its process with status 7: a calculator that talks"


def test_an_interrupted_run_goes_on(tmp_path):
    class Stop(Exception):
        pass

    def stop(done: int) -> None:
        if done == 2:
            raise Stop

    frames, output = copper(4), tmp_path / "out.extxyz"
    with pytest.raises(Stop):
        label_structures(frames, Labeller("emt"), output, advance=stop)
    journal = tmp_path / "out.labels.jsonl"
    with journal.open("a") as file:
        file.write('{"number": 2, "outc')  # as after a kill
    with pytest.raises(ConfigError, match=r"interrupted run with other structures: remove it"):
        label_structures(frames[1:], Labeller("emt"), output)
    with pytest.raises(ConfigError, match=r"other labeller"):
        label_structures(frames, Labeller("emt", level="other"), output)
    second = json.loads(journal.read_text().splitlines()[1])
    labelled = label_structures(frames, Labeller("emt"), output)
    assert labelled.resumed == 2
    assert labelled.frames[second["number"]].get_potential_energy() == second["outcome"]["results"]["energy"]
    assert not journal.exists()


def test_old_labels_do_not_pass_for_new_ones(tmp_path):
    (atoms,) = copper(1)
    atoms.info.update(energy=-1.0, dipole=np.ones(3), fidelity="PBE", total_charge=0)
    atoms.arrays["forces"] = np.ones((4, 3))
    labelled = label_structures([atoms], Labeller("emt"), tmp_path / "out.extxyz", ["energy"])
    assert labelled.removed == ["dipole", "energy", "forces"]
    ((_, reread),) = read_structures(tmp_path / "out.extxyz")
    assert set(reread.calc.results) == {"energy"}
    assert "forces" not in reread.arrays
    assert (reread.info[LEVEL], reread.info["total_charge"]) == ("emt", 0)


def test_a_model_labels(tmp_path):
    path = tmp_path / "teacher.carten"
    save(path, small_model(), {})
    result = label_structures([ethanol()], Labeller(str(path)), tmp_path / "out.extxyz", ["energy", "forces", "dipole"])
    atoms = ethanol()
    atoms.calc = Calculator(path)
    assert result.frames[0].info[LEVEL] == "teacher"
    assert result.frames[0].get_forces() == pytest.approx(atoms.get_forces())
    assert result.frames[0].get_dipole_moment() == pytest.approx(atoms.get_dipole_moment())


def test_tblite_knows_charge_and_multiplicity(tmp_path):
    pytest.importorskip("tblite", reason="xTB labels need the extra xtb")
    from tblite.ase import TBLite

    triplet = molecule("O2")  # its initial moments say so
    oxygen, ion = triplet.copy(), triplet.copy()
    oxygen.info["spin_multiplicity"] = 1
    ion.set_initial_magnetic_moments([1, 0])
    ion.info["total_charge"] = -1
    output = tmp_path / "out.extxyz"
    label_structures([oxygen, triplet, ion], Labeller("tblite"), output, ["energy", "dipole"])
    labelled = ase.io.read(output, ":")
    for atoms, (charge, multiplicity) in zip(labelled, [(0, 1), (0, 3), (-1, 2)], strict=True):
        single = atoms.copy()
        single.calc = TBLite(charge=charge, multiplicity=multiplicity, accuracy=0.01, verbosity=0)
        assert atoms.get_potential_energy() == pytest.approx(single.get_potential_energy(), abs=1e-6)
        assert atoms.info[LEVEL] == "GFN2-xTB"


def test_pyscf_gives_derivatives_of_its_energies_and_ions(tmp_path):
    pytest.importorskip("pyscf", reason="DFT labels need the extra pyscf")
    from pyscf import dft, gto

    water = molecule("H2O")
    moved = [water.copy() for _ in range(2)]
    for atoms, sign in zip(moved, (1.0, -1.0), strict=True):
        atoms.positions[0, 2] += sign * 1e-3
    ion = Atoms("OH", [[0, 0, 0], [0, 0, 0.97]], info={"total_charge": -1})
    labeller = Labeller("pyscf", {"basis": "sto-3g", "grid": 1, "tolerance": 1e-11})
    periodic = bulk("C")
    labelled = label_structures([water, *moved, ion, periodic], labeller, tmp_path / "out.extxyz")
    assert labelled.frames[0].info[LEVEL] == "pbe/sto-3g"
    slope = np.diff([atoms.get_potential_energy() for atoms in labelled.frames[1:3]])[0] / 2e-3
    assert labelled.frames[0].get_forces()[0, 2] == pytest.approx(slope, abs=1e-3)
    direct = dft.RKS(gto.M(atom="O 0 0 0; H 0 0 0.97", basis="sto-3g", charge=-1, verbose=0), xc="pbe")
    direct.grids.level = 1
    energy = direct.kernel() * units.Hartree
    assert labelled.frames[3].get_potential_energy() == pytest.approx(energy, abs=0.02)  # density fitting
    assert "pyscf labels molecules" in labelled.failed[0].info[FAILURE]


def test_charge_and_multiplicity_of_structures():
    water = molecule("H2O")
    assert (charge_of(water), multiplicity_of(water)) == (0.0, 1)
    water.set_initial_charges([0, 0, 1])
    assert (charge_of(water), multiplicity_of(water)) == (1.0, 2)
    water.info["charge"] = -2
    assert (charge_of(water), multiplicity_of(water)) == (-2.0, 1)
    water.set_initial_magnetic_moments([2.0, 0, 0])
    assert multiplicity_of(water) == 3


@pytest.mark.parametrize(
    ("labeller", "message"),
    [
        (Labeller("emtt"), r"no such labeller; did you mean emt\?"),
        (Labeller("no_module:Class"), r"cannot import no_module .* must be installed"),
        (Labeller("math:Class"), r"module math has no class 'Class'"),
        (Labeller("absent.carten"), r"absent.carten"),
    ],
)
def test_labellers_that_are_not_usable_are_refused(labeller, message, tmp_path):
    with pytest.raises((ValueError, OSError), match=message):
        label_structures(copper(1), labeller, tmp_path / "out.extxyz")
    assert not (tmp_path / "out.extxyz").exists()


def test_a_program_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"tblite is not installed: pip install 'carten\[xtb\]'"):
        _ = Labeller("tblite").implemented


def test_bad_requests(tmp_path):
    output = tmp_path / "out.extxyz"
    with pytest.raises(ConfigError, match=r"emt does not compute dipole; it has energy"):
        label_structures(copper(1), Labeller("emt"), output, ["dipole"])
    with pytest.raises(ConfigError, match=r"no property 'enrgy'"):
        label_structures(copper(1), Labeller("emt"), output, ["enrgy"])
    charged = copper(1)
    charged[0].info["total_charge"] = 1
    with pytest.raises(DataError, match=r"no structure could be labelled.*charge 1.*not told"):
        label_structures(charged, Labeller("emt"), output)
    with pytest.raises(DataError, match=r"does not accept the options .*wrong"):
        label_structures(copper(1), Labeller("ase.calculators.mixing:SumCalculator", {"wrong": 1}), output, [])
    pytest.importorskip("tblite", reason="xTB labels need the extra xtb")
    with pytest.raises(ConfigError, match=r"no option 'metod'; did you mean method\?"):
        label_structures(copper(1), Labeller("tblite", {"metod": "GFN1-xTB"}), output)


def test_the_command(tmp_path):
    source, output = tmp_path / "in.extxyz", tmp_path / "out.extxyz"
    ase.io.write(source, [*copper(2), Atoms("Fe")])
    arguments = ["label", str(source), "--with", "emt", "-o", str(output), "--option", "asap_cutoff=true"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "2 structures" in done.output and "1 structure failed" in done.output
    single = copper(1)[0]
    single.calc = EMT(asap_cutoff=True)
    assert ase.io.read(output, 0).get_potential_energy() == pytest.approx(single.get_potential_energy(), abs=1e-6)
    assert CliRunner().invoke(app, arguments).exit_code == 1  # it exists
    refused = CliRunner().invoke(app, [*arguments[:-1], "asap_cutoff", "--overwrite"])
    assert refused.exit_code == 1 and "expected KEY=VALUE" in refused.output
