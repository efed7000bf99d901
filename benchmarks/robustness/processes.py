"""Attempts in child processes with limits of memory and time: what carten does with each input."""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

OUTCOMES = ("clean error", "accepted", "silent", "traceback", "crashed", "over time")
"""``silent``: accepted, with a result that is not that of the original."""

FAULTS = OUTCOMES[2:]

END, LATE = "end", "late"
"""What stands in place of an outcome: no more inputs because time is up, no answer in time."""

Attempt = Callable[[int, Path], str]
"""Runs input number n in a folder of its own and says which of the outcomes it had; any exception is a traceback."""


@dataclass
class Result:
    """How many inputs had which outcome, and where faults are.

    Args:
        seconds: spent.
        counts: by outcome.
        places: numbers of faults by outcome and place in the source.
        examples: number of the first input by place.
    """

    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    places: Counter[str] = field(default_factory=Counter)
    examples: dict[str, int] = field(default_factory=dict)

    @property
    def tried(self) -> int:
        """Number of inputs."""
        return self.counts.total()

    @property
    def faults(self) -> int:
        """Number of inputs that were not answered as they should."""
        return sum(self.counts[outcome] for outcome in FAULTS)

    def note(self, number: int, outcome: str, place: str) -> None:
        """Count an input."""
        self.counts[outcome] += 1
        if outcome in FAULTS:
            self.places[f"{outcome}: {place}"] += 1
            self.examples.setdefault(f"{outcome}: {place}", number)


@dataclass(frozen=True)
class Limits:
    """Of a child process.

    Args:
        seconds: for one input.
        memory: bytes.
        inputs: after which a fresh child goes on.
    """

    seconds: float = 60.0
    memory: int = 8 * 2**30
    inputs: int = 1000


def run(attempt: Attempt, inputs: int, minutes: float, folder: Path, limits: Limits) -> Result:
    """Try inputs one after the other.

    Args:
        attempt: what is tried; whatever it needs was imported before, since children are copies of this process.
        inputs: how many.
        minutes: after which no further input is tried.
        folder: in which each attempt has a folder; those of faults stay.
        limits: of child processes.
    """
    result, number, started = Result(), 0, time.monotonic()
    while number < inputs and time.monotonic() - started < 60 * minutes:
        stop = min(inputs, number + limits.inputs)
        number = _some(attempt, range(number, stop), folder, limits, result, started + 60 * minutes)
    result.seconds = time.monotonic() - started
    return result


def _some(attempt: Attempt, numbers: range, folder: Path, limits: Limits, result: Result, deadline: float) -> int:
    """Try some inputs in one child, until one of them ends it; the number of the next input."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(attempt, numbers, folder, limits, writing, deadline)
    os.close(writing)
    answers, number, line = _Answers(reading), numbers.start, ""
    while number < numbers.stop and (line := answers.next(limits.seconds)) not in (END, LATE, ""):
        outcome, _, place = line.partition("\t")
        result.note(number, outcome, place)
        number += 1
    if line == LATE:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(reading)
    if line == END:
        return sys.maxsize
    if line == LATE:
        result.note(number, "over time", "")
    elif line == "":
        result.note(number, "crashed", signal.Signals(status & 127).name if status & 127 else f"exit {status >> 8}")
    return number + (line in (LATE, ""))


class _Answers:
    """Lines from a pipe."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.text = b""

    def next(self, seconds: float) -> str:
        """The next line; :data:`LATE` if there is none in time, ``""`` at the end."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self.text:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.descriptor], [], [], left)[0]:
                return LATE
            more = os.read(self.descriptor, 65536)
            if not more:
                return ""
            self.text += more
        line, _, self.text = self.text.partition(b"\n")
        return line.decode()


def _child(attempt: Attempt, numbers: range, folder: Path, limits: Limits, writing: int, deadline: float) -> None:
    """The child: never returns."""
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silence = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(silence, stream)
    for number in numbers:
        if time.monotonic() > deadline:
            os.write(writing, f"{END}\n".encode())
            break
        place = folder / f"{number}"
        place.mkdir()
        os.chdir(place)
        outcome, where = _outcome(attempt, number, place)
        if outcome not in FAULTS:
            _remove(place)
        os.write(writing, f"{outcome}\t{where}\n".encode(errors="replace"))
    os._exit(0)


def _outcome(attempt: Attempt, number: int, place: Path) -> tuple[str, str]:
    """What came of an attempt, and where."""
    try:
        return attempt(number, place), ""
    except BaseException as error:  # noqa: BLE001  any exception is what is looked for
        (place / "traceback.txt").write_text(traceback.format_exc(), encoding="utf-8", errors="replace")
        return "traceback", _where(error)


def _where(error: BaseException) -> str:
    """Class of an error and the innermost line of carten that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/carten/" in frame.filename] or list(frames)
    return f"{type(error).__name__} {own[-1].filename.partition('/carten/')[2]}:{own[-1].lineno}"


def _remove(folder: Path) -> None:
    """Remove a folder and all in it; files only, one level of folders."""
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()
