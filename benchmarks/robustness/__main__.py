"""``python -m benchmarks.robustness --kind extxyz --inputs 100000 --seed 1 --minutes 10``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.robustness.kinds import KINDS, originals
from benchmarks.robustness.processes import OUTCOMES, Limits, Result, run


def main() -> int:
    """Attack, print a table, keep inputs that were not answered as they should; 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robustness", description=main.__doc__)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="what to attack; all by default")
    parser.add_argument("--inputs", type=int, default=1000, help="inputs of each kind")
    parser.add_argument("--seed", type=int, default=1, help="of all changes: input n of a seed is always the same")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each kind")
    parser.add_argument("--seconds", type=float, default=60.0, help="for each input")
    parser.add_argument("--output", type=Path, default=None, help="folder for inputs that are faults")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = (options.output or Path(tempfile.mkdtemp(prefix="robustness-"))).resolve()
    results = {}
    for kind in options.kind or KINDS:
        place = folder / kind
        place.mkdir(parents=True)
        attempt = KINDS[kind](originals(place), options.seed)
        results[kind] = run(attempt, options.inputs, options.minutes, place, Limits(options.seconds))
        print(table({kind: results[kind]}), flush=True)
        for found, count in results[kind].places.most_common(20):
            print(f"    {count:6d}  {found}  (first: {place / str(results[kind].examples[found])})", flush=True)
    if len(results) > 1:
        print(table(results))
    return int(any(result.faults for result in results.values()))


def table(results: dict[str, Result]) -> str:
    """Results as a table in Markdown."""
    names = ("input", "tried", *OUTCOMES, "minutes")
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for kind, result in results.items():
        counts = " | ".join(f"{result.counts[outcome]:,}" for outcome in OUTCOMES)
        lines.append(f"| {kind} | {result.tried:,} | {counts} | {result.seconds / 60:.1f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
