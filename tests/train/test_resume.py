"""A run that was killed and resumed ends exactly as one that was not."""

import io
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from carten.errors import ConfigError, DataError
from carten.train.checkpoint import SafetensorsCheckpoint
from carten.train.config import Config
from carten.train.files import BEST, LAST, METRICS
from carten.train.run import train

QUIET = Console(quiet=True)

KILLED = """
import os, signal, sys
import torch
from carten.train.config import Config
from carten.train.module import Fit
from carten.train.run import train

torch.set_num_threads(1)
signal.signal(signal.SIGINT, signal.default_int_handler)  # where tests run in the background it is ignored
ended = Fit.on_train_batch_end

def killed(self, outputs, batch, batch_idx):
    if self.global_step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.Signals[sys.argv[3]])
    ended(self, outputs, batch, batch_idx)

Fit.on_train_batch_end = killed
train(Config.load(sys.argv[1]))
"""


def state(output: Path) -> dict[str, Any]:
    found = SafetensorsCheckpoint().load_checkpoint(output / LAST)
    found["carten"].pop("elapsed")
    return found


def assert_same(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for key, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{where}[{key}]")
    else:
        assert a == b, where


def curve(output: Path) -> list[str]:
    """Rows of the learning curve without the time."""
    rows = [line.split(",") for line in (output / METRICS).read_text().splitlines()]
    return [",".join(row[:2] + row[3:]) for row in rows]


def kill(config: Config, step: int, tmp_path: Path, by: str = "SIGKILL") -> subprocess.CompletedProcess[str]:
    """Run in a process of its own that gets a signal after so many steps."""
    path = tmp_path / "config.yaml"
    path.write_text(config.dump())
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path), str(step), by], capture_output=True, text=True, check=False
    )
    return done


@pytest.mark.parametrize(
    ("sections", "step"),
    [
        # 4 steps an epoch; checkpoints after every epoch, killed within the third
        ({"training": {"checkpoint_minutes": 0}}, 11),
        # checkpoints after every step, killed within an epoch; the first weights are far from the average
        (
            {
                "training": {"checkpoint_minutes": 1e-6, "ema": 0.99},
                "optimizer": {"name": "adamw"},
                "schedule": {"name": "plateau", "patience": 1},
            },
            7,
        ),
        # validated in steps, killed after a checkpoint at the very step of a validation
        ({"training": {"checkpoint_minutes": 1e-6, "validate_every": "3 steps", "log_every": "2 steps"}}, 6),
        # killed before the epoch's validation; batches bounded by edges differ from epoch to epoch
        (
            {
                "training": {"checkpoint_minutes": 1e-6, "validate_every": 2, "patience": 50},
                "data": {"batch": {"structures": 3, "edges": 170}},
                "optimizer": {"name": "muon"},
                "schedule": {"name": "wsd"},
            },
            9,
        ),
    ],
)
def test_killed_and_resumed(
    configure: Callable[..., Config], tmp_path: Path, sections: dict[str, Any], step: int
) -> None:
    whole = configure(**sections, output=str(tmp_path / "whole"))
    train(whole, console=QUIET)
    config = configure(**sections)
    done = kill(config, step, tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (config.output / LAST).exists()
    result = train(config, resume=True, console=QUIET)
    assert result.epochs == 3
    a, b = state(whole.output), state(config.output)
    for part in ("state_dict", "optimizer_states", "carten", "global_step", "Batches"):
        assert_same(a[part], b[part], part)
    assert curve(whole.output) == curve(config.output)
    assert any(not torch.equal(value, b["state_dict"][f"average.model.{name.removeprefix('potential.')}"])
               for name, value in b["state_dict"].items() if name.startswith("potential.network"))  # fmt: skip


def test_a_longer_run_goes_on(configure: Callable[..., Config]) -> None:
    train(configure(training={"epochs": 1}), console=QUIET)
    result = train(configure(training={"epochs": 2}), resume=True, console=QUIET)
    assert (result.epochs, result.steps) == (2, 8)


def test_a_finished_run_resumed_does_nothing(configure: Callable[..., Config]) -> None:
    config = configure(training={"epochs": 1})
    first = train(config, console=QUIET)
    before = (config.output / LAST).read_bytes(), curve(config.output)
    again = train(config, resume=True, console=QUIET)
    assert (again.steps, again.validation) == (first.steps, first.validation)
    assert before == ((config.output / LAST).read_bytes(), curve(config.output))


def test_results_are_never_overwritten(configure: Callable[..., Config]) -> None:
    config = configure(training={"epochs": 1})
    config.output.mkdir()
    (config.output / "best.carten").write_text("precious")
    with pytest.raises(ConfigError, match=r"best\.carten.*resume"):
        train(config, console=QUIET)
    assert (config.output / "best.carten").read_text() == "precious"


def test_a_killed_run_is_resumed_only_if_there_is_something_to_resume(
    configure: Callable[..., Config], tmp_path: Path
) -> None:
    """Killed before the first checkpoint: the model that was the best so far stays."""
    config = configure()
    done = kill(config, 9, tmp_path)
    assert done.returncode == -signal.SIGKILL, done.stderr
    best = (config.output / BEST).read_bytes()
    with pytest.raises(ConfigError, match=r"nothing to resume, there is no checkpoint .*last\.ckpt; remove it \(best"):
        train(config, resume=True, console=QUIET)
    with pytest.raises(ConfigError, match=r"has files already \(best.carten, config.yaml, metrics.csv\); .* remove it"):
        train(config, console=QUIET)
    assert (config.output / BEST).read_bytes() == best
    empty = configure(output=str(tmp_path / "empty"))
    with pytest.raises(ConfigError, match=r"nothing to resume, .*; train without --resume"):
        train(empty, resume=True, console=QUIET)
    assert not empty.output.exists()


def test_it_says_from_where(configure: Callable[..., Config]) -> None:
    train(configure(training={"epochs": 2}), console=QUIET)
    shown = io.StringIO()
    train(configure(training={"epochs": 3}), resume=True, console=Console(file=shown, width=1000))
    assert shown.getvalue().splitlines()[0].endswith("last.ckpt: epoch 2, step 8")
    train(configure(training={"epochs": 3}), resume=True, console=Console(file=shown, width=1000))
    assert "this run is finished; raise training.epochs" in shown.getvalue()


@pytest.mark.parametrize("role", ["train", "validation", "test"])
def test_data_that_changed_are_noticed(
    configure: Callable[..., Config], alloys: Path, tmp_path: Path, role: str
) -> None:
    """One digit of one label of a file under the same name."""
    files = {name: tmp_path / f"{name}.extxyz" for name in ("train", "validation", "test")}
    for file in files.values():
        file.write_bytes(alloys.read_bytes())
    sections = {"data": {name: str(file) for name, file in files.items()}}
    train(configure(**sections, training={"epochs": 1}), console=QUIET)
    text = files[role].read_text()
    files[role].write_text(text.replace("energy=", "energy=-", 1))
    before = (configure().output / LAST).read_bytes()
    with pytest.raises(DataError, match=rf"data\.{role}: .*{role}\.extxyz is not the file .* its content has changed"):
        train(configure(**sections, training={"epochs": 2}), resume=True, console=QUIET)
    assert (configure().output / LAST).read_bytes() == before
    files[role].write_text(text)
    assert train(configure(**sections, training={"epochs": 2}), resume=True, console=QUIET).epochs == 2


def test_an_average_is_not_switched_on_or_off(configure: Callable[..., Config]) -> None:
    train(configure(training={"epochs": 1, "ema": 0}), console=QUIET)
    with pytest.raises(ConfigError, match=r"was not averaged: training\.ema can't be switched on"):
        train(configure(training={"epochs": 2}), resume=True, console=QUIET)


def test_another_configuration_is_not_resumed(configure: Callable[..., Config]) -> None:
    train(configure(training={"epochs": 1}), console=QUIET)
    with pytest.raises(
        ConfigError, match=r"another configuration: optimizer, seed|another configuration: seed, optimizer"
    ):
        train(configure(seed=1, optimizer={"lr": 0.1}), resume=True, console=QUIET)


def test_a_run_that_began_with_the_preset_tace_of_then_goes_on_as_carten(
    configure: Callable[..., Config], tmp_path: Path
) -> None:
    """Older checkpoints call ``tace`` what is now ``carten``; to go on as what is now ``tace`` is refused."""
    output = str(tmp_path / "aged")
    config = configure(output=output, training={"epochs": 1})
    train(config, console=QUIET)
    content = SafetensorsCheckpoint().load_checkpoint(config.output / LAST)
    network = content["run"]["config"]["model"]
    del network["interaction"], network["residual"], network["product"]["channels"], network["product"]["orders"]
    network["preset"] = "tace"
    SafetensorsCheckpoint().save_checkpoint(content, config.output / LAST)
    assert train(configure(output=output, training={"epochs": 2}), resume=True, console=QUIET).epochs == 2
    with pytest.raises(ConfigError, match="another configuration: model differ"):
        train(configure(output=output, model={"preset": "tace"}), resume=True, console=QUIET)
