from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from carten.data.batches import BatchSampler, Bounds
from carten.data.dataset import Dataset, collate
from carten.data.labels import Label, read_frames
from carten.properties.spec import property_table
from carten.train.loader import Loader, ProcessShare
from carten.train.transfer import PackedBatch


@pytest.fixture(scope="module")
def dataset(alloys: Path) -> Dataset:
    energy = property_table()["energy"]
    return Dataset(read_frames(alloys, [Label(energy)]), [energy], cutoff=3.0)


def loader(dataset: Dataset, bounds: Bounds, workers: int = 0) -> Loader:
    return Loader(dataset, BatchSampler(dataset, bounds, seed=1).batches, workers)


def epochs(stream: Loader, count: int) -> list[list[int]]:
    return [batch.index.tolist() for _ in range(count) for batch in stream]


BOUNDS = [Bounds(structures=5), Bounds(edges=140)]


@pytest.mark.parametrize("bounds", BOUNDS)
def test_an_epoch_has_a_fixed_number_of_batches_and_every_pass_every_structure(
    dataset: Dataset, bounds: Bounds
) -> None:
    stream = loader(dataset, bounds)
    seen = epochs(stream, 6)
    assert len(seen) == 6 * len(stream)
    flat = [index for batch in seen for index in batch]
    for start in range(0, len(flat) - 24 + 1, 24):
        assert sorted(flat[start : start + 24]) == list(range(24))
    assert flat[:24] != flat[24:48]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("bounds", BOUNDS)
def test_it_continues_from_any_position(dataset: Dataset, bounds: Bounds, workers: int) -> None:
    whole = epochs(loader(dataset, bounds), 4)
    for taken in (0, 1, 4, 5, 9) if not workers else (9,):
        first = loader(dataset, bounds, workers)
        begin: list[list[int]] = []
        state = first.state()
        while len(begin) < taken:
            for batch in islice(first, taken - len(begin)):
                begin.append(batch.index.tolist())
                state = first.state()
        again = loader(dataset, bounds, workers)
        again.restore(state)
        rest = [batch.index.tolist() for batch in again]
        assert len(rest) == len(first) - taken % len(first)
        assert begin + rest == whole[: len(begin) + len(rest)]


def test_an_epoch_cut_short_is_over(dataset: Dataset) -> None:
    stream = loader(dataset, BOUNDS[0])
    next(iter(stream))
    stream.end_epoch()
    assert len(epochs(stream, 1)) == len(stream)


@pytest.mark.parametrize("world_size", [2, 3, 8])
def test_processes_share_every_batch(dataset: Dataset, world_size: int) -> None:
    """Those without a structure take one that has no labels; the batches are those of one process."""
    whole = epochs(loader(dataset, BOUNDS[0]), 2)
    streams = [loader(dataset, BOUNDS[0]) for _ in range(world_size)]
    for rank, stream in enumerate(streams):
        stream.divide(ProcessShare(rank, world_size))
    parts = [[batch for _ in range(2) for batch in stream] for stream in streams]
    for number, batch in enumerate(whole):
        shares = [stream[number] for stream in parts]
        labelled = [share for share in shares if not share.targets["energy"].isnan().all()]
        assert len(labelled) == min(len(batch), world_size)
        assert sorted(index for share in labelled for index in share.index.tolist()) == sorted(batch)


def test_atoms_are_dealt_out_evenly() -> None:
    n_atoms = np.random.default_rng(0).integers(9, 73, 512).tolist()
    shares = [ProcessShare(rank, 64).of(range(512), n_atoms) for rank in range(64)]
    assert sorted(index for share in shares for index in share) == list(range(512))
    atoms = [sum(n_atoms[index] for index in share) for share in shares]
    assert max(atoms) < 1.05 * sum(atoms) / 64


def test_the_global_random_state_is_left_alone(dataset: Dataset) -> None:
    before = torch.get_rng_state()
    epochs(loader(dataset, BOUNDS[0]), 1)
    assert torch.equal(before, torch.get_rng_state())


def test_batches_of_workers_are_the_same_tensors(dataset: Dataset) -> None:
    def tensors(workers: int) -> list[torch.Tensor]:
        seen: list[torch.Tensor] = []
        batch = next(iter(loader(dataset, Bounds(structures=5), workers)))
        batch.map(seen.append)
        return seen

    for one, other in zip(tensors(0), tensors(1), strict=True):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_a_packed_batch_keeps_empty_tensors_and_truth_values(dataset: Dataset) -> None:
    batch = replace(collate([dataset[0]]), weight=torch.zeros(0, 3), index=torch.tensor([[True], [False], [True]]))
    again = PackedBatch.of(batch).unpacked()
    assert again.weight.shape == (0, 3)
    assert again.index.tolist() == [[True], [False], [True]]
    assert torch.equal(again.graph.positions, batch.graph.positions)
