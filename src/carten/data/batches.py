"""Which structures make up a batch: bounded by structures, atoms and edges, and the same in a resumed run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch.utils.data import DataLoader, Sampler

from carten.data.dataset import Dataset, Sample, collate
from carten.errors import ConfigError, DataError


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

    Raises:
        DataError: a single structure is larger than a bound.
    """

    def __init__(self, dataset: Dataset, bounds: Bounds, seed: int = 0, shuffle: bool = True) -> None:
        self._sizes, self._limits = _sizes(dataset, bounds)
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0
        self.position = 0
        self._filled: tuple[int, list[list[int]]] | None = None

    def set_epoch(self, epoch: int, position: int = 0) -> None:
        """Go to an epoch, after its first ``position`` batches."""
        self.epoch, self.position = epoch, position

    def batches(self, epoch: int) -> list[list[int]]:
        """All batches of an epoch."""
        if self._filled is None or self._filled[0] != epoch:
            n_structures = len(self._sizes)
            order = np.arange(n_structures)
            if self.shuffle:
                order = np.random.default_rng([self.seed, epoch]).permutation(n_structures)
            self._filled = (epoch, _fill(order, self._sizes, self._limits))
        return self._filled[1]

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


def _sizes(dataset: Dataset, bounds: Bounds) -> tuple[np.ndarray, np.ndarray]:
    """Size of each structure, (structures, bounds), and the bounds."""
    columns: list[tuple[str, Sequence[int], int]] = []
    if bounds.structures is not None:
        columns.append(("structures", [1] * len(dataset), bounds.structures))
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
    return np.array([sizes for _, sizes, _ in columns], dtype=np.int64).T, np.array([bound for *_, bound in columns])


def _fill(order: np.ndarray, sizes: np.ndarray, limits: np.ndarray) -> list[list[int]]:
    """Fill batches in order; one ends where the next structure would break a bound."""
    batches: list[list[int]] = []
    filled = limits  # full, so that the first structure opens a batch
    for index in order.tolist():
        filled = filled + sizes[index]
        if not batches or (filled > limits).any():
            batches.append([])
            filled = sizes[index]
        batches[-1].append(index)
    return batches
