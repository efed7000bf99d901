"""Symmetrix-XL: native inference of the MACE model of :mod:`benchmarks.peers.codes.mace`, through its ASE calculator.

The calculator keeps its neighbour list; the skin is so thin that its edges are those of the other codes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from ase import Atoms

from benchmarks.peers.settings import Array, Infer, Job

SKIN = 1e-3  # Å
WANTED = ["energy", "forces"]


def infer(job: Job, atoms: Atoms) -> Infer:
    from symmetrix import Symmetrix

    atoms = _in_a_cell(atoms)
    calculator = Symmetrix(str(_converted(job)), dtype="float32", execution_profile="speed", neighbor_skin=SKIN)

    def run() -> tuple[float, Array]:
        calculator.calculate(atoms, WANTED, [])
        return float(calculator.results["energy"]), np.asarray(calculator.results["forces"])

    return run


def _in_a_cell(atoms: Atoms) -> Atoms:
    """Its neighbour search wants a cell, be it one that repeats in no direction."""
    placed: Atoms = atoms.copy()
    if not placed.pbc.any():
        placed.center(vacuum=SKIN)
    return placed


def _converted(job: Job) -> Path:
    """The model in Symmetrix's format, made once, by another process since that needs torch."""
    target = job.artefact("model.json")
    if not target.exists():
        subprocess.run([sys.executable, "-m", __name__, job.dump(), str(target)], check=True, stdout=sys.stderr)
    return target


def _convert(job: Job, target: Path) -> None:
    import torch
    from symmetrix.extract_mace_data import extract_mace_data

    from benchmarks.peers.codes.mace import model

    source = job.artefact("mace.model")
    torch.save(model(job.settings), source)
    made = target.with_suffix(".new")
    made.write_text(json.dumps(extract_mace_data(str(source))))
    made.rename(target)


if __name__ == "__main__":
    _convert(Job.load(sys.argv[1]), Path(sys.argv[2]))
