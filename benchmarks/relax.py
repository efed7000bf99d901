"""Relaxation of many small crystals: in one batch, and one after the other through ASE, with the same model.

python -m benchmarks.relax [--crystals 200] [--channels 16]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from carten.deploy import Deployed, deploy
from carten.interfaces.ase import Calculator
from carten.model.config import NetworkConfig
from carten.physics.zbl import ZblConfig
from carten.properties.potential import Potential
from carten.properties.spec import property_table
from carten.workflows.relax import Goal, relax


def crystals(count: int) -> list[Atoms]:
    """Rattled cells of 2 to 8 atoms."""
    kinds = [
        bulk("C"),
        bulk("CO", "rocksalt", a=4.2),
        bulk("C", cubic=True),
        bulk("CO", "cesiumchloride", a=2.7) * (2, 1, 1),
    ]
    made = []
    for number in range(count):
        atoms = kinds[number % len(kinds)].copy()
        atoms.rattle(0.05, seed=number)
        made.append(atoms)
    return made


def one_by_one(model: Deployed, structures: list[Atoms], goal: Goal) -> None:
    """Relax with ASE's BFGS and cell filter, one calculator for all."""
    calculator = Calculator(model)
    for atoms in structures:
        atoms.calc = calculator
        filtered = FrechetCellFilter(atoms)
        BFGS(filtered, logfile=None).run(fmax=goal.fmax, steps=goal.steps)  # type: ignore[arg-type]  # ASE takes it


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crystals", type=int, default=200)
    parser.add_argument("--channels", type=int, default=16)
    options = parser.parse_args()
    network = NetworkConfig(n_channels=options.channels, cutoff=4.0)
    rows = [property_table()["energy"]]
    potential = Potential(network, [6, 8], rows, neighbours=20.0, seed=5, terms=[ZblConfig()])
    potential.heads["energies"].get_buffer("scale").fill_(1.0)
    model = deploy(potential)
    goal = Goal(fmax=0.01, cell=True, steps=200)
    times: dict[str, list[float]] = {"batch": [], "one by one": []}
    for _ in range(2):  # by turns
        start = time.process_time()
        results = relax(crystals(options.crystals), model, goal)
        times["batch"].append(time.process_time() - start)
        start = time.process_time()
        one_by_one(model, crystals(options.crystals), goal)
        times["one by one"].append(time.process_time() - start)
    converged, steps = sum(result.converged for result in results), np.mean([result.steps for result in results])
    best = {name: min(values) for name, values in times.items()}
    print(f"{options.crystals} crystals, {options.channels} channels: {converged} converged, {steps:.0f} steps each")
    print(f"processor time: batch {best['batch']:.2f} s, one by one {best['one by one']:.2f} s")
    print(f"ratio {best['one by one'] / best['batch']:.1f}")


if __name__ == "__main__":
    main()
