"""A worker as another process: start it, ask it for times, end it."""

from __future__ import annotations

import json
import resource
import selectors
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.peers.environments import ROOT
from benchmarks.peers.foresight import SPARE, available_memory
from benchmarks.peers.settings import Job

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "KOKKOS_NUM_THREADS")
BYTECODE = "PYTHONDONTWRITEBYTECODE"
"""Taken away: pip compiles modules of the other codes when it installs them, those of carten compile at first use."""
CACHES = ("XDG_CACHE_HOME", "TORCHINDUCTOR_CACHE_DIR", "SYMMETRIX_JIT_CACHE")
"""Variables by which codes are told where to keep what they compile."""


class Failed(Exception):
    """A code did not do its job; the message says why."""


class Worker:
    """One code at work in its environment; a context manager that ends it.

    Args:
        python: interpreter of the environment.
        job: what it does.
        log: file for what it prints.
        limit: seconds after which an answer is not waited for any more.
    """

    def __init__(self, python: Path, job: Job, log: Path, limit: float) -> None:
        self.job = job
        self.log = log
        self.limit = limit
        told = [f"{name}={job.threads}" for name in THREADS]
        told += [f"{name}={job.compiled / name.lower()}" for name in CACHES]
        command = ["env", f"--unset={BYTECODE}", *told, str(python), "-m", "benchmarks.peers.worker", job.dump()]
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True, cwd=ROOT
            )
        self._limit_memory()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """Stop it, whatever it does."""
        self._process.kill()
        self._process.communicate()

    def answer(self) -> dict[str, Any]:
        """Its next answer.

        Raises:
            Failed: it ended without one, or takes longer than the limit.
        """
        if self._process.stdout is None:
            raise Failed("the worker has no output")
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(self.limit):
                raise Failed(f"took longer than {self.limit:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise Failed(self._reason())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, request: dict[str, float]) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            Failed: as :meth:`answer`.
        """
        if self._process.stdin is None or self._process.poll() is not None:
            raise Failed(self._reason())
        self._limit_memory()
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self.answer()

    def _limit_memory(self) -> None:
        """Let it fail rather than fill the machine's memory (Linux)."""
        status = Path(f"/proc/{self._process.pid}/status")
        if status.exists() and available_memory() < float("inf"):
            bound = 1024 * _kilobytes(status, "VmData") + int(1e6 * SPARE * available_memory())
            resource.prlimit(self._process.pid, resource.RLIMIT_DATA, (bound, resource.RLIM_INFINITY))

    def _reason(self) -> str:
        self._process.wait()
        lines = [line.strip() for line in self.log.read_text(errors="replace").splitlines() if line.strip()]
        text = "\n".join(lines)
        if "can't allocate memory" in text or "MemoryError" in text or "bad_alloc" in text:
            return "out of memory"
        return lines[-1] if lines else f"ended with status {self._process.returncode}"


def _kilobytes(path: Path, field: str) -> int:
    found = [line.split()[1] for line in path.read_text().splitlines() if line.startswith(f"{field}:")]
    return int(found[0]) if found else 0
