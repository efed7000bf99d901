"""Neutral closed-shell organic molecules of H, C, N, O, F, P, S, Cl: scaffolds with substituents, in endless variety.

The SMILES in the files beside this one are written by hand; no list of molecules is used. A scaffold gets none to four
substituents in place of hydrogens, drawn at random; what RDKit cannot sanitise, and what is larger than asked for, is
left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rdkit import Chem

FOLDER = Path(__file__).parent
SMALL = (FOLDER / "small.smi").read_text(encoding="utf-8").split()
SCAFFOLDS = (FOLDER / "scaffolds.smi").read_text(encoding="utf-8").split()
SUBSTITUENTS = (FOLDER / "substituents.smi").read_text(encoding="utf-8").split()

TEST_PART = 20
"""One molecule in so many is for tests alone."""


def for_testing(smiles: str) -> bool:
    """Whether a molecule is held out; this depends on nothing but its SMILES."""
    return zlib.crc32(smiles.encode()) % TEST_PART == 0


def molecules(rng: np.random.Generator, testing: bool, max_heavy: int) -> Iterator[str]:
    """An endless sequence of canonical SMILES.

    Args:
        rng: source of chance.
        testing: whether those that are held out are drawn, or the others.
        max_heavy: atoms other than hydrogen, at most.
    """
    while True:
        smiles = _small(rng) if rng.random() < 0.25 else _substituted(rng)
        if smiles is not None and for_testing(smiles) == testing and _n_heavy(smiles) <= max_heavy:
            yield smiles


def _n_heavy(smiles: str) -> int:
    return int(Chem.MolFromSmiles(smiles).GetNumHeavyAtoms())


def _small(rng: np.random.Generator) -> str | None:
    return _canonical(Chem.MolFromSmiles(SMALL[rng.integers(len(SMALL))]))


def _substituted(rng: np.random.Generator) -> str | None:
    molecule = Chem.MolFromSmiles(SCAFFOLDS[rng.integers(len(SCAFFOLDS))])
    for _ in range(rng.choice(5, p=(0.15, 0.35, 0.25, 0.15, 0.1))):
        molecule = _with_substituent(molecule, SUBSTITUENTS[rng.integers(len(SUBSTITUENTS))], rng)
    return _canonical(molecule)


def _with_substituent(molecule: Chem.Mol, text: str, rng: np.random.Generator) -> Chem.Mol:
    """The molecule with a substituent, which is bound by its first atom, in place of a hydrogen."""
    places = [atom.GetIdx() for atom in molecule.GetAtoms() if atom.GetTotalNumHs()]
    substituent = Chem.MolFromSmiles(text)
    if not places or substituent is None:
        return molecule
    place = int(rng.choice(places))
    joined = Chem.RWMol(Chem.CombineMols(molecule, substituent))
    atom = joined.GetAtomWithIdx(place)
    if atom.GetNumExplicitHs():  # of [nH]
        atom.SetNumExplicitHs(atom.GetNumExplicitHs() - 1)
    joined.AddBond(place, molecule.GetNumAtoms(), Chem.BondType.SINGLE)
    result = joined.GetMol()
    return result if Chem.SanitizeMol(result, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE else molecule


def _canonical(molecule: Chem.Mol | None) -> str | None:
    """SMILES without stereochemistry; None for ions, radicals and elements that are not wanted."""
    if molecule is None or Chem.GetFormalCharge(molecule) != 0:
        return None
    allowed = {1, 6, 7, 8, 9, 15, 16, 17}
    if any(atom.GetNumRadicalElectrons() or atom.GetAtomicNum() not in allowed for atom in molecule.GetAtoms()):
        return None
    return str(Chem.MolToSmiles(molecule, isomericSmiles=False))
