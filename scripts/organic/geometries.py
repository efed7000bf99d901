"""Geometries of molecules, dimers and drops: conformers, force-field dynamics, displaced atoms, stretched bonds.

The force field (MMFF94, UFF where it lacks parameters) only leads to geometries; every one of them is labelled later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from ase import Atoms, units
from ase.data import covalent_radii
from rdkit import Chem
from rdkit.Chem import AllChem

KCAL = units.kcal / units.mol
TEMPERATURES = (150.0, 300.0, 300.0, 500.0, 800.0, 1200.0)
TIMESTEP, FRICTION = 0.5, 0.02  # fs, 1/fs
TOO_CLOSE = 0.65  # of the sum of covalent radii


def conformer(smiles: str, seed: int) -> Chem.Mol | None:
    """A molecule with hydrogens and one conformer, relaxed with the force field; None if it cannot be embedded."""
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    if molecule.GetNumAtoms() == 1 or AllChem.EmbedMolecule(molecule, randomSeed=seed % 2**31) != 0:
        return None
    field = force_field(molecule)
    if field is None:
        return None
    field.Minimize(maxIts=300)
    return molecule


def force_field(molecule: Chem.Mol) -> AllChem.ForceField | None:
    """MMFF94 or UFF, with interactions between molecules."""
    if AllChem.MMFFHasAllMoleculeParams(molecule):
        properties = AllChem.MMFFGetMoleculeProperties(molecule)
        field = AllChem.MMFFGetMoleculeForceField(molecule, properties, ignoreInterfragInteractions=False)
    elif AllChem.UFFHasAllMoleculeParams(molecule):
        field = AllChem.UFFGetMoleculeForceField(molecule, ignoreInterfragInteractions=False)
    else:
        return None
    if field is not None:
        field.Initialize()
    return field


def of_molecule(molecule: Chem.Mol, count: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """Geometries from dynamics at several temperatures; every third is displaced, or has a bond stretched, besides."""
    numbers = [atom.GetAtomicNum() for atom in molecule.GetAtoms()]
    bonds = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in molecule.GetBonds()]
    for number in range(count):
        temperature = float(rng.choice(TEMPERATURES))
        positions = moved(molecule, temperature, int(rng.integers(60, 400)), rng)
        kind = "md"
        if number % 3 == 1:
            positions = positions + rng.normal(scale=rng.uniform(0.01, 0.08), size=positions.shape)
            kind = "displaced"
        elif number % 6 == 5 and bonds:
            positions = stretched(positions, bonds, rng)
            kind = "stretched"
        yield Atoms(numbers, positions, info={"config_type": kind, "temperature": temperature})


def moved(molecule: Chem.Mol, temperature: float, steps: int, rng: np.random.Generator) -> np.ndarray:
    """Positions after Langevin dynamics (BAOAB: Leimkuhler and Matthews 2013) from those of the molecule."""
    field = force_field(molecule)
    masses = np.array([atom.GetMass() for atom in molecule.GetAtoms()])[:, None]
    positions = np.array(molecule.GetConformer().GetPositions())
    step, spread = TIMESTEP * units.fs, np.sqrt(units.kB * temperature / masses)
    kept = np.exp(-FRICTION * TIMESTEP)
    velocities = spread * rng.standard_normal(positions.shape)
    forces = _forces(field, positions)
    for _ in range(steps):
        velocities = velocities + step / 2 * forces / masses
        positions = positions + step / 2 * velocities
        velocities = kept * velocities + np.sqrt(1 - kept**2) * spread * rng.standard_normal(positions.shape)
        positions = positions + step / 2 * velocities
        forces = _forces(field, positions)
        velocities = velocities + step / 2 * forces / masses
    return positions


def _forces(field: AllChem.ForceField, positions: np.ndarray) -> np.ndarray:
    field.Initialize()  # or distances of the last call would be used again
    return -KCAL * np.reshape(field.CalcGrad(positions.ravel().tolist()), (-1, 3))


def stretched(positions: np.ndarray, bonds: Sequence[tuple[int, int]], rng: np.random.Generator) -> np.ndarray:
    """Positions with what lies on one side of a bond moved along it; a bond in a ring moves its two atoms alone."""
    first, second = bonds[rng.integers(len(bonds))]
    side, todo = {second}, [second]
    while todo:
        atom = todo.pop()
        for bond in bonds:
            if atom in bond and {*bond} != {first, second}:
                (other,) = {*bond} - {atom}
                if other not in side:
                    side.add(other)
                    todo.append(other)
    axis = positions[second] - positions[first]
    new = positions.copy()
    new[sorted(side) if first not in side else [second]] += axis * rng.uniform(-0.15, 0.35)
    return new


def packed(
    molecules: Sequence[Chem.Mol], rng: np.random.Generator, apart: float = 0.0, contact: float = 2.3
) -> Chem.Mol:
    """Molecules beside each other, turned at random, each as near as its closest contact allows.

    Args:
        molecules: with one conformer each.
        rng: source of chance.
        apart: Å, by which the last one is moved further away.
        contact: Å, the closest distance between atoms of two molecules.
    """
    placed = [_turned(molecules[0], rng)]
    for number, molecule in enumerate(molecules[1:], start=2):
        turned, axis = _turned(molecule, rng), rng.normal(size=3)
        axis /= np.linalg.norm(axis)
        others = np.concatenate(placed)
        distance = 0.0
        while np.linalg.norm(others[:, None] - (turned + distance * axis), axis=-1).min() < contact:
            distance += 0.1
        placed.append(turned + (distance + (apart if number == len(molecules) else 0.0)) * axis)
    combined = molecules[0]
    for molecule in molecules[1:]:
        combined = Chem.CombineMols(combined, molecule)
    combined = Chem.Mol(combined)
    Chem.SanitizeMol(combined)
    combined.RemoveAllConformers()
    shape = Chem.Conformer(combined.GetNumAtoms())
    shape.SetPositions(np.concatenate(placed))
    combined.AddConformer(shape)
    return combined


def _turned(molecule: Chem.Mol, rng: np.random.Generator) -> np.ndarray:
    positions = np.array(molecule.GetConformer().GetPositions())
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return (positions - positions.mean(axis=0)) @ rotation


def of_cluster(cluster: Chem.Mol, count: int, rng: np.random.Generator) -> Iterator[Atoms]:
    """Geometries of several molecules: relaxed a little with the force field, then from dynamics near 300 K."""
    numbers = [atom.GetAtomicNum() for atom in cluster.GetAtoms()]
    field = force_field(cluster)
    if field is None:
        return
    kind = "cluster" if len(Chem.GetMolFrags(cluster)) > 2 else "dimer"
    if rng.random() < 0.5 or kind == "cluster":
        field.Minimize(maxIts=int(rng.integers(5, 100)))
    for _ in range(count):
        temperature = float(rng.choice((150.0, 300.0, 450.0)))
        positions = moved(cluster, temperature, int(rng.integers(20, 300)), rng)
        yield Atoms(numbers, positions, info={"config_type": kind, "temperature": temperature})


def sober(atoms: Atoms) -> bool:
    """Whether no two atoms are absurdly close and all positions are finite."""
    if not np.isfinite(atoms.positions).all():
        return False
    radii = covalent_radii[atoms.numbers]
    distances = atoms.get_all_distances() / (radii[:, None] + radii)
    return bool((distances[~np.eye(len(atoms), dtype=bool)] > TOO_CLOSE).all())
