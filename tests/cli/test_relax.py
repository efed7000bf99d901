"""carten relax: files in and out, what does not converge, bad input."""

import ase.io
import numpy as np
import pytest

from small import ethanol


@pytest.fixture
def start(tmp_path):
    path = tmp_path / "start.extxyz"
    frames = [ethanol(), ethanol()]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.02, seed=number)
        atoms.info["number"] = number
    ase.io.write(path, frames)
    return path


def test_relaxed_structures_are_written_with_what_they_carried(run, trained, start, tmp_path):
    out = tmp_path / "relaxed.extxyz"
    said = run("relax", trained.model, start, "-o", out, "--fmax", 0.05, "--steps", 2000)
    assert said.code == 0, said.err
    relaxed = ase.io.read(out, ":")
    assert [atoms.info["number"] for atoms in relaxed] == [0, 1]
    assert all(atoms.info["relaxed"] for atoms in relaxed)
    assert all(np.linalg.norm(atoms.get_forces(), axis=1).max() <= 0.05 for atoms in relaxed)
    assert "2 structures" in said.out


def test_what_does_not_converge_is_written_and_said(run, trained, start, tmp_path):
    out = tmp_path / "relaxed.extxyz"
    said = run("relax", trained.model, start, "-o", out, "--fmax", 1e-9, "--steps", 1)
    assert said.code == 1
    assert "2 of 2 structures did not converge" in said.err
    assert [bool(atoms.info["relaxed"]) for atoms in ase.io.read(out, ":")] == [False, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cell"], "not periodic"),
        (["--pressure", 1], "add --cell"),
        (["--fmax", 0], "fmax must be positive"),
    ],
)
def test_bad_input(run, trained, start, tmp_path, options, message):
    said = run("relax", trained.model, start, "-o", tmp_path / "out.extxyz", *options)
    assert said.code == 1 and message in said.err
    assert not (tmp_path / "out.extxyz").exists()
