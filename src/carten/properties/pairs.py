"""Properties of pairs of atoms, such as the Hessian: derivatives of values of atoms with respect to atoms.

Values are kept for every ordered pair (a, b) of atoms of a structure: structure by structure, a before b. A *row* is
one component of one atom a, with all b: one pass over the network gives one row of every structure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from carten.model.graph import Graph
from carten.model.slopes import slopes


@dataclass(frozen=True)
class AtomPairs:
    """AtomPairs of atoms of a batch.

    Args:
        counts: (S,) number of atoms of each structure.
        first_atom: (S,) first atom of each structure.
        first_pair: (S,) first pair of each structure.
    """

    counts: Tensor
    first_atom: Tensor
    first_pair: Tensor

    @classmethod
    def of(cls, graph: Graph) -> AtomPairs:
        """The pairs of a graph."""
        counts = torch.bincount(graph.structure, minlength=graph.n_structures)
        return cls(counts, counts.cumsum(0) - counts, counts.square().cumsum(0) - counts.square())

    @property
    def n_pairs(self) -> int:
        return int(self.counts.square().sum())

    def structure(self) -> Tensor:
        """(P,) structure of each pair."""
        return torch.repeat_interleave(self.counts.square())

    def atoms(self) -> tuple[Tensor, Tensor]:
        """(P,) both atoms of every pair."""
        structure = self.structure()
        inside = torch.arange(len(structure), device=structure.device) - self.first_pair[structure]
        counts, first = self.counts[structure], self.first_atom[structure]
        return first + inside // counts, first + inside % counts

    def all_rows(self, components: int) -> Tensor:
        """(S, k) every row of every structure, ``a * components + component``; -1 where there is none."""
        rows = torch.arange(int(self.counts.max()) * components, device=self.counts.device)
        return torch.where(rows < components * self.counts[:, None], rows, -1)


def draw_rows(graph: Graph, components: int, count: int, seeds: Sequence[Sequence[int]]) -> Tensor:
    """``count`` different rows of each structure at random, (S, count); -1 where a structure has fewer.

    Those of a structure depend on its seed, S of which are given, and not on the others.
    """
    counts = torch.bincount(graph.structure, minlength=graph.n_structures).tolist()
    drawn = torch.full((len(counts), count), -1)
    for k, (n_atoms, seed) in enumerate(zip(counts, seeds, strict=True)):
        chosen = np.random.default_rng(seed).permutation(n_atoms * components)[:count]
        drawn[k, : len(chosen)] = torch.from_numpy(chosen)
    return drawn.to(graph.structure.device)


def covered(graph: Graph, rows: Tensor, components: int) -> Tensor:
    """(P, components) whether a row is among those drawn."""
    pairs = AtomPairs.of(graph)
    inside = torch.zeros(graph.n_atoms, components, dtype=torch.bool, device=rows.device)
    place = pairs.first_atom[:, None] * components + rows
    inside.view(-1)[place[rows >= 0]] = True
    atom, _ = pairs.atoms()
    return inside[atom]


def derivative(
    value: Tensor, wrt: Tensor, graph: Graph, rows: Tensor | None, description: str, create: bool, retain: bool
) -> Tensor:
    """Derivative of values of atoms with respect to atoms, (N, a..) and (N, b..) to (P, a.., b..).

    Args:
        value: differentiated.
        wrt: with respect to this.
        graph: tells which atoms belong to a structure.
        rows: (S, k) rows wanted of each structure, -1 for none; all when absent. What is not wanted is NaN.
        description: of the derivative, for errors.
        create: whether the result will be differentiated.
        retain: whether other derivatives follow.

    Raises:
        ModelError: see :func:`carten.model.slopes.slopes`.
    """
    pairs = AtomPairs.of(graph)
    components = math.prod(value.shape[1:])
    flat = value.reshape(graph.n_atoms, components)
    rows = pairs.all_rows(components) if rows is None else rows
    local = torch.arange(graph.n_atoms, device=wrt.device) - pairs.first_atom[graph.structure]
    width = math.prod(wrt.shape[1:])
    results, positions_of_results = [], []
    for k in range(rows.shape[1]):
        row = rows[:, k]
        drawn = row >= 0
        atom, component = (pairs.first_atom + row // components)[drawn], (row % components)[drawn]
        keep = create or retain or k < rows.shape[1] - 1
        (result,) = slopes(flat[atom, component], [wrt], description, create, keep)
        of_structures = drawn[graph.structure]
        structure = graph.structure[of_structures]
        pair = (
            pairs.first_pair[structure] + row[structure] // components * pairs.counts[structure] + local[of_structures]
        )
        results.append(result[of_structures].reshape(-1, width))
        positions_of_results.append(pair * components + row[structure] % components)
    empty = value.new_full((pairs.n_pairs * components, width), torch.nan)
    filled = empty.index_copy(0, torch.cat(positions_of_results), torch.cat(results)) if results else empty
    return filled.reshape(pairs.n_pairs, *value.shape[1:], *wrt.shape[1:])
