"""Data on disk: conversion to ASE-LMDB, its index, and lazy reading."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from typer.testing import CliRunner

from carten.cli import app
from carten.data import collection as collections
from carten.data.check import check
from carten.data.collection import open_collection
from carten.data.convert import Conversion, convert
from carten.data.labels import Label, frame_from
from carten.data.neighbours import edges
from carten.data.read import read_structures
from carten.data.sidecar import sidecar
from carten.errors import ConfigError, DataError
from carten.properties.spec import input_table, property_table

TABLE = property_table()


def frames(count: int = 12) -> list[Atoms]:
    rng = np.random.default_rng(0)
    structures = []
    for number in range(count):
        atoms = bulk("Cu", cubic=True) if number % 3 else molecule("H2O")
        atoms.rattle(0.05, seed=number)
        atoms.info.update(E_dft=23.06 * number, config_type="bulk" if number % 3 else "water", weight=1.0 + number)
        atoms.arrays["F_dft"] = rng.normal(size=(len(atoms), 3))
        structures.append(atoms)
    return structures


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "train.extxyz"
    ase.io.write(path, frames())
    return path


def test_other_programs_read_what_is_written(tmp_path: Path) -> None:
    """Results, constraints, moments, text and nested values, by ASE's own reader of ASE-LMDB."""
    atoms = bulk("Fe", cubic=True)
    atoms.set_initial_magnetic_moments([2.0, -2.0])
    atoms.set_constraint(FixAtoms([0]))
    atoms.info.update(config_type="bcc", nested={"a": [1, 2]}, big=2**70, ragged=[1, [2, 3]])
    atoms.arrays["tensors"] = np.arange(18.0).reshape(2, 3, 3)
    stress = np.arange(6.0)
    atoms.calc = SinglePointCalculator(atoms, energy=-1.5, forces=np.full((2, 3), 1 / 3), stress=stress)
    ase.io.write(tmp_path / "a.traj", [atoms])
    convert(tmp_path / "a.traj", tmp_path / "a.aselmdb")
    with ase.db.connect(tmp_path / "a.aselmdb", readonly=True) as database:
        row = database.get(1)
        reread = row.toatoms()
        assert len(database) == 1
        assert len(list(database.select(config_type="bcc"))) == 1
    assert reread.get_potential_energy() == -1.5
    assert np.array_equal(reread.get_forces(apply_constraint=False), np.full((2, 3), 1 / 3))
    assert np.array_equal(reread.get_stress(), stress)
    assert reread.constraints[0].index.tolist() == [0]
    assert reread.get_initial_magnetic_moments().tolist() == [2.0, -2.0]
    again = read_structures(tmp_path / "a.aselmdb")[0][1]
    assert again == atoms
    assert again.info["config_type"] == "bcc"


def test_numbers_that_are_not_finite_stay_what_they_are(tmp_path: Path) -> None:
    atoms = Atoms("H", info={"x": np.nan, "y": np.array([np.inf, 1.0])})
    ase.io.write(tmp_path / "a.traj", [atoms])
    convert(tmp_path / "a.traj", tmp_path / "a.aselmdb")
    info = read_structures(tmp_path / "a.aselmdb")[0][1].info
    assert np.isnan(info["x"])
    assert info["y"].tolist() == [np.inf, 1.0]


def test_labels_get_names_and_units_once(tmp_path: Path, text: Path) -> None:
    labels = [
        Label(TABLE["energy"], "E_dft", "kcal/mol", required=False),
        Label(TABLE["forces"], "F_dft", "Hartree/Bohr", required=False),
    ]
    assert convert(text, tmp_path / "a.aselmdb", Conversion(labels)) == 12
    plain = [Label(TABLE["energy"]), Label(TABLE["forces"])]
    for (_, before), (where, after) in zip(read_structures(text), read_structures(tmp_path / "a.aselmdb"), strict=True):
        expected, converted = frame_from(before, labels), frame_from(after, plain)
        assert where.startswith(f"{tmp_path / 'a.aselmdb'}, frame ")
        assert converted.labels["energy"] == expected.labels["energy"]
        assert np.array_equal(converted.labels["forces"], expected.labels["forces"])
        assert "E_dft" not in after.info
        assert after.info["weight"] == before.info["weight"]


def test_a_wrong_label_names_file_and_frame(tmp_path: Path) -> None:
    wrong = frames(4)
    wrong[2].info["E_dft"] = np.nan
    ase.io.write(tmp_path / "a.extxyz", wrong)
    labels = [Label(TABLE["energy"], "E_dft", required=False)]
    with pytest.raises(DataError, match=r"a\.extxyz, frame 2: label \"E_dft\" of energy is nan"):
        convert(tmp_path / "a.extxyz", tmp_path / "a.aselmdb", Conversion(labels))
    assert not (tmp_path / "a.aselmdb").exists()
    wrong[2].info["E_dft"] = 1.0
    wrong[3].positions[1] = wrong[3].positions[0]
    ase.io.write(tmp_path / "b.extxyz", wrong)
    with pytest.raises(DataError, match=r"b\.extxyz, frame 3: atoms 0 and 1 coincide"):
        convert(tmp_path / "b.extxyz", tmp_path / "b.aselmdb", Conversion(labels))


def test_the_index_is_that_of_the_structures(tmp_path: Path, text: Path) -> None:
    convert([text, text], tmp_path / "a.aselmdb", Conversion(cutoff=4.0))
    collection = open_collection(tmp_path / "a.aselmdb")
    structures = read_structures([text, text])
    assert not collection.in_memory
    table = collection.table
    assert table.n_atoms.tolist() == [len(atoms) for _, atoms in structures]
    assert table.elements == (1, 8, 29)
    assert table.numbers["weight"].tolist() == [atoms.info["weight"] for _, atoms in structures]
    texts = table.texts["config_type"]
    assert [texts.values[code] for code in texts.codes] == [atoms.info["config_type"] for _, atoms in structures]
    assert table.carries(["F_dft"]).all()
    assert not table.carries(["forces"]).any()
    assert table.has_volume.tolist() == [bool(number % 3) for number in range(12)] * 2
    expected = [edges(a.positions, np.array(a.cell), a.pbc, 4.0)[0].shape[1] for _, a in structures]
    assert collection.geometry(4.0).n_edges.tolist() == expected
    assert {atoms.info["source_file"] for _, atoms in collection} == {str(text)}


def test_the_check_says_the_same_with_kept_neighbours_and_without(tmp_path: Path, text: Path) -> None:
    stores = [tmp_path / "a.aselmdb", tmp_path / "b.aselmdb"]
    convert(text, stores[0], Conversion(cutoff=4.0))
    water = [atoms for atoms in frames() if len(atoms) == 3]
    water[1].positions *= 0.8
    ase.io.write(tmp_path / "b.extxyz", water)
    convert(tmp_path / "b.extxyz", stores[1], Conversion(cutoff=4.0))
    collection = open_collection(stores)
    assert collection.kept_geometry(4.0) is not None
    assert collection.kept_geometry(5.0) is None
    with_kept = check(stores, cutoff=4.0)
    for path in stores:
        for file in sidecar(path).glob("neighbours-*"):
            file.unlink()
    assert collection.kept_geometry(4.0) is None
    without = check(stores, cutoff=4.0)
    assert with_kept.contacts == without.contacts
    places = {contact.elements: contact.where for contact in without.contacts}
    assert places[1, 8] == f"{stores[1]}, frame 1"
    assert places[29, 29].startswith(str(stores[0]))
    assert with_kept == without


def test_an_index_that_is_older_than_its_data_is_made_anew(tmp_path: Path, text: Path) -> None:
    lines: list[str] = []
    path = tmp_path / "a.aselmdb"
    convert(text, path)
    with ase.db.connect(path) as database:
        database.write(molecule("CH4"))
    assert len(open_collection(path, say=lines.append)) == 13
    assert f"{sidecar(path)} is older than {path} or damaged: it is made anew" in lines
    lines.clear()
    assert open_collection(path, say=lines.append).table.elements == (1, 6, 8, 29)
    assert lines == []
    (sidecar(path) / "frames.safetensors").write_bytes(b"damaged")
    assert len(open_collection(path, say=lines.append)) == 13
    assert len(lines) == 1


def test_the_index_of_a_folder_that_is_read_only_is_made_at_every_start(tmp_path: Path, text: Path) -> None:
    convert(text, tmp_path / "a.aselmdb")
    for file in sidecar(tmp_path / "a.aselmdb").iterdir():
        file.unlink()
    sidecar(tmp_path / "a.aselmdb").rmdir()
    sidecar(tmp_path / "a.aselmdb").write_text("in the way")
    lines: list[str] = []
    assert len(open_collection(tmp_path / "a.aselmdb", say=lines.append)) == 12
    assert "is looked through at every start" in lines[0]


def test_files_of_any_kind_are_mixed(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In memory, beyond a size through a temporary file, and from ASE-LMDB: the same structures in the same order."""
    convert(text, tmp_path / "a.aselmdb")
    paths = [text, tmp_path / "a.aselmdb", text]
    expected = read_structures(paths)
    for most in (1_000_000, 20):
        monkeypatch.setattr(collections, "MOST_ATOMS", most)
        collection = open_collection(paths)
        assert [where for where, _ in collection] == [where for where, _ in expected]
        assert [collection.where(k) for k in range(36)] == [where for where, _ in expected]
        for (_, atoms), (_, before) in zip(collection, expected, strict=True):
            assert np.array_equal(atoms.positions, before.positions)
            assert atoms.info["E_dft"] == before.info["E_dft"]
        codes, names = collection.files()
        assert names == (str(text), str(tmp_path / "a.aselmdb"))
        assert codes.tolist() == [0] * 12 + [1] * 12 + [0] * 12
        assert collection.table.n_atoms.tolist() == [len(atoms) for _, atoms in expected]


def test_what_is_refused(tmp_path: Path, text: Path) -> None:
    with pytest.raises(ConfigError, match=r"ends with \.aselmdb"):
        convert(text, tmp_path / "a.lmdb")
    with pytest.raises(ConfigError, match="cannot be converted"):
        convert(text, tmp_path / "a.aselmdb", Conversion([Label(TABLE["energy"], "E_dft", "Angstrom")]))
    assert not (tmp_path / "a.aselmdb").exists()
    convert(text, tmp_path / "a.aselmdb")
    content = (tmp_path / "a.aselmdb").read_bytes()
    (tmp_path / "a.aselmdb").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"a\.aselmdb: cut off: it has"):
        open_collection(tmp_path / "a.aselmdb")


PROGRAM = """
import sys
from pathlib import Path
from carten.data import writer
from carten.data.convert import convert
writer._COMMIT = 7
convert([Path(name) for name in sys.argv[2:]], Path(sys.argv[1]), report=lambda count: print(count, flush=True))
"""


@pytest.mark.parametrize("moment", [30, 130])
def test_it_goes_on_after_kill_9(tmp_path: Path, moment: int) -> None:
    files = [tmp_path / name for name in ("a.extxyz", "b.extxyz")]
    for file in files:
        ase.io.write(file, frames(80))
    output = tmp_path / "out.aselmdb"
    command = [sys.executable, "-c", PROGRAM, str(output), *map(str, files)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while int(process.stdout.readline() or moment) < moment:
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not output.exists()
    lines: list[str] = []
    assert convert(files, output, say=lines.append) == 160
    assert moment < 7 or "going on after" in lines[0]
    expected = read_structures(files)
    collection = open_collection(output)
    for (_, atoms), (where, before) in zip(collection, expected, strict=True):
        assert np.array_equal(atoms.arrays["positions"], before.positions), where
        assert atoms.info["source_file"] == where.rpartition(", frame ")[0]
    assert collection.table.n_atoms.tolist() == [len(atoms) for _, atoms in expected]
    assert list(collection.geometry(5.0).n_edges[:80]) == list(collection.geometry(5.0).n_edges[80:])


def test_another_task_does_not_continue_what_was_begun(tmp_path: Path, text: Path) -> None:
    broken = tmp_path / "b.extxyz"
    broken.write_text(text.read_text()[:-30])
    with pytest.raises(DataError, match="cut off"):
        convert([text, broken], tmp_path / "a.aselmdb")
    ase.io.write(broken, frames(5))
    lines: list[str] = []
    assert convert([text, broken], tmp_path / "b.aselmdb", say=lines.append) == 17
    assert lines == []
    with pytest.raises(ConfigError, match=r"a\.aselmdb\.partial was begun with other files"):
        convert([broken, text], tmp_path / "a.aselmdb")
    assert convert([text, broken], tmp_path / "a.aselmdb", say=lines.append) == 17
    assert "going on after 12 structures" in lines[0]


def test_no_space_left(tmp_path: Path, text: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ase.io.write(text, frames(200))
    monkeypatch.setattr("carten.data.writer._LARGEST", 2**16)
    with pytest.raises(DataError, match=r"cannot be written further: .*make space and repeat the command"):
        convert(text, tmp_path / "a.aselmdb")
    monkeypatch.undo()
    assert convert(text, tmp_path / "a.aselmdb") == 200


def test_the_command(tmp_path: Path, text: Path) -> None:
    output = tmp_path / "a.aselmdb"
    config = tmp_path / "config.yaml"
    config.write_text(
        f"data: {{train: {text}}}\nmodel: {{cutoff: 4.5}}\n"
        "properties: {energy: {key: E_dft, unit: kcal/mol}, forces: {key: F_dft, weight: 0}}\n"
    )
    result = CliRunner().invoke(app, ["convert", str(text), str(output), "--config", str(config)])
    assert result.exit_code == 0, result.output
    assert "a.aselmdb: 12 structures" in result.output
    assert (sidecar(output) / "neighbours-4.5.safetensors").exists()
    assert [atoms.calc.results["energy"] for _, atoms in read_structures(output)][1] == pytest.approx(1.0, abs=1e-3)
    again = CliRunner().invoke(app, ["convert", str(text), str(output)])
    assert again.exit_code == 1
    assert "exists already" in again.output


def test_inputs_are_converted_too(tmp_path: Path) -> None:
    atoms = Atoms("H", info={"charge": 1, "field": np.array([0.0, 0.0, 1.0]), "theory": "PBE"})
    ase.io.write(tmp_path / "a.traj", [atoms])
    rows = input_table()
    inputs = [
        Label(rows["total_charge"], "charge", required=False),
        Label(rows["electric_field"], "field", "Hartree/(e*Bohr)", required=False),
        Label(rows["fidelity"], "theory", required=False),
    ]
    convert(tmp_path / "a.traj", tmp_path / "a.aselmdb", Conversion(inputs=inputs))
    info = read_structures(tmp_path / "a.aselmdb")[0][1].info
    assert info["electric_field"][2] == pytest.approx(51.4220674763)  # CODATA 2018, V/Å
    assert (info["total_charge"], info["fidelity"]) == (1.0, "PBE")
    assert "field" not in info
