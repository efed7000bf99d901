"""New geometries from known ones: normal modes at a temperature, turned bonds, strained cells, pairs of molecules."""

from __future__ import annotations

from typing import Any

import numpy as np
from ase import Atoms, units
from ase.optimize import BFGS
from scipy.spatial.transform import Rotation

from carten.errors import DataError
from carten.math.arrays import Floats
from carten.workflows.bonds import bonded_pairs, fragments
from carten.workflows.hessian import hessian
from carten.workflows.spectrum import LIGHT
from carten.workflows.vibrations import normal_modes

SOFT = 200.0  # cm^-1: softer modes are displaced as if they were of this wavenumber, since they are not harmonic
STATE = ("total_charge", "spin_multiplicity")


class NormalModes:
    """Thermal displacements along the normal modes of a relaxed structure.

    Args:
        atoms: near a minimum; it is relaxed first.
        calculator: of ASE.
        fmax: force that may remain, eV/Å.
        steps: of the relaxation, at most; what is reached then is used.
    """

    def __init__(self, atoms: Atoms, calculator: Any, fmax: float = 0.02, steps: int = 200) -> None:
        self.minimum = atoms.copy()
        self.minimum.set_constraint()
        self.minimum.calc = calculator
        BFGS(self.minimum, logfile=None).run(fmax=fmax, steps=steps)
        self.wavenumbers, self.modes = normal_modes(self.minimum, hessian(self.minimum, calculator))

    def sample(self, temperature: float, rng: np.random.Generator) -> Atoms:
        """A structure of the classical harmonic ensemble at a temperature in K."""
        frequencies = 2.0 * np.pi * LIGHT * np.maximum(self.wavenumbers, SOFT)
        amplitudes = np.sqrt(units.kB * temperature) / frequencies
        displaced: Atoms = self.minimum.copy()
        displaced.positions += np.einsum("m,mni->ni", amplitudes * rng.standard_normal(len(amplitudes)), self.modes)
        return displaced


def bare(atoms: Atoms) -> Atoms:
    """Geometry, charge and multiplicity alone."""
    kept = {key: atoms.info[key] for key in STATE if key in atoms.info}
    return Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=kept)


def is_one_molecule(atoms: Atoms) -> bool:
    """Whether all atoms, two or more, are connected by bonds, and nothing is periodic."""
    if len(atoms) < 2 or atoms.pbc.any():
        return False
    first, second, _ = bonded_pairs(atoms)
    return not fragments(len(atoms), first, second).any()


def bonds(atoms: Atoms) -> list[tuple[int, int]]:
    """Bonded pairs, as :func:`carten.workflows.bonds.bonded_pairs` has them, each once and in order."""
    first, second, _ = bonded_pairs(atoms)
    return sorted((int(i), int(j)) for i, j in zip(first, second, strict=True) if i < j)


def rotors(atoms: Atoms) -> list[tuple[int, int, list[int]]]:
    """Bonds about which a part of a molecule can turn: two atoms, and all atoms on the side of the second, the smaller.

    Bonds in rings and bonds to a single atom are none.
    """
    pairs = bonds(atoms)
    turning = []
    for first, second in pairs:
        kept = np.array([pair for pair in pairs if pair != (first, second)], dtype=int).reshape(-1, 2)
        labels = fragments(len(atoms), *kept.T)
        if labels[first] == labels[second]:
            continue
        sides = sorted(
            ((np.flatnonzero(labels == labels[k]).tolist(), k) for k in (first, second)), key=lambda s: len(s[0])
        )
        (turned, end), (_, origin) = sides
        if len(turned) > 1:
            turning.append((origin, end, turned))
    return turning


def turned_bonds(atoms: Atoms, rng: np.random.Generator) -> Atoms | None:
    """A copy in which each part that can turn about a bond does so by a random angle; None if nothing can turn."""
    parts = rotors(atoms)
    if not parts:
        return None
    copy: Atoms = atoms.copy()
    for origin, end, members in parts:
        axis = copy.positions[end] - copy.positions[origin]
        turn = Rotation.from_rotvec(rng.uniform(-np.pi, np.pi) * axis / np.linalg.norm(axis))
        copy.positions[members] = copy.positions[end] + turn.apply(copy.positions[members] - copy.positions[end])
    return copy


def strained(
    atoms: Atoms, rng: np.random.Generator, volumes: tuple[float, float], strain: float, rattle: float
) -> Atoms:
    """A periodic structure in a random cell, with atoms displaced at random.

    Args:
        atoms: periodic.
        rng: source of chance.
        volumes: least and largest volume, relative to that of the structure.
        strain: standard deviation of the components of a symmetric strain besides.
        rattle: standard deviation of the displacements, Å.
    """
    copy: Atoms = atoms.copy()
    components = rng.normal(scale=strain, size=(3, 3))
    deformation = np.eye(3) + (components + components.T) / 2.0
    scale = (rng.uniform(*volumes) / abs(np.linalg.det(deformation))) ** (1.0 / 3.0)
    copy.set_cell(copy.cell.array @ (scale * deformation), scale_atoms=True)
    copy.positions += rng.normal(scale=rattle, size=copy.positions.shape)
    return copy


def pair(one: Atoms, other: Atoms, contact: float, rng: np.random.Generator) -> Atoms:
    """Two molecules, turned at random, whose closest atoms are ``contact`` Å apart.

    Raises:
        DataError: one of them is periodic.
    """
    if one.pbc.any() or other.pbc.any():
        raise DataError("dimers are of molecules: these structures are periodic")
    places = []
    for atoms in (one, other):
        turn = Rotation.from_quat(rng.normal(size=4))
        places.append(turn.apply(atoms.positions - atoms.positions.mean(axis=0)))
    direction = rng.normal(size=3)
    direction /= np.linalg.norm(direction)
    low, high = 0.0, sum(float(np.linalg.norm(part, axis=1).max()) for part in places) + contact
    for _ in range(50):
        middle = (low + high) / 2.0
        low, high = (middle, high) if _closest(places[0], places[1] + middle * direction) < contact else (low, middle)
    return Atoms(
        np.concatenate([one.numbers, other.numbers]), np.concatenate([places[0], places[1] + high * direction])
    )


def _closest(one: Floats, other: Floats) -> float:
    return float(np.linalg.norm(one[:, None] - other, axis=2).min())
