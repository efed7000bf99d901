"""How many processes train together: what started them and the configuration have to agree."""

from __future__ import annotations

import atexit
import gc
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy

from carten.errors import ConfigError

Result = TypeVar("Result")

PATIENCE = timedelta(hours=6)
"""How long processes wait for each other: one of them may index large data for hours."""
LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process exited")
"""What gloo and NCCL say of a process that is no more."""
INTERACTIVE = ("bash", "interactive")
"""Names of interactive SLURM jobs: a command that is typed there starts one process."""


@dataclass(frozen=True)
class _Launcher:
    """Variables in which a launcher tells the numbers of processes, and how to choose them."""

    total: str
    per_node: str
    options: str


LAUNCHERS = (
    _Launcher("WORLD_SIZE", "LOCAL_WORLD_SIZE", "torchrun --nnodes={nodes} --nproc-per-node={devices}"),
    _Launcher("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "srun --nodes={nodes} --ntasks-per-node={devices}"),
)
MPI = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""Variables of mpirun, under which processes do not train together."""


def require_world(devices: int, nodes: int = 1, environment: Mapping[str, str] | None = None) -> None:
    """Check that as many processes were started as train together.

    Args:
        devices: processes on each node, of the configuration.
        nodes: of the configuration.
        environment: of the process.

    Raises:
        ConfigError: each of several processes would train the same model into the same folder, or some would wait for
            processes that nobody starts.
    """
    environment = os.environ if environment is None else environment  # noqa: TID251  the launcher's, not a switch of ours
    for launcher in LAUNCHERS:
        if launcher.total == "SLURM_NTASKS" and environment.get("SLURM_JOB_NAME") in INTERACTIVE:
            continue
        if environment.get(launcher.total):
            _require_numbers(devices, nodes, launcher, environment)
            return
    if started := next((name for name in MPI if environment.get(name, "1") != "1"), None):
        raise ConfigError(
            f"{started}={environment[started]}: every one of these processes would train by itself; start them with "
            f"torchrun or srun instead of mpirun, or let carten start training.devices processes on one node"
        )
    if nodes > 1:
        raise ConfigError(
            f"training.nodes is {nodes}, but this command runs on one node: start it on all of them, by "
            + " or ".join(launcher.options.format(nodes=nodes, devices=devices) for launcher in LAUNCHERS)
        )


def _require_numbers(devices: int, nodes: int, launcher: _Launcher, environment: Mapping[str, str]) -> None:
    total, per_node = environment[launcher.total], environment.get(launcher.per_node)
    if total == str(devices * nodes) and per_node in (None, str(devices)):
        return
    configured = f"training.devices is {devices}" + (f" and training.nodes is {nodes}" if nodes > 1 else "")
    started = f"{launcher.total}={total}" + ("" if per_node is None else f", {launcher.per_node}={per_node}")
    consequence = (
        "every one of these processes would train by itself"
        if devices * nodes == 1
        else "the processes that train together are not those that were started"
    )
    raise ConfigError(
        f"{configured}, but {started}: {consequence}; {_advice(total, per_node)}"
        f"or start them with {launcher.options.format(nodes=nodes, devices=devices)}"
    )


def _advice(total: str, per_node: str | None) -> str:
    """Which numbers would fit what was started."""
    if per_node is None:
        return f"set training.devices: {total}, "
    if total.isdecimal() and per_node.isdecimal() and int(per_node) and int(total) % int(per_node) == 0:
        return f"set training.devices: {per_node} and training.nodes: {int(total) // int(per_node)}, "
    return ""


def largest(trainer: Trainer, *values: float) -> list[float]:
    """The largest of each value in all processes, so that they decide alike; every process has to ask."""
    if trainer.world_size == 1:
        return list(values)
    everywhere = torch.tensor(values, dtype=torch.float64, device=trainer.strategy.root_device)
    maximum: list[float] = trainer.strategy.reduce(everywhere, reduce_op="max").tolist()
    return maximum


def union(trainer: Trainer, numbers: list[int]) -> list[int]:
    """The numbers of all processes, ascending; every process has to ask."""
    if trainer.world_size == 1:
        return sorted(numbers)
    everywhere: list[list[int]] = [[] for _ in range(trainer.world_size)]
    torch.distributed.all_gather_object(everywhere, numbers)
    return sorted({number for part in everywhere for number in part})


def processes(devices: int, nodes: int) -> DDPStrategy | str:
    """The strategy of Lightning for so many processes."""
    if devices * nodes == 1:
        return "auto"
    atexit.register(_disband)
    return DDPStrategy(broadcast_buffers=False, timeout=PATIENCE)  # buffers are equal; those of the average are large


def _disband() -> None:
    """End the threads of the process group while Python still runs.

    One that is yet to release a tensor of the last reduction when the interpreter is gone aborts the process.
    """
    if torch.distributed.is_initialized():
        gc.collect()  # what trained holds the group, in cycles
        torch.distributed.destroy_process_group()


def lost_process(error: RuntimeError) -> bool:
    """Whether an error says that a process which trains along is no more."""
    text = str(error)
    return torch.distributed.is_initialized() and any(sign in text for sign in LOST)


def in_turn(trainer: Trainer, work: Callable[[], Result]) -> Result:
    """What the first process of each node does before the others of its node, which then find its caches.

    Where it fails in one of the processes all of them end, and that one says why. Processes that Lightning starts
    itself begin when the first is done.

    Args:
        trainer: of all of them.
        work: every process does it.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, DDPStrategy) or isinstance(strategy.cluster_environment, LightningEnvironment):
        return work()
    strategy.setup_environment()
    results: list[Result] = []
    for first in (True, False):
        failed = 1.0
        try:
            if (trainer.local_rank == 0) == first:
                results.append(work())
            failed = 0.0
        finally:
            (failed,) = largest(trainer, failed)
        if failed:
            raise SystemExit(1)
    return results[0]
