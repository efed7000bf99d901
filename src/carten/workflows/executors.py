"""Where independent tasks run: processes of this machine, or workers of a Dask cluster."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TypeVar

from carten.errors import ConfigError, ModelError

WINDOW = 256
"""Tasks that wait or run at a time."""
PATIENCE = 30.0
"""Seconds in which a scheduler must answer."""

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


@contextmanager
def open_executor(place: str | None) -> Iterator[Executor | None]:
    """An executor by its name; ``None`` where tasks are to run in this process.

    Args:
        place: number of local processes; address of a Dask scheduler (``tcp://host:8786``), or its scheduler file
            (``scheduler.json``).

    Raises:
        ConfigError: the name is none of these, distributed is not installed, or no scheduler answers.
    """
    if place is None:
        yield None
    elif place.isdigit() and int(place) > 0:
        spawning = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(int(place), mp_context=spawning, initializer=_one_thread) as pool:
            yield pool
    elif "://" in place or place.endswith(".json"):
        with _cluster(place) as executor:
            yield executor
    else:
        raise ConfigError(
            f"executor: expected a number of processes, the address of a Dask scheduler (tcp://host:8786) or its "
            f"scheduler file (scheduler.json), found {place!r}"
        )


@contextmanager
def _cluster(place: str) -> Iterator[Executor]:
    if find_spec("distributed") is None:
        raise ConfigError("an executor on a cluster needs Dask: pip install 'carten[cluster]'")
    from distributed import Client

    if "://" not in place and not Path(place).is_file():
        raise ConfigError(f"executor: {place}: no such file; a running Dask scheduler writes it (--scheduler-file)")
    options = {"address": place} if "://" in place else {"scheduler_file": place}
    try:
        client = Client(**options, timeout=PATIENCE, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"executor: no Dask scheduler answers at {place}: {error}") from error
    with client:
        yield client.get_executor()


def run_tasks(
    executor: Executor | None, function: Callable[[Task], Outcome], tasks: Iterable[Task]
) -> Iterator[Outcome]:
    """Outcomes of tasks as they come, in this process where there is no executor.

    Raises:
        ModelError: a worker died; whatever a task raises is raised.
    """
    if executor is None:
        yield from map(function, tasks)
        return
    waiting = iter(tasks)
    running = {executor.submit(function, task) for task in islice(waiting, WINDOW)}
    try:
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            running |= {executor.submit(function, task) for task in islice(waiting, len(done))}
            for future in done:
                yield _outcome(future)
    finally:
        for future in running:
            future.cancel()


def _outcome(future: Future[Outcome]) -> Outcome:
    error = future.exception()
    if isinstance(error, BrokenExecutor) or type(error).__name__ == "KilledWorker":  # of Dask
        raise ModelError(
            "a worker was killed, perhaps for want of memory; what was finished is kept: run the same command again, "
            "with fewer processes"
        ) from error
    return future.result()


def _one_thread() -> None:
    """Processes share the cores."""
    import torch

    torch.set_num_threads(1)
