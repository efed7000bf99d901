"""A model as a potential of openmm-ml."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import openmm
from openmmml.mlpotential import MLPotentialImpl

from carten.data.structures import require_known
from carten.errors import ModelError
from carten.interfaces.openmm import ModelForce
from carten.pretrained import located
from carten.properties.io import load
from carten.properties.potential import Potential

ENERGY_TYPES = ("interaction", "total")
SHORTHANDS = {"charge": "total_charge", "multiplicity": "spin_multiplicity"}
"""Arguments that other potentials of openmm-ml have, and the inputs that they are."""


class ModelPotential(MLPotentialImpl):  # type: ignore[misc]
    """A model as a potential of openmm-ml.

    Args:
        model: a ``.carten`` file.

    Raises:
        ModelFileError: the file is no model.
        ModelError: the model has no energies.
    """

    def __init__(self, model: str | Path) -> None:
        self.path = located(model).resolve()
        self.model: Potential = load(self.path)
        if not {"energy", "forces"} <= {*self.model.properties}:
            raise ModelError(f"{model} has no energies and forces, it predicts {', '.join(self.model.requested)}")

    def addForces(
        self,
        topology: openmm.app.Topology,
        system: openmm.System,
        atoms: Iterable[int] | None,
        forceGroup: int,
        dtype: str | None = None,
        device: str | None = None,
        energy_type: str = "interaction",
        inputs: Mapping[str, npt.ArrayLike] | None = None,
        **shorthand_values: Any,
    ) -> None:
        """Add the force of the model to a system.

        Args:
            topology: of all atoms; periodic where it has box vectors, or the system is.
            system: to which the force is added.
            atoms: the atoms that the model is for, in any order; all by default.
            forceGroup: of the force.
            dtype: see :class:`carten.Calculator`.
            device: see there.
            energy_type: ``"interaction"``, without the reference energies of the atoms, which are so large that they
                would swamp energies of force fields; or ``"total"``. Forces are the same.
            inputs: values of the inputs of the model, e.g. ``{"total_charge": 1}``.
            **shorthand_values: ``charge`` and ``multiplicity``, as other potentials have them.

        Raises:
            ModelError: an element or an input that the model does not know.
            ValueError: an unknown argument, or an atom without an element.
        """
        if energy_type not in ENERGY_TYPES:
            raise ValueError(f"energy_type must be one of {', '.join(ENERGY_TYPES)}, found {energy_type!r}")
        if unknown := [name for name in shorthand_values if name not in SHORTHANDS]:
            raise ValueError(f"createSystem of a carten model takes no argument {unknown[0]!r}")
        everything = {**(inputs or {}), **{SHORTHANDS[name]: value for name, value in shorthand_values.items()}}
        _require_inputs(self.model, everything)
        selected = None if atoms is None else list(atoms)
        numbers = _numbers(topology, selected)
        periodic = topology.getPeriodicBoxVectors() is not None or system.usesPeriodicBoundaryConditions()
        offset = reference_energy(self.model, numbers, everything) if energy_type == "interaction" else 0.0
        evaluate = ModelForce(self.path, numbers, periodic, offset, dtype, device, everything)
        evaluate.atoms()  # what is wrong with the arguments is said now
        force = openmm.PythonForce(evaluate)
        force.setName(f"carten {self.path.name}, {energy_type} energy")
        force.setForceGroup(forceGroup)
        force.setUsesPeriodicBoundaryConditions(periodic)
        if selected is not None:
            force.setParticles(selected)
        system.addForce(force)

    def getMLLongRange(self) -> bool:
        """Whether atoms beyond the cutoff of the network act on each other directly."""
        return any(not config.local for config in self.model.term_configs)


def reference_energy(model: Potential, numbers: Sequence[int], inputs: Mapping[str, Any]) -> float:
    """Sum of the energies E0 of isolated atoms that the model has, in eV."""
    head = model.heads["energies"]
    references = head.get_buffer("reference")[:, 0].tolist()
    level = 0
    if model.levels is not None:
        value = inputs.get(model.levels.name, model.inputs[model.levels.name].default)
        level = [str(name) for name in model.levels.values].index(str(value))
    rows = {number: row for row, number in enumerate(model.elements)}
    require_known(np.array(numbers), model.elements, "the atoms of the model")
    return float(sum(references[level * len(rows) + rows[number]] for number in numbers))


def _require_inputs(model: Potential, inputs: Mapping[str, Any]) -> None:
    names = ", ".join(model.inputs) or "none"
    if unknown := [name for name in inputs if name not in model.inputs]:
        raise ModelError(f"the model has no input {unknown[0]!r}; it has: {names}")
    if missing := [name for name, row in model.inputs.items() if row.default is None and name not in inputs]:
        raise ModelError(f"the model needs {missing[0]}: createSystem(topology, inputs={{{missing[0]!r}: ...}})")


def _numbers(topology: openmm.app.Topology, selected: Sequence[int] | None) -> list[int]:
    atoms = list(topology.atoms())
    chosen = atoms if selected is None else [atoms[index] for index in selected]
    for atom in chosen:
        if atom.element is None:
            raise ValueError(
                f"atom {atom.index} ({atom.name}) has no element, as virtual sites have none: the model can't have it"
            )
    return [atom.element.atomic_number for atom in chosen]
