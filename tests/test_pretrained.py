"""The models that carten ships: found by name wherever a model file may stand, small, as good as their card says."""

from __future__ import annotations

import json
import shutil
import tomllib
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from typer.testing import CliRunner

import carten
from carten import datasets, pretrained
from carten.cli import app
from carten.errors import ConfigError, ModelFileError
from carten.learning.labellers import Labeller
from carten.properties.io import header
from carten.train.config import Config
from carten.train.run import train
from carten.uncertainty import load_ensemble
from carten.workflows.predict import predict

ROOT = Path(__file__).parent.parent
BYTES = 4_000_000
UNSEEN = ("CH3OH", "HCOOH")


@pytest.fixture(scope="module")
def calculator() -> carten.Calculator:
    return carten.Calculator("organic", dtype="float64", backend="reference")  # nothing is compiled


def ethanol() -> Atoms:
    return ase.io.read(datasets.path("ethanol_xtb_test"), 7)


def test_names_and_sizes() -> None:
    assert pretrained.names() == ("organic",)
    assert all(pretrained.located(name).stat().st_size <= BYTES for name in pretrained.names())


def test_packages_contain_them() -> None:
    """Each file of the package that is no code fits a pattern of what setuptools packs."""
    package = ROOT / "src" / "carten"
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["carten"]
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    present = {path for path in package.rglob("*") if path.suffix in (".carten", ".gz")}
    assert package / "pretrained" / "organic.carten" in present
    assert present <= packed


def test_the_header_names_no_folder() -> None:
    text = json.dumps(header("organic")["provenance"])
    assert not [word for word in json.loads(text)["config"]["data"]["train"] if "/" in word]
    assert '"/' not in text


def test_the_header_tells_both_trainings() -> None:
    facts = header("organic")["provenance"]
    assert [each["config"]["data"]["train"] for each in (*facts["sources"], facts)] == [
        ["train.extxyz"],
        ["train.extxyz", "contacts.extxyz"],
    ]


def test_forces_are_the_slope_of_the_energy(calculator: carten.Calculator) -> None:
    atoms, step = ethanol(), 1e-4
    atoms.calc = calculator
    forces = atoms.get_forces()
    for atom, axis in ((0, 0), (2, 1), (8, 2)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.calc = calculator
            moved.positions[atom, axis] += sign * step
            energies.append(moved.get_potential_energy())
        assert (energies[1] - energies[0]) / (2 * step) == pytest.approx(forces[atom, axis], abs=2e-5)


@pytest.mark.parametrize("name", UNSEEN)
def test_errors_on_molecules_that_training_lacks(calculator: carten.Calculator, name: str) -> None:
    """Within four times the RMSE of forces and of energies of the card."""
    pytest.importorskip("tblite", reason="xTB labels need the extra xtb")
    from tblite.ase import TBLite

    atoms = molecule(name)
    atoms.rattle(0.03, seed=1)
    reference, values = atoms.copy(), atoms.copy()
    reference.calc, values.calc = TBLite(method="GFN2-xTB", verbosity=0), calculator
    error = values.get_potential_energy() - reference.get_potential_energy()
    assert abs(error) / len(atoms) < 0.015
    assert np.sqrt(np.mean((values.get_forces() - reference.get_forces()) ** 2)) < 0.2


def test_it_knows_its_errors(calculator: carten.Calculator) -> None:
    scales = load_ensemble("organic").uncertainty.scales
    assert {"energy", "forces"} <= set(scales)
    atoms = ethanol()
    usual = calculator.get_property("forces_uncertainty", atoms).mean()
    atoms.positions[0] += 0.5
    assert calculator.get_property("forces_uncertainty", atoms).mean() > 2 * usual > 0


def test_info_prints_the_card() -> None:
    done = CliRunner().invoke(app, ["info", "organic"])
    assert done.exit_code == 0
    for words in ("GFN2-xTB", "not for", "errors", "calibrated", "H C N O F P S Cl"):
        assert words in done.output


def test_a_file_of_that_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "organic").mkdir()  # a folder is no model
    assert pretrained.located("organic").parent == pretrained.FOLDER
    (tmp_path / "organic").rmdir()
    (tmp_path / "organic").write_bytes(b"something else")
    with pytest.raises(ModelFileError, match="not a carten file"):
        carten.load("organic")


@pytest.mark.parametrize("name", ["organics", "Organic", "organic.carten"])
def test_unknown_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    expected = "no file organic.carten" if "." in name else f"no file {name}, and no shipped model.* or organic"
    for read in (carten.load, carten.Calculator, header, load_ensemble):
        with pytest.raises(ModelFileError, match=expected):
            read(name)
    done = CliRunner().invoke(app, ["info", name])
    assert done.exit_code == 1
    document = {"data": {"train": "data.extxyz", "validation": 2}, "start": name}
    shutil.copy(datasets.path("bn_xtb_test"), "data.extxyz.gz")
    with pytest.raises((ModelFileError, ConfigError), match="no file" if "." in name else expected):
        train(Config.parse({**document, "data": {"train": "data.extxyz.gz"}}, tmp_path))
    if "." not in name:
        with pytest.raises(ConfigError, match="no such labeller"):
            _ = Labeller(name).implemented


def test_it_labels() -> None:
    labeller = Labeller("organic", {"backend": "reference"})
    assert labeller.level_of_theory == "organic"
    assert "forces" in labeller.implemented


def test_runs_start_from_it(tmp_path: Path) -> None:
    """Without a step the forces are those of the model; a path relative to the configuration goes first."""
    ase.io.write(tmp_path / "data.extxyz", ase.io.read(datasets.path("ethanol_dft_test"), ":12"))
    document = {
        "start": "organic",
        "output": "run",
        "data": {"train": "data.extxyz", "validation": 2},
        "training": {"epochs": 0, "accelerator": "cpu"},
    }
    config = Config.parse(document, tmp_path)
    assert config.start is not None
    assert config.start.model == pretrained.located("organic")
    result = train(config)
    before, after = (list(predict(carten.load(model), [ethanol()], ["forces"])) for model in ("organic", result.model))
    np.testing.assert_allclose(after[0]["forces"], before[0]["forces"], atol=2e-5)
    (tmp_path / "organic").touch()
    config = Config.parse(document, tmp_path)
    assert config.start is not None
    assert config.start.model == tmp_path / "organic"


def test_a_model_elsewhere_does_not_stand_in_for_one_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths are relative to the folder of the configuration, whatever lies in the working directory."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for name in ("best.carten", "organic"):
        Path(name).touch()
    document = {"data": {"train": "data.extxyz", "validation": 2}}
    shipped = pretrained.FOLDER / "organic.carten"
    for name, expected in (("best.carten", tmp_path / "best.carten"), ("organic", shipped)):
        config = Config.parse({"start": name, **document}, tmp_path)
        assert config.start is not None
        assert config.start.model == expected
