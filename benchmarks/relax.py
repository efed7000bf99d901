"""Relaxation of many small crystals with their cells: in one batch, and one after the other through ASE.

Both go through the same compiled model, so that what differs is what a step costs besides. Processor time.

python -m benchmarks.relax MODEL ELEMENT [--crystals 200]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from carten.interfaces.ase import Calculator
from carten.workflows.relax import Goal, choose_evaluator, relax

GOAL = Goal(fmax=1e-4, smax=1e-3, cell=True)


def crystals(element: str, count: int) -> list[Atoms]:
    """Cells of 2 to 8 atoms of the element's crystal, strained and rattled."""
    multiples = [(2, 1, 1), (2, 2, 1), (3, 1, 1), (2, 2, 2)]
    made = []
    for number in range(count):
        atoms = bulk(element).repeat(multiples[number % len(multiples)])[:8]
        strain = np.random.default_rng(number).normal(scale=0.01, size=(3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.rattle(0.05, seed=number)
        made.append(atoms)
    return made


def through_ase(calculator: Calculator, structures: list[Atoms]) -> list[Atoms]:
    """Relax with ASE's BFGS and cell filter."""
    for atoms in structures:
        atoms.calc = calculator
        BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=GOAL.fmax)  # type: ignore[arg-type]  # ASE takes it
    return structures


def difference(one: Atoms, other: Atoms) -> float:
    """Largest one of distances between atoms, and of lengths of the cell, Å."""
    distances = (atoms.get_all_distances(mic=True) for atoms in (one, other))
    lengths = (atoms.cell.lengths() for atoms in (one, other))
    return max(float(np.abs(np.subtract(*pair)).max()) for pair in (distances, lengths))


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("element")
    parser.add_argument("--crystals", type=int, default=200)
    options = parser.parse_args()
    calculator = Calculator(options.model, dtype="float64")
    evaluator = choose_evaluator(calculator, crystals(options.element, 1))
    start = time.process_time()
    batch = relax(crystals(options.element, options.crystals), evaluator, GOAL)
    between = time.process_time()
    alone = through_ase(calculator, crystals(options.element, options.crystals))
    seconds = {"batch": between - start, "one by one": time.process_time() - between}
    differences = [difference(one.atoms, other) for one, other in zip(batch, alone, strict=True)]
    converged, steps = sum(result.converged for result in batch), np.mean([result.steps for result in batch])
    print(f"{options.crystals} crystals: {converged} converged in {steps:.0f} steps on average")
    print("processor time:", ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items()))
    print(f"ratio {seconds['one by one'] / seconds['batch']:.1f}; largest difference {max(differences):.1e} Å")


if __name__ == "__main__":
    main()
