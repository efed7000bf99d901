"""How fast models are: energy and forces of one system, again and again, in turns."""

from __future__ import annotations

import copy
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
import torch

from carten.data.neighbours import graph
from carten.deploy.graphs import GraphEvaluator
from carten.model.config import NetworkConfig
from carten.ops.library import choose
from carten.properties.potential import Potential
from carten.properties.spec import property_table
from carten.workflows.work import OperatorWork, count, total

BENCHED = ("energy", "forces")
LIBRARY = "library"
"""What evaluates models that were compiled, see :mod:`carten.deploy`."""
LEAST = 3  # evaluations
TURN = 0.1  # seconds of one model before the next one has its turn
SIZE = 1536  # of the matrices that find the peak


@dataclass(frozen=True)
class BenchedModel:
    """A model under the name and the back end it was asked for with."""

    name: str
    model: Potential
    backend: str


@dataclass(frozen=True)
class OperatorShare:
    """An operator's part of an evaluation, per atom; ``peak_fraction`` as in :class:`Timing`."""

    operator: str
    us_per_atom: float
    share: float
    multiply_adds_per_atom: float
    bytes_per_atom: float
    peak_fraction: float


@dataclass(frozen=True)
class Timing:
    """The median of several evaluations of energy and forces.

    ``us_per_atom`` is in microseconds, ``atom_steps_per_second`` its inverse; ``first_seconds`` is the first
    evaluation, with whatever it compiles; ``peak_memory_mb`` is the process's on a CPU, the device's elsewhere, in 10^6
    bytes. ``peak_fraction`` is two operations for each multiply-add, over the time, relative to products of matrices
    (``peak_gflops``) in the same type on as many threads.
    """

    model: str
    system: str
    n_atoms: int
    edges_per_atom: float
    us_per_atom: float
    atom_steps_per_second: float
    multiply_adds_per_atom: float
    peak_fraction: float
    peak_gflops: float
    first_seconds: float
    peak_memory_mb: float
    device: str
    dtype: str
    backend: str
    threads: int
    operators: tuple[OperatorShare, ...]


def random_model(preset: str, atoms: ase.Atoms, backend: str) -> Potential:
    """A model with random weights and the default size of a preset, for the elements of a structure."""
    config = NetworkConfig.model_validate({"preset": preset})
    rows = [property_table()[name] for name in BENCHED]
    neighbours = graph(atoms, config.cutoff).n_edges / len(atoms)
    elements = sorted(set(atoms.numbers.tolist()))
    return Potential(config, elements, rows, max(neighbours, 1.0), backend=backend).freeze()


def measure(subjects: Sequence[BenchedModel], atoms: ase.Atoms, name: str, seconds: float) -> list[Timing]:
    """Evaluate energy and forces with every model for about the given time, at least three times, in turns.

    Args:
        subjects: on the device and in the dtype they are in.
        atoms: the structure; graphs are made once.
        name: of the structure, for the result.
        seconds: to spend on each model.
    """
    trials = [_Trial(subject, atoms) for subject in subjects]
    while any(len(trial.times) < LEAST or sum(trial.times) < seconds for trial in trials):
        for trial in trials:
            trial.turn()
    return [trial.result(name) for trial in trials]


class _Trial:
    """One model and its times."""

    def __init__(self, subject: BenchedModel, atoms: ase.Atoms) -> None:
        self.subject = subject
        self.model = subject.model
        self.device = self.model.element_of.device
        self.system = graph(atoms, self.model.cutoff).to(device=self.device)
        self.evaluator = GraphEvaluator(self.model)
        self.times: list[float] = []
        self.peak = peak(self.model.dtype, self.device)
        forget_peak_memory(self.device)
        self.first = self._time()
        self.memory = peak_memory(self.device)

    def turn(self) -> None:
        """Evaluations for a while; the one before them, which finds the caches full of other things, does not count."""
        forget_peak_memory(self.device)
        self._time()
        end = time.perf_counter() + TURN
        self.times.append(self._time())
        while time.perf_counter() < end:
            self.times.append(self._time())
        self.memory = max(self.memory, peak_memory(self.device))

    def result(self, name: str) -> Timing:
        median = float(np.median(self.times))
        self.peak = max(self.peak, peak(self.model.dtype, self.device))
        n_atoms = self.system.n_atoms
        on_cpu = self.device.type == "cpu"
        counted_model = self.model if self.evaluator.library is None else _on_tables(self.model)
        counted = [count(counted_model, self.system, BENCHED) for _ in range(LEAST if on_cpu else 1)]
        totals = total("all", counted[0])
        return Timing(
            model=self.subject.name,
            system=name,
            n_atoms=n_atoms,
            edges_per_atom=self.system.n_edges / n_atoms,
            us_per_atom=1e6 * median / n_atoms,
            atom_steps_per_second=n_atoms / median,
            multiply_adds_per_atom=totals.multiply_adds / n_atoms,
            peak_fraction=2 * totals.multiply_adds / median / self.peak,
            peak_gflops=self.peak / 1e9,
            first_seconds=self.first,
            peak_memory_mb=self.memory / 1e6,
            device=str(self.device),
            dtype=str(self.model.dtype).removeprefix("torch."),
            backend=self._backend(),
            threads=torch.get_num_threads(),
            operators=tuple(self._shares(counted, median)) if on_cpu else (),
        )

    def _shares(self, counted: Sequence[Sequence[OperatorWork]], seconds: float) -> list[OperatorShare]:
        """Parts of an evaluation that takes this long, in proportion to what operators took when they were counted."""
        spent: dict[str, float] = defaultdict(float)
        for operator in (operator for operators in counted for operator in operators):
            spent[operator.name] += operator.seconds
        n_atoms = self.system.n_atoms
        shares = []
        for operator in counted[0]:
            share = spent[operator.name] / sum(spent.values())
            shares.append(
                OperatorShare(
                    operator=operator.name,
                    us_per_atom=1e6 * share * seconds / n_atoms,
                    share=share,
                    multiply_adds_per_atom=operator.multiply_adds / n_atoms,
                    bytes_per_atom=operator.bytes / n_atoms,
                    peak_fraction=2 * operator.multiply_adds / (share * seconds) / self.peak if share else 0.0,
                )
            )
        return shares

    def _backend(self) -> str:
        if self.evaluator.library is not None:
            return LIBRARY
        return choose([self.model.network.embedding], self.subject.backend)

    def _time(self) -> float:
        started = time.perf_counter()
        self.evaluator(self.system, BENCHED)
        _wait(self.device)
        return time.perf_counter() - started


def _on_tables(model: Potential) -> Potential:
    """A copy that looks radial functions up, as its library does, to count its work; it evaluates with torch."""
    copied = copy.deepcopy(model).train()
    copied.network.choose_tables()
    return copied


def peak(dtype: torch.dtype, device: torch.device) -> float:
    """Operations per second of a product of square matrices, the best of some."""
    a = torch.ones(SIZE, SIZE, dtype=dtype, device=device)
    out, best = a @ a, float("inf")
    for _ in range(LEAST):
        _wait(device)
        started = time.perf_counter()
        torch.mm(a, a, out=out)
        _wait(device)
        best = min(best, time.perf_counter() - started)
    return 2 * SIZE**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak_memory(device: torch.device) -> None:
    """Let the high-water mark start now, where the system can (Linux, CUDA)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device) -> float:
    """Bytes."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    marks = [float(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    unit = 1 if sys.platform == "darwin" else 1024
    return 1024 * marks[0] if marks else float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
