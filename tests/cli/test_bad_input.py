"""What is wrong with the input is said in one message, without a traceback, and nothing is left half done."""

import ase.io
import numpy as np
import pytest
import torch
import typer
from ase import Atoms
from safetensors.torch import save_file
from typer.testing import CliRunner

from carten.cli.application import Group
from carten.properties.io import FORMAT
from small import ethanol, labelled


def refused(said, *words):
    assert said.code == 1, said.out
    assert said.err.startswith("Error: ")
    assert "Traceback" not in said.err
    for word in words:
        assert word in said.err, said.err


def written(path, *frames):
    ase.io.write(path, list(frames), format="extxyz")
    return path


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ("n_channels: 4", "n_chanels: 4", ("model.n_chanels: unknown key", 'did you mean "n_channels"?')),
        ("cutoff: 5.0", "cutoff: -5.0", ("model.cutoff", "greater than or equal to 0.1", "-5.0")),
        ("preset: carten", "preset: cartn", ("model.preset", "'carten', 'tace' or 'ictp'", 'did you mean "carten"?')),
        ("energy: {key: energy", "enrgy: {key: energy", ("properties.enrgy", 'did you mean "energy"?')),
        ("key: forces", "key: force", ('label "force" of forces is carried by none', 'did you mean "forces"?')),
        ("unit: eV,", "unit: eW,", ("eW", "unit")),
        ("train.extxyz", "trian.extxyz", ("trian.extxyz: no such file", "did you mean")),
    ],
)
def test_a_mistake_in_the_configuration(run, trained, tmp_path, good, bad, words):
    text = (trained.folder / "config.yaml").read_text().replace("output: run", f"output: {tmp_path / 'run'}")
    assert good in text
    config = trained.folder / "wrong.yaml"
    config.write_text(text.replace(good, bad))
    refused(run("train", config), *words)
    assert not (tmp_path / "run" / "best.carten").exists()


def test_a_configuration_that_is_not_there_or_not_yaml(run, tmp_path):
    refused(run("train", tmp_path / "config.yaml"), "config.yaml")
    (tmp_path / "config.yaml").write_text("data: [")
    refused(run("train", tmp_path / "config.yaml"), "is not valid YAML")


def test_a_weighted_label_that_no_structure_carries(run, trained, tmp_path):
    text = (trained.folder / "config.yaml").read_text().replace("output: run", f"output: {tmp_path / 'run'}")
    config = trained.folder / "more.yaml"
    config.write_text(text.replace("properties:", "properties:\n  dipole: {weight: 1.0}\n "))
    refused(run("train", config), '"dipole" of dipole is carried by none of the 12 structures', "names in it: energy")


def spoiled(kind: str) -> Atoms:
    atoms = labelled(1)[0]
    results = atoms.calc.results
    if kind == "nan":
        results["energy"] = float("nan")
    if kind == "inf":
        results["forces"][4, 1] = float("inf")
    if kind == "place":
        atoms.positions[3] = atoms.positions[5]
    if kind == "volume":
        atoms.pbc = True
        atoms.cell = [[5.0, 0.0, 0.0], [0.0, 5.0, 0.0], [5.0, 5.0, 0.0]]
    if kind == "element":
        atoms.numbers[1] = 26
    return atoms


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("nan", ('label "energy" of energy is nan',)),
        ("inf", ('label "forces" of forces is inf', "(atom 4)")),
        ("place", ("atoms 3 and 5 coincide",)),
        ("volume", ("span a volume",)),
        ("element", ("does not know Fe (atom 1)", "it knows H, C, O")),
    ],
)
def test_a_structure_that_cannot_be(run, trained, tmp_path, kind, words):
    atoms = spoiled(kind)
    if kind in ("nan", "inf"):  # ASE refuses to write such numbers as results
        atoms.info["energy"], atoms.arrays["forces"] = atoms.calc.results["energy"], atoms.calc.results["forces"]
        atoms.calc = None
    data = written(tmp_path / "data.extxyz", ethanol(), atoms)
    refused(run("evaluate", trained.model, data), "data.extxyz, frame 1", *words)
    if kind not in ("nan", "inf"):
        output = tmp_path / "out.extxyz"
        refused(run("predict", trained.model, data, "-o", output), *words)
        assert not output.exists()
        refused(run("md", trained.model, data, "-o", tmp_path / "md.extxyz", "--steps", 1), *words)


def test_an_array_of_wrong_length(run, trained, tmp_path):
    atoms = ethanol()
    atoms.info["forces"], atoms.info["energy"] = np.zeros(24), 1.0
    data = written(tmp_path / "data.extxyz", atoms)
    refused(run("evaluate", trained.model, data), "frame 0", "forces", "(24,)", "(9, 3)")


@pytest.mark.parametrize("command", ["check", "evaluate", "predict", "md"])
def test_files_that_cannot_be_read(run, trained, tmp_path, command):
    def refuse(path, *words):
        output = ("-o", tmp_path / "out.extxyz") if command in ("predict", "md") else ()
        model = () if command == "check" else (trained.model,)
        refused(run(command, *model, path, *output), path.name, *words)

    refuse(tmp_path / "absent.extxyz", "no such file")
    empty = tmp_path / "empty.extxyz"
    empty.write_text("")
    refuse(empty, "empty")
    cut = tmp_path / "cut.extxyz"
    cut.write_text(trained.test.read_text()[:-100])
    refuse(cut, "frame 4", "cut off")
    noise = tmp_path / "noise.extxyz"
    noise.write_bytes(bytes(range(256)))
    refuse(noise, "damaged")


@pytest.mark.parametrize("command", ["info", "evaluate", "predict", "md", "speed"])
def test_files_that_are_no_model(run, trained, tmp_path, command):
    def refuse(model, *words):
        data = () if command in ("info", "speed") else (trained.test,)
        output = ("-o", tmp_path / "out.extxyz") if command in ("predict", "md") else ()
        refused(run(command, model, *data, *output), model.name, *words)

    refuse(tmp_path / "absent.carten", "no file")
    good = trained.model.read_bytes()
    for name, content in (("cut", good[: len(good) // 2]), ("noise", b"\x07" * 1000), ("empty", b"")):
        damaged = tmp_path / f"{name}.carten"
        damaged.write_bytes(content)
        refuse(damaged, "damaged")
    foreign = tmp_path / "foreign.safetensors"
    save_file({}, foreign, {"format": "pt"})
    refuse(foreign, "not a carten model")
    newer = tmp_path / "newer.carten"
    newer.write_bytes(good.replace(rf"\"format\": {FORMAT},".encode(), rb"\"format\":99,"))
    assert newer.read_bytes() != good
    refuse(newer, "please upgrade")


def test_outputs_that_cannot_be_written_are_refused_before_anything_is_computed(run, trained, tmp_path):
    nowhere = tmp_path / "nowhere" / "report.html"
    refused(run("evaluate", trained.model, trained.test, "--report", nowhere), "no such folder")
    refused(run("predict", trained.model, trained.test, "-o", tmp_path / "nowhere" / "a.xyz"), "no such folder")
    refused(run("md", trained.model, trained.test, "-o", tmp_path / "nowhere" / "a.xyz"), "nowhere")
    refused(run("predict", trained.model, trained.test, "-o", tmp_path / "a.cif"), "expected a name ending in .extxyz")
    there = tmp_path / "there"
    there.mkdir()
    refused(run("demo", "--output", there), "exists already")


def test_options_that_make_no_sense(run, trained):
    refused(run("evaluate", trained.model, trained.test, "--label", "energy"), "PROPERTY=KEY")
    refused(run("evaluate", trained.model, trained.test, "--label", "enrgy=e"), "no property 'enrgy'; there are")
    refused(run("evaluate", trained.model, trained.test, "--label", "energy=absent"), "absent", "carried by none")
    refused(run("evaluate", trained.model, trained.test, "--device", "gpu7"), "--device: gpu7 cannot be used")
    refused(run("predict", trained.model, trained.test, "-o", "a.xyz", "--properties", "mass"), "does not predict mass")
    refused(run("speed", "carten", "--system", "water:none"), "water:N")
    refused(run("speed", "tcae"), "tcae")
    assert run("md", trained.model, trained.test, "--steps", -1).code == 2


def test_small_and_lonely_systems_are_predicted(run, trained, tmp_path):
    """A single atom, one without neighbours, and a cell smaller than the cutoff against its 3x3x3 supercell."""
    crystal = Atoms("CO", [[0, 0, 0], [1.1, 1.2, 1.3]], cell=[2.4, 2.5, 2.6], pbc=True)
    systems = (Atoms("C"), Atoms("CO", [[0, 0, 0], [40, 0, 0]]), Atoms("O"), crystal, crystal * (3, 3, 3))
    data, output = written(tmp_path / "data.extxyz", *systems), tmp_path / "out.extxyz"
    assert run("predict", trained.model, data, "-o", output, "--dtype", "float64").code == 0
    energy = [atoms.get_potential_energy() for atoms in ase.io.read(output, ":")]
    assert energy[1] == pytest.approx(energy[0] + energy[2], rel=1e-10)
    assert energy[4] == pytest.approx(27 * energy[3], rel=1e-10)


def test_errors_of_carten_itself_keep_their_traceback():
    app = typer.Typer(cls=Group, pretty_exceptions_enable=False)

    @app.command()
    def fail(how: str) -> None:
        raise {"zero": ZeroDivisionError, "value": ValueError}[how]("a defect")

    @app.callback()
    def main() -> None:
        pass

    for how, kind in (("zero", ZeroDivisionError), ("value", ValueError)):
        result = CliRunner().invoke(app, ["fail", how])
        assert type(result.exception) is kind


def test_memory_that_torch_does_not_get_is_an_error(run, tmp_path, monkeypatch):
    """torch tells of it by a bare RuntimeError."""
    monkeypatch.setattr("carten.data.check.check", lambda *_: torch.empty(2**50))
    said = run("check", tmp_path)
    assert (said.code, said.out) == (1, "")
    assert said.err.startswith("Error: not enough memory")


def test_other_defects_keep_their_traceback(run, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("a defect")

    monkeypatch.setattr("carten.data.check.check", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        run("check", tmp_path)


def test_libraries_are_not_called_damaged_where_a_model_file_is_needed(run, trained, tmp_path):
    library = tmp_path / "model.so"
    library.write_bytes(b"\x7fELF" + bytes(60))
    said = run("predict", library, trained.train, "-o", tmp_path / "out.extxyz")
    assert said.code == 1
    assert "give the .carten file" in said.err
    assert "damaged" not in said.err
