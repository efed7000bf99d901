"""Training data of 10^5 or 10^6 structures on disk: convert, check and train, with memory and times of each process.

    python -m benchmarks.scale --frames 100000 --folder /scratch/scale --results benchmarks/scale.json

The structures are those of the shipped sets with noise, one to eight copies of each (up to 72 atoms); labels are copied
and noisy too, so that nothing is learned: this measures the way from files to batches. What the results have is not
measured again: after an end at any moment the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import carten
from carten import datasets
from carten.data.batches import BatchSampler, Bounds
from carten.data.collection import open_collection
from carten.data.dataset import Dataset, collate
from carten.data.frames import Frames
from carten.data.labels import Label
from carten.data.read import read_structures
from carten.data.sidecar import sidecar
from carten.data.statistics import CUTOFF
from carten.properties.spec import property_table
from carten.train.loader import BatchPlan, Loader

PART, STORE = 20_000, 100_000
"""Structures in a file to convert, and in one of those that are written."""
ROUND, UNCOUNTED = 100, 10
"""Steps of a round of training, and how many of them are not counted."""
SMALL = 10_000
"""Structures that are trained on in memory."""
TRAINING = """
import json, resource, sys, time
from rich.console import Console
from carten.train import run
from carten.train.config import Config
began, steps, most, length, uncounted = time.perf_counter(), [], *map(int, sys.argv[2:])
class Watch(run.Display):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        steps.append((time.perf_counter(), time.process_time()))
        if len(steps) == 1:
            say({"first step, s": steps[0][0] - began, "first step, s of a core": steps[0][1]})
        elif len(steps) % length == 0:
            wall, core = ((length - uncounted) / (steps[-1][n] - steps[uncounted - 1 - length][n]) for n in (0, 1))
            say({"steps/s": wall, "steps/s of a core": core})
        if len(steps) == most:
            trainer.should_stop = True
            trainer.limit_val_batches = 0
def say(values):
    print(json.dumps(values), flush=True)
    sys.stdin.readline()
run.Display = Watch
try:
    run.train(Config.load(sys.argv[1]), console=Console(stderr=True))
except Exception:
    if len(steps) < most:
        raise
usage = [resource.getrusage(who).ru_maxrss / 2**20 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
say(dict(zip(("GiB", "GiB of a worker"), usage)))
"""


class Results(dict[str, Any]):
    """What was measured, kept in a file whenever something is."""

    def __init__(self, path: Path, frames: int) -> None:
        super().__init__({"carten": carten.__version__, "structures": frames})
        self.path = path
        if path.exists() and (before := json.loads(path.read_text()))["structures"] == frames:
            self.update(before)

    def keep(self, name: str, values: dict[str, float]) -> None:
        """Keep numbers, with four digits."""
        self[name] = {key: float(f"{value:.4g}") for key, value in values.items()}
        print(name, self[name], flush=True)
        self.path.write_text(json.dumps(self, indent=1) + "\n")


def structures(number: int, seed: int = 0) -> Iterator[str]:
    """Lines of extended XYZ, one structure at a time."""
    rng = np.random.default_rng(seed)
    names = ("ethanol_xtb_train", "bn_xtb_train")
    originals = [[atoms for _, atoms in read_structures(datasets.path(name))] for name in names]
    for _ in range(number):
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


def write(path: Path, number: int, seed: int = 0) -> None:
    """Write structures to a file, whole or not at all."""
    if not path.exists():
        partial = path.with_suffix(".partial")
        with partial.open("w") as file:
            file.writelines(structures(number, seed))
        partial.rename(path)


def run(*arguments: object) -> dict[str, float]:
    """Run a command of carten: seconds and the peak of memory."""
    command = [sys.executable, "-c", "from carten.cli import app; app()", *map(str, arguments)]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"carten {' '.join(command[3:])[:200]} failed")
    cost = {"s": time.perf_counter() - began, "s of a core": usage.ru_utime + usage.ru_stime}
    return {**cost, "GiB": usage.ru_maxrss / 2**20}


def convert(folder: Path, results: Results) -> list[Path]:
    """Structures in ASE-LMDB files, each made by a conversion that is measured as a whole; their sum is kept."""
    stores = []
    for first in range(0, results["structures"], STORE):
        stores.append(store := folder / f"{first:09d}.aselmdb")
        if store.exists():
            continue
        store.with_name(f"{store.name}.partial").unlink(missing_ok=True)
        counts = {start: min(PART, results["structures"] - start) for start in range(first, first + STORE, PART)}
        parts = {start: folder / f"part{start:09d}.extxyz" for start, number in counts.items() if number > 0}
        for start, part in parts.items():
            write(part, counts[start], start)
        cost = run("convert", *parts.values(), store)
        before = results.get("convert", {"s": 0.0, "s of a core": 0.0, "GiB": 0.0, "GiB on disk": 0.0})
        total = {key: before[key] + cost[key] for key in ("s", "s of a core")}
        size = before["GiB on disk"] + store.stat().st_size / 2**30
        results.keep("convert", {**total, "GiB": max(before["GiB"], cost["GiB"]), "GiB on disk": size})
        for part in parts.values():
            part.unlink()
    return stores


def read(stores: list[Path], results: Results) -> None:
    """What is done with one structure on its way into a batch: milliseconds of a core; and bytes of one on disk."""
    collection = open_collection(stores)
    rows = [property_table()[name] for name in ("energy", "forces")]
    frames = Frames.of(collection, [Label(row) for row in rows], ())
    dataset = Dataset(frames, rows, CUTOFF, prepared=False, n_atoms=frames.n_atoms)
    plan = BatchSampler(dataset, Bounds(structures=4), 0).batches
    numbers = [number for batch in plan(0)[:250] for number in batch]
    samples = [dataset[number] for number in numbers]
    milliseconds = {
        "read and decoded": spent(lambda: [collection[number] for number in numbers]),
        "with labels, checked": spent(lambda: [frames[number] for number in numbers]),
        "with neighbours": spent(lambda: [dataset[number] for number in numbers]),
        "put together": spent(lambda: [collate(samples[k : k + 4]) for k in range(0, len(samples), 4)]),
    }
    results.keep("ms of a core per structure", {name: s / len(numbers) for name, s in milliseconds.items()})
    epochs = count(1)
    order = {"order and batches of an epoch": 1e3 * spent(lambda: plan(next(epochs))) / len(dataset)}
    results.keep("µs of a core per structure", order)
    sizes = {"ASE-LMDB": sum(store.stat().st_size for store in stores)}
    for name, pattern in (("table", "frames*"), ("neighbours", "neighbours*")):
        sizes[name] = sum(file.stat().st_size for store in stores for file in sidecar(store).glob(pattern))
    results.keep("bytes per structure", {name: size / len(dataset) for name, size in sizes.items()})
    rates = {"without workers": rate(dataset, plan, 0)}
    rates |= {f"{n} worker{'s' * (n > 1)}": rate(dataset, plan, n) for n in (1, 2)}
    results.keep("structures/s, batches alone", rates)


def spent(work: Callable[[], object]) -> float:
    """Milliseconds of the processor, the least of three times."""
    times = []
    for _ in range(3):
        began = time.process_time()
        work()
        times.append(1e3 * (time.process_time() - began))
    return min(times)


def rate(dataset: Dataset, plan: BatchPlan, workers: int) -> float:
    """Structures in a second in batches of four, the median of five rounds."""
    stream = iter(Loader(dataset, plan, workers))
    rates = []
    for _ in range(5):
        for _ in range(UNCOUNTED):
            next(stream)
        began = time.perf_counter()
        for _ in range(ROUND):
            next(stream)
        rates.append(4 * ROUND / (time.perf_counter() - began))
    return median(rates)


class Training:
    """Steps of a small model, which go on when they are told to."""

    def __init__(self, folder: Path, data: list[Path], name: str, steps: int, workers: int = 0) -> None:
        shutil.rmtree(folder / name, ignore_errors=True)
        config = {
            "data": {"train": list(map(str, data)), "validation": 100, "batch": {"structures": 4}, "workers": workers},
            "model": {"n_channels": 16, "l_max_edges": 2, "l_max_features": 1, "correlation_order": 2},
            "optimizer": {"name": "adamw"},
            "training": {"epochs": 1, "checkpoint_minutes": 1000},
            "output": str(folder / name),
        }
        (folder / f"{name}.yaml").write_text(json.dumps(config))
        numbers = [str(number) for number in (steps, ROUND, UNCOUNTED)]
        command = [sys.executable, "-c", TRAINING, str(folder / f"{name}.yaml"), *numbers]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if process.stdin is None or process.stdout is None:
            sys.exit("a training cannot be started")
        self._input, self._output = process.stdin, process.stdout
        self.values: dict[str, float] = self._next()
        self._rounds: list[dict[str, float]] = []

    def round(self) -> None:
        """Some steps."""
        self._rounds.append(self._go_on())

    def finish(self) -> dict[str, float]:
        """What was measured: the medians of all rounds."""
        medians = {key: median(values[key] for values in self._rounds) for key in self._rounds[0]}
        return {**self.values, **medians, **self._go_on()}

    def _go_on(self) -> dict[str, float]:
        self._input.write("\n")
        self._input.flush()
        return self._next()

    def _next(self) -> dict[str, float]:
        line = self._output.readline()
        if not line:
            sys.exit("a training failed")
        values: dict[str, float] = json.loads(line)
        return values


def train(folder: Path, stores: list[Path], steps: int, results: Results) -> None:
    """Trainings on data on disk and in memory, side by side: the rounds of one alternate with those of the others."""
    small = folder / "small.extxyz"
    write(small, min(results["structures"], SMALL))
    trainings = {
        "train, in memory": Training(folder, [small], "memory", steps),
        "train, on disk": Training(folder, stores, "disk", steps),
        "train, on disk, 1 worker": Training(folder, stores, "worker", steps, 1),
        "train, on disk, 2 workers": Training(folder, stores, "workers", steps, 2),
    }
    for _ in range(steps // ROUND):
        for training in trainings.values():
            training.round()
    for name, training in trainings.items():
        results.keep(name, training.finish())


def main() -> None:
    """Measure; results are printed and kept as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--folder", type=Path, required=True, help="for several GB")
    parser.add_argument("--results", type=Path, required=True, help="JSON file of the results")
    options = parser.parse_args()
    folder: Path = options.folder
    folder.mkdir(parents=True, exist_ok=True)
    results = Results(options.results, options.frames)
    stores = convert(folder, results)
    if "check" not in results:
        results.keep("check", run("check", *stores))
    if "bytes per structure" not in results:
        read(stores, results)
    if "train, in memory" not in results:
        train(folder, stores, options.steps, results)


if __name__ == "__main__":
    main()
