"""Which structures make up a batch: bounded by structures, atoms and edges, and the same in a resumed run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from torch.utils.data import DataLoader, Sampler

from carten.data.dataset import Dataset, Sample, collate
from carten.errors import ConfigError, DataError
from carten.math.arrays import Array


@dataclass(frozen=True)
class Bounds:
    """The most a batch may hold; several bounds apply together."""

    structures: int | None = None
    atoms: int | None = None
    edges: int | None = None

    def __post_init__(self) -> None:
        bounds = [bound for bound in (self.structures, self.atoms, self.edges) if bound is not None]
        if not bounds or min(bounds) < 1:
            raise ConfigError(
                "a batch is bounded by one or more of structures, atoms, edges, each at least 1; "
                f"found structures: {self.structures}, atoms: {self.atoms}, edges: {self.edges}"
            )


class Mixture:
    """How often the structures of each group come in a pass over the data.

    A group of n structures of which k are drawn in a pass is gone through in one permutation after another, k
    structures in each pass: in the long run all of its structures come equally often.

    Args:
        codes: (n,) the group of each structure.
        factors: by group, of its number of structures; 1 for all is the data as they are.
    """

    def __init__(self, codes: Array, factors: Sequence[float]) -> None:
        self._codes, self._factors = codes, factors
        self._members = [np.flatnonzero(codes == group) for group in range(len(factors))]
        self.draws = [round(len(part) * factor) for part, factor in zip(self._members, factors, strict=True)]

    def with_more(self, count: int) -> Mixture:
        """With further structures at the end, each of which comes once."""
        codes = np.concatenate([self._codes, np.full(count, len(self._factors))])
        return Mixture(codes, [*self._factors, 1.0])

    def order(self, seed: int, number: int) -> Array:
        """The structures of a pass, shuffled."""
        drawn = [self._drawn(group, seed, number) for group in range(len(self.draws))]
        shuffled: Array = np.random.default_rng([seed, number]).permutation(np.concatenate(drawn))
        return shuffled

    def _drawn(self, group: int, seed: int, number: int) -> Array:
        members, count = self._members[group], self.draws[group]
        if not count:
            return members[:0]
        first, last = number * count, (number + 1) * count
        rounds = range(first // len(members), -(-last // len(members)))
        orders = [np.random.default_rng([seed, group, k]).permutation(len(members)) for k in rounds]
        start = first - rounds[0] * len(members)
        drawn: Array = members[np.concatenate(orders)[start : start + count]]
        return drawn


class BatchList(Sequence[list[int]]):
    """Batches of indices: an order, and where each batch begins in it.

    Args:
        order: indices of structures.
        starts: where batches begin, and the end of the last.
    """

    def __init__(self, order: Array, starts: Array) -> None:
        self._order, self._starts = order, starts

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> list[int]: ...
    @overload
    def __getitem__(self, index: slice) -> BatchList: ...
    def __getitem__(self, index: int | slice) -> list[int] | BatchList:
        if isinstance(index, slice):
            first, last, _ = index.indices(len(self))
            return BatchList(self._order, self._starts[first : max(first, last) + 1])
        number = range(len(self))[index]
        batch: list[int] = self._order[self._starts[number] : self._starts[number + 1]].tolist()
        return batch

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @property
    def largest(self) -> int:
        """Structures in the largest batch."""
        return int(np.diff(self._starts).max(initial=0))


class BatchSampler(Sampler[list[int]]):
    """Batches of indices, shuffled again in every epoch.

    The batches are a pure function of (sizes, bounds, seed, epoch): a run that stopped in epoch e after k batches sees
    the same batches after ``set_epoch(e, position=k)``. Iterating does not advance the state, the training loop does,
    so that batches a ``DataLoader`` fetched in advance do not count as seen.

    Args:
        dataset: the structures.
        bounds: the most a batch may hold.
        seed: of the order.
        shuffle: otherwise batches are filled in the order of the data set.
        mixture: how often groups come; once by default.

    Raises:
        DataError: a single structure is larger than a bound.
    """

    def __init__(
        self, dataset: Dataset, bounds: Bounds, seed: int = 0, shuffle: bool = True, mixture: Mixture | None = None
    ) -> None:
        self._count = len(dataset)
        self._columns = _columns(dataset, bounds)
        self.seed = seed
        self.shuffle = shuffle
        self.mixture = mixture
        self.epoch = 0
        self.position = 0
        self._filled: tuple[int, BatchList] | None = None

    def set_epoch(self, epoch: int, position: int = 0) -> None:
        """Go to an epoch, after its first ``position`` batches."""
        self.epoch, self.position = epoch, position

    def batches(self, epoch: int) -> BatchList:
        """All batches of an epoch."""
        if self._filled is None or self._filled[0] != epoch:
            order = self._order(epoch)
            self._filled = (epoch, BatchList(order, _starts(order, self._columns)))
        return self._filled[1]

    def _order(self, epoch: int) -> Array:
        if not self.shuffle:
            return np.arange(self._count)
        if self.mixture is not None:
            return self.mixture.order(self.seed, epoch)
        return np.random.default_rng([self.seed, epoch]).permutation(self._count)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches(self.epoch)[self.position :])

    def __len__(self) -> int:
        """Batches that remain in the epoch; bounds on atoms and edges make it depend on the epoch."""
        return len(self.batches(self.epoch)) - self.position


def loader(dataset: Dataset, sampler: BatchSampler, workers: int = 0) -> DataLoader[Sample]:
    """Loader that yields a ``Batch`` per step; with workers, samples that are not prepared are prepared there."""
    return DataLoader(
        dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers, persistent_workers=workers > 0
    )


def _columns(dataset: Dataset, bounds: Bounds) -> list[tuple[Array, int]]:
    """Size of each structure, (structures,), and the bound, for every bound."""
    columns: list[tuple[str, Array, int]] = []
    if bounds.structures is not None:
        columns.append(("structures", np.ones(len(dataset), dtype=np.int64), bounds.structures))
    if bounds.atoms is not None:
        columns.append(("atoms", dataset.n_atoms(), bounds.atoms))
    if bounds.edges is not None:
        columns.append(("edges", dataset.n_edges(), bounds.edges))
    for name, sizes, bound in columns:
        largest = int(np.argmax(sizes)) if len(sizes) else 0
        if len(sizes) and sizes[largest] > bound:
            raise DataError(
                f"{dataset.frames[largest].where}: has {sizes[largest]} {name}, more than a batch may hold ({bound}); "
                f"raise the bound on {name}, or remove the structure"
            )
    return [(sizes, bound) for _, sizes, bound in columns]


def _starts(order: Array, columns: Sequence[tuple[Array, int]]) -> Array:
    """Where batches begin that are filled in order; one ends where the next structure would break a bound."""
    following = np.full(len(order), len(order))
    for sizes, bound in columns:
        total = np.concatenate([[0], np.cumsum(sizes[order], dtype=np.int64)])
        ends = np.searchsorted(total, total[:-1] + bound, side="right") - 1  # of a batch that begins here
        following = np.minimum(following, ends)
    starts = [0]
    while starts[-1] < len(order):
        starts.append(int(following[starts[-1]]))
    return np.array(starts, dtype=np.int64)
