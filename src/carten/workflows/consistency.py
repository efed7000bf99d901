"""What holds for every potential: forces and stress are derivatives, nothing depends on the frame, energies add up."""

from __future__ import annotations

from collections.abc import Callable

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.units import GPa

from carten.data.structures import is_crystal
from carten.math.arrays import Floats
from carten.workflows.criteria import Check, judged, skipped
from carten.workflows.points import single_points

STEP = 1e-3
"""Å, and of strains a share."""
DIRECTIONS = 3
RATTLE = 0.08  # Å
APART = 50.0  # Å


def consistency_checks(name: str, atoms: ase.Atoms, calculator: BaseCalculator, seed: int = 0) -> list[Check]:
    """Checks of a structure, which is distorted at random.

    Args:
        name: of the structure.
        atoms: any.
        calculator: any of ASE.
        seed: of distortion and directions.
    """
    random = np.random.default_rng(seed)
    solid = is_crystal(atoms)
    distorted = ase.Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, info=dict(atoms.info))
    if solid:
        distorted = distorted.repeat(2) if len(atoms) <= 16 else distorted
    distorted.positions += RATTLE * random.standard_normal(distorted.positions.shape)
    (start,) = single_points([distorted], calculator)
    checks = [judged("gradient", name, _force_error(start, calculator, random))]
    if solid and "stress" in start.calc.results:
        checks.append(judged("stress", name, _stress_error(start, calculator, random)))
    else:
        reason = "the model has no stress" if solid else "not periodic in three directions"
        checks.append(skipped("stress", name, reason))
    checks.append(judged("symmetry", name, _frame_error(start, calculator, random)))
    return [*checks, judged("extensive", name, _extensive_error(start, calculator))]


def _slope(move: Callable[[float], ase.Atoms], calculator: BaseCalculator) -> float:
    """Derivative of the energy along a path, by differences of fourth order."""
    points = single_points([move(k * STEP) for k in (-2.0, -1.0, 1.0, 2.0)], calculator)
    energies = [atoms.get_potential_energy() for atoms in points]
    return float((energies[0] - 8.0 * energies[1] + 8.0 * energies[2] - energies[3]) / (12.0 * STEP))


def _force_error(start: ase.Atoms, calculator: BaseCalculator, random: np.random.Generator) -> float:
    errors = []
    for _ in range(DIRECTIONS):
        direction = random.standard_normal((len(start), 3))
        direction /= np.abs(direction).max()

        def move(step: float, direction: Floats = direction) -> ase.Atoms:
            moved: ase.Atoms = start.copy()
            moved.positions += step * direction
            return moved

        work = float(np.sum(start.get_forces() * direction))
        errors.append(abs(work + _slope(move, calculator)) / np.linalg.norm(direction))
    return float(max(errors))


def _stress_error(start: ase.Atoms, calculator: BaseCalculator, random: np.random.Generator) -> float:
    errors = []
    for _ in range(DIRECTIONS):
        strain = random.standard_normal((3, 3))
        strain = (strain + strain.T) / np.linalg.norm(strain + strain.T)

        def move(step: float, strain: Floats = strain) -> ase.Atoms:
            moved: ase.Atoms = start.copy()
            moved.set_cell(start.cell.array @ (np.eye(3) + step * strain), scale_atoms=True)
            return moved

        slope = _slope(move, calculator) / start.get_volume()
        errors.append(abs(float(np.sum(start.get_stress(voigt=False) * strain)) - slope) / GPa)
    return float(max(errors))


def _frame_error(start: ase.Atoms, calculator: BaseCalculator, random: np.random.Generator) -> float:
    """Turned, reflected and renumbered: the largest change of a force, or of the energy of an atom."""
    axes, _ = np.linalg.qr(random.standard_normal((3, 3)))
    improper = -axes * np.sign(np.linalg.det(axes))
    errors = []
    for turn in (improper, -improper):
        order = random.permutation(len(start))
        turned = start.copy()[order]
        turned.set_cell(start.cell.array @ turn.T)
        turned.positions = start.positions[order] @ turn.T
        (other,) = single_points([turned], calculator)
        errors.append(float(np.abs(other.get_forces() - start.get_forces()[order] @ turn.T).max()))
        errors.append(abs(other.get_potential_energy() - start.get_potential_energy()) / len(start))
    return float(max(errors))


def _extensive_error(start: ase.Atoms, calculator: BaseCalculator) -> float:
    if start.pbc.any():
        double = start * [2 if axis == int(np.argmax(start.pbc)) else 1 for axis in range(3)]
    else:
        other = start.copy()
        other.positions[:, 0] += APART
        double = start.copy() + other
    (twice,) = single_points([double], calculator)
    return float(abs(twice.get_potential_energy() - 2.0 * start.get_potential_energy()) / len(double))
