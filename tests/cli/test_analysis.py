"""carten analyse: what frames allow, what was asked for, bad input."""

import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from carten.properties.io import save
from small import ethanol, small_model


@pytest.fixture
def dynamics(tmp_path):
    frames = []
    for number in range(60):
        atoms = bulk("Cu", cubic=True) * 2
        atoms.rattle(0.1, seed=number)
        atoms.set_momenta(np.random.default_rng(number).normal(size=(32, 3)))
        atoms.info["time_ps"] = 0.005 * number
        frames.append(atoms)
    path = tmp_path / "md.extxyz"
    ase.io.write(path, frames)
    return path


def test_all_that_frames_allow(run, dynamics, tmp_path):
    folder = tmp_path / "analysis"
    said = run("analyse", dynamics, "-o", folder, "--skip", 0, "--resolution", 300)
    assert said.code == 0, said.err
    for name in ("averages", "rdf", "angles", "diffusion", "states"):
        document = json.loads((folder / f"{name}.json").read_text())
        assert document["job"] == name and document["results"]
        assert (folder / f"{name}.png").stat().st_size > 1000
    assert json.loads((folder / "rdf.json").read_text())["results"]["Cu-Cu first peak"]["unit"] == "Å"
    again = run("analyse", dynamics, "-o", folder)
    assert again.code == 1 and "exists" in again.err


def test_runs_are_analysed_one_by_one(run, dynamics, tmp_path):
    """Twice the same run: its numbers, without any error, where the two in a row are no trajectory."""
    options = ("--skip", 0, "--only", "diffusion", "--only", "rdf")
    said = run("analyse", dynamics, "-o", tmp_path / "one", *options)
    assert said.code == 0, said.err
    said = run("analyse", dynamics, dynamics, "-o", tmp_path / "two", *options, "--runs")
    assert said.code == 0, said.err
    for name, number in (("diffusion", "Cu diffusion coefficient"), ("rdf", "Cu-Cu first peak")):
        one, two = (json.loads((tmp_path / folder / f"{name}.json").read_text()) for folder in ("one", "two"))
        assert two["job"] == name and two["results"]["runs"]["value"] == 2
        assert two["results"][number]["value"] == pytest.approx(one["results"][number]["value"])
        assert two["results"][f"{number}, standard error"]["value"] == pytest.approx(0.0, abs=1e-12)
    assert (tmp_path / "two" / "rdf-runs.csv").exists() and (tmp_path / "two" / "rdf-distances.csv").exists()
    said = run("analyse", dynamics, dynamics, "-o", tmp_path / "row", *options)
    assert said.code == 1 and "time between frames" in said.err


def test_transport_is_done_where_it_is_asked_for(run, dynamics, tmp_path):
    frames = [atoms.copy() for _ in range(5) for atoms in ase.io.read(dynamics, ":")]
    for number, atoms in enumerate(frames):
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, stress=np.random.default_rng(number).normal(size=6))
        atoms.info["time_ps"] = 0.002 * number
    ase.io.write(path := tmp_path / "long.extxyz", frames)
    said = run("analyse", path, "-o", tmp_path / "viscosity", "--only", "viscosity", "--skip", 0)
    assert said.code == 0, said.err
    results = json.loads((tmp_path / "viscosity" / "viscosity.json").read_text())["results"]
    assert results["viscosity"]["unit"] == "mPa·s" and results["viscosity"]["value"] > 0.0
    said = run("analyse", path, "-o", tmp_path / "heat", "--only", "conductivity")
    assert said.code == 1 and "conductivity needs the model that the dynamics was run with" in said.err
    save(model := tmp_path / "copper.carten", small_model((29,)), {})
    options = ("--only", "conductivity", "--model", model, "--skip", 0.3)
    said = run("analyse", path, "-o", tmp_path / "heat", *options)
    assert said.code == 0, said.err
    assert json.loads((tmp_path / "heat" / "conductivity.json").read_text())["results"]["conductivity"]["value"] > 0.0


def test_what_they_do_not_allow_is_left_out_or_an_error(run, tmp_path):
    path, folder = tmp_path / "molecule.extxyz", tmp_path / "analysis"
    ase.io.write(path, [ethanol() for _ in range(20)])
    said = run("analyse", path, "-o", folder, "--skip", 0)
    assert said.code == 0 and (folder / "angles.json").exists() and not (folder / "rdf.json").exists()
    assert "no rdf: a radial distribution needs a density" in said.err and "no diffusion" in said.err
    said = run("analyse", path, "-o", tmp_path / "rdf", "--only", "rdf")
    assert said.code == 1 and "needs a density" in said.err
    said = run("analyse", path, "--only", "dielectric", "-o", tmp_path / "dielectric")
    assert said.code == 1 and "give it by --model" in said.err
