"""Keys of a configuration on the command line mean what they would mean in the file."""

from pathlib import Path
from typing import Any

import pytest

from carten.errors import ConfigError
from carten.train.config import Config
from carten.train.overrides import override

TEXT = """
data: {train: [a.extxyz, b.extxyz], batch: {structures: 5}}
training: {epochs: 3}
terms: [{kind: zbl}]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(TEXT)
    return path


def test_keys_of_the_command_line_are_those_of_the_file(path: Path) -> None:
    config = Config.load(
        path,
        [
            "training.epochs=10", "model.n_channels=32", "data.batch.atoms=100", "optimizer.lr=1e-3", "output=other",
            "data.train.1=c.extxyz", "properties={energy: {weight: 2}}", "training.patience=null",
            "training.validate_every=20 steps", "data.validation=0.2",
        ],
    )  # fmt: skip
    assert (config.training.epochs, config.model.n_channels, config.optimizer.lr) == (10, 32, 1e-3)
    assert config.data.batch.model_dump() == {"structures": 5, "atoms": 100, "edges": None}
    assert config.data.train == (path.parent / "a.extxyz", path.parent / "c.extxyz")
    assert (config.output, config.properties["energy"].weight) == (path.parent / "other", 2.0)
    assert config.training.validate_every == "20 steps"
    assert Config.parse(config.model_dump(mode="json")) == config
    assert Config.load(path).training.epochs == 3


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("training.epoch=3", r'with keys of the command line: .*\n.*training.epoch: .*did you mean "epochs"'),
        ("trainin.epochs=3", r'trainin: unknown key; did you mean "training"'),
        ("training.epochs=many", r"training.epochs: expected a valid integer"),
        ("training.epochs", r"expected an option or KEY=VALUE, .*found 'training.epochs'"),
        ("=3", r"KEY=VALUE"),
        ("a. b=3", r"KEY=VALUE"),
        ("data.train=[a", r"the value is not valid YAML"),
        ("data.train.2=c.extxyz", r"data.train.2: the configuration has 2 there, numbered from 0"),
        ("terms=!!python/object:os.system {}", r"has no meaning here"),
        ("training.validate_every=3 hours", r'expected a number of epochs, or of steps, as in "500 steps"'),
        ("training.validate_every=0", r"validate_every: expected a number of epochs"),
        ("training.loggers=word", r"loggers.*'tensorboard', 'wandb' or 'mlflow'"),
    ],
)
def test_mistakes_are_named(path: Path, assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Config.load(path, [assignment])


def test_a_key_is_set_once() -> None:
    with pytest.raises(ConfigError, match="seed is set twice"):
        override({}, ["seed=1", "seed=2"])


def test_the_document_stays_as_it_is() -> None:
    document: dict[str, Any] = {"a": {"b": [1, 2]}}
    assert override(document, ["a.b.0=3", "c.d=4"]) == {"a": {"b": [3, 2]}, "c": {"d": 4}}
    assert document == {"a": {"b": [1, 2]}}
