"""Structures to measure speed with: a molecule, liquid-like water, diamond, or what a file holds."""

from __future__ import annotations

from pathlib import Path

import ase
import numpy as np
from ase.build import bulk, molecule

from carten.data.read import read_structures
from carten.errors import ConfigError

WATER_VOLUME = 29.9  # Å^3 of a molecule at 1 g/cm^3


def find_system(name: str) -> ase.Atoms:
    """A structure by name, or the last one of a file.

    Names are ``ethanol``, ``water:N`` (N molecules in a periodic box) and ``carbon:N`` (diamond of about N atoms).

    Raises:
        ConfigError: a name with a colon is none of these.
        DataError: the file cannot be read.
    """
    kind, _, size = name.partition(":")
    if name == "ethanol":
        ethanol: ase.Atoms = molecule("CH3CH2OH")
        return ethanol
    if kind in ("water", "carbon") and size:
        if not size.isdigit() or int(size) < 1:
            raise ConfigError(f"--system: expected {kind}:N with a number of 1 or more, found {name!r}")
        return _water(int(size)) if kind == "water" else _carbon(int(size))
    return read_structures(Path(name))[-1][1]


def _water(count: int) -> ase.Atoms:
    """Molecules on a cubic lattice, turned at random, at the density of water."""
    side = int(np.ceil(count ** (1 / 3)))
    spacing = (WATER_VOLUME * count) ** (1 / 3) / side
    random = np.random.default_rng(0)
    box = ase.Atoms(cell=np.full(3, spacing * side), pbc=True)
    sites = np.stack(np.meshgrid(*[np.arange(side)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)[:count]
    for site in sites:
        water = molecule("H2O")
        water.rotate(float(random.uniform(0, 360)), random.normal(size=3))
        water.translate((site + 0.5) * spacing)
        box += water
    return box


def _carbon(count: int) -> ase.Atoms:
    repeat = max(1, round((count / 8) ** (1 / 3)))
    atoms: ase.Atoms = bulk("C", cubic=True) * (repeat, repeat, repeat)
    atoms.positions += np.random.default_rng(0).normal(scale=0.05, size=atoms.positions.shape)
    return atoms
