"""Indices that gather rows to sites and scatter sites to rows."""

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
        ascending = self.values if self.order is None else self.values[self.order]
        return torch.searchsorted(ascending, torch.arange(self.rows + 1, device=ascending.device))

    @cached_property
    def inverse(self) -> Tensor | None:
        """Undoes :attr:`order`."""
        return None if self.order is None else torch.argsort(self.order)

    @cached_property
    def counts(self) -> list[int]:
        """Number of sites of each row; the host waits for it."""
        counts: list[int] = torch.bincount(self.values, minlength=self.rows).tolist()
        return counts

    def unchecked(self, n_sites: int) -> int:
        """Address of the values, for code that looks whether they are in range.

        Raises:
            ValueError: the values are not contiguous int64, or not ``n_sites``.
        """
        if self._count != n_sites:
            raise ValueError(f"an index has {self._count} values, expected one for each of {n_sites} sites")
        return self.values.data_ptr()

    def address(self, n_sites: int) -> int:
        """Address of the values, for code that trusts them.

        Raises:
            ValueError: the values are not what this class promises, or not ``n_sites``.
        """
        address = self.unchecked(n_sites)
        self.check()
        return address

    def check(self) -> None:
        """Look at the values, the first time; on a GPU, without waiting for it.

        Raises:
            ValueError: the values are out of range, or not sorted though declared ascending. On a GPU the program stops
                with this message later.
        """
        _ = self._checked

    @cached_property
    def _count(self) -> int:
        """Number of values."""
        values = self.values
        if values.dtype != torch.int64 or values.dim() != 1 or not values.is_contiguous():
            raise ValueError(
                f"an index has to be contiguous int64 of one axis, found {values.dtype} of {tuple(values.shape)}"
            )
        return len(values)

    @property
    def is_right(self) -> Tensor:
        """Whether the values are in range and sorted, where they are."""
        right = ((self.values >= 0) & (self.values < self.rows)).all()
        return right & (self.values[1:] >= self.values[:-1]).all() if self.ascending else right

    @cached_property
    def _checked(self) -> bool:
        values = self.values
        if values.is_cuda:
            torch._assert_async(self.is_right, f"an index into {self.rows} rows has other values, or is not sorted")
        elif len(values):
            low, high = (int(x) for x in torch.aminmax(values))
            if low < 0 or high >= self.rows:
                raise ValueError(f"an index into {self.rows} rows has values from {low} to {high}")
            if self.ascending and bool((values[1:] < values[:-1]).any()):
                raise ValueError("an index that was declared ascending is not sorted")
        return True
