"""Hessians: of a model row by row and exact, of any other calculator by differences, with what symmetry saves."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import ase
import numpy as np
import torch
from ase.calculators.calculator import BaseCalculator

from carten.data.layouts import matrix
from carten.data.structures import read_inputs, require_known, structure_graph
from carten.interfaces.ase import Calculator
from carten.math.arrays import Array, Floats
from carten.model.graph import batch
from carten.properties.products import Products
from carten.workflows.results import Progress
from carten.workflows.symmetry import Operations, crystal_symmetry

ROWS = 30
"""Rows of a Hessian evaluated between two reports of progress."""
PASS = 2500
"""Edges whose row costs as much as a pass through the network does without any."""
MOST_EDGES = 50_000
"""Of all copies of a structure."""
STEP = 0.01
"""Displacement of central differences, Å."""


def hessian(
    atoms: ase.Atoms, calculator: BaseCalculator, progress: Progress | None = None, symmetry: bool = True
) -> Floats:
    """Second derivatives of the energy in the positions, (3N, 3N) eV/Å^2.

    Args:
        atoms: constraints do not count.
        calculator: :class:`carten.Calculator`, whose model is differentiated, or any other one of ASE, whose forces are
            differenced.
        progress: called with rows done and all.
        symmetry: whether rows of a crystal that its space group makes equal are evaluated once.

    Raises:
        ModelError: an element that the model does not know, or the model has no energy.
    """
    return matrix(force_constants(atoms, range(len(atoms)), calculator, progress, symmetry).reshape(-1, 3, 3))


def force_constants(
    atoms: ase.Atoms,
    rows: Sequence[int],
    calculator: BaseCalculator,
    progress: Progress | None = None,
    symmetry: bool = True,
) -> Floats:
    """Second derivatives of the energy in the positions of some atoms and of all, (len(rows), N, 3, 3) eV/Å^2.

    Arguments and errors are those of :func:`hessian`.
    """
    usable = symmetry and not (isinstance(calculator, Calculator) and calculator.model.inputs)
    operations = crystal_symmetry(atoms) if usable else None
    sources = np.arange(len(atoms)) if operations is None else operations.equivalent
    chosen = np.unique(sources[list(rows)])
    by_atom = dict(zip(chosen.tolist(), _evaluated(atoms, chosen, calculator, progress), strict=True))
    blocks = np.empty((len(rows), len(atoms), 3, 3))
    for number, atom in enumerate(rows):
        source = int(sources[atom])
        blocks[number] = by_atom[source] if atom == source else _image(by_atom[source], source, atom, operations)
    return blocks


def _image(blocks: Floats, source: int, atom: int, operations: Operations | None) -> Floats:
    """Rows of an atom from those of the one that an operation of the crystal brings there: R H R^T, atoms permuted."""
    if operations is None:
        raise ValueError("images need operations")
    rotation, images = operations.bringing(source, atom)
    result = np.empty_like(blocks)
    result[images] = rotation @ blocks @ rotation.T
    return result


def _evaluated(
    atoms: ase.Atoms, chosen: Array, calculator: BaseCalculator, progress: Progress | None
) -> Iterator[Floats]:
    """Rows (N, 3, 3) of each of the chosen atoms."""
    rows = (
        PairRows(atoms, calculator, "hessian", len(chosen))
        if isinstance(calculator, Calculator)
        else _ForceDifferences(atoms, calculator)
    )
    for first in range(0, len(chosen), rows.together):
        yield from rows.of(chosen[first : first + rows.together])
        if progress is not None:
            progress(3 * min(first + rows.together, len(chosen)), 3 * len(chosen))


class PairRows:
    """Exact rows of a property of pairs of atoms, as the Hessian: one pass back through the network each.

    What the rows are derivatives of is evaluated once. Small structures are evaluated as several copies of one, each of
    which gives a row in every pass. Of a committee rows are the mean, as its forces are.

    Args:
        atoms: with the inputs of the model.
        calculator: of a model.
        name: of the property.
        n_atoms: how many atoms' rows will be asked for.

    Raises:
        ModelError: an element that the model does not know, or it has no such property.
    """

    def __init__(self, atoms: ase.Atoms, calculator: Calculator, name: str, n_atoms: int) -> None:
        models = calculator.models
        first, formula = models[0], atoms.get_chemical_formula()
        require_known(atoms.numbers, first.elements, formula)
        values = read_inputs(atoms, first.inputs, calculator.inputs)
        graph = structure_graph(atoms, first.cutoff, values, formula).to(device=first.element_of.device)
        self.copies = _copies(3 * n_atoms, graph.n_edges)
        self.together = self.copies * max(1, ROWS // (3 * self.copies))
        self.n_atoms = graph.n_atoms
        self.products = [Products(model, batch([graph] * self.copies), name) for model in models]

    def of(self, chosen: Array) -> Floats:
        """Rows of some atoms, (len(chosen), N, k, k) for k components of an atom."""
        shape = self.products[0].shape
        width = math.prod(shape[1:])
        rows = (width * chosen[:, None] + np.arange(width)).ravel()
        values = np.empty((len(rows), self.n_atoms, width))
        for first in range(0, len(rows), self.copies):
            group = rows[first : first + self.copies]
            vectors = torch.zeros(self.copies, self.n_atoms * width)
            vectors[range(len(group)), group] = 1.0
            products = torch.stack([product(vectors.view(shape)) for product in self.products])
            by_copy = products.mean(dim=0).view(self.copies, self.n_atoms, width)
            values[first : first + len(group)] = by_copy[: len(group)].cpu().double().numpy()
        return values.reshape(len(chosen), width, self.n_atoms, width).transpose(0, 2, 1, 3)


def _copies(n_rows: int, n_edges: int) -> int:
    """Copies of a structure that give rows at least cost.

    A copy costs as much as three of its rows, and every pass as much as a row of :data:`PASS` edges besides.
    """
    cheapest = math.isqrt(n_rows * PASS // (3 * (n_edges + 1)))
    passes = math.ceil(n_rows / max(1, min(cheapest, MOST_EDGES // (n_edges + 1))))
    return math.ceil(n_rows / max(1, passes)) or 1


class _ForceDifferences:
    """Rows by central differences of forces."""

    together = 1

    def __init__(self, atoms: ase.Atoms, calculator: BaseCalculator) -> None:
        self.atoms = atoms.copy()
        self.atoms.set_constraint()
        self.atoms.calc = calculator

    def of(self, chosen: Array) -> Floats:
        blocks = np.empty((len(chosen), len(self.atoms), 3, 3))
        positions = self.atoms.positions.copy()
        for number, atom in enumerate(chosen):
            for axis in range(3):
                forces = []
                for sign in (1.0, -1.0):
                    self.atoms.positions = positions
                    self.atoms.positions[atom, axis] += sign * STEP
                    forces.append(self.atoms.get_forces())
                blocks[number, :, axis] = -(forces[0] - forces[1]) / (2.0 * STEP)
        self.atoms.positions = positions
        return blocks
