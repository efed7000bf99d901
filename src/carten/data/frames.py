"""Frames of many structures, made when they are asked for, and what is asked of all of them together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import overload

import numpy as np

from carten.data.collection import Collection
from carten.data.labels import Frame, Label, frame_from, needs_volume
from carten.data.progress import Say, silent
from carten.math.arrays import Array

SAMPLE, STRATUM = 20_000, 200
"""Structures that statistics are made of, and the least of each element and label among them."""


def unchanged(frame: Frame) -> Frame:
    """The frame itself."""
    return frame


@dataclass(frozen=True)
class Frames(Sequence[Frame]):
    """Some structures of a collection with labels and inputs; each is checked when it is read, those in memory at once.

    Args:
        collection: of structures.
        labels: of properties.
        inputs: of models.
        rows: (n,) which of the collection.
        weights: (n,) of each in a loss.
        remainder: what is done with each, as subtracting fixed terms.
    """

    collection: Collection
    labels: Sequence[Label]
    inputs: Sequence[Label]
    rows: Array
    weights: Array
    remainder: Callable[[Frame], Frame] = unchanged
    _kept: list[Frame] | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        collection: Collection,
        labels: Sequence[Label],
        inputs: Sequence[Label],
        weights: Array | None = None,
        remainder: Callable[[Frame], Frame] = unchanged,
    ) -> Frames:
        """Frames of the structures of a collection; those of weight 0 are left out."""
        weights = np.ones(len(collection)) if weights is None else weights
        rows = np.flatnonzero(weights)
        frames = cls(collection, labels, inputs, rows, weights[rows], remainder)
        if not collection.in_memory:
            return frames
        return replace(frames, _kept=[frames._make(number) for number in range(len(rows))])

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Frame: ...
    @overload
    def __getitem__(self, index: slice) -> Frames: ...
    def __getitem__(self, index: int | slice) -> Frame | Frames:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        number = range(len(self))[index]
        return self._make(number) if self._kept is None else self._kept[number]

    def __iter__(self) -> Iterator[Frame]:
        return (self[number] for number in range(len(self)))

    def take(self, numbers: Sequence[int] | Array) -> Frames:
        """Some of them."""
        chosen = np.asarray(numbers, dtype=np.int64)
        kept = None if self._kept is None else [self._kept[number] for number in chosen.tolist()]
        return replace(self, rows=self.rows[chosen], weights=self.weights[chosen], _kept=kept)

    @property
    def in_memory(self) -> bool:
        """Whether they are."""
        return self._kept is not None

    @property
    def n_atoms(self) -> Array:
        """(n,) numbers of atoms."""
        n_atoms: Array = self.collection.table.n_atoms[self.rows]
        return n_atoms

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that occur, ascending."""
        return self.collection.table.take(self.rows).elements

    def where(self, number: int) -> str:
        """File and frame."""
        return self.collection.where(int(self.rows[number]))

    def carries(self, label: Label) -> Array:
        """(n,) whether each has a label that means something."""
        table = self.collection.table
        carried = table.carries(label.keys)
        chosen: Array = carried[self.rows]
        return chosen & self.has_volume if needs_volume(label) else chosen

    @property
    def has_volume(self) -> Array:
        """(n,) whether each is periodic and its cell has a volume."""
        has_volume: Array = self.collection.table.has_volume[self.rows]
        return has_volume

    def n_edges(self, cutoff: float, say: Say = silent) -> Array:
        """(n,) numbers of edges within a cutoff, Å."""
        n_edges: Array = self.collection.geometry(cutoff, say).n_edges[self.rows]
        return n_edges

    def signatures(self, cutoff: float, say: Say = silent) -> Array:
        """(n, 17) signatures of the geometries within a cutoff, Å, see :mod:`carten.data.geometry`."""
        signatures: Array = self.collection.geometry(cutoff, say).signatures[self.rows]
        return signatures

    def sample(self, most: int = SAMPLE) -> Frames:
        """At most so many, drawn at random, the same each time, with some of each element, label and single atoms.

        They are kept in memory.
        """
        if len(self) <= most:
            return self if self.in_memory else replace(self, _kept=list(self))
        rng = np.random.default_rng(0)
        order = rng.permutation(len(self))
        chosen = np.zeros(len(self), dtype=bool)
        chosen[order[:most]] = True
        table = self.collection.table
        strata = [table.has_element(number)[self.rows] for number in self.elements]
        for stratum in (*strata, *(self.carries(label) for label in self.labels)):
            chosen[order[stratum[order]][:STRATUM]] = True
        single = np.flatnonzero(self.n_atoms == 1)
        chosen[single[:most]] = True
        drawn = self.take(np.flatnonzero(chosen))
        return drawn if drawn.in_memory else replace(drawn, _kept=list(drawn))

    def _make(self, number: int) -> Frame:
        where, atoms = self.collection[int(self.rows[number])]
        frame = frame_from(atoms, self.labels, self.inputs, where)
        weight = float(self.weights[number])
        return self.remainder(frame if weight == 1.0 else replace(frame, weight=weight))
