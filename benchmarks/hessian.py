"""Hessians beside the force calls that central differences take: time, and how right either is.

The compiled library that force calls go through looks its radial functions up in tables. Their second derivatives are
less exact than forces, so that differences are taken of the same model without tables too.

python -m benchmarks.hessian MODEL STRUCTURE [--repeat 2 2 4] [--rattle 0.02]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator

from carten.data.read import read_structures
from carten.deploy.make import compile_model
from carten.interfaces.ase import Calculator
from carten.math.arrays import Floats
from carten.workflows.hessian import force_constants, hessian

CALLS = 20
"""Force calls that are timed."""
STEPS = (1e-3, 1e-4, 1e-5)
"""Å, of central differences."""


def seconds_of_call(atoms: ase.Atoms, calculator: BaseCalculator) -> float:
    """CPU time of a force call, all atoms having moved."""
    moving = atoms.copy()
    moving.calc = calculator
    moving.get_forces()
    start = time.process_time()
    for _ in range(CALLS):
        moving.positions += 1e-6
        moving.get_forces()
    return (time.process_time() - start) / CALLS


def error_of_differences(atoms: ase.Atoms, calculator: BaseCalculator, rows: Floats, step: float) -> float:
    """Largest error of the first atom's rows (N, 3, 3) by central differences, relative to the largest number."""
    moving = atoms.copy()
    moving.calc = calculator
    worst = 0.0
    for axis in range(3):
        forces = []
        for sign in (1.0, -1.0):
            moving.positions = atoms.positions
            moving.positions[0, axis] += sign * step
            forces.append(moving.get_forces())
        difference = -(forces[0] - forces[1]) / (2.0 * step) - rows[:, axis]
        worst = max(worst, float(np.abs(difference).max()))
    return worst / float(np.abs(rows).max())


def report(atoms: ase.Atoms, calculator: Calculator) -> None:
    """Print the rows of a table."""
    without_tables = Calculator(compile_model(calculator.model, "float64", exact=True))
    hessian(atoms[:2], calculator)  # kernels are compiled
    start = time.process_time()
    matrix = hessian(atoms, calculator)
    seconds, largest = time.process_time() - start, np.abs(matrix).max()
    sums = matrix.reshape(len(matrix), len(atoms), 3).sum(axis=1)
    print(f"| {atoms.symbols} | CPU seconds | ratio | error by step {', '.join(f'{step:g}' for step in STEPS)} Å |")
    print("|---|---|---|---|")
    print(f"| Hessian | {seconds:.3g} | 1 | asymmetry {np.abs(matrix - matrix.T).max() / largest:.0e}, ", end="")
    print(f"sums {np.abs(sums).max() / largest:.0e} |")
    (rows,) = force_constants(atoms, [0], calculator)
    for name, differenced in (("6N force calls", calculator), ("6N force calls, no tables", without_tables)):
        all_calls = 6 * len(atoms) * seconds_of_call(atoms, differenced)
        errors = [error_of_differences(atoms, differenced, rows, step) for step in STEPS]
        shown = ", ".join(f"{error:.0e}" for error in errors)
        print(f"| {name} | {all_calls:.3g} | {all_calls / seconds:.2g} | {shown} |", flush=True)


def main() -> None:
    """Read a model and structures, print a table for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("structures", type=Path, nargs="+")
    parser.add_argument("--repeat", type=int, nargs=3, default=(1, 1, 1))
    parser.add_argument("--rattle", type=float, default=0.0, help="Å")
    options = parser.parse_args()
    calculator = Calculator(options.model, dtype="float64")
    for _, structure in read_structures(options.structures):
        atoms = structure * tuple(options.repeat)
        atoms.rattle(options.rattle, seed=1)
        report(atoms, calculator)


if __name__ == "__main__":
    main()
