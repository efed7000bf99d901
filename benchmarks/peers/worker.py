"""Runs inside the environment of one code: builds a model, then measures whenever it is told to.

    python -m benchmarks.peers.worker JOB

Talks in lines of JSON: writes one when it is ready, reads ``{"seconds": s}`` and answers with times of single
evaluations (of the clock, and of the processor in all threads), reads ``{}`` and answers with its memory
and the multiply-adds of a training step, then ends.
Whatever a code prints goes to standard error.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase import Atoms
from ase.io import read

from benchmarks.peers.settings import Job

LONG = 5.0  # seconds; a longer evaluation is timed without another one before it
MB = 1000.0 / 1.024  # KiB


def main() -> None:
    """Do the job given on the command line."""
    answers = _own_output()
    job = Job.load(sys.argv[1])
    run = _prepared(job)
    _forget_peak_memory()
    base = _memory("VmRSS")
    first = run()
    _tell(answers, {**first, "base_memory_mb": base, "processor_seconds": _processor_seconds()})
    for line in sys.stdin:
        request: dict[str, float] = json.loads(line)
        if not request:
            break
        _tell(answers, {"times": _times(run, request["seconds"])})
        _trim()
    peak = _memory("VmHWM")
    _tell(answers, {"peak_memory_mb": peak, "multiply_adds": _multiply_adds(job, run)})


def _prepared(job: Job) -> Callable[[], dict[str, float]]:
    """One evaluation or training step of the job, checked."""
    code: Any = importlib.import_module(f"benchmarks.peers.codes.{job.code}")
    frames = _frames(job)
    if job.task == "train":
        step = code.train(job, frames)

        def trained() -> dict[str, float]:
            return _finite({"loss": step()})

        return trained
    evaluate = code.infer(job, frames[0])

    def evaluated() -> dict[str, float]:
        energy, forces = evaluate()
        return _finite({"energy": float(energy), "force": float(np.abs(forces).max())})

    return evaluated


def _multiply_adds(job: Job, run: Callable[[], object]) -> float:
    """Of a training step; 0 where torch can't tell, since it runs compiled code."""
    if job.task == "infer" or job.variant == "compiled":
        return 0.0
    common, code = (importlib.import_module(f"benchmarks.peers.codes.{name}") for name in ("common", job.code))
    count: Callable[[Callable[[], object]], float] = getattr(code, "multiply_adds", common.multiply_adds)
    return count(run)


def _frames(job: Job) -> list[Atoms]:
    found = read(job.structures, ":")
    return found if isinstance(found, list) else [found]


def _finite(values: dict[str, float]) -> dict[str, float]:
    if not all(np.isfinite(value) for value in values.values()) or values.get("force") == 0.0:
        raise ValueError(f"the result is not finite, or there are no forces: {values}")
    return values


def _times(run: Callable[[], object], seconds: float) -> list[tuple[float, float]]:
    """Times of single evaluations for about ``seconds``, at least one; one before them warms the processor's caches."""
    times = [_time(run)]
    if times[0][0] < LONG:
        times.clear()
    while sum(wall for wall, _ in times) < seconds:
        times.append(_time(run))
    return times


def _time(run: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def _processor_seconds() -> float:
    """Of this process and those it has waited for."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def _memory(field: str) -> float:
    """A field of the process's memory in MB, 0 where the system does not tell."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    found = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return float(found[0]) / MB if found else 0.0


def _forget_peak_memory() -> None:
    """Let the high-water mark start now (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError as error:
        print(f"the peak of memory includes building the model: {error}", file=sys.stderr)


def _trim() -> None:
    """Give freed memory back while other workers are measured (glibc)."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)


def _own_output() -> TextIO:
    """Standard output for answers alone; what else is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def _tell(answers: TextIO, message: dict[str, Any]) -> None:
    print(json.dumps(message), file=answers, flush=True)


if __name__ == "__main__":
    main()
