"""Signals end a run with a checkpoint, and with the exit status that shells expect."""

import functools
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

import carten
from carten.train.config import Config
from carten.train.files import BEST, LAST, LOCK
from carten.train.module import Fit
from carten.train.run import train
from carten.train.signals import IMPATIENCE, Interrupted, interruptible

from .test_resume import assert_same, curve, state

Configure = Callable[..., Config]
QUIET = Console(quiet=True)
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]


def stopped(config: Config, resume: bool = False) -> tuple[Interrupted, str]:
    shown = io.StringIO()
    handlers = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(Interrupted) as caught:
        train(config, resume, console=Console(file=shown, width=1000))
    assert [signal.getsignal(number) for number in SIGNALS] == handlers
    return caught.value, shown.getvalue()


def send(monkeypatch: pytest.MonkeyPatch, hook: str, number: int, step: int) -> None:
    """The process sends itself a signal when a hook of the training is called at a step."""
    original = getattr(Fit, hook)

    @functools.wraps(original)
    def called(self: Fit, *arguments: object) -> object:
        if self.global_step == step:
            os.kill(os.getpid(), number)
        return original(self, *arguments)

    monkeypatch.setattr(Fit, hook, called)


@pytest.mark.parametrize(
    ("number", "hook", "step", "kept"),
    [
        (signal.SIGINT, "training_step", 6, "epoch 2, step 7"),
        (signal.SIGTERM, "training_step", 1, "epoch 1, step 2"),
        (signal.SIGUSR1, "training_step", 7, "epoch 2, step 8"),  # the last of an epoch: it is validated first
        (signal.SIGTERM, "validation_step", 8, "epoch 2, step 8"),
        (signal.SIGUSR1, "on_validation_epoch_end", 4, "epoch 1, step 4"),
    ],
)
def test_the_step_is_finished_and_the_run_goes_on_as_if_nothing_had_happened(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, hook: str, step: int, kept: str
) -> None:
    whole = configure(output=str(tmp_path / "whole"))
    train(whole, console=QUIET)
    config = configure()
    with monkeypatch.context() as patch:
        send(patch, hook, number, step)
        stop, text = stopped(config)
    assert stop.code == 128 + number
    assert f"{signal.Signals(number).name}: stopped; " in text
    assert f"last.ckpt is of {kept}: --resume continues from there" in text
    assert train(config, resume=True, console=QUIET).epochs == 3
    for part in ("state_dict", "optimizer_states", "global_step", "Batches", "callbacks"):
        assert_same(state(whole.output)[part], state(config.output)[part], part)
    assert curve(whole.output) == curve(config.output)


def test_before_the_first_step_there_is_nothing_to_keep(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure()
    with monkeypatch.context() as patch:
        send(patch, "training_step", signal.SIGTERM, 0)
        stop, text = stopped(config)
    assert (stop.code, "SIGTERM: stopped before the first checkpoint" in text) == (143, True)
    assert not {BEST, LAST, LOCK} & set(os.listdir(config.output))
    assert train(config, console=QUIET).epochs == 3  # the folder is as good as new


def test_a_resumed_run_that_is_stopped_at_once_can_be_resumed(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(configure(training={"epochs": 1}), console=QUIET)
    config = configure(training={"epochs": 2})
    before = (config.output / LAST).read_bytes()
    with monkeypatch.context() as patch:
        send(patch, "training_step", signal.SIGUSR1, 4)
        assert "last.ckpt is unchanged: --resume continues" in stopped(config, resume=True)[1]
    assert (config.output / LAST).read_bytes() == before
    assert train(config, resume=True, console=QUIET).steps == 8


def test_a_signal_sent_twice_at_once_is_one_signal_and_a_second_ctrl_c_does_not_wait() -> None:
    with interruptible() as interruption:
        interruption.postponed = True
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted) as caught:
            interruption.check()
        assert caught.value.code == 143
        time.sleep(1.1 * IMPATIENCE)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted):
            os.kill(os.getpid(), signal.SIGINT)


def run_command(config: Config, tmp_path: Path, cache: Path | None = None) -> "subprocess.Popen[str]":
    """``carten train`` in a process of its own, perhaps with a cache of compiled kernels of its own."""
    path = tmp_path / "config.yaml"
    path.write_text(config.dump())
    paths = os.pathsep.join([str(Path(carten.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    if cache is not None:
        cache.mkdir()
        environment |= {"XDG_CACHE_HOME": str(cache), "TMPDIR": str(cache)}  # sources are compiled in the latter
    command = [sys.executable, "-c", "from carten.cli import app; app()", "train", str(path)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def when(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait until something is there that the process makes."""
    end = time.monotonic() + 300
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_command_while_it_trains(configure: Configure, tmp_path: Path, number: int) -> None:
    config = configure(training={"epochs": 100_000, "checkpoint_minutes": 60})
    process = run_command(config, tmp_path)
    when((config.output / "metrics.csv").exists, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number, err
    assert "last.ckpt is of epoch" in out
    assert "Traceback" not in err
    assert not (config.output / LOCK).exists()
    steps = state(config.output)["global_step"]
    assert train(configure(training={"epochs": steps // 4 + 1}), resume=True, console=QUIET).steps > steps


@pytest.mark.needs("cpp")
def test_the_command_while_kernels_are_compiled(configure: Configure, tmp_path: Path) -> None:
    """The compiler works for minutes on large products; the run does not wait for it."""
    config = configure(model={"l_max_edges": 3, "l_max_features": 2, "correlation_order": 3, "n_layers": 2})
    process = run_command(config, tmp_path, cache=tmp_path / "cache")
    when(lambda: any((tmp_path / "cache").rglob("*.cpp")), process)
    begin = time.monotonic()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, "Traceback" in err) == (143, False), err
    assert "SIGTERM: stopped before the first checkpoint" in out
    assert time.monotonic() - begin < 60
