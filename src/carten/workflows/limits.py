"""What dynamics may not exceed, and contacts that a model has not been trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import ase
import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.md.md import MolecularDynamics
from ase.neighborlist import natural_cutoffs, neighbor_list

from carten.data.contacts import pair_name
from carten.data.neighbours import edges
from carten.errors import ConfigError
from carten.math.arrays import Floats

HOT, TIMES = 10_000.0, 30.0  # K, and times the temperature of the thermostat
TOUCHING = 0.5  # of the sum of covalent radii
OVERLAP = 0.6
"""Of the sum of covalent radii: atoms that are closer overlap."""


@dataclass(frozen=True)
class Limits:
    """Bounds beyond which dynamics has exploded.

    Args:
        temperature: K, of the kinetic energy; by default 10,000 K, or 30 times the temperature of the thermostat.
        force: eV/Å, on any atom.
        step: Å, of any atom in one time step.

    Raises:
        ConfigError: a limit is not a positive number.
    """

    temperature: float | None = None
    force: float = 500.0
    step: float = 0.5

    def __post_init__(self) -> None:
        for name in ("temperature", "force", "step"):
            value = getattr(self, name)
            if value is not None and not value > 0.0:
                raise ConfigError(f"the limit on the {name} must be a positive number, found {value}")

    def exceeded(self, dynamics: MolecularDynamics, before: Floats | None, thermostat: float) -> str | None:
        """The limit that a moving structure exceeds, in words; None if it is within all of them.

        Args:
            dynamics: at a step for which the model has been evaluated.
            before: (N, 3) positions one step ago; None at the start.
            thermostat: its temperature in K.
        """
        atoms = dynamics.atoms
        forces = atoms.calc.results["forces"]
        if not np.isfinite(atoms.calc.results["energy"]):
            return f"the energy at step {dynamics.nsteps} is not finite"
        if not (np.isfinite(forces).all() and np.isfinite(atoms.get_momenta()).all()):
            return f"forces or velocities at step {dynamics.nsteps} are not finite"
        limit = max(HOT, TIMES * thermostat) if self.temperature is None else self.temperature
        if (kelvin := atoms.get_temperature()) > limit:
            return f"the temperature is {kelvin:.3g} K, the limit {limit:g} K (--max-temperature)"
        norms = np.linalg.norm(forces, axis=1)
        if (largest := norms.max()) > self.force:
            return f"the force on {_atom(atoms, norms)} is {largest:.3g} eV/Å, the limit {self.force:g} (--max-force)"
        moved = np.zeros(1) if before is None else np.linalg.norm(atoms.positions - before, axis=1)
        if (largest := moved.max()) > self.step:
            return f"{_atom(atoms, moved)} moved {largest:.3g} Å in one step, the limit is {self.step:g} (--max-step)"
        return None


def close_contacts(atoms: ase.Atoms, trained: Mapping[str, float], cutoff: float) -> list[str]:
    """Pairs of elements that come closer than in the training data, a sentence each.

    Args:
        atoms: the structure.
        trained: the shortest distance in Å in the training data by pair of elements, ``"H-O"``, in the order of their
            atomic numbers. If it is empty, atoms closer than half the sum of their covalent radii are reported.
        cutoff: Å, up to which the training data were searched.
    """
    kinds = list(combinations_with_replacement(sorted({int(number) for number in atoms.numbers}), 2))
    if trained:
        bounds = {pair: trained.get(pair_name(*pair), cutoff) for pair in kinds}
    else:
        bounds = {(a, b): TOUCHING * float(covalent_radii[a] + covalent_radii[b]) for a, b in kinds}
    sentences = []
    for pair, (distance, i, j) in _shortest(atoms, max(bounds.values(), default=0.0)).items():
        if distance >= bounds[pair] - 1e-6:
            continue
        name = pair_name(*pair)
        if not trained:
            reason = f"less than half the sum of their covalent radii ({2 * bounds[pair]:.2f} Å)"
        elif name in trained:
            reason = f"the closest {name} contact in the training data is {bounds[pair]:.3f} Å"
        else:
            reason = f"the training data have no {name} contact within {cutoff:g} Å"
        sentences.append(
            f"atoms {i} and {j} ({name}) are {distance:.3f} Å apart, {reason}: forces between them are extrapolated"
        )
    return sentences


def overlapping(atoms: ase.Atoms) -> bool:
    """Whether two atoms are closer than :data:`OVERLAP` allows, or a position is not finite."""
    if not np.isfinite(atoms.positions).all():
        return True
    return bool(len(neighbor_list("i", atoms, natural_cutoffs(atoms, mult=OVERLAP))))


def trained_contacts(header: Mapping[str, Any]) -> dict[str, float]:
    """The shortest distance in Å by pair of elements in a model's training data; empty if its file does not say."""
    contacts = header.get("provenance", {}).get("shortest_contacts", {})
    return {str(pair): float(distance) for pair, distance in contacts.items()}


def _shortest(atoms: ase.Atoms, cutoff: float) -> dict[tuple[int, int], tuple[float, int, int]]:
    """Shortest distance by pair of atomic numbers, and the two atoms."""
    index, shift = edges(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
    vectors = atoms.positions[index[1]] - atoms.positions[index[0]] + shift @ atoms.cell.array
    distances = np.linalg.norm(vectors, axis=1)
    shortest: dict[tuple[int, int], tuple[float, int, int]] = {}
    for k in np.argsort(-distances):
        i, j = sorted((int(index[0, k]), int(index[1, k])))
        first, second = sorted((int(atoms.numbers[i]), int(atoms.numbers[j])))
        shortest[first, second] = (float(distances[k]), i, j)
    return shortest


def _atom(atoms: ase.Atoms, values: Floats) -> str:
    largest = int(values.argmax())
    return f"atom {largest} ({chemical_symbols[atoms.numbers[largest]]})"
