"""Every command, end to end, on what one small training run made."""

import csv
import json
import resource
import subprocess
import sys

import ase.io
import numpy as np
import pytest
import yaml

import carten
from carten.cli.application import COMMANDS as PANELS
from carten.cli.application import message
from carten.model.config import PRESETS
from carten.ops.library import BACKENDS
from carten.physics.dispersion import D3Config
from carten.physics.zbl import ZblConfig
from carten.properties.io import save
from carten.train.config import Config
from small import labelled, small_model

COMMANDS = ("init", "check", "train", "evaluate", "predict", "md", "info", "speed", "spectrum", "demo")
COMMANDS += ("properties", "config")


def test_help_names_every_command(run):
    said = run("--help")
    assert said.code == 0
    for command in (name for _, commands in PANELS for name, _, _ in commands):
        assert f" {command} " in said.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run, command):
    said = run(command, "--help")
    assert said.code == 0
    assert len(said.out.split()) > 20
    assert run("--version").out == f"carten {carten.__version__}\n"


def test_help_is_there_at_once():
    program = "import sys; from carten.cli import app; print(*{'torch', 'ase', 'numpy', 'scipy'} & set(sys.modules))"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.split() == [], "these take time and are not needed to show help"
    assert after.ru_utime - before.ru_utime < 1.0


def test_the_list_of_commands_has_a_line_for_each():
    summaries = [summary for _, commands in PANELS for _, _, summary in commands]
    assert [summary for summary in summaries if len(summary) > 62] == []  # what a terminal of 80 columns leaves
    assert all(summary.endswith(".") for summary in summaries)


def test_choices_are_those_of_the_library(run):
    for name in PRESETS:
        assert name in run("init", "--help").out
    for name in BACKENDS:
        assert name in run("speed", "--help").out


@pytest.mark.parametrize("preset", PRESETS)
def test_init_prints_the_defaults(run, preset):
    document = yaml.safe_load(run("init", "--preset", preset).out)
    found = Config.parse(document).model_dump()
    default = Config.parse({"data": {"train": "train.extxyz"}, "model": {"preset": preset}}).model_dump()
    for name, unit in (("energy", "eV"), ("forces", "eV/Angstrom")):
        assert found["properties"][name]["key"] == name
        assert found["properties"][name]["unit"] == unit
        found["properties"][name].update(key=None, unit=None)
    assert found == default


def test_init_finds_labels_by_their_endings(run, tmp_path):
    frames = labelled(2)
    for atoms in frames:
        atoms.info["REF_energy"], atoms.arrays["dft_forces"] = atoms.get_potential_energy(), atoms.get_forces()
        atoms.info["dipole_moment"] = np.zeros(3)
        atoms.calc = None
    ase.io.write(tmp_path / "data.extxyz", frames)
    document = yaml.safe_load(run("init", "--data", tmp_path / "data.extxyz").out)
    keys = {name: row["key"] for name, row in document["properties"].items()}
    assert keys == {"energy": "REF_energy", "forces": "dft_forces"}


def test_init_offers_the_inputs_in_the_data(run, tmp_path):
    """They are not chosen: a model that is told something has to be told it always."""
    frames = labelled(2)
    for atoms in frames:
        atoms.info.update(total_charge=1.0, fidelity="pbe")
    ase.io.write(tmp_path / "data.extxyz", frames)
    said = run("init", "--data", tmp_path / "data.extxyz").out
    offered = "# inputs: {fidelity: {}, total_charge: {}}"
    assert f"{offered}  # given to the model besides the structure: these are in the data" in said
    assert "inputs" not in yaml.safe_load(said)


@pytest.mark.parametrize("options", [(), ("--all",)])
@pytest.mark.parametrize(("key", "shape", "option"), [
    ("magmoms", (9, 3), {"odd_products": True}),
    ("second_hyperpolarizability", (81,), {"l_max_edges": 4}),
])
def test_init_gives_the_network_the_features_that_labels_need(run, tmp_path, key, shape, option, options):
    """Moments are axial vectors, a second hyperpolarizability has rank 4: the default network makes neither."""
    frames = labelled(2)
    for atoms in frames:
        values = np.ones(shape)
        (atoms.info if len(shape) == 1 else atoms.arrays)[key] = values
    ase.io.write(tmp_path / "data.extxyz", frames)
    document = yaml.safe_load(run("init", "--data", tmp_path / "data.extxyz", *options).out)
    assert option.items() <= document["model"].items()
    assert {"moments", "second_hyperpolarizability"} & set(document["properties"])


def test_init_quotes_what_yaml_would_misread(run, tmp_path):
    frames = labelled(1)
    frames[0].info["E: 'dft' _energy"] = 1.0
    frames[0].calc = None
    path = tmp_path / "my: data #1.extxyz"
    ase.io.write(path, frames)
    document = yaml.safe_load(run("init", "--data", path).out)
    assert document["data"]["train"] == str(path)
    assert list(document["properties"]) == ["energy"]


def test_check_reports(run, trained):
    said = run("check", trained.train)
    assert said.code == 0
    assert "12 structures of 9 atoms" in said.out
    assert "energy: 12 of 12 structures" in said.out
    assert run("check", trained.train, "--label", "energy=energy:meV").out != said.out


def test_train_reports_errors_and_what_comes_next(trained):
    assert "forces  meV/Å" in trained.said.out
    assert "carten evaluate" in trained.said.out
    assert trained.model.exists()


def test_train_goes_on(run, trained):
    config = trained.folder / "config.yaml"
    refused = run("train", config)
    assert refused.code == 1
    assert "--resume" in refused.err
    assert run("train", config, "--resume").code == 0


def test_evaluate_writes_numbers_and_a_report(run, trained, tmp_path):
    numbers, report = tmp_path / "errors.json", tmp_path / "report.html"
    arguments = ("evaluate", trained.model, trained.test, "--json", numbers, "--report", report)
    said = run(*arguments)
    assert said.code == 0
    assert str(report) in said.out.replace("\n", "")
    found = json.loads(numbers.read_text())
    frames = ase.io.read(trained.test, ":")
    atoms, errors = frames[0].copy(), []
    atoms.calc = carten.Calculator(trained.model)
    for frame in frames:
        atoms.positions = frame.positions
        errors.append(atoms.get_forces() - frame.get_forces())
    forces = found["properties"]["forces"]
    assert forces["rmse"] == pytest.approx(1000 * np.sqrt(np.mean(np.square(errors))), rel=1e-5)
    assert (forces["unit"], forces["count"], found["structures"]) == ("meV/Angstrom", 5 * 9 * 3, 5)
    assert "Loss over the epochs" in report.read_text()
    again = run(*arguments)
    assert again.code == 1
    assert "exists already" in again.err
    assert run(*arguments, "--overwrite").code == 0


def test_evaluate_shows_errors_by_group(run, trained, tmp_path):
    """By what the files say, else by file; a model that looks good may be bad on a group."""
    frames = ase.io.read(trained.test, ":")
    for number, atoms in enumerate(frames):
        atoms.info["config_type"] = "strained [1]" if number == 3 else "bulk"
        atoms.calc.results["energy"] += 9.0 * (number == 3)
    ase.io.write(tmp_path / "a.extxyz", frames)
    numbers, structures, atoms = (tmp_path / name for name in ("e.json", "s.csv", "a.csv"))
    options = ("--json", numbers, "--structures", structures, "--atoms", atoms)
    said = run("evaluate", trained.model, tmp_path / "a.extxyz", *options)
    assert said.code == 0, said.err
    groups = json.loads(numbers.read_text())["groups"]
    assert [(name, group["structures"]) for name, group in groups.items()] == [("bulk", 4), ("strained [1]", 1)]
    bias = {name: group["properties"]["energy"]["per_atom"]["bias"] for name, group in groups.items()}
    assert bias["strained [1]"] - bias["bulk"] == pytest.approx(-1000.0, abs=50.0)
    assert "strained [1]" in said.out
    assert [len(path.read_text().splitlines()) for path in (structures, atoms)] == [6, 46]
    said = run("evaluate", trained.model, tmp_path / "a.extxyz", trained.test, "--group", "file")
    assert [line.split()[:2] for line in said.out.splitlines()[-2:]] == [["a.extxyz", "5"], ["test.extxyz", "5"]]
    assert "bulk" not in said.out
    refused = run("evaluate", trained.model, trained.test, "--group", "phase")
    assert (refused.code, "carries 'phase'" in refused.err) == (1, True)


def test_evaluate_takes_other_names_and_units(run, trained, tmp_path):
    frames = ase.io.read(trained.test, ":")
    for atoms in frames:
        atoms.info["mine"] = 1000 * atoms.get_potential_energy()
        atoms.calc = None
    ase.io.write(tmp_path / "other.extxyz", frames)
    for number, arguments in enumerate([(trained.test,), (tmp_path / "other.extxyz", "--label", "energy=mine:meV")]):
        assert run("evaluate", trained.model, *arguments, "--json", tmp_path / f"{number}.json").code == 0
    found = [json.loads((tmp_path / f"{number}.json").read_text())["properties"] for number in (0, 1)]
    assert set(found[1]) == {"energy"}
    assert found[1]["energy"]["rmse"] == pytest.approx(found[0]["energy"]["rmse"], rel=1e-6)


def test_predict_writes_what_the_calculator_says(run, trained, tmp_path):
    """Beside labels, unless there are none, or the user insists."""
    output, bare = tmp_path / "out.extxyz", tmp_path / "bare.extxyz"
    assert run("predict", trained.model, trained.test, "-o", output).code == 0
    read = ase.io.read(output, ":")
    atoms = read[2].copy()
    atoms.calc = carten.Calculator(trained.model)
    assert read[2].info["carten_energy"] == pytest.approx(atoms.get_potential_energy(), rel=1e-7)
    np.testing.assert_allclose(read[2].arrays["carten_forces"], atoms.get_forces(), atol=1e-5)
    label = labelled(5, seed=1)[2]
    assert read[2].get_potential_energy() == pytest.approx(label.get_potential_energy(), rel=1e-7)
    np.testing.assert_allclose(read[2].get_forces(), label.get_forces(), atol=1e-7)
    assert run("predict", trained.model, trained.test, "-o", output).code == 1
    ase.io.write(bare, label.copy())
    without = (("predict", trained.model, bare), ("predict", trained.model, trained.test, "--prefix", ""))
    for arguments in without:
        assert run(*arguments, "-o", output, "--overwrite").code == 0
        last = ase.io.read(output, 0 if arguments[2] == bare else 2)
        assert last.get_potential_energy() == pytest.approx(atoms.get_potential_energy(), rel=1e-7)
        np.testing.assert_allclose(last.get_forces(), atoms.get_forces(), atol=1e-5)


def test_md_runs_and_goes_on(run, trained, tmp_path):
    output = tmp_path / "md.extxyz"
    said = run("md", trained.model, trained.test, "-o", output, "--steps", 20)
    assert said.code == 0
    for word in ("temperature", "energy drift", "steps/s", "ns/day"):
        assert word in said.out
    assert len(ase.io.read(output, ":")) == 3
    assert run("md", trained.model, trained.test, "-o", output, "--steps", 40).code == 1
    assert run("md", trained.model, trained.test, "-o", output, "--steps", 40, "--restart").code == 0
    with output.with_suffix(".csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [0, 10, 20, 30, 40]


def test_md_has_thermostats(run, trained, tmp_path):
    for ensemble in ("langevin", "bussi"):
        output = tmp_path / f"{ensemble}.extxyz"
        assert run("md", trained.model, trained.test, "-o", output, "--steps", 2, "--ensemble", ensemble).code == 0
    assert run("md", trained.model, trained.test, "--ensemble", "nph").code == 2
    for option in ("--pressure", "--pressure-damping", "--compressibility"):
        said = run("md", trained.model, trained.test, "--ensemble", "bussi", option, 1)
        assert said.code == 1 and "bussi keeps the volume; a pressure needs the ensemble npt" in said.err


def test_info_tells_what_a_model_is(run, trained):
    said = run("info", trained.model)
    assert said.code == 0
    assert "elements       H C O" in said.out
    assert "forces RMSE" in said.out
    assert "\ngroups         network 9" in said.out and ", layer 1 " in said.out
    head = json.loads(run("info", trained.model, "--json").out)
    model = carten.load(trained.model)
    assert head["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert head["elements"] == list(model.elements)
    assert head["multiply_adds_per_atom"] > head["bytes_per_atom"] / 100 > 0
    assert "multiply-adds" in said.out
    assert head["provenance"]["config"]["training"]["epochs"] == 3


def test_info_tells_the_terms(run, tmp_path):
    terms = (ZblConfig(), D3Config(functional="pbe", cutoff=15.0))
    save(tmp_path / "model.carten", small_model(terms=terms), {})
    assert (
        "\nenergy terms   zbl, d3 (functional pbe, three_body False, cutoff 15.0"
        in run("info", tmp_path / "model.carten").out
    )


@pytest.mark.parametrize("what", ["model", "carten"])
def test_speed_measures(run, trained, tmp_path, what):
    model = trained.model if what == "model" else what
    numbers = tmp_path / "speed.json"
    said = run("speed", model, "--system", "ethanol", "--seconds", 0, "--json", numbers, "--backend", "reference")
    assert said.code == 0
    found = json.loads(numbers.read_text())
    assert (found["n_atoms"], found["backend"], found["dtype"]) == (9, "reference", "float32")
    assert found["us_per_atom"] > 0
    assert found["peak_memory_mb"] > 10
    assert found["atom_steps_per_second"] == pytest.approx(1e6 / found["us_per_atom"])
    assert found["edges_per_atom"] == 8.0
    assert 0 < found["peak_fraction"] < 1
    assert found["compared"] == []


def test_speed_compares_in_one_run(run, trained, tmp_path):
    numbers = tmp_path / "speed.json"
    options = ["--system", "ethanol", "--seconds", 0, "--backend", "reference", "--json", numbers]
    said = run("speed", trained.model, *options, "--compare", "auto", "--compare", trained.model)
    assert said.code == 0, said.err
    found = json.loads(numbers.read_text())
    timings = [found, *found["compared"]]
    assert [timing["backend"] for timing in timings] == ["reference", "library", "reference"]
    for timing in timings:
        ratio = timing["us_per_atom"] / found["us_per_atom"]
        assert f"{ratio:.2f} ×" in said.out
    for text in ("linear maps", "gradient of interaction 1", "of peak", "back end library", "GFLOP/s"):
        assert text in said.out


def test_an_error_of_the_system_names_its_file():
    assert message(FileNotFoundError(2, "No such file or directory", "a.xyz")) == "a.xyz: No such file or directory"
    assert message(OSError(28, "No space left on device")).startswith("No space left on device; make space")
    assert message(FileExistsError("b exists already")) == "b exists already"
