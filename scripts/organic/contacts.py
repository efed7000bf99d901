"""Close contacts of molecules, labelled: what force-field dynamics avoids and a potential has to know to be safe.

    python scripts/organic/contacts.py FOLDER/contacts.extxyz

Dimers and drops of small molecules, water in every third, are packed with closest distances of 0.8 to 2.3 Å between
molecules, shorter ones rarer, and their atoms are displaced a little. Molecules for tests are left out.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from geometries import conformer, packed
from make import LARGEST_FORCE
from molecules import molecules
from rdkit import RDLogger

from carten.learning.labellers import Labeller
from carten.learning.labelling import label_structures

DIMERS, DROPS = 900, 300


def structure(rng: np.random.Generator, count: int) -> Atoms | None:
    """Some molecules beside each other, or None if one of them cannot be embedded."""
    names = list(islice(molecules(rng, False, 6), int(rng.integers(1, count + 1))))
    if rng.random() < 0.35:
        names[0] = "O"
    chosen = [names[int(k)] for k in rng.integers(len(names), size=count)] if count > 2 else (names * 2)[:2]
    shapes = [conformer(name, int(rng.integers(2**31))) for name in chosen]
    if None in shapes:
        return None
    contact = 2.3 - 1.5 * rng.random() ** 1.5
    drop = packed(shapes, rng, contact=contact)
    positions = drop.GetConformer().GetPositions() + rng.normal(scale=0.03, size=(drop.GetNumAtoms(), 3))
    numbers = [atom.GetAtomicNum() for atom in drop.GetAtoms()]
    return Atoms(numbers, np.round(positions, 6), info={"config_type": "contact", "smiles": ".".join(sorted(chosen))})


def main() -> None:
    """Make, label, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    RDLogger.DisableLog("rdApp.*")
    rng = np.random.default_rng(16)
    sizes = [2] * DIMERS + [int(n) for n in rng.integers(4, 9, size=DROPS)]
    frames = [atoms for size in sizes if (atoms := structure(rng, size)) is not None]
    label_structures(frames, Labeller("tblite"), output)
    kept = [a for a in ase.io.iread(output, ":") if np.linalg.norm(a.get_forces(), axis=1).max() <= LARGEST_FORCE]
    ase.io.write(output, kept)
    print(f"{len(kept)} of {len(sizes)} structures")


if __name__ == "__main__":
    main()
