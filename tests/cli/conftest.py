"""One small training run that the tests of all commands share."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ase.io
import pytest
from typer.testing import CliRunner

from carten.cli import app
from small import labelled

SMALL = {
    "n_channels: 64": "n_channels: 4",
    "n_layers: 2": "n_layers: 1",
    "l_max_edges: 3": "l_max_edges: 1",
    "l_max_features: 2": "l_max_features: 1",
    "correlation_order: 3": "correlation_order: 2",
    "epochs: 200": "epochs: 3",
}


@dataclass(frozen=True)
class Said:
    """How a command ended and what it printed."""

    code: int
    out: str
    err: str


def carten(*arguments: object) -> Said:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    return Said(result.exit_code, result.stdout, result.stderr)


@pytest.fixture(scope="session")
def run() -> Callable[..., Said]:
    return carten


@dataclass(frozen=True)
class Trained:
    folder: Path
    model: Path
    train: Path
    test: Path
    said: Said


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`carten init`, then `carten train`, as the README says."""
    folder = tmp_path_factory.mktemp("trained")
    train, test, config = folder / "train.extxyz", folder / "test.extxyz", folder / "config.yaml"
    ase.io.write(train, labelled(12))
    ase.io.write(test, labelled(5, seed=1))
    text = carten("init", "--data", train).out
    for default, small in SMALL.items():
        assert default in text
        text = text.replace(default, small)
    config.write_text(text)
    said = carten("train", config)
    assert said.code == 0, said.err
    return Trained(folder, folder / "run" / "best.carten", train, test, said)
