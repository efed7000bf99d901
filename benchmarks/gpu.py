"""carten on a GPU: whether it is right, how fast it is, and how fast MACE and NequIP are where they are installed.

    python -m benchmarks.gpu --output gpu

takes at most eight minutes and writes ``gpu.json`` and ``gpu.md``, after every measurement what there is. Kernels are
compared with the reference in float64 first; then energy and forces of water and a training step are timed in float32.
With ``--device cpu --atoms 100 --repeats 1`` the same runs on a CPU, to try it.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import json
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from ase import Atoms

from benchmarks.peers.codes.common import training_step
from benchmarks.peers.settings import Settings
from carten.data.neighbours import graph
from carten.model.config import NetworkConfig
from carten.model.graph import batch
from carten.properties.potential import Potential
from carten.properties.spec import property_table
from carten.workflows.systems import find_system

WANTED = ("energy", "forces")
MODELS: dict[str, dict[str, Any]] = {
    "default": {},
    "default, L 0": {"l_max_features": 0},
    "ICTP": {"preset": "ictp"},
    "small: 16 channels, L 0, one layer": {"n_channels": 16, "l_max_features": 0, "l_max_edges": 2, "n_layers": 1},
}
PEERS = {"MACE": "mace", "MACE, cuEquivariance": "mace", "NequIP": "nequip"}
ELEMENTS, NEIGHBOURS = (1, 8), 40.0
TRAINING = {"structures": 16, "molecules": 64}
TOLERANCE = 1e-9
"""Of energies, forces and gradients of weights in float64, relative to the largest."""


@dataclass
class Session:
    """What is measured, where, and until when.

    Args:
        device: where.
        deadline: by ``time.monotonic()``, after which nothing begins.
        repeats: evaluations that are timed.
        output: files without their endings.
        results: what was found so far.
    """

    device: torch.device
    deadline: float
    repeats: int
    output: Path
    results: dict[str, Any] = field(default_factory=dict)

    def add(self, kind: str, **record: Any) -> None:
        """Note a result and write all of them."""
        self.results.setdefault(kind, []).append(record)
        print(kind, *(f"{name}={value}" for name, value in record.items()), flush=True)
        self.output.with_suffix(".json").write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")
        self.output.with_suffix(".md").write_text(table(self.results), encoding="utf-8")

    def attempt(self, kind: str, labels: Mapping[str, Any], work: Callable[[], Mapping[str, Any]]) -> bool:
        """Do some work if there is time left, and note what it gives or why it gave nothing."""
        if time.monotonic() > self.deadline:
            self.add(kind, **labels, failed="no time was left")
            return False
        try:
            self.add(kind, **labels, **work())
        except Exception as error:  # noqa: BLE001  what one code can't do must not keep the others from being measured
            self.add(kind, **labels, failed=f"{type(error).__name__}: {str(error)[:300]}")
            return False
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return True

    def timed(self, run: Callable[[], object]) -> dict[str, float]:
        """Milliseconds of the median run and of the fastest, after two that warm up, and MiB of the device."""
        on_gpu = self.device.type == "cuda"
        first = self._milliseconds(run)
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        run()
        times = [self._milliseconds(run) for _ in range(self.repeats)]
        memory = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else float("nan")
        return {"first_ms": first, "ms": statistics.median(times), "least_ms": min(times), "memory_mib": memory}

    def _milliseconds(self, run: Callable[[], object]) -> float:
        self._wait()
        start = time.perf_counter()
        run()
        self._wait()
        return 1e3 * (time.perf_counter() - start)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def model(options: Mapping[str, Any], device: torch.device, dtype: torch.dtype, backend: str = "auto") -> Potential:
    """An untrained model of water."""
    rows = [property_table()[name] for name in WANTED]
    config = NetworkConfig.model_validate(options)
    return Potential(config, ELEMENTS, rows, NEIGHBOURS, backend=backend).to(device, dtype)


def water(atoms: int) -> Atoms:
    """About so many atoms."""
    small = find_system(f"water:{max(1, min(atoms, 1536) // 3)}")
    repeat = max(1, round((atoms / len(small)) ** (1 / 3)))
    larger: Atoms = small.repeat(repeat)
    return larger


def compare(session: Session, options: Mapping[str, Any]) -> dict[str, float]:
    """Largest differences from the reference back end on the CPU, relative to the largest value."""
    reference = model({**options, "n_channels": 8}, torch.device("cpu"), torch.float64, "reference").train()
    fast = copy.deepcopy(reference).to(session.device)
    fast.network.backend = "auto"
    system = graph(water(48), reference.cutoff)
    found = [_derivatives(each, system.to(each.element_of.device)) for each in (reference, fast)]
    errors = {name: _difference(found[1][name], found[0][name]) for name in found[0]}
    if max(errors.values()) > TOLERANCE:
        raise ValueError(f"the kernels are wrong: {errors}")
    return errors


def _derivatives(potential: Potential, system: Any) -> dict[str, torch.Tensor]:
    """Energies, forces, and gradients of the weights of a loss of both."""
    values = potential(system, WANTED)
    weights = [weight for weight in potential.parameters() if weight.requires_grad]
    loss = values["energy"].square().sum() + values["forces"].square().sum()
    gradients = torch.autograd.grad(loss, weights, materialize_grads=True)
    return {**{name: values[name] for name in WANTED}, "gradients": torch.cat([g.flatten() for g in gradients])}


def _difference(actual: torch.Tensor, expected: torch.Tensor) -> float:
    return float((actual.detach().cpu() - expected.detach()).abs().max() / expected.detach().abs().max())


def inference(session: Session, options: Mapping[str, Any], atoms: Atoms) -> dict[str, float]:
    """Energy and forces, and how often the host waited for the device in one evaluation."""
    potential = model(options, session.device, torch.float32).freeze()
    system = graph(atoms, potential.cutoff).to(session.device)
    timing = session.timed(lambda: potential(system, WANTED))
    waits = _waits(lambda: potential(system, WANTED)) if session.device.type == "cuda" else 0
    return {**_per_atom(timing, len(atoms)), "edges": system.n_edges, "waits": waits}


def training(session: Session, options: Mapping[str, Any], frames: Sequence[Atoms]) -> dict[str, float]:
    """One step of the optimiser on a batch."""
    potential = model(options, session.device, torch.float32).train()
    potential.network.choose_tables()
    system = batch([graph(frame, potential.cutoff) for frame in frames]).to(session.device)

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        values = potential(system, WANTED)
        return values["energy"].cpu(), values["forces"].cpu()

    return session.timed(training_step(potential.parameters(), predict, frames))


def _waits(run: Callable[[], object]) -> int:
    """Times that the host waits for the GPU, as torch warns of them."""
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as messages:
            warnings.simplefilter("always")
            run()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(message.message) for message in messages)


def peer(session: Session, name: str, atoms: Atoms) -> dict[str, float]:
    """Energy and forces by another code of about the default's size."""
    code: Any = importlib.import_module(f"benchmarks.peers.codes.{PEERS[name]}")
    settings = Settings(channels=64, l_features=2)
    network = code.model(settings).to(session.device).eval().requires_grad_(False)
    if name.endswith("cuEquivariance"):
        converted: Any = importlib.import_module("mace.cli.convert_e3nn_cueq")
        network = converted.run(network, device=str(session.device), return_model=True)
    system = {
        key: value.to(session.device) if isinstance(value, torch.Tensor) else value
        for key, value in code.inputs([atoms], settings).items()
    }
    timing = session.timed(lambda: code.forward(network, system))
    return _per_atom(timing, len(atoms))


def _per_atom(timing: Mapping[str, float], atoms: int) -> dict[str, float]:
    return {**timing, "us_per_atom": 1e3 * timing["ms"] / atoms}


def table(results: Mapping[str, Any]) -> str:
    """What was measured, as Markdown."""
    lines = ["# carten on a GPU", "", ", ".join(f"{k} {v}" for k, v in results["conditions"][0].items()), ""]
    for kind, head in (
        ("check", ("model", *WANTED, "gradients")),
        ("inference", ("model", "atoms", "us_per_atom", "ms", "first_ms", "memory_mib", "waits")),
        ("training", ("model", "structures", "ms", "first_ms", "memory_mib")),
    ):
        lines += [f"## {kind}", "", f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
        for record in results.get(kind, ()):
            cells = [_cell(record.get(name, "")) for name in head]
            lines.append(f"| {' | '.join([*cells[:-1], record.get('failed', cells[-1])])} |")
        lines.append("")
    return "\n".join(lines)


def _cell(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def conditions(device: torch.device) -> dict[str, str]:
    """The device and the versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    packages = ("torch", "triton", "mace-torch", "cuequivariance-torch", "nequip")
    installed = {package: _version(package) for package in packages}
    return {"device": name, **{package: version for package, version in installed.items() if version}}


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def measure(session: Session, sizes: Sequence[int], models: Mapping[str, Mapping[str, Any]] = MODELS) -> bool:
    """Everything, the most telling first; whether the kernels are right."""
    session.add("conditions", **conditions(session.device))
    right = [session.attempt("check", {"model": name}, partial(compare, session, o)) for name, o in models.items()]
    for size in sizes:
        atoms = water(size)
        for name, options in models.items():
            labels = {"model": name, "atoms": len(atoms)}
            session.attempt("inference", labels, partial(inference, session, options, atoms))
        for name, package in PEERS.items():
            needed = [package, *(["cuequivariance_torch"] if name.endswith("cuEquivariance") else [])]
            if all(find_spec(each) for each in needed):
                labels = {"model": name, "atoms": len(atoms)}
                session.attempt("inference", labels, partial(peer, session, name, atoms))
    frames = [find_system(f"water:{min(TRAINING['molecules'], sizes[0] // 3)}")] * TRAINING["structures"]
    for name, options in models.items():
        labels = {"model": name, "structures": len(frames)}
        session.attempt("training", labels, partial(training, session, options, frames))
    return all(right)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write, and fail if the kernels are wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("gpu"), help="files, without their endings")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--atoms", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--repeats", type=int, default=10)
    options = parser.parse_args(arguments)
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("benchmarks.gpu needs a CUDA device, and there is none (--device cpu tries the script itself)")
    deadline = time.monotonic() + 60.0 * options.minutes
    session = Session(torch.device(options.device), deadline, options.repeats, options.output)
    if not measure(session, options.atoms):
        sys.exit("the kernels differ from the reference, see the first table")


if __name__ == "__main__":
    main()
