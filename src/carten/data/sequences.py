"""Sequences whose items are made when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from typing import TypeVar, overload

T = TypeVar("T")


class LazySequence(Sequence[T]):
    """Items one by one; a slice is a list of them."""

    @abstractmethod
    def item(self, number: int) -> T:
        """The item of a number from 0 to less than the length."""

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        chosen = range(len(self))[index]
        return self.item(chosen) if isinstance(chosen, int) else [self.item(number) for number in chosen]


class Chained(LazySequence[T]):
    """Sequences one after another; none is copied."""

    def __init__(self, *parts: Sequence[T]) -> None:
        self.parts = parts
        self.starts = list(accumulate(map(len, parts), initial=0))

    def __len__(self) -> int:
        return self.starts[-1]

    def item(self, number: int) -> T:
        part, inner = self.place(number)
        return part[inner]

    def place(self, number: int) -> tuple[Sequence[T], int]:
        """The sequence that an item is in, and its number there."""
        part = bisect(self.starts, number) - 1
        return self.parts[part], number - self.starts[part]
