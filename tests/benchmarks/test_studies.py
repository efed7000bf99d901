"""Studies are valid, their parts are disjoint, and errors are what they say."""

import json
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms

from carten import datasets
from carten.data.labels import Frame
from carten.properties.spec import property_table
from carten.train.config import Config
from carten.train.terms import terms
from carten.workflows.comparison import Comparison

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.studies.errors import record
from benchmarks.studies.frames import PREPARE
from benchmarks.studies.run import keep, run
from benchmarks.studies.study import Study, merged, names, read_study
from benchmarks.studies.table import section


@pytest.mark.parametrize("name", names())
def test_every_study_is_valid(name):
    study = read_study(name)
    for changes in study.variants.values():
        config = Config.parse(merged(merged({"data": {"train": "train.extxyz"}}, study.config), changes))
        trained = {term.property.name for term in terms(config.properties)}
        assert {published.property for published in study.published} <= trained
        assert set(study.units) <= trained


def comparison(name, reference, predicted, numbers, sizes):
    n = len(reference)
    row = property_table()[name]
    flat = [np.asarray(values, dtype=float).reshape(n, -1) for values in (reference, predicted)]
    return Comparison(row, *flat, np.zeros(n, dtype=int), np.array(numbers), np.array(sizes))


def frame(numbers, **labels):
    labels = {name: np.asarray(value, dtype=float) for name, value in labels.items()}
    return Frame(np.array(numbers), np.zeros((len(numbers), 3)), np.zeros((3, 3)), np.zeros(3, dtype=bool), labels)


def test_parts_of_a_general_tensor_and_the_mean_of_each_element():
    label = np.array([np.diag([1.0, 2.0, 3.0]), np.zeros((3, 3))])
    error = np.array([[1.0, 2.0, 0.0], [-2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    test = frame([1, 6], nmr_shielding=label)
    train = [frame([1, 6], nmr_shielding=[np.eye(3), 4 * np.eye(3)])]
    found = record(comparison("nmr_shielding", label, label + error, [1, 6], [2, 2]), train, [test], "ppm")
    assert found["parts"]["isotropic"]["rmse"] == pytest.approx(1.0)
    assert found["parts"]["antisymmetric"]["rmse"] == pytest.approx(np.sqrt(4 / 3))
    assert found["parts"]["traceless"]["rmse"] == pytest.approx(0.0)
    assert found["rmse"] == pytest.approx(np.sqrt(11 / 9))
    assert found["mean_predictor"]["mae"] == pytest.approx((0 + 1 + 2 + 12) / 18)


def test_energies_are_per_atom_and_above_the_fit_to_compositions():
    train = [frame([1], energy=-1.0), frame([1, 1], energy=-2.0), frame([6], energy=-5.0)]
    test = [frame([1, 1, 6], energy=-7.3)]
    found = record(comparison("energy", [-7300.0], [-7303.0], [0], [3]), train, test, "meV")
    assert found["unit"] == "meV/atom"
    assert found["mae"] == pytest.approx(1.0)
    assert found["mean_predictor"]["mae"] == pytest.approx(100.0, rel=1e-3)


def test_the_mean_of_polarizations_is_folded():
    cell = 4.0 * np.eye(3)
    frames = [
        Frame(np.array([1]), np.zeros((1, 3)), cell, np.ones(3, dtype=bool), {"polarization": np.array([p, 0.0, 0.0])})
        for p in (0.1, 4.3)
    ]
    found = record(
        comparison("polarization", [[4.3, 0, 0]], [[4.3, 0, 0]], [0], [1]), frames[:1], frames[1:], "e*Angstrom"
    )
    assert found["mean_predictor"]["mae"] == pytest.approx(0.2 / 3)


STUDY = {
    "title": "Dipoles of ethanol",
    "source": "GFN2-xTB",
    "files": ["ethanol.extxyz"],
    "test": 10,
    "validation": 5,
    "published": [{"property": "dipole", "error": "rmse", "value": 0.1, "unit": "e*Angstrom", "by": "somebody"}],
    "config": {
        "properties": {"dipole": {}},
        "model": {"n_channels": 4, "n_layers": 1, "l_max_edges": 1, "l_max_features": 1, "correlation_order": 1},
        "training": {"epochs": 1},
    },
}


def test_a_study_from_files_to_the_table(tmp_path):
    shipped = [atoms for atoms in ase.io.read(datasets.path("ethanol_xtb_test"), ":40") if len(atoms) == 9]
    ase.io.write(tmp_path / "ethanol.extxyz", shipped)
    study = Study.model_validate(STUDY)
    parts = PREPARE["labelled"](study, tmp_path)
    assert {name: len(part) for name, part in parts.items()} == {
        "train": len(shipped) - 15,
        "validation": 5,
        "test": 10,
    }
    energies = [round(atoms.get_potential_energy(), 6) for part in parts.values() for atoms in part]
    assert sorted(energies) == sorted(round(atoms.get_potential_energy(), 6) for atoms in shipped)
    for name, part in parts.items():
        ase.io.write(tmp_path / f"{name}.extxyz", part)
    found = run(study, "", tmp_path, None)
    assert found["test"] == 10
    keep(tmp_path / "results.json", "ethanol", "", found)
    stored = json.loads((tmp_path / "results.json").read_text())["ethanol"]
    text = section(study, stored)
    assert f"{stored['']['properties']['dipole']['rmse']:.3g}" in text
    assert "RMSE 0.1 e*Angstrom (somebody)" in text


def test_the_farthest_of_each_curve_are_held_out(tmp_path):
    for name in ("a", "b"):
        ase.io.write(tmp_path / f"{name}.extxyz", [Atoms("H2", [[0, 0, 0], [0, 0, 1.0 + k]]) for k in range(10)])
    study = Study.model_validate({**STUDY, "files": ["a.extxyz", "b.extxyz"], "test": 2, "validation": 1})
    parts = PREPARE["farthest"](study, tmp_path)
    found = {name: [round(atoms.get_distance(0, 1)) for atoms in part] for name, part in parts.items()}
    assert found == {"train": [*range(1, 8)] * 2, "validation": [8, 8], "test": [9, 10, 9, 10]}


def test_two_levels_of_the_same_geometries(tmp_path):
    frames = []
    for k in range(100):
        frames.append(Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.001 * k]]))
        frames[-1].info.update(energy=1.0 * k, old_energy=-1.0 * k)
        frames[-1].arrays.update(forces=np.zeros((2, 3)), old_forces=np.ones((2, 3)))
    ase.io.write(tmp_path / "h2.extxyz", frames)
    study = Study.model_validate({**STUDY, "files": ["h2.extxyz"], "test": 20, "validation": 10})
    parts = PREPARE["two_levels"](study, tmp_path)
    levels = {name: {atoms.info["fidelity"] for atoms in part} for name, part in parts.items()}
    assert levels == {"train": {"pbe"}, "cheap": {"md17"}, "validation": {"pbe"}, "test": {"pbe"}}
    assert all(atoms.info["energy"] <= 0 for atoms in parts["cheap"])
    held_out = {atoms.get_distance(0, 1) for atoms in parts["test"]}
    assert not held_out & {
        atoms.get_distance(0, 1) for name in ("train", "cheap", "validation") for atoms in parts[name]
    }


def test_cheap_molecules_beside_expensive_ones(tmp_path):
    for name, level in (("expensive", None), ("cheap", "gfn2")):
        frames = [Atoms("H2", [[0, 0, 0], [0, 0, 0.7 + 0.001 * k]]) for k in range(40)]
        for atoms in frames:
            atoms.info.update(dipole=np.zeros(3), **({"fidelity": level} if level else {}))
        ase.io.write(tmp_path / f"{name}.extxyz", frames)
    two = {**STUDY, "files": ["expensive.extxyz", "cheap.extxyz"]}
    parts = PREPARE["beside_cheap"](Study.model_validate(two), tmp_path)
    levels = {name: {atoms.info["fidelity"] for atoms in part} for name, part in parts.items()}
    assert levels == {"train": {"ccsd"}, "validation": {"ccsd"}, "test": {"ccsd"}, "cheap": {"gfn2"}}
    assert sum(atoms.info["weight"] for atoms in parts["cheap"]) == pytest.approx(len(parts["train"]))
    alone = PREPARE["labelled"](Study.model_validate({**STUDY, "files": ["expensive.extxyz"]}), tmp_path)
    for name, part in alone.items():
        assert [a.get_distance(0, 1) for a in part] == [a.get_distance(0, 1) for a in parts[name]]


def test_what_makes_a_missing_cheap_file_is_said(tmp_path):
    study = Study.model_validate({**STUDY, "files": ["expensive.extxyz", "cheap.extxyz"]})
    with pytest.raises(FileNotFoundError, match=r"cheap\.extxyz.*benchmarks\.studies\.cheap_molecules --data"):
        PREPARE["beside_cheap"](study, tmp_path)
