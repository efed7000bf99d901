"""How fast a model is: energy and forces of one system, again and again."""

from __future__ import annotations

import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import ase
import numpy as np
import torch
from ase.build import bulk, molecule

from carten.data.neighbours import graph
from carten.data.read import read_structures
from carten.errors import ConfigError
from carten.model.config import NetworkConfig
from carten.model.graph import Graph
from carten.properties.potential import Potential
from carten.properties.spec import property_table

NAMES = ("energy", "forces")
WATER_VOLUME = 29.9  # Å^3 of a molecule at 1 g/cm^3
LEAST = 3


@dataclass(frozen=True)
class Timing:
    """The median of several evaluations of energy and forces.

    ``us_per_atom`` is in microseconds, ``atom_steps_per_second`` its inverse; ``first_seconds`` is the first
    evaluation, with whatever it compiles; ``peak_memory_mb`` is the process's on a CPU, the device's elsewhere, in 10^6
    bytes.
    """

    system: str
    n_atoms: int
    edges_per_atom: float
    us_per_atom: float
    atom_steps_per_second: float
    first_seconds: float
    peak_memory_mb: float
    device: str
    dtype: str
    backend: str
    threads: int


def find_system(name: str) -> ase.Atoms:
    """A structure by name, or the last one of a file.

    Names are ``ethanol``, ``water:N`` (N molecules in a periodic box) and ``carbon:N`` (diamond of about N atoms).

    Raises:
        ConfigError: a name with a colon is none of these.
        DataError: the file cannot be read.
    """
    kind, _, size = name.partition(":")
    if name == "ethanol":
        ethanol: ase.Atoms = molecule("CH3CH2OH")
        return ethanol
    if kind in ("water", "carbon") and size:
        if not size.isdigit() or int(size) < 1:
            raise ConfigError(f"--system: expected {kind}:N with a number of 1 or more, found {name!r}")
        return _water(int(size)) if kind == "water" else _carbon(int(size))
    return read_structures(Path(name))[-1][1]


def _water(count: int) -> ase.Atoms:
    """Molecules on a cubic lattice, turned at random, at the density of water."""
    side = int(np.ceil(count ** (1 / 3)))
    spacing = (WATER_VOLUME * count) ** (1 / 3) / side
    random = np.random.default_rng(0)
    box = ase.Atoms(cell=np.full(3, spacing * side), pbc=True)
    places = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:count]
    for place in places:
        one = molecule("H2O")
        one.rotate(float(random.uniform(0, 360)), random.normal(size=3))
        one.translate((place + 0.5) * spacing)
        box += one
    return box


def _carbon(count: int) -> ase.Atoms:
    repeat = max(1, round((count / 8) ** (1 / 3)))
    atoms: ase.Atoms = bulk("C", cubic=True) * (repeat, repeat, repeat)
    atoms.positions += np.random.default_rng(0).normal(scale=0.05, size=atoms.positions.shape)
    return atoms


def random_model(preset: str, atoms: ase.Atoms, backend: str) -> Potential:
    """A model with random weights and the default size of a preset, for the elements of a structure."""
    config = NetworkConfig.model_validate({"preset": preset})
    rows = [property_table()[name] for name in NAMES]
    neighbours = graph(atoms, config.cutoff).n_edges / len(atoms)
    elements = sorted(set(atoms.numbers.tolist()))
    return Potential(config, elements, rows, max(neighbours, 1.0), backend=backend).freeze(tabulate=True)


def measure(model: Potential, atoms: ase.Atoms, name: str, seconds: float, backend: str) -> Timing:
    """Evaluate energy and forces for about the given time, at least three times.

    Args:
        model: on the device and in the dtype it is in.
        atoms: the structure; its graph is made once.
        name: of the structure, for the result.
        seconds: to spend.
        backend: the model was loaded with, for the result.
    """
    device = model.element_of.device
    system = graph(atoms, model.cutoff).to(device=device)
    started = time.perf_counter()
    _evaluate(model, system)
    first = time.perf_counter() - started
    times: list[float] = []
    while len(times) < LEAST or sum(times) < seconds:
        started = time.perf_counter()
        _evaluate(model, system)
        times.append(time.perf_counter() - started)
    median = float(np.median(times))
    return Timing(
        system=name,
        n_atoms=len(atoms),
        edges_per_atom=system.n_edges / len(atoms),
        us_per_atom=1e6 * median / len(atoms),
        atom_steps_per_second=len(atoms) / median,
        first_seconds=first,
        peak_memory_mb=_peak_memory(device) / 1e6,
        device=str(device),
        dtype=str(model.dtype).removeprefix("torch."),
        backend=backend,
        threads=torch.get_num_threads(),
    )


def _evaluate(model: Potential, system: Graph) -> None:
    model(system, NAMES)
    if system.positions.is_cuda:
        torch.cuda.synchronize(system.positions.device)


def _peak_memory(device: torch.device) -> float:
    """Bytes."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)
