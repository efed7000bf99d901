"""Training on data on disk is training on the same data in memory."""

import csv
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from rich.console import Console

from carten.data import frames as lazy_frames
from carten.data.batches import BatchSampler, Bounds, Mixture
from carten.data.collection import open_collection
from carten.data.convert import Conversion, convert
from carten.data.dataset import Dataset
from carten.data.frames import Frames
from carten.data.labels import read_frames
from carten.errors import ConfigError, DataError
from carten.train.config import Config
from carten.train.run import train
from carten.train.sets import read_sets
from carten.train.terms import terms

Configure = Callable[..., Config]
QUIET = Console(quiet=True)


@pytest.fixture
def store(alloys: Path, tmp_path: Path) -> Path:
    convert(alloys, tmp_path / "alloys.aselmdb", Conversion(cutoff=3.5))
    return tmp_path / "alloys.aselmdb"


def losses(config: Config) -> list[list[str]]:
    train(config, console=QUIET)
    with (config.output / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [[value for name, value in row.items() if "loss" in name or "rmse" in name] for row in rows]


@pytest.mark.parametrize("bound", [{"structures": 4}, {"structures": None, "edges": 300}])
def test_on_disk_and_in_memory_are_the_same_run(
    configure: Configure, store: Path, tmp_path: Path, bound: dict[str, Any]
) -> None:
    """With lists kept, found anew in each step, and found by workers."""
    sections: dict[str, Any] = {"dtype": "float64", "training": {"epochs": 2}}
    expected = losses(configure(data={"batch": bound}, output=str(tmp_path / "memory"), **sections))
    for workers in (0, 2):
        data = {"train": str(store), "batch": bound, "workers": workers}
        assert losses(configure(data=data, output=str(tmp_path / f"disk{workers}"), **sections)) == expected


def test_statistics_of_a_sample_hold_every_element_and_label(
    alloys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    structures = ase.io.read(alloys, ":") * 5
    structures[77] = structures[77].copy()  # without labels
    structures[78] = structures[78].copy()
    structures[78].numbers[0] = 47
    ase.io.write(tmp_path / "a.extxyz", structures)
    frames = Frames.of(open_collection(tmp_path / "a.extxyz"), (), ())
    monkeypatch.setattr(lazy_frames, "STRATUM", 3)
    sample = frames.sample(20)
    assert 20 <= len(sample) < 30
    assert sample.elements == (29, 47, 79)
    assert [frame.where for frame in sample] == [frame.where for frame in frames.sample(20)]
    assert len(frames.sample(120)) == 120


def test_frames_on_disk_travel_to_other_processes(store: Path) -> None:
    frames = Frames.of(open_collection(store), (), ())
    copy = pickle.loads(pickle.dumps(frames.take([3, 5])))
    assert np.array_equal(copy[1].positions, frames[5].positions)
    assert copy[1].where == f"{store}, frame 5"


@pytest.mark.parametrize("role", ["validation", "test"])
def test_an_element_of_validation_alone_is_found_without_reading_all(
    configure: Configure, alloys: Path, tmp_path: Path, role: str
) -> None:
    structures = ase.io.read(alloys, ":6")
    structures[4].numbers[1] = 47
    ase.io.write(tmp_path / "silver.extxyz", structures)
    convert(tmp_path / "silver.extxyz", tmp_path / "silver.aselmdb")
    config = configure(data={role: str(tmp_path / "silver.aselmdb")})
    with pytest.raises(DataError, match=rf"data\.{role}: .*silver\.aselmdb, frame 4 contains Ag, which no structure"):
        read_sets(config, terms(config.properties))


def test_a_label_that_is_nowhere_in_a_database_names_those_there_are(configure: Configure, store: Path) -> None:
    config = configure(data={"train": str(store)}, properties={"energy": {"key": "E_dft"}})
    with pytest.raises(DataError, match=r'label "E_dft" of energy is carried by none .*names in it: energy, forces'):
        read_sets(config, terms(config.properties))


def test_another_database_under_the_same_name_is_noticed_on_resuming(
    configure: Configure, store: Path, alloys: Path
) -> None:
    config = configure(data={"train": str(store)}, training={"epochs": 1})
    train(config, console=QUIET)
    store.unlink()
    structures = ase.io.read(alloys, ":")
    structures[20].positions[0, 0] += 1e-3
    ase.io.write(store.with_suffix(".extxyz"), structures)
    convert(store.with_suffix(".extxyz"), store)
    longer = config.model_copy(update={"training": config.training.model_copy(update={"epochs": 2})})
    with pytest.raises(DataError, match=r"alloys\.aselmdb is not the file that the run of .* began with"):
        train(longer, resume=True, console=QUIET)


def test_batches_are_filled_one_structure_after_another(alloys: Path) -> None:
    """The same as adding structures one by one, for several bounds together."""
    dataset = Dataset(read_frames(alloys), [], cutoff=3.0)
    bounds = Bounds(structures=5, edges=140)
    batches = list(BatchSampler(dataset, bounds, seed=1).batches(0))
    order = np.random.default_rng([1, 0]).permutation(24)
    expected: list[list[int]] = [[]]
    for index in order.tolist():
        together = [*expected[-1], index]
        if len(together) > 5 or dataset.n_edges()[together].sum() > 140:
            expected.append([])
        expected[-1].append(index)
    assert batches == expected


def test_a_mixture_goes_through_every_group_evenly() -> None:
    codes = np.repeat([0, 1, 2], [10, 100, 7])
    mixture = Mixture(codes, [2.5, 0.3, 0.0])
    assert mixture.draws == [25, 30, 0]
    passes = [mixture.order(4, number) for number in range(20)]
    assert {len(order) for order in passes} == {55}
    counts = np.bincount(np.concatenate(passes), minlength=117)
    assert np.array_equal(counts[:10], [50] * 10)
    assert np.array_equal(counts[10:110], [6] * 100)
    assert not counts[110:].any()
    assert np.array_equal(mixture.order(4, 7), passes[7])
    assert not np.array_equal(passes[0], passes[1])


def test_groups_are_mixed_by_factors_and_temperature(configure: Configure, alloys: Path, tmp_path: Path) -> None:
    structures = ase.io.read(alloys, ":")
    for number, atoms in enumerate(structures):
        atoms.info["config_type"] = "rare" if number < 4 else "common"
    ase.io.write(tmp_path / "a.extxyz", structures)
    data = {"train": str(tmp_path / "a.extxyz"), "validation": str(alloys)}
    for options, expected in (
        ({"group_sampling": {"rare": 3.0}}, [20, 12]),
        ({"temperature": 1e6}, [12, 12]),
        ({"temperature": 2.0}, [17, 7]),  # 24 in the ratio of the roots of 20 and 4
    ):
        config = configure(data={**data, **options})
        mixture = read_sets(config, terms(config.properties)).mixture
        assert mixture is not None
        assert mixture.draws == expected
    config = configure(data={**data, "group_sampling": {"raer": 2.0}})
    with pytest.raises(ConfigError, match=r"data\.group_sampling\.raer: no structure .* did you mean \"rare\""):
        read_sets(config, terms(config.properties))
