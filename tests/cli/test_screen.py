"""carten screen: ranking and files, going on, failures and mistakes."""

import json

import ase.io
import pytest
from ase.build import molecule


def test_a_screening_is_written_and_goes_on(run, trained, tmp_path):
    database = tmp_path / "results.db"
    said = run("screen", trained.model, trained.test, "-o", database, "--relax", "--steps", 2, "--fmax", 100)
    assert said.code == 0, said.err
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["results"]["with an energy"]["value"] == 5
    assert "no structure of the element" in said.err
    header, *rows = (tmp_path / "results-ranking.csv").read_text().splitlines()
    assert header.startswith("rank,row,name,formula,atoms,above_hull_eV/atom")
    assert len(rows) == 5
    assert "test.extxyz, frame" in rows[0]
    assert (tmp_path / "results.svg").exists()
    assert len(ase.io.read(database, ":")) == 5
    more = tmp_path / "more.extxyz"
    ase.io.write(more, [molecule("CH3CH2OH"), molecule("SiH4")])
    options = ("--relax", "--steps", 2, "--fmax", 100)
    options += ("--reference", "H=-3", "--reference", "C=-9", "--reference", "O=-5")
    said = run("screen", trained.model, trained.test, more, "-o", database, *options)
    assert said.code == 1
    assert "more.extxyz, frame 1 (H4Si)" in said.err
    assert "does not know" in said.err
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["results"]["with an energy"]["value"] == 6
    assert document["warnings"] == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--cell"], "add --relax"),
        (["--relax", "--pressure", "1"], "add --cell"),
        (["--pressure", "1"], "add --cell"),
        (["--relax", "--fmax", "0"], "fmax must be positive"),
        (["--reference", "Cu"], "ELEMENT=EV, for example Cu=-3.72, found 'Cu'"),
        (["--reference", "Xx=1"], "finite energy of an element"),
        (["--executor", "0"], "expected a number of processes"),
        (["-o", "results.xyz"], ".db"),
    ],
)
def test_mistakes_are_explained(run, trained, tmp_path, monkeypatch, options, expected):
    monkeypatch.chdir(tmp_path)
    said = run("screen", trained.model, trained.test, "-o", "results.db", *options)
    assert said.code == 1
    assert expected in said.err
    assert not list(tmp_path.glob("results*"))


def test_files_of_others_stay(run, trained, tmp_path):
    (tmp_path / "results.json").write_text("{}")
    said = run("screen", trained.model, trained.test, "-o", tmp_path / "results.db")
    assert said.code == 1
    assert "results.json exists already" in said.err
    assert (tmp_path / "results.json").read_text() == "{}"
