"""A small real data set: rattled copper-gold crystals with energies, forces and stresses of effective medium theory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from carten.train.config import Config
from carten.train.run import train

SMALL = {"n_channels": 4, "n_layers": 1, "l_max_edges": 1, "l_max_features": 1, "correlation_order": 2, "cutoff": 3.5}


def crystal(rng: np.random.Generator) -> Atoms:
    """Four atoms of a rattled, strained alloy."""
    atoms = bulk("Cu", "fcc", 3.8, cubic=True)
    atoms.numbers[rng.permutation(4)[: rng.integers(1, 4)]] = 79
    atoms.set_cell(atoms.cell @ (np.eye(3) + 0.02 * rng.normal(size=(3, 3))), scale_atoms=True)
    atoms.positions += 0.1 * rng.normal(size=(4, 3))
    atoms.calc = EMT()
    results = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


@pytest.fixture(scope="session")
def alloys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 structures."""
    path = tmp_path_factory.mktemp("data") / "alloys.extxyz"
    rng = np.random.default_rng(3)
    ase.io.write(path, [crystal(rng) for _ in range(24)])
    return path


def configuration(alloys: Path, folder: Path, **sections: Any) -> Config:
    """Of a small run; sections replace keys of the defaults."""
    document: dict[str, Any] = {
        "data": {"train": str(alloys), "validation": 8, "batch": {"structures": 4}},
        "model": SMALL,
        "training": {"epochs": 3, "accelerator": "cpu", "ema": 0.9},
        "output": str(folder / "run"),
    }
    for key, value in sections.items():
        nested = isinstance(value, dict) and isinstance(document.get(key), dict)
        document[key] = {**document[key], **value} if nested else value
    return Config.parse(document)


@pytest.fixture
def configure(alloys: Path, tmp_path: Path) -> Callable[..., Config]:
    """A configuration of a small run; sections given replace keys of the defaults."""

    def made(**sections: Any) -> Config:
        return configuration(alloys, tmp_path, **sections)

    return made


@pytest.fixture(scope="session")
def trained(alloys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of energies and forces of the alloys."""
    training = {"epochs": 20, "validate_every": 10}
    config = configuration(alloys, tmp_path_factory.mktemp("trained"), dtype="float64", training=training)
    return train(config, console=Console(quiet=True)).model
