"""Speed of the model "organic" beside GFN2-xTB itself: processor time of energy and forces of drops of ethanol.

    OMP_NUM_THREADS=1 python scripts/organic/speed.py

Both take turns, on moved atoms in each call; the median of the ratio counts on a busy machine.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import molecule
from tblite.ase import TBLite

import carten

REPEATS = 7


def drop(count: int) -> Atoms:
    """Molecules of ethanol on a lattice."""
    side = int(np.ceil(count ** (1 / 3)))
    atoms = molecule("CH3CH2OH")
    atoms.set_cell([4.6] * 3)
    atoms *= (side, side, side)
    atoms = atoms[: 9 * count]
    atoms.set_cell(None)
    atoms.pbc = False
    return atoms


def seconds(atoms: Atoms, calculator: Any, seed: int) -> float:
    """Processor time of one evaluation."""
    moved = atoms.copy()
    moved.rattle(0.02, seed=seed)
    moved.calc = calculator
    began = time.process_time()
    moved.get_forces()
    return time.process_time() - began


def main() -> None:
    """Print a table."""
    model = carten.Calculator("organic", threads=1)
    print("| atoms | organic, ms | GFN2-xTB, ms | ratio |\n|---|---|---|---|")
    for count in (1, 2, 3, 5, 8, 12, 22):
        atoms = drop(count)
        seconds(atoms, model, 99)
        pairs = [
            (seconds(atoms, model, seed), seconds(atoms, TBLite(method="GFN2-xTB", verbosity=0), seed))
            for seed in range(REPEATS)
        ]
        ours, theirs = np.median(np.array(pairs), axis=0) * 1e3
        ratio = np.median([other / one for one, other in pairs])
        print(f"| {len(atoms)} | {ours:.1f} | {theirs:.1f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
