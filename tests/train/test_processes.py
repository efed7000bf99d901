"""Several processes train what one process trains."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import torch
from rich.console import Console

import carten
from carten.train.config import Config
from carten.train.files import BEST, LAST, LOCK
from carten.train.resume import Progress
from carten.train.run import train

from .test_resume import curve, state

Configure = Callable[..., Config]
Process: TypeAlias = "subprocess.Popen[str]"
QUIET = Console(quiet=True)
SIXTEEN_STRUCTURES = {"data": {"batch": {"structures": 3}}, "dtype": "float64", "training": {"epochs": 4}}
"""Batches of 3, the last of each epoch of 1: one of two processes has none. 24 steps."""


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


@contextmanager
def started(config: Config, environments: list[dict[str, str]], *options: str) -> Iterator[list[Process]]:
    """``carten train`` in processes of their own."""
    path = config.output.with_suffix(".yaml")
    path.write_text(config.dump())
    command = [sys.executable, "-m", "carten", "train", str(path), *options]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with ExitStack() as held:
        processes = [held.enter_context(subprocess.Popen(command, env=env, **pipes)) for env in environments]
        try:
            yield processes
        finally:
            for process in processes:
                process.kill()


def run(config: Config, environments: list[dict[str, str]], *options: str) -> list[tuple[int, str, str]]:
    """Exit status, output and errors of each process."""
    with started(config, environments, *options) as processes:
        outputs = [process.communicate(timeout=240) for process in processes]
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


def wait_for(condition: Callable[[], bool], process: Process) -> None:
    end = time.monotonic() + 240
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_signal_to_one_process_ends_both_and_one_goes_on(configure: Configure, tmp_path: Path) -> None:
    """With SOAP, which turns round-off into other weights, since its first eigenvectors are hardly determined."""
    sections = {**SIXTEEN_STRUCTURES, "training": {"epochs": 20}}
    one = configure(**sections, output=str(tmp_path / "one"))
    train(one, console=QUIET)
    two = configure(**{**sections, "training": {"epochs": 20, "devices": 2}}, output=str(tmp_path / "two"))
    port = free_port()
    with started(two, [torchrun(rank, 2, 1, port) for rank in range(2)]) as processes:
        wait_for((two.output / BEST).exists, processes[0])
        processes[1].send_signal(signal.SIGTERM)
        outputs = [process.communicate(timeout=120) for process in processes]
        assert [process.returncode for process in processes] == [143, 143], outputs
    assert "SIGTERM: stopped; " in outputs[0][0]
    assert outputs[1] == ("", "")
    assert Progress.read(two.output / LAST).steps < 120
    alone = configure(**sections, output=str(two.output))
    assert train(alone, resume=True, console=QUIET).steps == 120
    losses = [torch.tensor([row[3:5] for row in numbers(output)]) for output in (one.output, two.output)]
    torch.testing.assert_close(losses[1][:3], losses[0][:3], rtol=2e-3, atol=0.0)
    torch.testing.assert_close(losses[1], losses[0], rtol=0.1, atol=0.0)


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
    config = configure(training={"devices": 2, "epochs": 100_000, "checkpoint_minutes": 0})
    port = free_port()
    with started(config, [torchrun(rank, 2, 1, port) for rank in range(2)]) as processes:
        wait_for((config.output / LAST).exists, processes[0])
        processes[1].kill()
        _, err = processes[0].communicate(timeout=120)
    assert (processes[0].returncode, "another process of this run has ended" in err) == (1, True), err
    assert "Traceback" not in err
    assert not (config.output / LOCK).exists()
