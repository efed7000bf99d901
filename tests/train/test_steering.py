"""What a run tells while it goes on, what it does without being told, and dry runs."""

import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console

from carten.errors import ConfigError, TrainingError
from carten.train.config import Config
from carten.train.files import LAST, LOG, PICTURES
from carten.train.loggers import Recorder
from carten.train.run import dry_run, train

from .test_checkpoint import no_space_beyond
from .test_run import rows

Configure = Callable[..., Config]
QUIET = Console(quiet=True)


def shown(config: Config, job: Callable[..., object]) -> str:
    text = io.StringIO()
    job(config, console=Console(file=text, width=1000))
    return text.getvalue()


def test_validations_and_lines_in_steps(configure: Configure) -> None:
    """4 steps an epoch: each third is validated, and the last; the loss of the lines is the mean over their steps."""
    config = configure(training={"validate_every": "3 steps", "log_every": "2 steps"})
    text = shown(config, train)
    assert [row["step"] for row in rows(config)] == [3, 6, 9, 12]
    assert re.findall(r"^ +(\d) step (\d+), training loss \d\.\d+e", text, re.M) == [
        ("1", "2"), ("1", "4"), ("2", "6"), ("2", "8"), ("3", "10"), ("3", "12"),
    ]  # fmt: skip
    file = (config.output / LOG).read_text()
    assert file.startswith("# 2")
    assert file.splitlines()[1:] == text.splitlines()
    for name in PICTURES:
        assert (config.output / name).stat().st_size > 5000
    train(configure(training={"epochs": 4}), resume=True, console=QUIET)
    assert (config.output / LOG).read_text().startswith(file)


def test_the_end_is_validated_where_steps_do_not_divide_it(configure: Configure) -> None:
    config = configure(training={"validate_every": "5 steps"})
    train(config, console=QUIET)
    assert [row["step"] for row in rows(config)] == [5, 10, 12]


def test_patience_counts_epochs(configure: Configure) -> None:
    training = {"epochs": 50, "patience": 2, "ema": 0, "validate_every": "2 steps"}
    config = configure(optimizer={"lr": 1e-12}, training=training)
    assert train(config, console=QUIET).epochs <= 4


def test_a_dry_run_writes_nothing(configure: Configure) -> None:
    config = configure(training={"epochs": 100, "devices": 2})
    text = shown(config, dry_run)
    assert re.search(r"dry run: [\d.]+ ms/step on 2 processes, 0:\d\d:\d\d per epoch of 4 steps, .*100 epochs", text)
    assert re.search(r"memory \d\.\d\d GB in each process", text)
    assert not config.output.exists()
    assert sorted(os.listdir(config.output.parent)) == []
    config.output.mkdir()
    (config.output / LAST).touch()
    with pytest.raises(ConfigError, match="has files already"):
        dry_run(config, console=QUIET)


class Failing(CSVLogger):
    """Its disk is full after the first row."""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if step:
            raise OSError(28, "No space left on device")
        super().log_metrics(metrics, step)


def test_a_logger_that_fails_is_left_out(tmp_path: Path) -> None:
    lines: list[str] = []
    makers = {"failing": lambda: Failing(tmp_path, "a", ""), "csv": lambda: CSVLogger(tmp_path, "b", "")}
    recorder = Recorder(makers, lines.append)
    recorder.begin({"seed": 1})
    for step in range(3):
        recorder.record({"validation_loss": 1.0}, step)
    recorder.end("success")
    reason = "[Errno 28] No space left on device"
    assert lines == [f"failing can't be written to ({reason}): the training goes on without"]
    assert (tmp_path / "b" / "metrics.csv").read_text().splitlines()[-1] == "2,1.0"


def test_loggers_that_are_not_installed(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    real = __import__("importlib.util").util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *rest: None if name == "wandb" else real(name, *rest))
    config = configure(training={"loggers": ["tensorboard", "wandb"]})
    with pytest.raises(ConfigError, match=r"training.loggers: wandb is not installed: pip install 'carten\[wandb\]'"):
        train(config, console=QUIET)
    assert not config.output.exists()
    without = configure(training={"loggers": []})
    train(without, console=QUIET)
    assert not (without.output / "tensorboard").exists()


def test_errors_are_in_the_log_file(configure: Configure) -> None:
    config = configure(optimizer={"lr": 1e30}, schedule={"warmup": 0.0}, training={"clip": None})
    with pytest.raises(TrainingError):
        train(config, console=QUIET)
    assert "ended by an error: the loss became NaN or infinite" in (config.output / LOG).read_text().splitlines()[-1]


def test_memory_that_is_too_small_is_explained(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch asks for more than there is in the loss."""
    import torch

    monkeypatch.setattr("carten.train.module.loss_terms", lambda *_: torch.empty(2**55))
    with pytest.raises(MemoryError, match=r"\{'structures': 4\} did not fit; try data.batch='\{structures: 2\}'"):
        train(configure(), console=QUIET)


def test_a_full_disk_in_mid_run_leaves_the_last_checkpoint(configure: Configure) -> None:
    config = configure(training={"epochs": 2, "checkpoint_minutes": 0})
    train(config, console=QUIET)
    before = (config.output / LAST).read_bytes()
    size = max(path.stat().st_size for path in config.output.iterdir() if path.name not in (LAST, *PICTURES))
    more = configure(training={"epochs": 3, "checkpoint_minutes": 0})
    with no_space_beyond(max(size + 5000, len(before) // 2)), pytest.raises(Exception, match=r"last.ckpt.*unchanged"):
        train(more, resume=True, console=QUIET)
    assert (config.output / LAST).read_bytes() == before
    assert train(more, resume=True, console=QUIET).epochs == 3
