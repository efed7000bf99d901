"""carten magnetic, spins: from files to files; the model is opened once, mistakes are explained."""

import json
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms

import carten.interfaces.ase as interface
from carten.model.conditions import Exchange
from carten.properties.io import save
from carten.properties.spec import input_table
from small import ethanol, small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    moments = replace(input_table()["magmoms"], embed=Exchange())
    network = small_model((26,), ("energy",), inputs=(moments,))
    network.heads["energies"].scale.fill_(10.0)
    save(path := tmp_path_factory.mktemp("model") / "iron.carten", network, {})
    return path


@pytest.fixture
def start(tmp_path):
    atoms = Atoms("Fe2", [[0.0, 0.0, 0.0], [2.3, 0.0, 0.0]])
    atoms.arrays["initial_magmoms"] = np.array([[0.0, 0.0, 2.0], [1.0, 0.0, 1.5]])
    ase.io.write(path := tmp_path / "start.extxyz", atoms)
    return path


def test_moments_relax_then_move(run, model, start, tmp_path, monkeypatch):
    opened, open_paths = [], interface.open_paths
    monkeypatch.setattr(interface, "open_paths", lambda *args: opened.append(args[0]) or open_paths(*args))
    said = run("magnetic", model, start, "-o", tmp_path / "magnetic", "--mmax", 1e-3)
    assert said.code == 0, said.err
    assert opened == [model]
    document = json.loads((tmp_path / "magnetic" / "magnetic.json").read_text())
    assert document["results"]["largest magnetic force"]["value"] <= 1.0  # meV/μ_B
    relaxed = tmp_path / "magnetic" / "magnetic.extxyz"
    sizes = np.linalg.norm(ase.io.read(relaxed).arrays["initial_magmoms"], axis=1)
    np.testing.assert_allclose(sizes, [2.0, np.hypot(1.0, 1.5)], rtol=1e-6)
    said = run("spins", model, relaxed, "-o", tmp_path / "spins", "--steps", 20, "--temperature", 10)
    assert said.code == 0, said.err
    assert opened == [model] * 2
    frames = ase.io.read(tmp_path / "spins" / "spins.extxyz", ":")
    assert [frame.info["time_fs"] for frame in frames] == [0.0, 10.0, 20.0]


def test_mistakes_are_explained(run, model, start, tmp_path):
    save(plain := tmp_path / "plain.carten", small_model(), {})
    said = run("magnetic", plain, start, "-o", tmp_path / "magnetic")
    assert said.code == 1 and "no inputs besides the atoms" in said.err
    ase.io.write(other := tmp_path / "other.extxyz", ethanol())
    said = run("spins", model, other, "-o", tmp_path / "spins")
    assert said.code == 1 and "magmoms" in said.err
    said = run("spins", model, start, "-o", tmp_path / "spins", "--damping", 0, "--temperature", 10)
    assert said.code == 1 and "damping" in said.err
    assert not (tmp_path / "magnetic").exists() and not (tmp_path / "spins").exists()
