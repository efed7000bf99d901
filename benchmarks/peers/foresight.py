"""Predict from smaller structures which measurements would take too much memory or time, so that they are not tried."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.records import Record, done

SPARE = 0.85  # of the memory that is available may be taken
LONGEST = 60.0  # seconds of one evaluation
SAME = ("model", "system", "task", "kind", "threads", "settings")


def foreseen(records: Sequence[Record], wanted: Record) -> str:
    """Why a measurement is not possible here; empty if it is.

    Memory and time are taken to grow as the number of atoms, from the largest structure of the same name that was
    measured; where that one could not be, neither can a larger one.
    """
    smaller = [r for r in records if all(r[key] == wanted[key] for key in SAME) and r["n_atoms"] < wanted["n_atoms"]]
    for known in sorted(smaller, key=lambda record: -record["n_atoms"]):
        if done(known):
            return _why(known, wanted["n_atoms"])
    return ""


def _why(known: Record, n_atoms: int) -> str:
    if "us_per_atom" not in known:
        return str(known["error"])
    times = n_atoms / known["n_atoms"]
    memory = times * (known["peak_memory_mb"] - known["base_memory_mb"]) + known["base_memory_mb"]
    seconds = 1e-6 * known["us_per_atom"] * n_atoms
    if memory > SPARE * available_memory():
        return f"not run: needs about {memory / 1000:.0f} GB"
    return f"not run: takes about {seconds:.0f} s" if seconds > LONGEST else ""


def available_memory() -> float:
    """Available memory in MB; infinite if the system does not report it."""
    information = Path("/proc/meminfo")
    lines = information.read_text().splitlines() if information.exists() else []
    found = [float(line.split()[1]) for line in lines if line.startswith("MemAvailable:")]
    return found[0] * 1.024e-3 if found else float("inf")
