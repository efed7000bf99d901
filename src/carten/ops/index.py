"""Indices that gather rows to sites and scatter sites to rows, with the orderings that make scattering free of races."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Index:
    """Row of an array for every site.

    Args:
        values: (n_sites,) int64, contiguous.
        rows: number of rows of the array; every value lies in ``range(rows)``.
        ascending: whether the values are known to be sorted.
    """

    values: Tensor
    rows: int
    ascending: bool = False

    @cached_property
    def order(self) -> Tensor | None:
        """Sites sorted by row (stable), int64; ``None`` when they are already in order."""
        return None if self.ascending else torch.argsort(self.values, stable=True)

    @cached_property
    def pointers(self) -> Tensor:
        """(rows + 1,) int64: sites of row r are ``order[pointers[r]:pointers[r + 1]]``."""
        counts = torch.bincount(self.values, minlength=self.rows)
        return torch.nn.functional.pad(torch.cumsum(counts, 0), (1, 0))
