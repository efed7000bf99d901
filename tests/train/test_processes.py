"""Several processes train what one process trains."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

import carten
from carten.train.config import Config
from carten.train.files import BEST, LAST, LOG, METRICS
from carten.train.resume import Progress
from carten.train.run import train

from .test_resume import curve, state

Configure = Callable[..., Config]
QUIET = Console(quiet=True)
SIXTEEN_STRUCTURES = {"data": {"batch": {"structures": 3}}, "dtype": "float64", "training": {"epochs": 4}}
"""Batches of 3, the last of each epoch of 1: one of two processes has none. 24 steps."""


SIGNALLED = """
import os, signal
from carten.cli import app
from carten.train.module import Fit

ended = Fit.on_train_batch_end

def signalled(self, outputs, batch, batch_idx):
    if self.global_step == 8 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.{name})
    ended(self, outputs, batch, batch_idx)

Fit.on_train_batch_end = signalled
app()
"""
"""The command line, but that process 1 gets a signal after step 8, of which it hears one step later."""


def environment(**variables: object) -> dict[str, str]:
    paths = os.pathsep.join([str(Path(carten.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **{k: str(v) for k, v in variables.items()}}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def torchrun(rank: int, devices: int, nodes: int, port: int) -> dict[str, str]:
    """What torchrun tells the processes that it starts."""
    return environment(
        MASTER_ADDR="127.0.0.1", MASTER_PORT=port, WORLD_SIZE=devices * nodes, LOCAL_WORLD_SIZE=devices, RANK=rank,
        LOCAL_RANK=rank % devices, GROUP_RANK=rank // devices, TORCHELASTIC_RUN_ID="test",
    )  # fmt: skip


def run(
    config: Config, environments: list[dict[str, str]], program: tuple[str, str] = ("-m", "carten")
) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of ``carten train`` in processes of their own."""
    path = config.output.with_suffix(".yaml")
    path.write_text(config.dump())
    command = [sys.executable, *program, "train", str(path)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with ExitStack() as held:
        processes = [held.enter_context(subprocess.Popen(command, env=env, **pipes)) for env in environments]
        try:
            outputs = [process.communicate(timeout=240) for process in processes]
        finally:
            for process in processes:
                process.kill()
    return [(process.returncode, *output) for process, output in zip(processes, outputs, strict=True)]


def weights(output: Path) -> dict[str, torch.Tensor]:
    """Of the model and its average."""
    return {name: value for name, value in state(output)["state_dict"].items() if value.is_floating_point()}


def assert_close(output: Path, expected: Path, tolerance: float) -> None:
    ours, theirs = weights(output), weights(expected)
    assert len(ours) > 10
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=tolerance, atol=tolerance, msg=name)


def numbers(output: Path) -> list[list[float]]:
    """Rows of the learning curve without the time."""
    return [[float(cell) for cell in row.split(",")] for row in curve(output)[1:]]


def test_two_processes_and_two_nodes_train_what_one_process_trains(configure: Configure, tmp_path: Path) -> None:
    sections = {**SIXTEEN_STRUCTURES, "optimizer": {"name": "adamw"}}
    one = configure(**sections, output=str(tmp_path / "one"))
    result = train(one, console=QUIET)
    assert result.steps == 24
    two = configure(**{**sections, "training": {"epochs": 4, "devices": 2}}, output=str(tmp_path / "two"))
    ((status, out, err),) = run(two, [environment()])
    assert status == 0, err
    assert out.count("best model:") == out.count("training on 16 structures") == 1
    port = free_port()
    nodes = configure(**{**sections, "training": {"epochs": 4, "nodes": 2}}, output=str(tmp_path / "nodes"))
    (first, second) = run(nodes, [torchrun(rank, 1, 2, port) for rank in range(2)])
    assert (first[0], second[0]) == (0, 0), first[2] + second[2]
    assert second[1] == ""
    for output in (two.output, nodes.output):
        assert_close(output, one.output, 1e-12)
        ours, theirs = (torch.tensor(numbers(folder)) for folder in (output, one.output))
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0.0)
        assert Progress.read(output / "last.ckpt").steps == 24


def test_a_signal_to_one_process_ends_both_and_one_goes_on(configure: Configure, tmp_path: Path) -> None:
    """With SOAP, which turns round-off into other weights, since its first eigenvectors are hardly determined.

    The more so the more of the gradient is that of a few energies; here they weigh little.
    """
    run_of_one = {**SIXTEEN_STRUCTURES, "properties": {"energy": {"weight": 1.0}, "forces": {"weight": 10.0}}}
    one = configure(**run_of_one, output=str(tmp_path / "one"))
    train(one, console=QUIET)
    two = configure(**{**run_of_one, "training": {"epochs": 4, "devices": 2}}, output=str(tmp_path / "two"))
    port = free_port()
    environments = [torchrun(rank, 2, 1, port) for rank in range(2)]
    first, second = run(two, environments, ("-c", SIGNALLED.format(name="SIGTERM")))
    assert (first[0], second) == (143, (143, "", "")), first[2]
    assert "SIGTERM: stopped; " in first[1]
    assert Progress.read(two.output / LAST).steps == 9
    alone = configure(**run_of_one, output=str(two.output))
    assert train(alone, resume=True, console=QUIET).steps == 24
    losses = [torch.tensor([row[3:5] for row in numbers(output)]) for output in (one.output, two.output)]
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-2, atol=0.0)


def test_an_error_of_one_process_ends_all_and_is_said_once(configure: Configure, tmp_path: Path) -> None:
    """Reading fails, the loss becomes infinite in all, a process is killed."""
    missing = configure(data={"train": str(tmp_path / "none.extxyz")}, training={"devices": 2})
    port = free_port()
    (first, second) = run(missing, [torchrun(rank, 2, 1, port) for rank in range(2)])
    assert (first[0], second) == (1, (1, "", ""))
    assert "none.extxyz" in first[2]
    wild = {"optimizer": {"lr": 1e30}, "schedule": {"warmup": 0.0}}
    diverging = configure(**wild, training={"devices": 2, "clip": None}, output=str(tmp_path / "wild"))
    ((status, _, err),) = run(diverging, [environment()])
    assert (status, err.count("NaN or infinite at structures")) == (1, 1), err
    assert "Traceback" not in err


def test_a_process_that_is_killed_ends_the_other(configure: Configure) -> None:
    config = configure(training={"devices": 2, "checkpoint_minutes": 0})
    port = free_port()
    environments = [torchrun(rank, 2, 1, port) for rank in range(2)]
    first, second = run(config, environments, ("-c", SIGNALLED.format(name="SIGKILL")))
    assert (first[0], second[0]) == (1, -signal.SIGKILL), first[2]
    assert "another process of this run has ended" in first[2]
    assert "Traceback" not in first[2]
    assert sorted(os.listdir(config.output)) == [BEST, "config.yaml", LAST, LOG, METRICS, "tensorboard"]


LEAVING = """
import atexit, sys
from pathlib import Path

import torch
from carten.train.world import processes

def threads():
    return [name.read_text() for name in Path("/proc/self/task").glob("*/comm")]

atexit.register(lambda: print(*threads()))
processes(2, 1)
torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
assert any("gloo" in name for name in threads())
"""
"""A process whose group lasts until it exits: handlers run last in, first out."""


def test_threads_of_a_group_end_before_the_interpreter() -> None:
    """One that still holds a tensor when the interpreter is gone aborts the process."""
    left = subprocess.run(
        [sys.executable, "-c", LEAVING], env=environment(), capture_output=True, text=True, check=True
    ).stdout
    assert left.split(), "threads have names"
    assert "gloo" not in left, f"threads that outlive the group: {left}"
