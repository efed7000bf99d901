"""Energies of many structures as they are."""

from __future__ import annotations

from collections.abc import Sequence

import ase
from ase.calculators.calculator import BaseCalculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress

from carten.data.structures import is_crystal, require_known
from carten.deploy import Deployed
from carten.workflows.crowd import Crowd
from carten.workflows.relax import choose_evaluator


def single_points(structures: Sequence[ase.Atoms], calculator: BaseCalculator) -> list[ase.Atoms]:
    """Copies with energy, forces and, in a cell, stress as results: evaluated in one batch where the model allows it.

    Args:
        structures: any; constraints do not count.
        calculator: any of ASE.

    Raises:
        ModelError: an element that the model does not know.
        DataError: a structure is impossible.
    """
    evaluator = choose_evaluator(calculator, structures)
    if isinstance(evaluator, Deployed):
        return _together(structures, evaluator) if structures else []
    return [_alone(atoms, calculator) for atoms in structures]


def _together(structures: Sequence[ase.Atoms], model: Deployed) -> list[ase.Atoms]:
    for number, atoms in enumerate(structures):
        require_known(atoms.numbers, model.elements, f"structure {number} ({atoms.get_chemical_formula()})")
    copies = [atoms.copy() for atoms in structures]
    crowd = Crowd(model, copies)
    values = crowd.evaluate()
    for k, atoms in enumerate(copies):
        results = {"energy": float(values.energies[k]), "forces": values.forces[crowd.first[k] : crowd.first[k + 1]]}
        if is_crystal(atoms):
            results["stress"] = full_3x3_to_voigt_6_stress(-values.virials[k] / atoms.get_volume())
        atoms.calc = SinglePointCalculator(atoms, **results)
    return copies


def _alone(atoms: ase.Atoms, calculator: BaseCalculator) -> ase.Atoms:
    copy: ase.Atoms = atoms.copy()
    copy.calc = calculator
    results = {"energy": float(copy.get_potential_energy()), "forces": copy.get_forces(apply_constraint=False)}
    if is_crystal(copy) and "stress" in calculator.implemented_properties:
        results["stress"] = copy.get_stress(apply_constraint=False)
    copy.calc = SinglePointCalculator(copy, **results)
    return copy
