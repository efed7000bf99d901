"""Training on some rows of Hessians and other properties of pairs of atoms, drawn anew in each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from carten.data.dataset import Batch
from carten.properties.pairs import covered, draw
from carten.properties.potential import Potential
from carten.properties.recipes import recipe, variables
from carten.train.loss import Term


def draw_rows(terms: Sequence[Term], model: Potential, batch: Batch, step: int) -> Mapping[str, Tensor]:
    """Rows of each structure for every term that asks for some; the same for the same step."""
    generator = torch.Generator().manual_seed(step)
    return {
        term.property.name: draw(batch.graph, _components(term, model)[0], term.rows, generator)
        for term in terms
        if term.rows is not None
    }


def restrict(terms: Sequence[Term], model: Potential, batch: Batch, drawn: Mapping[str, Tensor]) -> Batch:
    """The batch without the labels of rows that were not drawn."""
    targets = dict(batch.targets)
    for term in terms:
        name = term.property.name
        if name in drawn:
            components, axes = _components(term, model)
            inside = covered(batch.graph, drawn[name], components)
            entries = inside.unsqueeze(2).expand(*inside.shape, 3**term.property.rank // components)
            entries = entries.reshape(len(inside), *term.property.shape).permute(0, *(1 + axis for axis in axes))
            targets[name] = torch.where(entries, targets[name], torch.nan)
    return replace(batch, targets=targets)


def _components(term: Term, model: Potential) -> tuple[int, tuple[int, ...]]:
    """Number of components a row is one of, and the order of axes of the property among those of the derivative."""
    told = variables(model.inputs.values())
    how = recipe(term.property, model.properties, told)
    return int(3 ** (term.property.rank - told[how.wrt[-1]].rank)), how.axes
