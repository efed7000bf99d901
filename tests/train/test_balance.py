"""Weights that follow from the data, and what a run says about properties that hardly count."""

import io
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from rich.console import Console

from carten.data.dataset import collate
from carten.datasets import path
from carten.train.balance import balanced, lines, losses_of_means
from carten.train.build import build_model
from carten.train.config import Config
from carten.train.loss import LossTerm, combine, loss_terms
from carten.train.run import train
from carten.train.sets import Sets, read_sets
from carten.train.terms import terms

Configure = Callable[..., Config]


@pytest.fixture(scope="module")
def molecules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixteen frames of ethanol with energies, forces, dipoles and polarizabilities."""
    frames = [atoms for atoms in ase.io.read(path("ethanol_dft_train"), ":") if len(atoms) == 9][::15]
    file = tmp_path_factory.mktemp("data") / "ethanol.extxyz"
    ase.io.write(file, frames)
    return file


def settled(config: Config) -> tuple[tuple[LossTerm, ...], dict[str, float], Sets]:
    wanted = terms(config.properties)
    sets = read_sets(config, wanted)
    losses = losses_of_means(wanted, sets)
    return balanced(wanted, config.properties, losses), losses, sets


@pytest.mark.parametrize("loss", ["squared", "absolute", "huber", "vector_norm"])
def test_it_is_the_loss_of_a_model_that_knows_only_means(configure: Configure, molecules: Path, loss: str):
    """A model whose readouts are silenced has the loss 1 for every automatic weight."""
    config = configure(
        data={"train": str(molecules), "validation": 4},
        properties={
            name: {"weight": "auto", "loss": loss} for name in ("energy", "dipole", "polarizability", "forces")
        },
        model={"l_max_edges": 2},
        dtype="float64",
    )
    weighed, losses, sets = settled(config)
    model = build_model(config, sets, weighed)
    for head in model.heads.values():
        head.scale.fill_(0.0)
    batch = collate([sets.train[k] for k in range(len(sets.train))])
    sums = loss_terms(weighed, model(batch.graph, [term.property.name for term in weighed]), batch).detach()
    found = [float(combine([term], part[None])) for term, part in zip(weighed, sums, strict=True)]
    np.testing.assert_allclose(found, 1.0, rtol=1e-6)
    assert min(losses.values()) < 0.1 * max(losses.values())


def test_labels_of_atoms_have_a_mean_for_each_element(configure: Configure, tmp_path: Path):
    frames = [Atoms("HO", positions=[[0, 0, 0], [0, 0, 1.0]]) for _ in range(3)]
    for k, atoms in enumerate(frames):
        atoms.arrays["charges"] = np.array([1.0 + 0.1 * k, -5.0])
    ase.io.write(tmp_path / "atoms.extxyz", frames)
    data = {"train": str(tmp_path / "atoms.extxyz"), "validation": str(tmp_path / "atoms.extxyz")}
    _, losses, _ = settled(configure(data=data, properties={"charges": {"weight": "auto"}}))
    assert losses["charges"] == pytest.approx(0.02 / 6)


def test_polarizations_are_compared_within_their_branch(configure: Configure, tmp_path: Path):
    """Whole quanta between labels are no spread."""
    frames = [Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.8]], cell=[3.0, 4.0, 5.0], pbc=True) for _ in range(4)]
    for k, atoms in enumerate(frames):
        atoms.info["polarization"] = [3.0 * k + 0.2, -8.0 * k, 0.0]
    ase.io.write(tmp_path / "cells.extxyz", frames)
    config = configure(
        data={"train": str(tmp_path / "cells.extxyz"), "validation": 1},
        properties={"polarization": {"route": "readout", "weight": "auto"}},
    )
    (term,), losses, _ = settled(config)
    assert losses["polarization"] == pytest.approx(0.1**2 / 3)
    assert term.weight == pytest.approx(300.0)


def test_labels_without_spread_keep_a_finite_weight(configure: Configure, tmp_path: Path):
    frames = [Atoms("H", info={"gap": 2.0}) for _ in range(4)]
    ase.io.write(tmp_path / "same.extxyz", frames)
    gap = {"scope": "structure", "indices": "", "parity": 1, "unit": "eV", "route": "mean", "weight": "auto"}
    config = configure(data={"train": str(tmp_path / "same.extxyz"), "validation": 1}, properties={"gap": gap})
    weighed, losses, _ = settled(config)
    assert (losses["gap"], weighed[0].weight) == (0.0, 1.0)
    assert list(lines(weighed, losses)) == []


def said(configure: Configure, data: Path, properties: dict[str, dict[str, object]]) -> str:
    shown = io.StringIO()
    config = configure(data={"train": str(data), "validation": 4}, properties=properties, training={"epochs": 1})
    train(config, console=Console(file=shown))
    return shown.getvalue()


def test_what_hardly_counts_is_said(configure: Configure, molecules: Path):
    """Energies are not: forces teach them too."""
    text = said(configure, molecules, {"energy": {"weight": 1e-9}, "forces": {}, "dipole": {"weight": 1e-3}})
    assert "dipole hardly counts in the loss: set properties.dipole.weight to auto, or higher, up to" in text
    assert "energy hardly" not in text
    assert "far from 1" not in text


def test_nothing_is_said_where_all_count(configure: Configure, molecules: Path):
    text = said(configure, molecules, {"forces": {"weight": 10.0}, "energy": {}, "dipole": {"weight": "auto"}})
    assert "loss of the mean labels" in text
    assert "hardly" not in text


def test_a_tiny_loss_is_said(configure: Configure, molecules: Path):
    assert "the loss is far from 1" in said(configure, molecules, {"dipole": {"weight": 1e-6}})


def test_structures_of_weight_zero_are_left_out(configure: Configure, molecules: Path, tmp_path: Path):
    """Absurd labels of theirs set no scales."""
    frames = ase.io.read(molecules, ":")
    frames[3].info.update(w=0.0, polarizability=1e6 * np.eye(3).ravel())
    ase.io.write(tmp_path / "weighed.extxyz", frames)
    data = {"train": str(tmp_path / "weighed.extxyz"), "validation": 4, "weight": "w"}
    config = configure(data=data, properties={"polarizability": {"weight": "auto"}}, model={"l_max_edges": 2})
    weighed, losses, sets = settled(config)
    assert len(sets.train) + len(sets.validation) == len(frames) - 1
    assert losses["polarizability"] < 0.01
    assert build_model(config, sets, weighed).heads["polarizability"].scale < 0.1
