"""Energy terms from programs that give energies and gradients, but take no part in automatic differentiation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from carten.errors import ModelError
from carten.math.arrays import Array
from carten.math.lattice import complete_cell
from carten.model.graph import Graph
from carten.physics.names import CHARGE
from carten.physics.term import EnergyTerm, View

DIFFERENCE_STEP = 1e-4
"""Å, of the central differences of gradients that second derivatives are made of: the error is h^2 / 6 times the fourth
derivative of the energy, and round-off 1e-15 / h of the gradient; both below 1e-6 of the result."""


@dataclass(frozen=True)
class ProgramInput:
    """One structure as programs take it.

    Args:
        numbers: (N,) atomic numbers.
        positions: (N, 3) Å.
        cell: (3, 3) Å, complete: vectors along directions that are not periodic are made up.
        pbc: (3,) bool.
        charge: e.
    """

    numbers: Array
    positions: Array
    cell: Array
    pbc: Array
    charge: float


@dataclass(frozen=True)
class ProgramOutput:
    """What a program says of one structure.

    Args:
        energies: (N,) eV, of the atoms; zeros where they were not asked for.
        gradient: (N, 3) eV/Å, derivative of the energy of the structure in the positions.
        strain: (3, 3) eV, its derivative in a strain of positions and periodic cell vectors.
    """

    energies: Array
    gradient: Array
    strain: Array


class ExternalProgram(Protocol):
    """Something that knows the energy of structures, and if asked how atoms share it."""

    def __call__(self, structure: ProgramInput, shares: bool) -> ProgramOutput: ...


class ProgramTerm(EnergyTerm):
    """The energies that a program gives.

    They can be differentiated twice: first derivatives are those of the program, second derivatives central differences
    of these. The energy of one atom varies as an equal share of the energy of its structure does; energies of
    structures are exact.

    Args:
        program: called for one structure after the other, on the CPU.
    """

    def __init__(self, program: ExternalProgram) -> None:
        super().__init__()
        self.program = program

    def forward(self, view: View) -> Tensor:
        """(N,) eV."""
        graph = view.graph
        charges = graph.inputs.get(CHARGE)
        if charges is not None and charges.requires_grad:
            raise ModelError(f"{type(self.program).__name__} has no derivative with respect to {CHARGE}")
        energies: Tensor = _Energies.apply(graph.positions, graph.cell, _Calls(self.program, graph))  # type: ignore[no-untyped-call]
        return energies


class _Calls:
    """A program applied to the structures of a graph at other positions and cells."""

    def __init__(self, program: ExternalProgram, graph: Graph) -> None:
        self.program = program
        self.structure = graph.structure
        self.n_atoms = torch.bincount(graph.structure, minlength=graph.n_structures)
        charges = graph.inputs.get(CHARGE, torch.zeros(graph.n_structures))
        per_atom = np.split(_array(graph.numbers), np.cumsum(self.n_atoms.tolist())[:-1])
        self._fixed = list(zip(per_atom, _array(graph.pbc), charges.tolist(), strict=True))

    def __call__(self, positions: Tensor, cell: Tensor, shares: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Energies of atoms (N,) if asked for, gradients in positions (N, 3) and cells (S, 3, 3), float64."""
        places = np.split(_array(positions), np.cumsum(self.n_atoms.tolist())[:-1])
        energies, gradients, cells = [], [], []
        for (numbers, pbc, charge), place, vectors in zip(self._fixed, places, _array(cell), strict=True):
            complete = complete_cell(vectors, pbc)
            answer = self.program(ProgramInput(numbers, place, complete, pbc, charge), shares)
            rest = np.linalg.solve(complete.T, answer.strain - place.T @ answer.gradient)
            energies.append(answer.energies)
            gradients.append(answer.gradient)
            cells.append(np.where(pbc[:, None], rest, 0.0))
        arrays = (np.concatenate(energies), np.concatenate(gradients), np.stack(cells))
        return tuple(torch.as_tensor(value, dtype=torch.float64, device=positions.device) for value in arrays)  # type: ignore[return-value]


def _array(tensor: Tensor) -> Array:
    """On the CPU; numbers with a point in float64."""
    tensor = tensor.detach().cpu()
    return (tensor.to(torch.float64) if tensor.is_floating_point() else tensor).numpy()


class _Energies(torch.autograd.Function):
    """Energies of atoms in positions and cells."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, cell: Tensor, calls: _Calls) -> Tensor:
        energies, gradient, cells = calls(positions, cell, shares=True)
        ctx.save_for_backward(positions, cell, gradient, cells)
        ctx.calls = calls
        return energies

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        positions, cell, gradient, cells = ctx.saved_tensors
        share = grads[0] / ctx.calls.n_atoms[ctx.calls.structure]
        weight = share.new_zeros(len(cell)).index_add(0, ctx.calls.structure, share)
        gradients = _Gradients.apply(positions, cell, weight, gradient, cells, ctx.calls)  # type: ignore[no-untyped-call]
        return (*gradients, None)


class _Gradients(torch.autograd.Function):
    """Gradients of the energies of structures, each times a weight."""

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, Tensor]:
        positions, cell, weight, gradient, cells, calls = arguments
        ctx.save_for_backward(positions, cell, weight, gradient, cells)
        ctx.calls = calls
        weighted = gradient * weight[calls.structure, None], cells * weight[:, None, None]
        return weighted[0].to(positions.dtype), weighted[1].to(cell.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        positions, cell, weight, gradient, cells = ctx.saved_tensors
        structure = ctx.calls.structure
        along, cells_along = (grad.to(torch.float64) for grad in grads)
        sums = (cells * cells_along).sum((1, 2)).index_add(0, structure, (gradient * along).sum(1))
        length = cells_along.square().sum((1, 2)).index_add(0, structure, along.square().sum(1)).sqrt()
        step = torch.where(length > 0, DIFFERENCE_STEP / length, 0.0)
        moves = along * step[structure, None], cells_along * step[:, None, None]
        ends = [ctx.calls(positions + sign * moves[0], cell + sign * moves[1], shares=False) for sign in (1, -1)]
        factor = torch.where(length > 0, weight / (2 * step), 0.0)
        differences = [(ahead - behind) for ahead, behind in zip(ends[0][1:], ends[1][1:], strict=True)]
        of_positions, of_cells = differences[0] * factor[structure, None], differences[1] * factor[:, None, None]
        return of_positions.to(positions.dtype), of_cells.to(cell.dtype), sums.to(weight.dtype), None, None, None
