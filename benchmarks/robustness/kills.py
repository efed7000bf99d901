"""Training runs that are killed at random moments, resumed, and compared with one that was not."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from carten.train.checkpoint import SafetensorsCheckpoint
from carten.train.config import Config
from carten.train.files import LAST
from carten.train.resume import Progress
from carten.train.run import train

EPOCHS = 12
MOST_KILLS = 3
"""Of one run."""
PATIENCE = 60.0
"""Seconds within which what is left of a run has to end by itself, besides five times the time of a run."""


def killed_runs(document: dict[str, Any], seed: int, processes: int) -> Callable[[int, Path], str]:
    """Attempts: a run that is killed at up to three random moments, and in the end has to be the run that was not.

    Weights, optimiser and averages of one process are compared bit by bit, those of several to 1e-12.

    Args:
        document: configuration of a small run.
        seed: of the moments.
        processes: that train together; one of them, or all, are killed.
    """
    training = {**document["training"], "epochs": EPOCHS, "checkpoint_minutes": 1e-6, "devices": processes}
    document = {**document, "dtype": "float64", "training": training, "optimizer": {"name": "adamw", "lr": 0.01}}
    whole = Config.parse({**document, "output": f"{document['output']}-{processes}-whole"})
    begin = time.monotonic()
    if _ended(_started(whole, False), 600.0) != [0] * processes:
        raise RuntimeError("a run that is not killed did not end")
    duration, expected = time.monotonic() - begin, _state(whole)

    def attempt(number: int, folder: Path) -> str:
        rng = np.random.default_rng([seed, number])
        config = Config.parse({**document, "output": str(folder / "run")})
        steps = 0
        for _ in range(int(rng.integers(1, MOST_KILLS + 1))):
            members = _started(config, steps > 0)
            time.sleep(float(rng.uniform(0.0, duration)))
            for member in members if rng.random() < 0.5 else members[-1:]:
                os.kill(member, signal.SIGKILL)
            if None in _ended(members, PATIENCE + 5.0 * duration):
                return "over time"
            before, steps = steps, _steps(config)
            if steps < before:
                return "silent"
        statuses = _ended(_started(config, steps > 0), PATIENCE + 5.0 * duration)
        if statuses != [0] * processes:
            return "over time" if None in statuses else "traceback"
        return "accepted" if _same(_state(config), expected, 0.0 if processes == 1 else 1e-12) else "silent"

    return attempt


def _started(config: Config, resume: bool) -> list[int]:
    """Process numbers of a run: copies of this process, which has imported everything."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    members = []
    for rank in range(config.training.devices):
        member = os.fork()
        if member == 0:
            _train(config, resume, rank, port)
        members.append(member)
    return members


def _train(config: Config, resume: bool, rank: int, port: int) -> None:
    """Train in this process as torchrun starts it; never returns."""
    size = config.training.devices
    if size > 1:
        numbers = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0}
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "kills"}
        variables = {**numbers, **place}
        os.environ.update({name: str(value) for name, value in variables.items()})  # noqa: TID251  as torchrun does
    try:
        train(config, resume and (config.output / LAST).exists(), Console(quiet=True), "reference")
    except BaseException:  # noqa: BLE001  the status says so
        os._exit(1)
    os._exit(0)


def _ended(members: Sequence[int], seconds: float) -> list[int | None]:
    """Exit status of each process; ``None`` for one that had to be killed since it did not end."""
    statuses: list[int | None] = []
    end = time.monotonic() + seconds
    for member in members:
        ended, status = 0, 0
        while not ended and time.monotonic() < end:
            ended, status = os.waitpid(member, os.WNOHANG)
            time.sleep(0.005)
        if not ended:
            os.kill(member, signal.SIGKILL)
            os.waitpid(member, 0)
        statuses.append(os.waitstatus_to_exitcode(status) if ended else None)
    return statuses


def _steps(config: Config) -> int:
    """Steps of the last checkpoint, which has to be readable; 0 before the first."""
    last = config.output / LAST
    return Progress.read(last).steps if last.exists() else 0


def _state(config: Config) -> dict[str, Any]:
    state = SafetensorsCheckpoint().load_checkpoint(config.output / LAST)
    return {key: state[key] for key in ("state_dict", "optimizer_states", "global_step")}


def _same(one: Any, other: Any, tolerance: float) -> bool:
    """Whether nested states are equal, tensors to a tolerance."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) or torch.allclose(one, other, rtol=tolerance, atol=tolerance)
    if isinstance(one, dict):
        return list(one) == list(other) and all(_same(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(_same(*pair, tolerance) for pair in zip(one, other, strict=True))
    return bool(one == other)

