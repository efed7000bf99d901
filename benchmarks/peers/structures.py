"""The structures that are measured: a flexible molecule of 27 atoms and a box of 64 water molecules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ase import Atoms
from ase.io import read, write
from scipy.spatial.transform import Rotation

Array = npt.NDArray[np.float64]

N_FRAMES = 5  # of the training batch
MOVED = 0.05  # Å, standard deviation of the displacements of training frames
REPLICAS = (1, 2, 3)  # of the periodic box along each axis
WATER_EDGE = 12.4152  # Å, 64 molecules at 1 g/cm³
CONTACT = 1.5  # Å, least distance of atoms of two molecules


@dataclass(frozen=True)
class System:
    """A structure under a name."""

    name: str
    atoms: Atoms


def systems(folder: Path | None) -> list[System]:
    """Structures to measure, smallest first: periodic ones as they are and replicated.

    Args:
        folder: with one structure in each extended xyz file; None for the structures made here.

    Raises:
        ValueError: the folder has no such files.
    """
    if folder is None:
        found = [System("octanol", octanol()), System("water", water())]
    else:
        found = [System(path.stem.split("_")[0], _one(path)) for path in sorted(folder.glob("*.extxyz"))]
        if not found:
            raise ValueError(f"{folder} has no file *.extxyz")
    made = [one for system in found for one in _replicated(system)]
    return sorted(made, key=lambda system: len(system.atoms))


def training_frames(atoms: Atoms) -> list[Atoms]:
    """Displaced copies of a structure."""
    generator = np.random.default_rng(0)
    frames = [atoms.copy() for _ in range(N_FRAMES)]
    for frame in frames:
        frame.positions += generator.normal(scale=MOVED, size=frame.positions.shape)
    return frames


def save(path: Path, frames: list[Atoms]) -> Path:
    """Write frames where a worker reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, frames, format="extxyz")
    return path


def octanol() -> Atoms:
    """1-octanol, C8H18O, 27 atoms: a zigzag chain with tetrahedral angles, its torsions then turned at random."""
    bond, height = 1.53, 0.51
    step = np.sqrt(bond**2 - (2.0 * height / 2.0) ** 2)
    chain = np.array([[k * step, height / 2.0 * (-1) ** k, 0.0] for k in range(9)])  # eight C, one O
    symbols, positions = ["C"] * 8 + ["O"], [*chain]
    for k in range(8):
        outward = np.array([0.0, (-1.0) ** k, 0.0])
        for side in (-1.0, 1.0):
            symbols.append("H")
            positions.append(chain[k] + 1.09 * (0.577 * outward + side * 0.816 * np.array([0.0, 0.0, 1.0])))
    ends = [(chain[0], np.array([-0.82, -0.57, 0.0]), 1.09), (chain[8], np.array([0.82, -0.57, 0.0]), 0.96)]
    for place, direction, length in ends:
        symbols.append("H")
        positions.append(place + length * direction)
    return Atoms(symbols, np.array(positions), pbc=False)


def water() -> Atoms:
    """64 molecules on a cubic grid in a periodic box, turned at random so that none touch."""
    generator = np.random.default_rng(0)
    angle, length = np.deg2rad(104.5), 0.96
    molecule = length * np.array(
        [[0.0, 0.0, 0.0], [np.sin(angle / 2), np.cos(angle / 2), 0.0], [-np.sin(angle / 2), np.cos(angle / 2), 0.0]]
    )
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * WATER_EDGE / 4
    placed = np.empty((0, 3))
    for centre in grid:
        turned = centre + Rotation.random(rng=generator).apply(molecule)
        while not _apart(turned, placed):
            turned = centre + Rotation.random(rng=generator).apply(molecule)
        placed = np.concatenate([placed, turned])
    return Atoms("OH2" * 64, placed, cell=[WATER_EDGE] * 3, pbc=True)


def _apart(molecule: Array, others: Array) -> bool:
    difference = molecule[:, None] - others[None]
    difference -= WATER_EDGE * np.round(difference / WATER_EDGE)
    return bool((np.linalg.norm(difference, axis=-1) > CONTACT).all())


def _one(path: Path) -> Atoms:
    found = read(path)
    if not isinstance(found, Atoms):
        raise ValueError(f"{path}: expected one structure, found {len(found)}")
    return found


def _replicated(system: System) -> list[System]:
    times = REPLICAS if system.atoms.pbc.all() else (1,)
    return [System(system.name, system.atoms.repeat((n, n, n))) for n in times]
