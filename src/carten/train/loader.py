"""The endless stream of training batches, which resumes at any batch."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader

from carten.data.dataset import Batch, Dataset, Sample, collate
from carten.math.arrays import Array
from carten.train.transfer import PackedBatch

BatchPlan = Callable[[int], Sequence[Sequence[int]]]
"""From the number of a pass over the data to its batches of dataset indices."""


@dataclass(frozen=True)
class ProcessShare:
    """The part of every batch that one process takes: batches do not depend on the number of processes.

    Args:
        rank: of the process.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1

    def of(self, batch: Sequence[int], n_atoms: Sequence[int] | Array) -> Sequence[int]:
        """The structures of this process: dealt out from large to small, there and back, so that atoms are balanced.

        Args:
            batch: indices of structures; where there are fewer than processes, some get none.
            n_atoms: number of atoms of every structure of the data set.
        """
        if self.world_size == 1:
            return batch
        ordered = sorted(batch, key=lambda index: -n_atoms[index])
        around = 2 * self.world_size
        return [*ordered[self.rank :: around], *ordered[around - 1 - self.rank :: around]]


class Loader:
    """Batches of one pass after another, without a seam: an epoch is as many batches as the first pass has.

    Bounds on atoms or edges make passes differ in length; epochs do not, so schedules and progress are exact, and
    worker processes never wait for an epoch to end. The position in the stream is its whole state. It is the same on
    all of several processes, each of which takes its part of every batch.
    """

    def __init__(self, dataset: Dataset, plan: BatchPlan, workers: int = 0) -> None:
        self.dataset = dataset
        self.plan = plan
        self.workers = workers
        self.position = (0, 0)  # pass, and batches of it that were taken
        self.taken = 0  # in the current epoch
        self.share = ProcessShare()
        self._length = len(plan(0))
        self._batches: Iterator[Batch | PackedBatch] | None = None
        self._ahead: deque[tuple[int, int]] = deque()

    def divide(self, share: ProcessShare) -> None:
        """Take the share of one of several processes."""
        self.share = share

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the current epoch; a whole one when none was begun."""
        if self._batches is None:
            self._batches = self._start()
        if self.taken >= self._length:
            self.end_epoch()
        while self.taken < self._length:
            batch = next(self._batches)
            batch = batch.unpacked() if isinstance(batch, PackedBatch) else batch
            self.position = self._ahead.popleft()
            self.taken += 1
            yield batch

    def end_epoch(self) -> None:
        """The next epoch begins here, even if this one was cut short."""
        self.taken = 0

    def state(self) -> dict[str, Any]:
        """Current position in the stream."""
        return {"position": self.position, "taken": self.taken}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.position, self.taken = tuple(state["position"]), state["taken"]
        self._batches = None
        self._ahead.clear()

    def _start(self) -> Iterator[Batch | PackedBatch]:
        loader: DataLoader[Sample] = DataLoader(
            self.dataset,
            batch_sampler=_Stream(self._indices()),
            num_workers=self.workers,
            collate_fn=partial(_packed_share if self.workers else collate_share, self.dataset),
            generator=torch.Generator(),
        )
        return iter(loader)

    def _indices(self) -> Iterator[list[int]]:
        first, skip = self.position
        n_atoms = self.dataset.n_atoms()
        for number in itertools.count(first):
            batches = self.plan(number)
            for index, batch in enumerate(batches[skip:], start=skip):
                self._ahead.append((number, index + 1) if index + 1 < len(batches) else (number + 1, 0))
                yield list(self.share.of(batch, n_atoms))
            skip = 0


def collate_share(dataset: Dataset, samples: Sequence[Sample]) -> Batch:
    """The batch of one process; without structures one without labels: all processes take the same steps."""
    if samples:
        return collate(samples)
    first = dataset[0]
    unlabelled = {name: torch.full_like(target, torch.nan) for name, target in first.targets.items()}
    return collate([replace(first, targets=unlabelled)])


def _packed_share(dataset: Dataset, samples: Sequence[Sample]) -> PackedBatch:
    return PackedBatch.of(collate_share(dataset, samples))


class _Stream:
    """Batch sampler for a DataLoader: an iterable of batches."""

    def __init__(self, batches: Iterator[list[int]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return self._batches
