"""Active learning: it runs whole, goes on after an end at any stage with the same result, and asks for sound input."""

import csv
import json

import ase.io
import numpy as np
import pytest
import yaml
from ase import Atoms
from ase.build import bulk
from typer.testing import CliRunner

from carten.cli import app
from carten.data.read import read_structures
from carten.errors import ConfigError, DataError
from carten.interfaces.ase import Calculator
from carten.learning.config import DynamicsConfig, LoopConfig
from carten.learning.exploration import DynamicsOutcome, explore
from carten.learning.loop import learn
from carten.model.config import NetworkConfig
from carten.properties.io import save
from carten.properties.potential import Potential
from carten.properties.spec import property_table
from carten.report.folder import folder_page
from carten.uncertainty import load_ensemble

TINY = {"cutoff": 4.0, "n_channels": 2, "n_layers": 1, "l_max_edges": 1, "l_max_features": 1, "correlation_order": 2}


def write_loop(folder, **changes) -> LoopConfig:
    frames = []
    for seed in range(4):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.1, seed=seed)
        frames.append(atoms)
    ase.io.write(folder / "start.extxyz", frames)
    document = {
        "structures": "start.extxyz",
        "label": {"labeller": "emt"},
        "explore": [
            {"kind": "md", "temperatures": [300], "picoseconds": 0.01, "timestep": 1.0, "frames": 5},
            {"kind": "cells", "number": 4, "rattle": 0.05},
        ],
        "select": {"number": 3},
        "train": {"model": TINY, "training": {"epochs": 2}, "dtype": "float64"},
        "rounds": 1,
        "proof": {"temperature": 50, "picoseconds": 0.01, "timestep": 1.0},
        "output": "out",
        **changes,
    }
    path = folder / "loop.yaml"
    path.write_text(yaml.safe_dump(document))
    return LoopConfig.load(path)


class Stop(Exception):
    pass


def test_a_loop_that_is_stopped_at_every_stage_ends_as_one_that_is_not(tmp_path):
    for name in ("once", "stopped"):
        (tmp_path / name).mkdir()
    stages: list[str] = []
    curve = learn(write_loop(tmp_path / "once"), stages.append)
    assert [entry.labels for entry in curve.rounds] == [4, 7]
    config = write_loop(tmp_path / "stopped")
    seen: list[str] = []

    def stop_at_new(text: str) -> None:
        if text not in seen:
            seen.append(text)
            raise Stop

    for _ in range(30):
        try:
            again = learn(config, stop_at_new)
            break
        except Stop:
            continue
    assert seen == stages and len(stages) > 6
    for file in ("round_0/labelled.extxyz", "round_0/round.json"):
        texts = [(tmp_path / name / "out" / file).read_text() for name in ("once", "stopped")]
        assert texts[0] == texts[1]
    assert [entry.validation for entry in again.rounds] == [entry.validation for entry in curve.rounds]
    assert again.proof == curve.proof
    with (tmp_path / "once" / "out" / "learn-rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["labels"]) for row in rows] == [4, 7]
    record = json.loads((tmp_path / "once" / "out" / "round_0" / "round.json").read_text())
    assert float(rows[0]["new (meV/Å)"]) == pytest.approx(record["new"])
    assert "\\mathdefault" not in (tmp_path / "once" / "out" / "learn.svg").read_text()
    page = folder_page(tmp_path / "once")
    assert 'Active learning <span class="name">out</span>' in page
    assert "round_1" not in page  # its files belong to the loop


def test_the_command_goes_on_with_more_rounds(tmp_path):
    write_loop(tmp_path)
    done = CliRunner().invoke(app, ["learn", str(tmp_path / "loop.yaml")])
    assert done.exit_code == 0, done.output
    assert "round_1/run" in done.output
    labels = (tmp_path / "out" / "round_0" / "labelled.extxyz").read_bytes()
    write_loop(tmp_path, rounds=2, proof=None)
    done = CliRunner().invoke(app, ["learn", str(tmp_path / "loop.yaml")])
    assert done.exit_code == 0, done.output
    assert "round_2/run" in done.output
    assert (tmp_path / "out" / "round_0" / "labelled.extxyz").read_bytes() == labels
    assert {atoms.info["fidelity"] for _, atoms in read_structures(tmp_path / "out" / "round_1" / "labelled.extxyz")}
    write_loop(tmp_path, select={"number": 2})
    refused = CliRunner().invoke(app, ["learn", str(tmp_path / "loop.yaml")])
    assert refused.exit_code == 1 and "holds a loop with another select" in refused.output


def test_a_mistake_before_the_first_label_can_be_put_right(tmp_path):
    """Nothing but the configuration is in the folder then, and another one may take its place."""
    with pytest.raises(ConfigError, match="emtt: no such labeller; did you mean emt"):
        learn(write_loop(tmp_path, label={"labeller": "emtt"}))
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match=r"none\.extxyz: no such file"):
        learn(write_loop(tmp_path, structures="none.extxyz"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["loop.yaml"]
    config = write_loop(tmp_path, proof=None, explore=[{"kind": "cells", "number": 4, "rattle": 0.05}])
    assert len(learn(config).rounds) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rond": 2}, r'unknown key; did you mean "rounds"\?'),
        ({"train": {"data": {"train": "x.extxyz"}}}, r"train: data.train is set by the loop; leave it out"),
        ({"train": {"model": {"cutof": 3}}}, r'did you mean "cutoff"'),
        ({"train": {"seed": 1.5}}, r"seed: expected a valid integer, .* found 1.5"),
        ({"explore": [{"kind": "mdd"}]}, r"expected 'md', 'cells', 'dimers', found 'mdd'"),
        ({"explore": [{"kind": "md", "temperatures": [-5]}]}, r"temperatures"),
        (
            {"explore": [{"kind": "md", "stop_at": "forces_uncertainty>0.1"}]},
            r"explore.stop_at: models of this loop have no uncertainties, found .*>0.1': set committee: 4",
        ),
        ({"committee": 2, "explore": [{"kind": "md", "stop_at": "forse>1"}]}, r"the model does not give forse"),
        ({"explore": [{"kind": "md", "stop_at": "forces"}]}, r"explore.stop_at: expected PROPERTY>VALUE"),
        ({"committee": 2, "train": {"model": {**TINY, "n_members": 3}}}, r"committee: 2 models of 3 members each"),
    ],
)
def test_mistakes_in_the_configuration_are_explained(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        write_loop(tmp_path, **changes)


@pytest.mark.parametrize("criterion", ["forces>0.005", "forces_uncertainty>0.0005"])
def test_dynamics_that_stops_leaves_its_last_frame_and_goes_on_from_another_structure(tmp_path, criterion):
    """A perfect crystal has neither forces nor, then, uncertainties of forces; one that moves has both."""
    model = Potential(
        NetworkConfig.model_validate(TINY | {"n_members": 2}), (29,), [property_table()["energy"]], backend="reference"
    )
    save(tmp_path / "model.carten", model.double(), {})
    section = DynamicsConfig(temperatures=(300,), picoseconds=0.02, timestep=1.0, frames=10, stop_at=(criterion,))
    frames, runs = explore(tmp_path / "model.carten", [bulk("Cu", cubic=True)], [section], tmp_path / "out", seed=1)
    name, _, value = criterion.partition(">")
    early = [run for run in runs if not run.complete]
    assert len(frames) == 10 and early and all(run.reason.startswith(f"{name} of atom ") for run in early)
    calculator = Calculator(tmp_path / "model.carten")
    sizes = [np.linalg.norm(calculator.get_property(name, atoms).reshape(4, -1), axis=1).max() for atoms in frames]
    assert sum(size > float(value) for size in sizes) == len(early)
    assert len({atoms.positions.tobytes() for atoms in frames}) == 10
    assert sum(run.picoseconds for run in runs) == pytest.approx(0.02)
    without = section.model_copy(update={"stop_at": ()})
    _, runs = explore(tmp_path / "model.carten", [bulk("Cu", cubic=True)], [without], tmp_path / "whole", seed=1)
    assert [(run.picoseconds, run.complete, run.reason) for run in runs] == [(0.02, True, "")]


def test_a_committee_explores_and_selects(tmp_path):
    section = {"kind": "md", "temperatures": [300], "picoseconds": 0.01, "timestep": 1.0, "frames": 5}
    explored = {"explore": [section | {"stop_at": ["forces_uncertainty>100", "contacts"]}], "proof": None}
    stages: list[str] = []
    curve = learn(write_loop(tmp_path, committee=2, **explored), stages.append)
    assert any("structures by uncertainty" in stage for stage in stages)
    assert curve.model == tmp_path / "out" / "round_1" / "committee.carten"
    assert load_ensemble(curve.model).n_members == 2
    seeds = [
        yaml.safe_load((tmp_path / "out" / "round_1" / run / "config.yaml").read_text())["seed"]
        for run in ("run", "run_1")
    ]
    assert seeds == [0, 1]


def test_explorations_that_do_not_suit_the_structures(tmp_path):
    config = write_loop(tmp_path, explore=[{"kind": "dimers"}])
    with pytest.raises(DataError, match=r"dimers need molecules to start from"):
        learn(config, lambda _: None)
    ase.io.write(tmp_path / "start.extxyz", [Atoms("Cu")])
    with pytest.raises(DataError, match=r"dynamics needs structures of two atoms or more"):
        learn(config.model_copy(update={"explore": (DynamicsConfig(kind="md"),), "output": tmp_path / "new"}))


def test_dynamics_that_ends_early_is_no_proof(tmp_path):
    from carten.learning.curve import LearningCurve, Round

    curve = LearningCurve(
        [Round(4, 0.1, 5.0, 1.0)], DynamicsOutcome(300.0, 0.5, complete=False, reason="dynamics has exploded")
    )
    assert curve.failures() == ["dynamics has exploded"]
    assert ("dynamics at 300 K", "0.5", "ps") in list(curve.lines())
