"""Training of several readouts on one network, and what model files remember of the data."""

import ase.io
import numpy as np
import pytest
import torch
from ase.build import molecule
from rich.console import Console

from carten.data.neighbours import graph
from carten.properties.io import header
from carten.train.bootstrap import mixture
from carten.train.config import Config
from carten.train.run import train
from carten.uncertainty import load_ensemble
from small import NETWORK, labelled
from uncertainty.ensembles import plain_model


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder, frames = tmp_path_factory.mktemp("run"), labelled(12)
    ase.io.write(folder / "data.extxyz", frames)
    document = {
        "data": {"train": str(folder / "data.extxyz"), "validation": 4, "batch": {"structures": 4}},
        "model": NETWORK | {"n_members": 4},
        "properties": {"energy": {}, "forces": {}},
        "training": {"epochs": 3, "accelerator": "cpu", "ema": 0.0},
        "output": str(folder / "run"),
    }
    return train(Config.parse(document), console=Console(quiet=True)).model, frames


def test_a_run_with_members_is_an_ensemble(trained):
    several = load_ensemble(trained[0])
    assert (several.kind, several.n_members) == ("readouts", 4)
    values = several(graph(molecule("CH3CH2OH"), several.cutoff, {}), ["forces_uncertainty"])
    assert bool((values["forces_uncertainty"] > 0.0).all())


def test_the_file_remembers_the_shortest_contacts(trained):
    path, frames = trained
    contacts = header(path)["provenance"]["shortest_contacts"]
    for name, pair in {"H-O": {1, 8}, "C-C": {6}, "H-C": {1, 6}}.items():
        least = min(
            frame.get_distance(i, j)
            for frame in frames
            for i in range(len(frame))
            for j in range(i)
            if {*map(int, frame.numbers[[i, j]])} == pair
        )
        assert contacts[name] >= least - 1e-6  # validation is left out
        assert contacts[name] < least + 0.3
    assert "O-O" not in contacts


def test_each_member_learns_from_its_half_of_the_structures():
    index, members = torch.arange(200), 4
    seen = sum(mixture(index, members, seed=1, step=step) for step in range(30))
    assert bool(((seen > 0).sum(dim=1) == 2).all()), "each structure belongs to two of four members"
    assert np.abs((seen > 0).sum(dim=0).numpy() - 100).max() < 30
    again = mixture(index, members, seed=1, step=7)
    torch.testing.assert_close(again, mixture(index, members, seed=1, step=7))
    assert not torch.equal(mixture(index, members, seed=2, step=7), again)
    assert mixture(index, 1, seed=1, step=0) is None


def test_only_the_chosen_readout_learns_but_all_of_the_network():
    model = plain_model(n_members=3).train().requires_grad_(True)
    chosen = torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64)
    model.remainder(graph(molecule("H2O"), 4.0, {}), ["energy"], None, chosen)["energy"].sum().backward()
    readout = model.heads["energies"].readouts[0].out["0+"].weight["0+"].grad
    assert bool((readout[:, 1] != 0.0).all()) and not readout[:, [0, 2]].any()
    assert bool((model.network.embedding.grad[0] != 0.0).any())
