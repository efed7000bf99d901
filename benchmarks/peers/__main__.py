"""The command line: ``python -m benchmarks.peers``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from benchmarks.peers.catalogue import CODES
from benchmarks.peers.environments import install
from benchmarks.peers.measure import Plan, compile_first, forget, groups, measure
from benchmarks.peers.report import report
from benchmarks.peers.structures import systems

STEPS = ("install", "compile", "measure", "report")
CLOCKS = ("wall", "processor")
KINDS = ("infer", "train", "scan")


def main() -> None:
    """Install the codes, measure them alternately, write tables and figures; continues where an earlier run ended."""
    parser = _parser()
    options = parser.parse_args()
    if options.clock == "processor" and options.threads != 1:
        parser.error("--clock processor needs --threads 1")
    codes = [code for code in CODES if code.name in options.codes]
    if "install" in options.steps:
        install(options.cache, [code.environment for code in codes])
    found = [system for system in systems(options.structures) if len(system.atoms) <= options.largest]
    todo = groups(options.kinds, found)
    plan = Plan(
        options.cache, options.threads, options.rounds, options.seconds, options.clock, options.limit, options.minutes,
        options.output,
    )  # fmt: skip
    if options.again:
        forget(plan, codes, todo)
    for step, run in (("compile", compile_first), ("measure", measure)):
        if step in options.steps and not run(plan, codes, todo):
            sys.exit(f"{step}: {options.minutes:g} minutes are over, run the same command without --again to go on")
    if "report" in options.steps:
        report(options.output)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m benchmarks.peers", description=main.__doc__)
    names = [code.name for code in CODES]
    here = Path(__file__).parent
    add = parser.add_argument
    add("--steps", nargs="+", choices=STEPS, default=STEPS, help="what to do (all)")
    add("--codes", nargs="+", choices=names, default=names, help="which codes (all)")
    add("--kinds", nargs="+", choices=KINDS, default=KINDS, help="evaluation, training step, scan over L and ν (all)")
    add("--structures", type=Path, help="folder of extended xyz files to use instead of the structures made here")
    add("--largest", type=int, default=10**9, help="number of atoms beyond which structures are left out")
    add("--threads", type=int, default=os.cpu_count() or 1, help="of every code (%(default)s)")
    add("--rounds", type=int, default=5, help="turns of every code (%(default)s)")
    add("--seconds", type=float, default=0.5, help="length of a turn, at least one evaluation (%(default)s)")
    add("--clock", choices=CLOCKS, default="wall", help="time that passes, or that the one thread has a processor")
    add("--limit", type=float, default=900.0, help="seconds after which a code is given up (%(default)s)")
    add("--minutes", type=float, default=1e4, help="after which nothing new is begun")
    add("--again", action="store_true", help="measure what has been measured already; else only what is missing")
    add("--cache", type=Path, default=Path.home() / ".cache" / "carten" / "peers", help="environments (%(default)s)")
    add("--output", type=Path, default=here / "results.json", help="where the records go (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
