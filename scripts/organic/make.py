"""Make the data of the model "organic": GFN2-xTB labels of molecules, dimers and drops of H, C, N, O, F, P, S, Cl.

Set up, then label for as long as there is time, as often as wanted; the same command goes on where it was stopped:

    pip install -c constraints.txt '.[xtb]' rdkit
    python scripts/organic/make.py FOLDER --minutes 60
    python scripts/organic/make.py FOLDER --minutes 0     # count what is there, write train.extxyz and test.extxyz

Each batch of about a hundred structures is a file in FOLDER/batches, seeded by its number. Every twentieth batch is for
tests: it is made of molecules (one SMILES in twenty) that occur in no other. Structures whose calculation fails, and
those with a force above 25 eV/Å, are left out of train.extxyz and test.extxyz.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from geometries import conformer, of_cluster, of_molecule, packed, sober
from molecules import TEST_PART, molecules
from rdkit import Chem, RDLogger

from carten.errors import DataError
from carten.learning.labellers import Labeller
from carten.learning.labelling import label_structures

MOLECULES, GEOMETRIES, DIMERS, DROPS = 11, 6, 10, 2
LARGEST_FORCE = 25.0  # eV/Å
UNPAIRED = {"H": 1, "C": 2, "N": 3, "O": 2, "F": 1, "P": 3, "S": 2, "Cl": 1}  # electrons of the isolated atom


def batch(number: int) -> list[Atoms]:
    """The structures of a batch."""
    rng = np.random.default_rng([number, 20])
    frames = [atoms for atoms in _frames(rng, number % TEST_PART == 0) if sober(atoms)]
    for atoms in frames:
        atoms.positions = np.round(atoms.positions - atoms.positions.mean(axis=0), 6)
        atoms.info["batch"] = number
    return frames


def _frames(rng: np.random.Generator, testing: bool) -> Iterator[Atoms]:
    large, small = molecules(rng, testing, 14), molecules(rng, testing, 7)
    for smiles, molecule in islice(_shapes(large, rng), MOLECULES):
        for atoms in of_molecule(molecule, GEOMETRIES, rng):
            atoms.info["smiles"] = smiles
            yield atoms
    for _ in range(DIMERS):
        yield from _cluster(list(islice(_shapes(small, rng), 2)), float(rng.choice((0.0, 0.0, 0.5, 1.5, 3.0))), 2, rng)
    for _ in range(DROPS):
        kinds = list(islice(_shapes(molecules(rng, testing, 3), rng), int(rng.integers(1, 3))))
        drop = [kinds[int(k)] for k in rng.integers(len(kinds), size=int(rng.integers(4, 9)))]
        yield from _cluster(drop, 0.0, 3, rng)


def _cluster(parts: list[tuple[str, Chem.Mol]], apart: float, count: int, rng: np.random.Generator) -> Iterator[Atoms]:
    cluster = packed([molecule for _, molecule in parts], rng, apart)
    for atoms in of_cluster(cluster, count, rng):
        atoms.info["smiles"] = ".".join(sorted(smiles for smiles, _ in parts))
        yield atoms


def _shapes(source: Iterator[str], rng: np.random.Generator) -> Iterator[tuple[str, Chem.Mol]]:
    for smiles in source:
        molecule = conformer(smiles, int(rng.integers(2**31)))
        if molecule is not None:
            yield smiles, molecule


def isolated() -> list[Atoms]:
    """The atoms in their ground states."""
    info = {"config_type": "isolated_atom"}
    return [
        Atoms(symbol, [[0.0, 0.0, 0.0]], info={**info, "spin_multiplicity": unpaired + 1})
        for symbol, unpaired in UNPAIRED.items()
    ]


def label_until(folder: Path, end: float) -> None:
    """Label batch after batch until a time."""
    folder.mkdir(parents=True, exist_ok=True)
    atoms = folder / "isolated.extxyz"
    if not atoms.exists():
        label_structures(isolated(), Labeller("tblite"), atoms)
    number = 0
    while time.time() < end:
        path = folder / f"{number:05d}.extxyz"
        if not path.exists():
            started = time.time()
            try:
                result = label_structures(batch(number), Labeller("tblite"), path)
            except DataError as error:
                print(f"batch {number}: {error}", flush=True)
            else:
                counts = f"{len(result.frames)} labelled, {len(result.failed)} failed"
                print(f"batch {number}: {counts}, {time.time() - started:.0f} s", flush=True)
        number += 1


def collect(folder: Path) -> None:
    """Write all labelled structures as ``train.extxyz`` and ``test.extxyz``, and print how many there are."""
    kinds = Counter[tuple[str, str]]()
    sets: dict[str, list[Atoms]] = {"train": ase.io.read(folder / "batches" / "isolated.extxyz", ":"), "test": []}
    for path in sorted((folder / "batches").glob("[0-9]*[0-9].extxyz")):
        part = "test" if int(path.stem) % TEST_PART == 0 else "train"
        for atoms in ase.io.read(path, ":"):
            if np.linalg.norm(atoms.get_forces(), axis=1).max() <= LARGEST_FORCE:
                kinds[part, atoms.info["config_type"]] += 1
                sets[part].append(atoms)
    for part, frames in sets.items():
        ase.io.write(folder / f"{part}.extxyz", frames)
        n_molecules = len({smiles for atoms in frames for smiles in atoms.info.get("smiles", "").split(".")})
        print(f"{part}: {len(frames)} structures of {n_molecules} molecules, {sum(map(len, frames))} atoms")
    for (part, kind), count in sorted(kinds.items()):
        print(f"  {part} {kind}: {count}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where everything goes")
    parser.add_argument("--minutes", type=float, default=60.0, help="time for labels (%(default)s)")
    arguments = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    label_until(arguments.folder / "batches", time.time() + 60.0 * arguments.minutes)
    collect(arguments.folder)


if __name__ == "__main__":
    main()
