"""Make molecules like those of QM7b with cheap labels: GFN2-xTB dipoles and polarizabilities, for ``qm7b_two_levels``.

Set up, then run; FOLDER is the one with the published data, and ``FOLDER/qm7b/cheap.extxyz`` is written:

    python -m venv cheap && cheap/bin/pip install --constraint constraints.txt --editable . rdkit==2026.9.1
    cheap/bin/pip install tblite==0.8.0
    OMP_NUM_THREADS=1 cheap/bin/python -m benchmarks.studies.cheap_molecules --data FOLDER  # twenty minutes on one core

Molecular graphs are those of the training molecules after a few random edits: an element or a bond order changes, an
end atom is added, taken away or moved, a ring is opened or closed. A graph is kept if the surroundings of each of its
atoms occur in a training molecule, which keeps the chemistry sober. Graphs of molecules for validation and of those
held out are left out, and neither their labels nor their geometries are used. Molecules are embedded, then relaxed with
MMFF and GFN2-xTB. The training molecules themselves are labelled at their own geometries. Everything is seeded;
molecules whose calculation fails are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import numpy.typing as npt
from ase import Atoms, units
from ase.optimize import BFGS
from rdkit import Chem, RDLogger
from rdkit.Chem import AllChem, rdDetermineBonds
from tblite import interface, library
from tblite.ase import TBLite

from benchmarks.studies.frames import labelled
from benchmarks.studies.study import read_study

Floats = npt.NDArray[np.float64]
Surroundings = tuple[Any, ...]

SEED = 0
HEAVY = 7
SMALLER = 0.35  # of graphs with fewer heavy atoms are kept
ELEMENTS = (6, 6, 6, 7, 7, 8, 8, 16, 17)
ORDERS = (Chem.BondType.SINGLE, Chem.BondType.DOUBLE, Chem.BondType.TRIPLE)
RARE = (16, 17)
FIELD = 0.002  # atomic units


# -------------------------------------------------------------------------------------------------------- graphs


def perceived(atoms: Atoms) -> Any | None:
    """The molecular graph of a neutral geometry, or ``None`` if the bonds are ambiguous."""
    lines = [f"{s} {x:.6f} {y:.6f} {z:.6f}" for s, (x, y, z) in zip(atoms.symbols, _centred(atoms), strict=True)]
    molecule = Chem.MolFromXYZBlock("\n".join([str(len(atoms)), "", *lines]))
    try:
        rdDetermineBonds.DetermineBonds(molecule, charge=0, embedChiral=False, maxIterations=2000)
        return Chem.MolFromSmiles(smiles(Chem.RemoveHs(molecule)))
    except (ValueError, RuntimeError):
        return None


def smiles(molecule: Any) -> str:
    """Canonical SMILES without stereochemistry: equal for isomorphic graphs."""
    return str(Chem.MolToSmiles(molecule, isomericSmiles=False))


def surroundings(molecule: Any) -> set[Surroundings]:
    """The surroundings of each atom: elements, hydrogens, bond orders, smallest ring."""
    plain = Chem.Mol(molecule)
    Chem.Kekulize(plain, clearAromaticFlags=True)
    rings = molecule.GetRingInfo()
    found = set()
    for atom, shown in zip(plain.GetAtoms(), molecule.GetAtoms(), strict=True):
        bonds = sorted((str(bond.GetBondType()), bond.GetOtherAtom(atom).GetAtomicNum()) for bond in atom.GetBonds())
        ring = rings.MinAtomRingSize(atom.GetIdx())
        found.add((atom.GetAtomicNum(), atom.GetTotalNumHs(), shown.GetIsAromatic(), ring, *bonds))
    return found


def graphs(seeds: Sequence[Any], known: set[Surroundings], seen: set[str], rng: np.random.Generator) -> Iterator[Any]:
    """An endless sequence of new graphs a few edits away from the seeds, with surroundings that occur in the seeds."""
    while True:
        molecule = seeds[int(rng.integers(len(seeds)))]
        for _ in range(rng.integers(1, 4)):
            molecule = _edited(molecule, known, rng)
        large = molecule.GetNumAtoms() == HEAVY or rng.random() < SMALLER
        if large and (text := smiles(molecule)) not in seen:
            seen.add(text)
            yield molecule


def _edited(molecule: Any, known: set[Surroundings], rng: np.random.Generator) -> Any:
    """The graph after the first random edit that gives a reasonable molecule."""
    for _ in range(100):
        new = Chem.RWMol(molecule)
        Chem.Kekulize(new, clearAromaticFlags=True)
        if not EDITS[rng.integers(len(EDITS))](new, rng):
            continue
        for atom in new.GetAtoms():
            atom.SetNoImplicit(False)
            atom.SetNumExplicitHs(0)
        if Chem.SanitizeMol(new, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
            continue
        text = smiles(new)
        if "." in text or not 3 <= new.GetNumAtoms() <= HEAVY:
            continue
        plain = Chem.MolFromSmiles(text)
        if any(atom.GetNumRadicalElectrons() for atom in plain.GetAtoms()) or not surroundings(plain) <= known:
            continue
        return plain
    return molecule


def _element(new: Any, rng: np.random.Generator) -> bool:
    atom = new.GetAtomWithIdx(int(rng.integers(new.GetNumAtoms())))
    atom.SetAtomicNum(int(rng.choice(ELEMENTS)))
    return True


def _order(new: Any, rng: np.random.Generator) -> bool:
    new.GetBondWithIdx(int(rng.integers(new.GetNumBonds()))).SetBondType(ORDERS[rng.integers(len(ORDERS))])
    return True


def _add(new: Any, rng: np.random.Generator) -> bool:
    place = int(rng.integers(new.GetNumAtoms()))
    end = new.AddAtom(Chem.Atom(int(rng.choice(ELEMENTS))))
    new.AddBond(place, end, ORDERS[rng.choice(3, p=(0.8, 0.15, 0.05))])
    return True


def _remove(new: Any, rng: np.random.Generator) -> bool:
    if ends := [atom.GetIdx() for atom in new.GetAtoms() if atom.GetDegree() == 1]:
        new.RemoveAtom(int(rng.choice(ends)))
    return bool(ends)


def _move(new: Any, rng: np.random.Generator) -> bool:
    ends = [atom for atom in new.GetAtoms() if atom.GetDegree() == 1]
    if not ends:
        return False
    end = ends[rng.integers(len(ends))]
    bond, place = end.GetBonds()[0], int(rng.integers(new.GetNumAtoms()))
    order, old = bond.GetBondType(), bond.GetOtherAtomIdx(end.GetIdx())
    if place in (end.GetIdx(), old):
        return False
    new.RemoveBond(end.GetIdx(), old)
    new.AddBond(end.GetIdx(), place, order)
    return True


def _close(new: Any, rng: np.random.Generator) -> bool:
    first, second = (int(k) for k in rng.choice(new.GetNumAtoms(), 2, replace=False))
    if new.GetBondBetweenAtoms(first, second) is not None:
        return False
    new.AddBond(first, second, Chem.BondType.SINGLE)
    return True


def _open(new: Any, rng: np.random.Generator) -> bool:
    if rings := [bond for bond in new.GetBonds() if bond.IsInRing()]:
        bond = rings[rng.integers(len(rings))]
        new.RemoveBond(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())
    return bool(rings)


EDITS: tuple[Callable[[Any, np.random.Generator], bool], ...] = (
    *(_element, _order, _move, _open, _remove),
    *(_add, _add, _close, _close),  # which fail more often
)


# ---------------------------------------------------------------------------------------------------- geometries


def geometry(molecule: Any, seed: int) -> Atoms | None:
    """One conformer, embedded and relaxed with MMFF and GFN2-xTB; ``None`` if this fails or changes the graph."""
    full = Chem.AddHs(molecule)
    if AllChem.EmbedMolecule(full, randomSeed=seed) != 0:
        return None
    AllChem.MMFFOptimizeMolecule(full, maxIters=500)
    numbers = [atom.GetAtomicNum() for atom in full.GetAtoms()]
    atoms = Atoms(numbers, full.GetConformer().GetPositions())
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    try:
        BFGS(atoms, logfile=None).run(fmax=0.1, steps=60)
    except RuntimeError:
        return None
    relaxed = Atoms(numbers, np.round(_centred(atoms), 6))
    found = perceived(relaxed)
    return relaxed if found is not None and smiles(found) == smiles(molecule) else None


def _centred(atoms: Atoms) -> Floats:
    return np.asarray(atoms.positions - atoms.get_center_of_mass())


# -------------------------------------------------------------------------------------------------------- labels


def label(atoms: Atoms) -> dict[str, Floats]:
    """GFN2-xTB dipole in e*Angstrom and, from dipoles in fields, polarizability in Angstrom^3."""
    alone = _single(atoms).singlepoint()
    steps = [_in_field(atoms, step * axis, alone) for axis in np.eye(3) for step in (FIELD, -FIELD)]
    slopes = (np.array(steps[::2]) - np.array(steps[1::2])) / (2.0 * FIELD) * units.Bohr**3
    return {"dipole": alone.get("dipole") * units.Bohr, "polarizability": (slopes + slopes.T) / 2.0}


def _single(atoms: Atoms) -> Any:
    single = interface.Calculator("GFN2-xTB", atoms.numbers, atoms.positions / units.Bohr)
    single.set("accuracy", 0.1)
    single.set("verbosity", 0)
    return single


def _in_field(atoms: Atoms, field: Floats, start: Any) -> Floats:
    """Dipole in a field, both in atomic units (tblite 0.8.0 wants a C pointer)."""
    single = _single(atoms)
    single.add("electric-field", library.ffi.cast("double *", np.ascontiguousarray(field).ctypes.data))
    return np.asarray(single.singlepoint(start, copy=True).get("dipole"))


def labelled_cheaply(atoms: Atoms, text: str) -> Atoms | None:
    """A structure with its cheap labels, or ``None`` if they cannot be computed."""
    try:
        found = label(atoms)
    except RuntimeError:
        return None
    new = Atoms(atoms.numbers, atoms.positions)
    new.info = {key: np.round(value, 6).ravel() for key, value in found.items()} | {"fidelity": "gfn2"}
    if text:
        new.info["smiles"] = text
    return new


# ----------------------------------------------------------------------------------------------------------- all


def molecules(data: Path, wanted: int, rare: int) -> Iterator[Atoms]:
    """The training molecules at their own geometries, then new ones, then new ones from those with S or Cl."""
    parts = labelled(read_study("qm7b"), data)
    found = {name: [perceived(atoms) for atoms in part] for name, part in parts.items()}
    for part, known in found.items():
        print(f"{part}: bonds of {sum(m is not None for m in known)} of {len(known)} molecules", flush=True)
    for atoms, molecule in zip(parts["train"], found["train"], strict=True):
        text = "" if molecule is None else smiles(molecule)
        if (cheap := labelled_cheaply(Atoms(atoms.numbers, np.round(_centred(atoms), 6)), text)) is not None:
            yield cheap
    seeds = [m for m in found["train"] if m is not None]
    seen = {smiles(m) for part in found.values() for m in part if m is not None}
    yield from islice(_new(seeds, seeds, seen, SEED), wanted)
    yield from islice(_new([m for m in seeds if _has_rare(m)], seeds, seen, SEED + 1), rare)


def _has_rare(molecule: Any) -> bool:
    return any(atom.GetAtomicNum() in RARE for atom in molecule.GetAtoms())


def _new(seeds: Sequence[Any], sober: Sequence[Any], seen: set[str], seed: int) -> Iterator[Atoms]:
    """An endless sequence of new molecules from the graphs of the seeds, each with one geometry and cheap labels."""
    known = set[Surroundings]().union(*(surroundings(molecule) for molecule in sober))
    for number, molecule in enumerate(graphs(seeds, known, seen, np.random.default_rng(seed))):
        relaxed = geometry(molecule, number + 1)
        if relaxed is not None and (cheap := labelled_cheaply(relaxed, smiles(molecule))) is not None:
            yield cheap


def main() -> None:
    """Read the command line, write molecules as they are made."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.studies.cheap_molecules",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the published files")
    parser.add_argument("--molecules", type=int, default=6000, help="new ones (%(default)s)")
    parser.add_argument("--rare", type=int, default=1500, help="more new ones, from those with S or Cl (%(default)s)")
    parser.add_argument("--output", type=Path, help="where they go (qm7b/cheap.extxyz in the folder of the data)")
    options = parser.parse_args()
    RDLogger.DisableLog("rdApp.*")
    started = time.perf_counter()
    with (options.output or options.data / "qm7b" / "cheap.extxyz").open("w", encoding="utf-8") as file:
        for count, atoms in enumerate(molecules(options.data, options.molecules, options.rare), start=1):
            ase.io.write(file, atoms, format="extxyz")
            if count % 500 == 0:
                file.flush()
                print(f"{count} molecules, {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
