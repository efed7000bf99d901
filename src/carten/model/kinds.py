"""The kind (element) of every atom, for weights that differ from kind to kind."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from carten.ops.index import Index


@dataclass(frozen=True, eq=False)
class Kinds:
    """Kind of each of N atoms.

    Args:
        index: (N,) row of the kind; rows are the kinds of the model.
    """

    index: Index

    @cached_property
    def one(self) -> Kinds:
        """The same atoms, all of a single kind."""
        return Kinds(Index(torch.zeros_like(self.index.values), 1, ascending=True))

    @cached_property
    def order(self) -> Tensor:
        """Atoms sorted by kind."""
        return torch.argsort(self.index.values, stable=True)

    @cached_property
    def inverse(self) -> Tensor:
        """Undoes :attr:`order`."""
        return torch.argsort(self.order)

    @cached_property
    def counts(self) -> list[int]:
        """Number of atoms of each kind."""
        counts: list[int] = torch.bincount(self.index.values, minlength=self.index.rows).tolist()
        return counts
