"""Which entries of files are taken for labels: references before predictions, by names, layouts and meaning."""

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from carten.cli import app
from carten.data.check import check
from carten.data.guess import guess_labels
from carten.data.labels import Label, frame_from, read_frames
from carten.data.read import read_structures
from carten.data.summary import report_lines
from carten.properties.spec import input_table, property_table

TABLE = property_table()


def structures(info=(), arrays=(), atoms=None):
    atoms = molecule("H2O") if atoms is None else atoms
    for name in info:
        atoms.info[name] = -1.5
    for name in arrays:
        atoms.arrays[name] = np.full((len(atoms), 3), 0.5)
    return [("memory, frame 0", atoms)]


def guessed(info=(), arrays=()):
    return {label.name: label.file_key for label in guess_labels(structures(info, arrays)).labels}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["mlip_energy", "REF_energy", "kinetic_energy"], "REF_energy"),
        (["mace_energy", "dft_energy"], "dft_energy"),
        (["MACE_energy", "DFT_energy"], "DFT_energy"),
        (["energy_pred", "energy_ref"], "energy_ref"),
        (["predicted_energy", "energy"], "energy"),
        (["energy", "REF_energy"], "REF_energy"),
        (["xtb_energy", "energy"], "energy"),
        (["nequip_energy", "my_energy"], "my_energy"),
        (["my_energy", "pbe_energy"], "pbe_energy"),
        (["refEnergy", "mlEnergy"], "refEnergy"),
        (["total_energy", "free_energy"], "total_energy"),
        (["mace_energy"], "mace_energy"),
        (["kinetic_energy", "energy_per_atom", "energy_weight", "formation_energy", "energy_error"], None),
        (["config_weight", "temperature"], None),
    ],
)
def test_energies(names, expected):
    for order in (names, names[::-1]):
        assert guessed(order).get("energy") == expected


@pytest.mark.parametrize(
    ("energies", "forces", "expected"),
    [
        (["REF_energy"], ["mlip_forces", "REF_forces"], "REF_forces"),
        (["dft_energy"], ["pbe_forces", "dft_forces", "mace_forces"], "dft_forces"),
        (["energy"], ["force"], "force"),
        (["energy"], ["magnetic_forces"], None),
        (["energy"], ["dft_forces_error", "velocities"], None),
    ],
)
def test_forces_are_marked_as_the_energy(energies, forces, expected):
    assert guessed(energies, forces).get("forces") == expected
    assert guessed(energies, forces[::-1]).get("forces") == expected


def test_layouts_decide_too():
    """A name alone does not make a label; a plain name of the table does, so that the check can complain."""
    ((_, atoms),) = structures(["dft_forces"], [])
    atoms.arrays["ref_energy"] = np.ones((3, 3))
    assert guess_labels([("", atoms)]).labels == ()
    atoms.info["forces"] = 3.0
    assert [label.name for label in guess_labels([("", atoms)]).labels] == ["forces"]


def test_what_others_are_derivatives_in_is_no_label():
    """Beside magnetic forces the moments are what the model is told; alone they may be learned."""
    assert guessed(["energy"], ["magmoms"])["moments"] == "magmoms"
    together = guess_labels(structures(["energy"], ["magmoms", "magnetic_forces"]))
    assert "moments" not in {label.name for label in together.labels}
    assert {"energy", "magnetic_forces"} <= {label.name for label in together.labels}
    assert "magmoms" in {label.name for label in together.inputs}


def test_zeros_and_tensors():
    ((_, atoms),) = structures(["energy"], ["forces"])
    atoms.arrays.update(shielding=np.ones((3, 9)), efg=np.ones((3, 9)), what=np.ones((3, 9)), magmoms=np.zeros(3))
    atoms.info.update(chi=np.eye(3), dipole=np.zeros(3))
    guess = guess_labels([("", atoms)])
    assert {label.name: label.file_key for label in guess.labels} == {
        "energy": "energy", "forces": "forces", "nmr_shielding": "shielding",
    }  # fmt: skip
    assert set(guess.zero) == {"dipole", "magmoms"}
    assert {(tensor.key, tensor.scope, tensor.indices) for tensor in guess.tensors} == {
        ("efg", "atom", "ij=ji; ii=0"), ("what", "atom", "ij"), ("chi", "structure", "ij"),
    }  # fmt: skip


def test_init_and_check_guess_the_same(tmp_path):
    frames = []
    for number in range(3):
        atoms = molecule("H2O")
        atoms.info.update(mlip_energy=-0.1, REF_energy=-14.0 - number, kinetic_energy=0.3)
        atoms.arrays.update(
            mlip_forces=np.ones((3, 3)), REF_forces=np.full((3, 3), 0.1 * number + 0.1), efg=np.ones((3, 9))
        )
        frames.append(atoms)
    path = tmp_path / "a.extxyz"
    ase.io.write(path, frames)
    printed = CliRunner().invoke(app, ["init", "--data", str(path)]).stdout
    properties = yaml.safe_load(printed)["properties"]
    assert {name: row["key"] for name, row in properties.items()} == {"energy": "REF_energy", "forces": "REF_forces"}
    assert "  # energy may also be: mlip_energy\n" in printed
    assert "  # forces may also be: mlip_forces\n" in printed
    offer = next(line for line in printed.splitlines() if "# efg" in line)
    row = yaml.safe_load(offer.strip().removeprefix("# ").replace("...", "eV"))["efg"]
    assert row == {"scope": "atom", "indices": "ij=ji; ii=0", "parity": 1, "unit": "eV"}
    report = check(path)
    assert {label.name: label.key for label in report.labels} == {"energy": "REF_energy", "forces": "REF_forces"}
    assert "    other candidates: mlip_energy" in report_lines(report)
    every = CliRunner().invoke(app, ["init", "--all", "--data", str(path)]).stdout
    assert {name: row["key"] for name, row in yaml.safe_load(every)["properties"].items()} == {
        "energy": "REF_energy", "forces": "REF_forces",
    }  # fmt: skip


# --- labels without a meaning ---


@pytest.mark.parametrize("value", [0.0, np.nan, 1.0])
@pytest.mark.parametrize(
    ("atoms", "has_stress"),
    [
        (molecule("H2O"), False), (molecule("H2O", vacuum=5.0), False), (Atoms("H", pbc=True), False),
        (Atoms("H", cell=[3, 3, 0], pbc=(1, 1, 0)), False), (Atoms("H", cell=[3, 3, 9], pbc=(1, 1, 0)), True),
        (bulk("Cu"), True),
    ],
)  # fmt: skip
def test_nothing_is_per_volume_without_a_cell(atoms, has_stress, value):
    atoms = atoms.copy()
    atoms.info.update(stress=np.full((3, 3), value), virial=np.eye(3), elastic=np.full((6, 6), 1.0))
    labels = [Label(TABLE[name]) for name in ("stress", "virial", "elastic")]
    if has_stress and np.isnan(value):
        with pytest.raises(ValueError, match="stress is nan"):
            frame_from(atoms, labels)
        return
    assert set(frame_from(atoms, labels).labels) == ({"stress", "virial", "elastic"} if has_stress else {"virial"})


def test_the_check_says_which_labels_have_no_meaning(tmp_path):
    frames = []
    for number in range(4):
        atoms = bulk("Cu", cubic=True) if number < 2 else molecule("H2O")
        stress = np.ones(6) if number < 2 else np.zeros(6)
        forces = np.full((len(atoms), 3), 0.1 if number != 1 else 0.0)
        atoms.calc = SinglePointCalculator(atoms, energy=-float(number), forces=forces, stress=stress)
        frames.append(atoms)
    ase.io.write(tmp_path / "a.extxyz", frames)
    report = check(tmp_path / "a.extxyz")
    assert (report.left_out, report.problems) == ({"stress": 2}, ())
    text = "\n".join(report_lines(report))
    assert "stress: 2 of 4 structures" in text
    assert "stress of 2 structures is not read" in text
    assert "exactly zero in 1 of 4 structures" in text
    assert [("stress" in frame.labels) for frame in read_frames(tmp_path / "a.extxyz", [Label(TABLE["stress"])])] == [
        True, True, False, False,
    ]  # fmt: skip


# --- one way to inputs ---


@pytest.mark.parametrize("column", ["magmoms:R:3", "initial_magmoms:R:3", "magmoms:R:1", "initial_magmoms:R:1"])
def test_moments_of_files_stay_with_the_structure(tmp_path, column):
    """Also where ASE takes them for results, which the next calculator removes."""
    collinear = column.endswith("1")
    values = "2.2" if collinear else "0 0 2.2"
    (tmp_path / "fe.extxyz").write_text(
        f'1\nLattice="2.5 0 0 0 2.5 0 0 0 2.5" Properties=species:S:1:pos:R:3:{column}\nFe 0 0 0 {values}\n'
    )
    ((_, atoms),) = read_structures(tmp_path / "fe.extxyz")
    row = input_table()["collinear_magmoms" if collinear else "magmoms"]
    for structure in (atoms, atoms.copy()):
        found = frame_from(structure, (), [Label(row)]).inputs[row.name]
        assert np.array_equal(found, [2.2] if collinear else [[0.0, 0.0, 2.2]])


def test_moments_that_are_zero_are_no_moments(tmp_path):
    """ASE writes zeros for programs without spin."""
    (tmp_path / "a.extxyz").write_text("1\nProperties=species:S:1:pos:R:3:magmoms:R:1\nFe 0 0 0 0\n")
    assert "initial_magmoms" not in read_structures(tmp_path / "a.extxyz")[0][1].arrays


def test_names_that_ase_uses_are_found():
    atoms = bulk("Cu")
    tensor = np.arange(9.0).reshape(3, 3)
    atoms.calc = SinglePointCalculator(
        atoms, magmoms=np.ones(1), dielectric_tensor=tensor, born_effective_charges=tensor[None]
    )
    atoms.set_initial_charges([0.5])
    labels = [Label(TABLE[name]) for name in ("collinear_moments", "dielectric", "born_charges")]
    frame = frame_from(atoms, labels, [Label(input_table()["partial_charges"])])
    assert np.array_equal(frame.labels["born_charges"], tensor[None])
    assert np.array_equal(frame.labels["dielectric"], tensor)
    assert (frame.labels["collinear_moments"].tolist(), frame.inputs["partial_charges"].tolist()) == ([1.0], [0.5])
    atoms.info["dielectric"] = np.eye(3)  # the name of the table goes first
    assert np.array_equal(frame_from(atoms, labels[1:2]).labels["dielectric"], np.eye(3))
    assert frame_from(atoms, [Label(TABLE["dielectric"], "other")]).labels == {}
