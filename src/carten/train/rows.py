"""Training on some rows of second derivatives (Hessians, Born charges, ..), drawn anew in each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from carten.data.dataset import Batch
from carten.errors import ConfigError
from carten.properties.derivatives import independent
from carten.properties.pairs import covered, draw_rows
from carten.properties.planning import Drawn, Partial
from carten.properties.potential import Potential
from carten.properties.recipes import Recipe, index_symmetry
from carten.train.loss import LossTerm


@dataclass(frozen=True)
class _RowSource:
    """What rows are drawn of.

    Args:
        pairs: whether a row is one component of one atom, else it is one component of a value of structures.
        chosen: the independent components.
        copies: for each component, which of the independent ones it equals but for its sign.
    """

    pairs: bool
    chosen: Sequence[int]
    copies: Sequence[int]


class SampledRows:
    """The rows that terms of a loss ask for.

    A property that is a derivative takes one pass over the network for each component of what is differentiated last:
    for the Hessian those of all forces, for Born charges and polarizabilities those of the polarization. Properties
    that are derivatives of the same share the passes: rows are drawn where all of them ask for some, as many as the one
    that asks for most.

    Args:
        terms: of the loss.
        model: that is trained.
        seed: of the run.

    Raises:
        ConfigError: a property that one pass gives whole is to have rows.
    """

    def __init__(self, terms: Sequence[LossTerm], model: Potential, seed: int = 0) -> None:
        self.seed = seed
        plan = model.planned(tuple(term.property.name for term in terms))
        asked = {term.property.name: term.rows for term in terms}
        asked_rows: dict[Partial, list[int | None]] = {}
        for name, recipe in plan.recipes.items():
            for k in range(len(recipe.wrt)):
                last = k == len(recipe.wrt) - 1
                asked_rows.setdefault((recipe.base, recipe.wrt[:k]), []).append(asked.get(name) if last else None)
        self._recipes = {name: recipe for name, recipe in plan.recipes.items() if name in asked}
        self._sources: dict[Partial, _RowSource] = {}
        for name in (name for name, number in asked.items() if number is not None):
            if name not in self._recipes:
                raise _no_rows(name, "no derivative")
            self._sources[_last(self._recipes[name])] = _source(name, self._recipes[name], model)
        counts = {
            source: [n for n in numbers if n is not None] for source, numbers in asked_rows.items() if all(numbers)
        }
        self._counts = {source: max(numbers) for source, numbers in counts.items()}

    def draw(self, batch: Batch, step: int) -> Drawn:
        """Rows for a step: see :attr:`carten.properties.planning.Drawn`.

        They depend on seed and step, and where structures have rows of their own, on the position in the data set:
        several processes draw what one draws.
        """
        seeds = [(self.seed, step, index) for index in batch.index.tolist()]
        drawn: dict[Partial, Tensor] = {}
        for place, count in self._counts.items():
            source = self._sources[place]
            if source.pairs:
                drawn[place] = draw_rows(batch.graph, len(source.copies), count, seeds)
            else:
                order = np.random.default_rng((self.seed, step)).permutation(len(source.chosen))
                drawn[place] = torch.from_numpy(order[:count])
        return drawn

    def restrict(self, batch: Batch, drawn: Drawn) -> Batch:
        """The batch without the labels of rows that were not drawn."""
        drawn_recipes = {name: recipe for name, recipe in self._recipes.items() if _last(recipe) in drawn}
        targets = dict(batch.targets)
        for name, recipe in drawn_recipes.items():
            targets[name] = self._restricted(batch, name, recipe, drawn[_last(recipe)])
        return replace(batch, targets=targets)

    def _restricted(self, batch: Batch, name: str, recipe: Recipe, rows: Tensor) -> Tensor:
        source, target = self._sources[_last(recipe)], batch.targets[name]
        if source.pairs:
            inside = covered(batch.graph, rows, len(source.copies))
        else:
            inside = torch.isin(torch.tensor(source.copies), rows).to(target.device).expand(len(target), -1)
        width = target[0].numel() // len(source.copies)
        entries = inside.unsqueeze(2).expand(*inside.shape, width).reshape(len(target), *target.shape[1:])
        return torch.where(entries.permute(0, *(1 + axis for axis in recipe.axes)), target, torch.nan)


def _last(recipe: Recipe) -> Partial:
    """The value or derivative that the last pass of a recipe differentiates."""
    return recipe.base, recipe.wrt[:-1]


def _source(name: str, recipe: Recipe, model: Potential) -> _RowSource:
    rows, variables = model.properties, model.variables
    symmetry = index_symmetry(rows[recipe.base], recipe.wrt[:-1], variables)
    pairs = rows[name].scope == "pair"
    of_atoms = rows[recipe.base].scope == "atom" or any(variables[wrt].scope == "atom" for wrt in recipe.wrt[:-1])
    if pairs:
        n = 3**symmetry.rank
        return _RowSource(True, range(n), range(n))
    chosen, copies, _ = independent(symmetry)
    if of_atoms or len(chosen) == 1:
        raise _no_rows(name, "others" if of_atoms else "one")
    return _RowSource(False, chosen, copies)


def _no_rows(name: str, takes: str) -> ConfigError:
    return ConfigError(
        f"properties.{name}.rows: expected a property that takes several passes over the network (second derivatives, "
        f"as the Hessian or Born charges), found one that takes {takes}: remove this key"
    )
