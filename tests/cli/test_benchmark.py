"""carten benchmark: files, structures and mistakes."""

import json

import ase.io
from ase.build import molecule

from carten.workflows import battery


def test_a_model_is_checked(run, trained, tmp_path, monkeypatch):
    monkeypatch.setattr(battery, "STEPS", 10)
    ase.io.write(tmp_path / "ethanol.xyz", molecule("CH3CH2OH"))
    said = run("benchmark", trained.model, tmp_path / "ethanol.xyz", "-o", tmp_path / "checks")
    assert said.code == 0, said.err
    assert "green" in said.out
    page = (tmp_path / "checks" / "benchmark.html").read_text()
    assert "C2H6O" in page
    assert "no crystals among the structures" in page
    document = json.loads((tmp_path / "checks" / "benchmark.json").read_text())
    pairs = set(document["tables"]["pairs"]["pair"])
    assert pairs == {"C–C", "C–H", "C–O", "H–H", "H–O", "O–O"}
    said = run("benchmark", trained.model, tmp_path / "ethanol.xyz", "-o", tmp_path / "checks")
    assert said.code == 1
    assert "--overwrite" in said.err


def test_mistakes_are_explained(run, trained, tmp_path):
    ase.io.write(tmp_path / "silane.xyz", molecule("SiH4"))
    said = run("benchmark", trained.model, tmp_path / "silane.xyz", "-o", tmp_path / "checks")
    assert said.code == 1
    assert "does not know" in said.err
    assert not (tmp_path / "checks").exists()
    said = run("benchmark", tmp_path / "absent.carten", "-o", tmp_path / "checks")
    assert said.code == 1
    assert not (tmp_path / "checks").exists()
