"""What is read, how it is split, and what is found before training instead of after hours."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console
from scipy.spatial.transform import Rotation

from carten.data.collection import open_collection
from carten.data.dataset import split
from carten.data.frames import Frames
from carten.errors import ConfigError, DataError
from carten.train.config import Config
from carten.train.run import train
from carten.train.sets import Sets, read_sets
from carten.train.split import split_apart
from carten.train.terms import terms

Configure = Callable[..., Config]


def sets_of(config: Config) -> Sets:
    return read_sets(config, terms(config.properties))


def said(config: Config) -> str:
    shown = io.StringIO()
    train(config, console=Console(file=shown, width=1000))
    return shown.getvalue()


def labelled(atoms: Atoms, energy: float, **info: Any) -> Atoms:
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.zeros((len(atoms), 3)))
    atoms.info.update(info)
    return atoms


def water(rng: np.random.Generator) -> Atoms:
    return Atoms("OH2", positions=[[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]] + 0.05 * rng.normal(size=(3, 3)))


def moved(atoms: Atoms, rng: np.random.Generator) -> Atoms:
    """The same molecule elsewhere, turned, its atoms in another order."""
    turned = atoms.copy()[rng.permutation(len(atoms))]
    turned.positions = Rotation.random(random_state=rng).apply(turned.positions) + rng.normal(size=3)
    return turned


@pytest.mark.parametrize("role", ["validation", "test"])
def test_an_element_of_validation_or_test_alone_is_found_at_the_start(
    configure: Configure, alloys: Path, tmp_path: Path, role: str
) -> None:
    frames = ase.io.read(alloys, ":6")
    frames[4].numbers[1] = 47
    ase.io.write(tmp_path / "silver.extxyz", frames)
    config = configure(data={role: str(tmp_path / "silver.extxyz")})
    with pytest.raises(DataError, match=rf"data\.{role}: .*silver\.extxyz, frame 4 contains Ag, which no structure"):
        train(config, console=Console(quiet=True))
    assert not config.output.exists()


def test_a_structure_that_alone_has_an_element_is_never_drawn(
    configure: Configure, alloys: Path, tmp_path: Path
) -> None:
    frames = ase.io.read(alloys, ":")
    frames[7].numbers[:] = 47
    ase.io.write(tmp_path / "silver.extxyz", frames)
    for seed in range(10):
        sets = sets_of(configure(data={"train": str(tmp_path / "silver.extxyz"), "validation": 12}, seed=seed))
        assert any(47 in frame.numbers for frame in sets.train.frames)
        assert not any(47 in frame.numbers for frame in sets.validation.frames)


@pytest.mark.parametrize("seed", range(5))
def test_duplicates_stay_on_one_side(configure: Configure, tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    originals = [water(rng) for _ in range(12)]
    frames = [labelled(moved(originals[k % 12], rng), -10.0, original=k % 12) for k in range(30)]
    ase.io.write(tmp_path / "waters.extxyz", frames)
    data = {"train": str(tmp_path / "waters.extxyz"), "validation": 0.3}
    sets = sets_of(configure(data=data, seed=seed))
    sides = [
        {frames[int(frame.where.rpartition(" ")[2])].info["original"] for frame in side.frames}
        for side in (sets.train, sets.validation)
    ]
    assert not sides[0] & sides[1]
    assert (len(sets.train) + len(sets.validation), len(sets.validation)) in {(30, n) for n in (7, 8, 9)}
    assert "30 structures have a duplicate (12 different geometries)" in sets.notes[1]


def test_without_duplicates_the_split_is_the_plain_one(alloys: Path) -> None:
    frames = Frames.of(open_collection(alloys), [], [])
    for part in (5, 0.4):
        sides = split_apart(frames, part, 3, 3.5)
        assert [sides.train, sides.validation] == split(len(frames), [part], 3)
        assert sides.notes == ()


@pytest.mark.parametrize("key", ["trajectory", "file"])
def test_what_belongs_together_stays_together(configure: Configure, alloys: Path, tmp_path: Path, key: str) -> None:
    frames = ase.io.read(alloys, ":")
    for k, atoms in enumerate(frames):
        atoms.info["trajectory"] = k // 6
    files = [tmp_path / f"{k}.extxyz" for k in range(4)]
    for k, file in enumerate(files):
        ase.io.write(file, frames[6 * k : 6 * k + 6])
    data = {"train": [str(file) for file in files], "validation": 13, "together": key}
    sets = sets_of(configure(data=data))
    sides = [{frame.where.rpartition(", frame")[0] for frame in side.frames} for side in (sets.train, sets.validation)]
    assert (len(sides[0]), len(sides[1]), sides[0] & sides[1]) == (2, 2, set())
    assert "12 instead of 13 structures are drawn for validation" in sets.notes[-1]
    with pytest.raises(ConfigError, match=r"data\.together: 5 of 24 structures .* fewer than belong together"):
        sets_of(configure(data={**data, "validation": 5}))
    with pytest.raises(DataError, match=r"none of the 24 structures carries 'trajectori'; they carry .*trajectory"):
        sets_of(configure(data={**data, "together": "trajectori"}))


def test_structures_of_two_files_that_are_the_same_are_said(configure: Configure, alloys: Path, tmp_path: Path) -> None:
    frames = ase.io.read(alloys, ":")
    ase.io.write(tmp_path / "train.extxyz", frames[:20])
    ase.io.write(tmp_path / "other.extxyz", frames[17:])
    files = {key: str(tmp_path / "other.extxyz") for key in ("validation", "test")}
    text = said(configure(data={"train": str(tmp_path / "train.extxyz"), **files}, training={"epochs": 1}))
    for key in files:
        assert f"3 of the 7 structures of data.{key} are in data.train too, the first is" in text


def test_reference_energies_that_compositions_leave_open_are_said(configure: Configure, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frames = [labelled(water(rng), -100.0 + 0.1 * k) for k in range(12)]
    ase.io.write(tmp_path / "waters.extxyz", frames)
    data = {"train": str(tmp_path / "waters.extxyz"), "validation": 3}
    sections = {"data": data, "training": {"epochs": 1}}
    text = said(configure(**sections))
    assert "reference energies of H, O are not determined by the compositions in data.train" in text
    assert "Add isolated atoms to data.train, or give reference_energies" in text
    config = configure(**sections, reference_energies={"H": -13.0, "O": -70.0}, output=str(tmp_path / "given"))
    assert "not determined" not in said(config)
    atoms = [labelled(Atoms(symbol), energy) for symbol, energy in (("H", -13.0), ("O", -70.0))]
    ase.io.write(tmp_path / "waters.extxyz", frames + atoms)
    assert "not determined" not in said(configure(**sections, output=str(tmp_path / "isolated")))


def test_weights_of_groups(configure: Configure, alloys: Path, tmp_path: Path) -> None:
    frames = ase.io.read(alloys, ":")
    for k, atoms in enumerate(frames):
        atoms.info.update(config_type=("bulk", "surface", "liquid")[k % 3], w=2.0)
    ase.io.write(tmp_path / "groups.extxyz", frames)
    data = {"train": str(tmp_path / "groups.extxyz"), "weight": "w", "group_weights": {"surface": 5.0, "liquid": 0.0}}
    sets = sets_of(configure(data=data))
    found = {frame.where: frame.weight for side in (sets.train, sets.validation) for frame in side.frames}
    weights = [found.get(f"{data['train']}, frame {k}") for k in range(24)]
    assert weights == [2.0, 10.0, None] * 8
    with pytest.raises(ConfigError, match=r"data\.group_weights\.surfce: .*groups by config_type are bulk, li"):
        sets_of(configure(data={**data, "group_weights": {"surfce": 5.0}}))
    with pytest.raises(DataError, match=r"all 24 structures of data\.train have the weight 0"):
        sets_of(configure(data={**data, "group_weights": dict.fromkeys(("bulk", "surface", "liquid"), 0.0)}))


def test_labels_that_some_structures_lack_are_named(configure: Configure, alloys: Path, tmp_path: Path) -> None:
    frames = ase.io.read(alloys, ":")
    assert " in 2 of the" not in " ".join(sets_of(configure()).notes)
    for number in (3, 9):
        del frames[number].calc.results["forces"]
    ase.io.write(tmp_path / "few.extxyz", [*frames, labelled(water(np.random.default_rng(0)), -3.0)])
    config = configure(data={"train": str(tmp_path / "few.extxyz"), "validation": str(alloys)})
    (note,) = (note for note in sets_of(config).notes if " in 2 of the" in note)
    assert note.startswith(f"no forces in 2 of the {len(frames) + 1} structures for training, the first is ")
    assert "few.extxyz, frame 3: " in note
