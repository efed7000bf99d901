"""Models show themselves in notebooks: the facts of `carten info`, with markup of files shown and not followed."""

import re
from html import unescape

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

import carten
from carten.cli.model import info_command
from carten.data.dataset import Dataset
from carten.data.labels import Frame
from carten.deploy import Deployed, deploy, export
from carten.properties.facts import model_facts
from carten.properties.io import save
from carten.workflows.evaluate import evaluate
from carten.workflows.predict import predict
from carten.workflows.relax import Goal, relax
from carten.workflows.trajectory import FrameSeries
from small import ethanol, small_model
from uncertainty.ensembles import KINDS, ensemble

ATTACK = "<script>alert('x')</script>"
PROVENANCE = {
    "card": {"reference": "PBE0", ATTACK: f"{ATTACK}\x1b[2J"},
    "epoch": 7,
    "step": 70,
    "minutes": 1.5,
    "validation": {"energy_rmse": 0.0123, "energy_mae": 0.01},
}


def facts(shown: object) -> dict[str, str]:
    """The rows of a table, which has no markup but its own."""
    html = shown._repr_html_()
    assert set(re.findall(r"<(/?\w+)", html)) == {"table", "tr", "td", "/table", "/tr", "/td"}
    cells = [unescape(cell) for cell in re.findall(r"<td[^>]*>([^<]*)</td>", html)]
    assert all(text.isprintable() for text in cells)
    return dict(zip(cells[::2], cells[1::2], strict=True))


@pytest.fixture
def file(tmp_path):
    save(path := tmp_path / "<script>.carten", small_model(), PROVENANCE)
    return path


def test_a_model_shows_what_info_prints(file, capsys):
    info_command(file)
    printed = capsys.readouterr().out
    table = facts(carten.load(file))
    assert table["elements"] == "H C O"
    assert table["predicts"] == "energy (eV), forces (eV/Angstrom), dipole (e*Angstrom)"
    assert table["network"].startswith("carten, 1 layers, 4 channels, correlation order 2")
    assert table["cutoff"].startswith("4 Å")
    parameters = sum(parameter.numel() for parameter in small_model().parameters())
    assert table["parameters"] == f"{parameters:,} in float64"
    assert table["reference"] == "PBE0"
    assert table["trained"] == "7 epochs, 70 steps, 1.5 minutes"
    assert ATTACK in table
    for name, text in table.items():
        assert f"{name:<15}{text}" in printed


def test_a_model_that_is_trained_further_does_not_say_how_it_was_trained(file):
    model = carten.load(file)
    model.requires_grad_(True)
    assert not {"trained", "reference", "validation"} & dict(model_facts(model)).keys()


@pytest.mark.needs("cpp")
def test_libraries_and_calculators_say_what_evaluates(file, tmp_path):
    export(file, tmp_path / "model.so")
    library = facts(Deployed.read(tmp_path / "model.so"))
    assert library["elements"] == "H C O"
    assert {"energy (eV)", "forces (eV/Angstrom)", "stress (eV/Angstrom^3)"} <= set(library["gives"].split(", "))
    assert library["precision"].startswith("float64")
    assert library["network"] == "carten, 1 layers, 4 channels, cutoff 4 Å"
    assert library["reference"] == "PBE0"
    calculator = facts(carten.Calculator(file))
    assert calculator["evaluated by"] == "library"
    assert calculator["file"] == str(file)
    assert calculator.items() >= library.items()
    assert "reference" not in facts(deploy(small_model()))


def test_a_calculator_that_runs_torch_says_so(file):
    table = facts(carten.Calculator(file, backend="reference", dtype="float32"))
    assert table["evaluated by"] == "torch"
    assert table["parameters"].endswith("in float32")
    assert table["reference"] == "PBE0"


@pytest.mark.parametrize("kind", KINDS)
def test_an_ensemble_says_what_it_consists_of(kind):
    several = ensemble(kind, scales={"forces": 2.5})
    members = {
        "committee": "4 models",
        "readouts": "4 readouts on one network",
        "posterior": "8 draws from a posterior",
    }
    for shown in (several, carten.Calculator(several, backend="reference")):
        table = facts(shown)
        assert table["uncertainty"] == f"{members[kind]}; calibrated, scales: forces 2.5"
        assert table["elements"] == "H C O"


def rows(shown: object) -> list[list[str]]:
    """Cells of a table, which has no markup but its own."""
    html = shown._repr_html_()
    assert set(re.findall(r"<(/?\w+)", html)) == {"table", "tr", "td", "/table", "/tr", "/td"}
    lines = re.findall(r"<tr>(.*?)</tr>", html)
    return [[unescape(cell) for cell in re.findall(r"<td[^>]*>([^<]*)</td>", line)] for line in lines]


def test_data_and_errors_show_themselves():
    """What a data set has; the errors that its evaluation says, in the units of reports."""
    model, frames = small_model(), []
    for seed in range(3):
        atoms = ethanol()
        atoms.rattle(0.05, seed=seed)
        labels = {"energy": next(predict(model, [atoms], ["energy"]))["energy"].reshape(1) + 1.0}
        frames.append(Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, labels))
    table = dict(rows(Dataset(frames, tuple(model.properties.values()), 4.0)))
    assert table["structures"] == "3" and table["elements"] == "H C O" and table["cutoff"] == "4 Å"
    assert table["energy (eV)"] == "3" and table["dipole (e*Angstrom)"] == "0"
    evaluation = evaluate(model, frames)
    head, energy, per_atom, *_ = rows(evaluation)
    assert head[0] == "3 structures" and head[2:] == ["RMSE", "MAE", "max", "bias", "values"]
    assert energy == ["energy", "meV", "1,000", "1,000", "1,000", "-1,000", "3"]
    assert per_atom[:3] == ["- per atom", "meV/atom", "111"]


def test_relaxations_and_trajectories_show_themselves():
    copper = bulk("Cu", cubic=True)
    copper.rattle(0.05, seed=0)
    (relaxed,) = relax(copper, EMT(), Goal(fmax=0.05))
    table = dict(rows(relaxed))
    assert (table["structure"], table["converged"]) == ("Cu4", "yes")
    assert table["energy"].startswith(f"{relaxed.energy:.6f} eV, before")
    frames = [copper.copy() for _ in range(11)]
    table = dict(rows(FrameSeries.of(frames, timestep=2.0)))
    assert table == {
        "structure": "Cu4, 4 atoms",
        "frames": "11",
        "time": "0.02 ps",
        "periodic": "in three directions",
        "velocities": "no",
    }
