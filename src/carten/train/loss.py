"""The training loss: one sum over the rows of the property table."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from carten.data.dataset import Batch
from carten.properties.branches import nearest_branch
from carten.properties.pairs import AtomPairs
from carten.properties.routes import Property

Predictions = Mapping[str, Tensor]


@dataclass(frozen=True)
class LossTerm:
    """What one property adds to the loss.

    Args:
        property: the row of the table.
        weight: factor of this term.
        kind: penalty of an error, a key of :data:`PENALTIES`.
        delta: where the Huber penalty turns from squared to absolute, in the property's unit (per atom if extensive).
        rows: of a second derivative, drawn anew in each step; all when absent.
    """

    property: Property
    weight: float = 1.0
    kind: str = "squared"
    delta: float = 0.01
    rows: int | None = None


def _squared(error: Tensor, _: float) -> Tensor:
    return error.square()


def _absolute(error: Tensor, _: float) -> Tensor:
    return error.abs()


def _huber(error: Tensor, delta: float) -> Tensor:
    return functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def _vector_norm(error: Tensor, _: float) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(error, dim=-1, keepdim=True)
    return norm


PENALTIES: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "squared": _squared,
    "absolute": _absolute,
    "huber": _huber,
    "vector_norm": _vector_norm,
}
"""Penalties of errors (rows, components): of each component, or of the norm over all components of a row."""


def errors(row: Property, predictions: Predictions, batch: Batch) -> Tensor:
    """Prediction minus label of one property, (rows, components) float64, NaN where there is no label.

    Dipoles of periodic cells are compared up to whole quanta of polarization.
    """
    target = batch.targets[row.name]
    predicted = nearest_branch(row, predictions[row.name], target, batch.graph)
    return (predicted - target).reshape(target.shape[0], -1)


def structure_of_rows(row: Property, batch: Batch) -> Tensor:
    """The structure that each row of a property belongs to."""
    graph = batch.graph
    if row.scope == "structure":
        return torch.arange(graph.n_structures, device=graph.structure.device)
    return graph.structure if row.scope == "atom" else AtomPairs.of(graph).structure()


def atoms_per_structure(batch: Batch) -> Tensor:
    """Number of atoms of each structure, (S, 1) float64."""
    structure = batch.graph.structure
    count = torch.zeros(batch.graph.n_structures, 1, dtype=torch.float64, device=structure.device)
    return count.index_add_(0, structure, count.new_ones(()).expand(structure.shape[0], 1))


def loss_terms(terms: Sequence[LossTerm], predictions: Predictions, batch: Batch) -> Tensor:
    """Sum of penalties and number of labelled entries of every term, (terms, 2) float64.

    ``sum_rows weight[structure] * penalty(error)`` over the rows that carry the label. The error of an extensive
    property of a structure is divided by its number of atoms. Rows are structures or atoms; entries are components,
    except for the vector norm, where they are rows.
    """
    atoms = atoms_per_structure(batch)
    return torch.stack([_term(term, predictions, batch, atoms) for term in terms])


def _term(term: LossTerm, predictions: Predictions, batch: Batch, atoms: Tensor) -> Tensor:
    row = term.property
    labelled = ~batch.targets[row.name].isnan().reshape(batch.targets[row.name].shape[0], -1)
    error = torch.where(labelled, errors(row, predictions, batch), 0.0)
    if row.extensive:
        error = error / atoms
    penalty = PENALTIES[term.kind](error, term.delta)
    weight = batch.weight if row.scope == "structure" else batch.weight[structure_of_rows(row, batch)]
    entries = labelled if penalty.shape == labelled.shape else labelled.any(-1)
    return torch.stack([(penalty * weight[:, None]).sum(), entries.sum().to(penalty.dtype)])


def combine(terms: Sequence[LossTerm], sums: Tensor) -> Tensor:
    """The loss ``sum_terms weight * sum / count`` from the sums of :func:`loss_terms`, added over any batches."""
    weights = torch.tensor([term.weight for term in terms], dtype=sums.dtype, device=sums.device)
    return (weights * sums[:, 0] / sums[:, 1].clamp(min=1.0)).sum()
