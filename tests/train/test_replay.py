"""Runs that replay structures of before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from carten.data.convert import convert
from carten.data.dataset import Dataset
from carten.errors import ConfigError, DataError, ModelError
from carten.properties.io import load
from carten.properties.potential import Potential
from carten.train.build import build_model
from carten.train.config import Config
from carten.train.replay import Replay
from carten.train.run import train
from carten.train.sets import Sets, read_sets
from carten.train.start import kept_elements, read_start
from carten.train.terms import terms
from carten.workflows.predict import predict

Configure = Callable[..., Config]
QUIET = Console(quiet=True)


@pytest.fixture
def stiff(alloys: Path, tmp_path: Path) -> str:
    """Copper and gold whose forces are one and a half times as large, and energies of other atoms."""
    frames = ase.io.read(alloys, ":12")
    for atoms in frames:
        energy = 1.5 * atoms.get_potential_energy() + 100.0 * len(atoms)
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=1.5 * atoms.get_forces())
    ase.io.write(tmp_path / "stiff.extxyz", frames)
    return str(tmp_path / "stiff.extxyz")


def replayed_sets(config: Config) -> Sets:
    """The data of a run."""
    config, source = read_start(config)
    loss_terms, replay = terms(config.properties), Replay.read(config, source)
    assert source is not None and replay is not None
    sets = read_sets(config, loss_terms, kept_elements(config, source, replay))
    return replay.added(sets, config, loss_terms, build_model(config, sets, loss_terms, source), source)


def replayed(config: Config) -> tuple[Potential, Potential, Dataset]:
    """The model of a run before its first step, the one that it starts from, and the training set."""
    config, source = read_start(config)
    assert source is not None
    loss_terms = terms(config.properties)
    replay = Replay.read(config, source)
    assert replay is not None
    sets = read_sets(config, loss_terms, kept_elements(config, source, replay))
    model = build_model(config, sets, loss_terms, source)
    return model, source, replay.added(sets, config, loss_terms, model, source).train


def test_labels_are_what_the_source_predicts(
    configure: Configure, trained: Path, alloys: Path, stiff: str, tmp_path: Path
) -> None:
    """Energies move with those of the atoms, as those of the model do; stress is not asked for."""
    replay = {"data": str(alloys), "structures": 5, "weight": 0.5}
    data = {"train": stiff, "validation": 2}
    model, source, dataset = replayed(configure(start=str(trained), data=data, replay=replay, dtype="float64"))
    added = dataset.frames[10:]
    assert [frame.weight for frame in dataset.frames] == [1.0] * 10 + [0.5] * 5
    structures = ase.io.read(alloys, ":")
    chosen = [next(a for a in structures if np.allclose(a.positions, frame.positions)) for frame in added]
    for name, predicting in (("forces", source), ("energy", model.eval())):
        for frame, values in zip(added, predict(predicting, chosen, [name]), strict=True):
            np.testing.assert_allclose(frame.labels[name], values[name], rtol=0, atol=1e-6)
    assert {*added[0].labels} == {"energy", "forces"}
    assert next(predict(model, chosen, ["energy"]))["energy"] > 300.0  # of atoms with 100 eV more


def test_a_level_of_its_own_keeps_the_energies_of_the_source(
    configure: Configure, trained: Path, alloys: Path, stiff: str
) -> None:
    frames = ase.io.read(stiff, ":")
    for atoms in frames:
        atoms.info["fidelity"] = "stiff"
    ase.io.write(stiff, frames)
    replay = {"data": str(alloys), "level": "emt"}
    data, inputs = {"train": stiff, "validation": 2}, {"fidelity": {"levels": "heads"}}
    config = configure(start=str(trained), data=data, replay=replay, inputs=inputs, dtype="float64")
    model, source, dataset = replayed(config)
    assert model.levels is not None and model.levels.values == ("stiff", "emt")
    structures = ase.io.read(alloys, ":")
    for frame, values in zip(dataset.frames[10:], predict(source, structures, ["energy"]), strict=True):
        assert frame.inputs["fidelity"].tolist() == [1]
        np.testing.assert_allclose(frame.labels["energy"], values["energy"], rtol=0, atol=1e-6)


@pytest.fixture
def copper(alloys: Path, tmp_path: Path) -> str:
    """Copper alone, stretched."""
    frames = ase.io.read(alloys, ":12")
    for atoms in frames:
        atoms.numbers[:] = 29
        atoms.set_cell(1.05 * atoms.cell, scale_atoms=True)
        atoms.calc = EMT()
        results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces()}
        atoms.calc = SinglePointCalculator(atoms, **results)
    ase.io.write(tmp_path / "copper.extxyz", frames)
    return str(tmp_path / "copper.extxyz")


def test_what_is_replayed_is_not_forgotten(
    configure: Configure, trained: Path, alloys: Path, copper: str, tmp_path: Path
) -> None:
    frames = ase.io.read(alloys, ":")
    expected = np.concatenate([values["forces"] for values in predict(load(trained), frames, ["forces"])])
    changes = []
    for name, sections in (("without", {}), ("with", {"replay": {"data": str(alloys)}})):
        config = configure(
            start={"model": str(trained), "elements": "all"},
            data={"train": copper, "validation": 2},
            training={"epochs": 5},
            output=str(tmp_path / name),
            **sections,
        )
        model = load(train(config, console=QUIET).model)
        forces = np.concatenate([values["forces"] for values in predict(model, frames, ["forces"])])
        changes.append(float(np.sqrt(np.mean((forces - expected) ** 2))))
    assert changes[1] < 0.6 * changes[0], changes


def test_labels_of_files_are_taken_as_they_are(configure: Configure, trained: Path, alloys: Path, stiff: str) -> None:
    replay = {"data": str(alloys), "labels": "files"}
    data = {"train": stiff, "validation": 2}
    _, _, dataset = replayed(configure(start=str(trained), data=data, replay=replay, dtype="float64"))
    expected = [atoms.get_forces() for atoms in ase.io.read(alloys, ":")]
    forces = [frame.labels["forces"] for frame in dataset.frames[10:]]
    np.testing.assert_allclose(np.concatenate(forces), np.concatenate(expected), atol=1e-8)


def test_structures_on_disk_stay_there(configure: Configure, trained: Path, alloys: Path, stiff: str) -> None:
    """Their frames are those of the same structures in memory, made when they are asked for."""
    on_disk = alloys.with_suffix(".aselmdb")
    convert(alloys, on_disk)
    for labels in ("model", "files"):
        frames = []
        for path in (alloys, on_disk):
            replay = {"data": str(path), "labels": labels, "structures": 7}
            data = {"train": stiff, "validation": 2}
            _, _, dataset = replayed(configure(start=str(trained), data=data, replay=replay, dtype="float64"))
            frames.append(dataset.frames[10:])
        for frame, other in zip(*frames, strict=True):
            assert frame is not other and {*frame.labels} == {*other.labels} == {"energy", "forces"}
            for name, values in frame.labels.items():
                np.testing.assert_allclose(other.labels[name], values, rtol=0, atol=1e-9)
        assert dataset.frames[12] is not dataset.frames[12]


def test_groups_that_come_more_often_leave_what_is_replayed_as_it_is(
    configure: Configure, trained: Path, alloys: Path, stiff: str
) -> None:
    frames = ase.io.read(stiff, ":")
    for number, atoms in enumerate(frames):
        atoms.info["group"] = "odd" if number % 2 else "even"
    ase.io.write(stiff, frames)
    data = {"train": stiff, "validation": 2, "group_sampling": {"odd": 2.0}}
    sets = replayed_sets(configure(start=str(trained), data=data, replay={"data": str(alloys), "structures": 5}))
    assert sets.mixture is not None
    order = sets.mixture.order(0, 0).tolist()
    assert [order.count(number) for number in range(10, 15)] == [1] * 5
    assert len(order) > 15


def test_elements_that_are_replayed_stay(configure: Configure, trained: Path, alloys: Path, copper: str) -> None:
    data = {"train": copper, "validation": 2}
    model, _, _ = replayed(configure(start=str(trained), data=data, replay={"data": str(alloys)}))
    assert model.elements == (29, 79)


@pytest.mark.parametrize(
    ("replay", "error", "complaint"),
    [
        ({}, ConfigError, r"replay.data: is required"),
        ({"data": "none.extxyz"}, DataError, r"none.extxyz"),
        ({"data": "plain.extxyz", "labels": "files"}, DataError, r"replay.data: none of the 2 structures has a label"),
        ({"data": "silver.extxyz"}, ModelError, r"replay.data: .*silver.extxyz, frame 0: the model does not know Ag"),
        ({"data": "plain.extxyz", "level": "pbe"}, ConfigError, r"replay.level: the model has no levels of theory"),
    ],
)
def test_replay_without_what_it_needs_is_refused(
    configure: Configure, trained: Path, alloys: Path, replay: dict[str, Any], error: type[Exception], complaint: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    frames = ase.io.read(alloys, ":2")
    for name, number in (("plain", 29), ("silver", 47)):
        for atoms in frames:
            atoms.calc = None
            atoms.numbers[:] = number
        ase.io.write(tmp_path / f"{name}.extxyz", frames)
    if "data" in replay:
        replay = {**replay, "data": str(tmp_path / replay["data"])}
    with pytest.raises(error, match=complaint):
        replayed(configure(start=str(trained), replay=replay))


def test_replay_needs_a_start(configure: Configure) -> None:
    with pytest.raises(ConfigError, match="replay needs start"):
        configure(replay={"data": "before.extxyz"})
