"""Threads of kernels: as many as torch has, or those that torch leaves them.

A parallel operation of torch waits for all its threads, which spin while they wait. Where other processes keep the
cores busy, the one that is waited for may not run, and steps take up to a hundred times longer. Threads of kernels
claim parts of the work and sleep in between, see ``threads.h``.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

import torch

from carten.ops import compiler

_count: ContextVar[int | None] = ContextVar("count", default=None)


def thread_count() -> int:
    """Threads that kernels use."""
    number = _count.get()
    return torch.get_num_threads() if number is None else number


@contextmanager
def only_kernels(processes: int = 1) -> Iterator[None]:
    """Inside, torch computes on one thread, and kernels on the threads that torch had.

    Args:
        processes: that share the cores.
    """
    before = torch.get_num_threads()
    token = _count.set(min(before, max(1, (os.cpu_count() or 1) // processes)))
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _count.reset(token)


def leave_to_kernels() -> None:
    """Let torch compute on one thread again: launchers of several processes set its threads."""
    if _count.get() is not None:
        torch.set_num_threads(1)


@cache
def team() -> int | None:
    """Address of the function that runs the parts of a kernel on threads, see ``pool.cpp``."""
    folder = Path(__file__).parent
    source = "\n".join((folder / name).read_text(encoding="utf-8") for name in ("threads.h", "pool.cpp"))
    return ctypes.cast(compiler.load_library(source, lambda: source).run, ctypes.c_void_p).value
