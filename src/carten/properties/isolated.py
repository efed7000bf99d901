"""What a model says of isolated atoms, beside their reference energies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from ase.data import chemical_symbols

from carten.model.conditions import Input
from carten.model.graph import Graph
from carten.physics.names import CHARGE
from carten.properties.planning import ENERGIES
from carten.properties.potential import Potential

NOTICED = 1e-3
"""eV, by which the energy of an isolated atom may differ from its reference energy without a word."""


@dataclass(frozen=True)
class IsolatedAtom:
    """Energies of an atom without neighbours, eV.

    Args:
        number: atomic number.
        predicted: by the model, at the defaults of its inputs and no charge.
        reference: E0, to which the network adds what it does not know to vanish.
    """

    number: int
    predicted: float
    reference: float

    def __str__(self) -> str:
        return f"{chemical_symbols[self.number]} {self.predicted:.3f} (E0 {self.reference:.3f})"


def isolated_predictions(model: Potential) -> Mapping[str, list[IsolatedAtom]]:
    """Energies of isolated atoms by the level of theory, ``""`` where a model has one.

    There are none where the model has no energy, or an input that has no default.
    """
    if ENERGIES not in model.heads:
        return {}
    level = model.levels
    other_inputs = [row for row in model.inputs.values() if level is None or row.name != level.name]
    if any(row.default is None and row.name != CHARGE for row in other_inputs):
        return {}
    names = [""] if level is None else [str(value) for value in level.values]
    references = model.heads[ENERGIES].get_buffer("reference")[:, 0].view(len(names), -1).tolist()
    was_training = model.training
    model.eval()
    try:
        by_level = {}
        for k, name in enumerate(names):
            energies = model(_apart(model, {} if level is None else {level.name: k}), ["energies"])["energies"].tolist()
            by_level[name] = [IsolatedAtom(*one) for one in zip(model.elements, energies, references[k], strict=True)]
        return by_level
    finally:
        model.train(was_training)


def surprises(model: Potential) -> list[str]:
    """A line for each level of theory at which isolated atoms do not have their reference energies, where they have."""
    lines = []
    for level, atoms in isolated_predictions(model).items():
        others = [atom for atom in atoms if atom.reference and abs(atom.predicted - atom.reference) > NOTICED]
        if others:
            lines.append(
                f"isolated atoms by the model (eV){level and ' '}{level}: {', '.join(map(str, others))}; the network "
                "adds what it learned of atoms with neighbours: subtract E0, not these, for energies of atomization"
            )
    return lines


def _apart(model: Potential, category: Mapping[str, int]) -> Graph:
    """One structure of one atom for each element."""
    n, device = len(model.elements), model.element_of.device
    zeros = torch.zeros(n, 3, dtype=torch.float64, device=device)
    inputs = {name: torch.full((n,), value, device=device) for name, value in category.items()}
    if (charge := model.inputs.get(CHARGE)) is not None and charge.default is None:
        inputs[CHARGE] = _zeros(charge, n, device)
    return Graph(
        positions=zeros,
        numbers=torch.tensor(model.elements, device=device),
        cell=torch.zeros(n, 3, 3, dtype=torch.float64, device=device),
        pbc=torch.zeros(n, 3, dtype=torch.bool, device=device),
        structure=torch.arange(n, device=device),
        edge_index=torch.zeros(2, 0, dtype=torch.int64, device=device),
        edge_shift=torch.zeros(0, 3, dtype=torch.float64, device=device),
        inputs=inputs,
    )


def _zeros(row: Input, n: int, device: torch.device) -> torch.Tensor:
    return torch.zeros(n, *row.shape, dtype=torch.float64, device=device)
