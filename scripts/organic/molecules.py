"""Neutral closed-shell organic molecules of H, C, N, O, F, P, S, Cl: scaffolds with substituents, in endless variety.

The SMILES are written by hand here; no list of molecules is used. A scaffold gets none to four substituents in place of
hydrogens, drawn at random; what RDKit cannot sanitise, and what is larger than asked for, is left out.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
from rdkit import Chem

SMALL = """
[H][H] C O N S P F Cl CC C=C C#C CO CN CS CF CCl CP C=O C#N C=N OO NN NO FF ClCl OF OCl SS O=C=O O=S=O N#N N=N O=CO O=CN
CC=O CCO CCN CCS CCF CCCl COC CNC CSC CC#N CC#C CC=C C=C=C C=C=O N=C=O N=C=S CN=C=O O=C(O)O NC(=O)N C1CC1 C1CO1 C1CN1
C1CS1 C1=CC1 COO CON CNN CSS OCC=O OCCO NCCO NCCN NCC(=O)O OCC(=O)O CC(=O)C CC(=O)O CC(=O)N CC(=O)OC CS(=O)C
CS(=O)(=O)C CP(=O)(O)O OP(=O)(O)O OS(=O)(=O)O C[N+](=O)[O-] CON=O CO[N+](=O)[O-] FC(F)F ClC(Cl)Cl FC(F)(F)F ClC(Cl)(Cl)Cl
O=CC=O O=CC(=O)O NC=O CN(C)C CP(C)C CC(C)C CC(C)(C)C FC=C ClC=C C=CC=C C=CC=O C=CC#N C#CC#C CSC=O O=C(Cl)C O=C(F)C
PP SP OP FP ClP C=S NC(=S)N CC(=S)N OS FS ClS S=C=S O=C=S NC(=N)N NS(=O)(=O)C OB
""".split()

SCAFFOLDS = """
CC CCC CCCC CCCCC CC(C)C CC(C)(C)C C=C CC=C C=CC=C C#C CC#C CO CCO COC CCOCC CN CCN CNC CN(C)C CS CCS CSC
C=O CC=O CC(=O)C CC(=O)CC(=O)C CC(=O)O CC(=O)OC CC(=O)N CC(=O)NC COC(=O)OC NC(=O)N CNC(=O)NC COC(=O)N CC(=O)OC(=O)C
CC#N CC=N CC=NO CC=NN CNN CSSC CS(=O)C CS(=O)(=O)C CS(=O)(=O)N CS(=O)(=O)O CP(=O)(O)O COP(=O)(O)O CP(C)C CP(=O)(C)C
C1CC1 C1CCC1 C1CCCC1 C1CCCCC1 C1CCCCCC1 C1=CCCC1 C1=CCCCC1 C1CO1 C1CCO1 C1CCOC1 C1CCOCC1 C1COCCO1 C1CN1 C1CCN1 C1CCNC1
C1CCNCC1 C1CNCCN1 C1COCCN1 C1CCSC1 C1CCSCC1 O=C1CCCC1 O=C1CCCCC1 O=C1CCCO1 O=C1CCCN1 O=C1C=CC(=O)C=C1 O=C1CCC(=O)N1
O=C1OCCO1 O=C1NC(=O)CN1 c1ccccc1 c1ccncc1 c1cncnc1 c1cnccn1 c1ccnnc1 c1ncncn1 c1ccoc1 c1cc[nH]c1 c1ccsc1 c1c[nH]cn1
c1cn[nH]c1 c1cocn1 c1cscn1 c1cnoc1 c1nc[nH]n1 c1nnn[nH]1 c1nncs1 c1nnco1 c1ccc2ccccc2c1 c1ccc2[nH]ccc2c1 c1ccc2ncccc2c1
c1ccc2occc2c1 c1ccc2sccc2c1 c1ncc2[nH]cnc2n1 O=c1cc[nH]c(=O)[nH]1 Nc1cc[nH]c(=O)n1 c1ccc(cc1)c1ccccc1 C(c1ccccc1)c1ccccc1
c1ccc(cc1)Oc1ccccc1 c1ccc(cc1)N=Nc1ccccc1 c1ccc(cc1)C=Cc1ccccc1 NCC(=O)NCC(=O)O CC(=O)NC(C)C(=O)NC OCC1OC(O)C(O)C(O)C1O
C1CC2CCC1C2 C1CC2CCCC2C1 C1CC2CCCCC2C1 C1C2CC3CC1CC(C2)C3 C1=CC=CC1 C1=CC=CCC=C1 C1CC1C1CC1 CC(=O)C=C CC(=O)C#C
CC(=O)SC CC(=S)N CSC(=S)C COS(=O)(=O)C COS(=O)(=O)OC COP(=O)(OC)OC CN=C=O CN=C=S COO CCOO CN=NC CON CONC CSN CSO
""".split()

SUBSTITUENTS = """
C C C CC C(C)C C=C C#C O O O OC OC(=O)C N N NC N(C)C NC(=O)C F F Cl Cl S SC C#N C=O C(=O)C C(=O)O C(=O)O C(=O)OC C(=O)N
C(=O)NC [N+](=O)[O-] S(=O)(=O)C S(=O)(=O)N P(=O)(O)O CO CN CF C(F)(F)F CCl CS CC(=O)O CC(=O)N C=CC=O c1ccccc1 c1ccncc1
c1ccco1 c1cccs1 c1cnc[nH]1 C1CC1 N=O NN NO OO SS(C) N=C=O OP(=O)(O)O
""".split()

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
