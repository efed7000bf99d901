"""Training data of 10^5 or 10^6 structures on disk: convert, check and train, with memory and times of each process.

    python -m benchmarks.scale --frames 100000 --folder /scratch/scale --results benchmarks/scale.json

The structures are those of the shipped sets with noise, one to eight copies of each (up to 72 atoms); labels are copied
and noisy too, so that nothing is learned: this measures the way from files to batches.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import carten
from carten import datasets
from carten.data.read import read_structures

SHARD = 20_000
"""Structures in a file."""
TRAINING = """
import json, resource, sys, time
from rich.console import Console
from carten.train import run
from carten.train.config import Config
began, steps, most = time.perf_counter(), [], int(sys.argv[2])
class Watch(run.Display):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        steps.append((time.perf_counter() - began, time.process_time()))
        if len(steps) == most:
            trainer.should_stop = True
            trainer.limit_val_batches = 0
run.Display = Watch
try:
    run.train(Config.load(sys.argv[1]), console=Console(stderr=True))
except Exception:
    if len(steps) < most:
        raise
usage = [resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
half = most // 2
wall, processor = (sum((-1, 1)[k] * steps[i][n] for k, i in enumerate((half - 1, -1))) for n in (0, 1))
print(json.dumps({
    "first step, s": steps[0][0], "first step, s of a core": steps[0][1], "steps/s": (most - half) / wall,
    "steps/s of a core": (most - half) / processor, "GiB": usage[0], "GiB of a worker": usage[1],
}))
"""


def structures(count: int, seed: int = 0) -> Any:
    """Lines of extended XYZ, one structure at a time."""
    rng = np.random.default_rng(seed)
    names = ("ethanol_xtb_train", "bn_xtb_train")
    originals = [[atoms for _, atoms in read_structures(datasets.path(name))] for name in names]
    for _ in range(count):
        kind = int(rng.random() < 0.5)
        atoms = originals[kind][rng.integers(len(originals[kind]))]
        copies = int(rng.integers(1, 72 // len(atoms) + 1))
        positions = np.concatenate([atoms.positions + np.array([12.0 * k, 0.0, 0.0]) for k in range(copies)])
        if atoms.pbc.all():
            positions = np.concatenate([atoms.positions + k * atoms.cell[2] for k in range(copies)])
        positions += rng.normal(scale=0.05, size=positions.shape)
        forces = np.tile(atoms.get_forces(), (copies, 1)) + rng.normal(scale=0.1, size=positions.shape)
        noise = 0.1 if len(positions) > 1 else 0.0  # the same atom alone has one energy
        energy = copies * atoms.get_potential_energy() + rng.normal(scale=noise)
        cell = np.array(atoms.cell) * [[1], [1], [copies]]
        vectors = " ".join(f"{x:.8f}" for x in cell.ravel())
        lattice = f'Lattice="{vectors}" pbc="T T T"' if atoms.pbc.all() else 'pbc="F F F"'
        comment = f"{lattice} Properties=species:S:1:pos:R:3:forces:R:3 energy={energy:.8f} config_type={names[kind]}"
        symbols = atoms.get_chemical_symbols() * copies
        rows = np.concatenate([positions, forces], axis=1).tolist()
        lines = [f"{s} {' '.join(f'{x:.8f}' for x in row)}" for s, row in zip(symbols, rows, strict=True)]
        yield "\n".join([str(len(symbols)), comment, *lines, ""])


def timed(command: list[str]) -> tuple[dict[str, float], str]:
    """Run a program: seconds, peak of memory, and what it printed."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output = process.stdout.read() if process.stdout is not None else ""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)[:200]} failed")
    spent = {"s": time.perf_counter() - began, "s of a core": usage.ru_utime + usage.ru_stime}
    return {**spent, "GiB": usage.ru_maxrss / 2**20}, output


def training(folder: Path, data: Path, name: str, steps: int, workers: int = 0) -> dict[str, float]:
    """Steps of a small model on a file."""
    config = {
        "data": {"train": str(data), "validation": 100, "batch": {"structures": 4}, "workers": workers},
        "model": {"n_channels": 16, "l_max_edges": 2, "l_max_features": 1, "correlation_order": 2},
        "optimizer": {"name": "adamw"},
        "training": {"epochs": 1, "checkpoint_minutes": 1000},
        "output": str(folder / name),
    }
    (folder / f"{name}.yaml").write_text(json.dumps(config))
    _, output = timed([sys.executable, "-c", TRAINING, str(folder / f"{name}.yaml"), str(steps)])
    result: dict[str, float] = json.loads(output.splitlines()[-1])
    return result


def main() -> None:
    """Measure; results are printed as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--folder", type=Path, required=True, help="for several GB, removed at the end")
    parser.add_argument("--results", type=Path, help="JSON file of the results")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True)
    results: dict[str, Any] = {"carten": carten.__version__, "structures": options.frames}

    def keep(name: str, values: dict[str, float]) -> None:
        results[name] = {key: float(f"{value:.4g}") for key, value in values.items()}
        print(name, results[name], flush=True)

    try:
        measure(folder, options.frames, options.steps, keep)
    finally:
        shutil.rmtree(folder)
    if options.results is not None:
        options.results.write_text(json.dumps(results, indent=1) + "\n")


def measure(folder: Path, frames: int, steps: int, keep: Callable[[str, dict[str, float]], None]) -> None:
    """Convert, check and train structures in a folder."""
    for shard in range(0, frames, SHARD):
        with (folder / f"part{shard // SHARD:03d}.extxyz").open("w") as file:
            file.writelines(structures(min(SHARD, frames - shard), shard))
    sources = sorted(folder.glob("part*.extxyz"))
    store, small = folder / "all.aselmdb", folder / "small.extxyz"
    program = [sys.executable, "-c", "from carten.cli import app; app()"]
    spent, _ = timed([*program, "convert", *map(str, sources), str(store)])
    for source in sources:
        source.unlink()
    keep("convert", {**spent, "GiB on disk": store.stat().st_size / 2**30})
    keep("check", timed([*program, "check", str(store)])[0])
    small.write_text("".join(structures(min(frames, 10_000))))
    keep("train, neighbours of all are found first", training(folder, store, "first", 2))
    keep("train, on disk", training(folder, store, "disk", steps))
    keep("train, 10,000 structures in memory", training(folder, small, "memory", steps))
    keep("train, on disk, 1 worker", training(folder, store, "worker", steps, 1))
    keep("train, on disk, 2 workers", training(folder, store, "workers", steps, 2))


if __name__ == "__main__":
    main()
