"""Samples, batches, splits, samplers: what reaches the model, and in which order."""

from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule

from carten.data.batches import BatchSampler, Bounds, loader
from carten.data.dataset import Dataset, collate, split
from carten.data.labels import Label, frames_from
from carten.data.neighbours import graph
from carten.errors import ConfigError, DataError
from carten.model.conditions import Input, Scalar
from carten.properties.spec import property_table

TABLE = property_table()
ROWS = [TABLE["energy"], TABLE["forces"], TABLE["stress"]]


def frames(n_frames=12, seed=0):
    """Molecules and crystals of different sizes; every third lacks forces, every fourth the energy."""
    rng = np.random.default_rng(seed)
    structures = []
    for number in range(n_frames):
        atoms = [molecule("H2O"), molecule("CH3CH2OH"), bulk("Cu"), molecule("C6H6")][rng.integers(4)]
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
        atoms.info["total_charge"] = float(number)
        if number % 4:
            atoms.info["energy"] = rng.normal()
        if number % 3:
            atoms.info["forces"] = rng.normal(size=(len(atoms), 3))
        structures.append((f"set, frame {number}", atoms))
    charge = Input("total_charge", "structure", "", +1, "e", Scalar())
    labels = [Label(row, required=False) for row in ROWS]
    return frames_from(structures, labels, [Label(charge)])


def test_sample_and_batch():
    data = frames()
    dataset = Dataset(data, ROWS, 4.0)
    batch = collate([dataset[index] for index in (5, 0, 7)])
    assert batch.index.tolist() == [5, 0, 7]
    assert batch.weight.tolist() == [1.0, 1.0, 1.0]
    assert batch.graph.n_structures == 3
    assert batch.graph.inputs["total_charge"].tolist() == [5.0, 0.0, 7.0]
    assert batch.targets["energy"].shape == (3,)
    assert batch.targets["forces"].shape == (batch.graph.n_atoms, 3)
    assert batch.targets["stress"].shape == (3, 3, 3)
    assert batch.targets["stress"].isnan().all()
    assert batch.targets["energy"].isnan().tolist() == [False, True, False]
    assert {target.dtype for target in batch.targets.values()} == {torch.float64}
    first = 0
    for slot, index in enumerate((5, 0, 7)):
        rows = slice(first, first + len(data[index]))
        assert (batch.graph.structure[rows] == slot).all()
        expected = data[index].labels.get("forces", np.full((len(data[index]), 3), np.nan))
        assert np.array_equal(batch.targets["forces"][rows].numpy(), expected, equal_nan=True)
        alone = graph(data[index], 4.0)
        mine = (batch.graph.structure[batch.graph.edge_index[0]] == slot).nonzero()[:, 0]
        assert torch.equal(batch.graph.edge_vectors()[mine], alone.edge_vectors())
        first = rows.stop


def test_batches_are_in_double():
    batch = collate([Dataset(frames(2), ROWS, 4.0)[1]]).to("cpu")
    assert batch.graph.positions.dtype == batch.targets["energy"].dtype == batch.weight.dtype == torch.float64


def test_prepared_or_not_is_the_same():
    one, other = (Dataset(frames(), ROWS, 4.0, prepared=prepared) for prepared in (True, False))
    assert np.array_equal(one.n_edges(), other.n_edges())
    assert np.array_equal(one.n_atoms(), other.n_atoms())
    for index in range(len(one)):
        assert torch.equal(one[index].graph.edge_index, other[index].graph.edge_index)
        assert torch.equal(one[index].graph.edge_shift, other[index].graph.edge_shift)
    assert one[3].graph.positions.dtype == one[3].graph.edge_shift.dtype == torch.float64
    assert one[3].graph.edge_index.dtype == torch.int64


def test_kept_lists_hold_images_however_far():
    atoms = bulk("Cu", cubic=True)
    atoms.positions[2] += 1000 * atoms.cell[0]
    one, other = (Dataset(frames_from([("a", atoms)]), [], 4.0, prepared=prepared)[0] for prepared in (True, False))
    assert one.graph.edge_shift.abs().max() > 900
    assert torch.equal(one.graph.edge_shift, other.graph.edge_shift)


def test_impossible_structure_is_named():
    data = frames_from([("train.extxyz, frame 7", Atoms("H2", [[0, 0, 0], [0, 0, 1e-5]]))])
    with pytest.raises(DataError, match=r"train.extxyz, frame 7: atoms 0 and 1 coincide"):
        Dataset(data, [], 3.0)


# --- splits ---


def test_split_is_a_partition_and_reproducible():
    parts = split(100, (0.1, 25), seed=3)
    assert [len(part) for part in parts] == [65, 10, 25]
    assert sorted(chain(*parts)) == list(range(100))
    assert parts == split(100, (0.1, 25), seed=3)
    assert parts != split(100, (0.1, 25), seed=4)
    assert all(part == sorted(part) for part in parts)
    # frozen: a data set must not be split differently by a later release
    assert split(10, (3,), seed=0) == [[0, 1, 3, 5, 7, 8, 9], [2, 4, 6]]
    assert split(5, (0.0, 0)) == [[0, 1, 2, 3, 4], [], []]
    assert len(split(3, (0.01,))[1]) == 1, "a fraction above zero is at least one structure"


@pytest.mark.parametrize("parts", [(1.0,), (-1,), (-0.1,), (0.5, 0.5), (10,), ("0.1",)])
def test_splits_that_cannot_be(parts):
    with pytest.raises(ConfigError):
        split(10, parts)


# --- batches ---


@pytest.mark.parametrize(
    "bounds",
    [Bounds(structures=4), Bounds(atoms=20), Bounds(edges=200), Bounds(structures=3, atoms=16, edges=150)],
    ids=lambda bounds: str(bounds),
)
def test_bounds(bounds):
    dataset = Dataset(frames(60), ROWS, 4.0)
    sampler = BatchSampler(dataset, bounds, seed=1)
    atoms, edges = np.array(dataset.n_atoms()), np.array(dataset.n_edges())
    batches = sampler.batches(0)
    assert sorted(chain(*batches)) == list(range(60)), "every structure once"
    assert len(sampler) == len(batches)

    def breaks(batch):
        sizes = len(batch), atoms[batch].sum(), edges[batch].sum()
        limits = bounds.structures, bounds.atoms, bounds.edges
        return any(limit is not None and size > limit for size, limit in zip(sizes, limits, strict=True))

    assert not any(breaks(batch) for batch in batches)
    for batch, following in pairwise(batches):
        assert breaks([*batch, following[0]]), "a batch ends only where the next structure would break a bound"


def test_epochs_differ_and_repeat():
    dataset = Dataset(frames(40), ROWS, 4.0)
    one, other = (BatchSampler(dataset, Bounds(structures=7), seed=5) for _ in range(2))
    assert one.batches(0) != one.batches(1)
    assert one.batches(3) == other.batches(3)
    assert one.batches(0) != BatchSampler(dataset, Bounds(structures=7), seed=6).batches(0)
    ordered = BatchSampler(dataset, Bounds(structures=7), shuffle=False)
    assert list(chain(*ordered.batches(2))) == list(range(40))


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_order_is_the_same(workers):
    dataset = Dataset(frames(30), ROWS, 4.0, prepared=workers == 0)

    def run(start, stop):
        sampler = BatchSampler(dataset, Bounds(atoms=40), seed=9)
        batches = loader(dataset, sampler, workers)
        seen, (epoch, position) = [], start
        while (epoch, position) < stop:
            sampler.set_epoch(epoch, position)
            for batch in batches:
                seen.append((epoch, batch.index.tolist(), batch.targets["energy"].nan_to_num().tolist()))
                position += 1
                if (epoch, position) == stop:
                    return seen
            epoch, position = epoch + 1, 0
        return seen

    assert run((0, 0), (2, 3)) == run((0, 0), (1, 2)) + run((1, 2), (2, 3))


@pytest.mark.parametrize("bounds", [{}, {"atoms": 0}, {"structures": -1, "edges": 5}])
def test_bounds_that_cannot_be(bounds):
    with pytest.raises(ConfigError, match="at least 1"):
        Bounds(**bounds)


def test_structure_larger_than_a_bound_is_named():
    dataset = Dataset(frames(), ROWS, 4.0)
    with pytest.raises(DataError, match=r"set, frame \d+: has 12 atoms, more than a batch may hold \(5\)"):
        BatchSampler(dataset, Bounds(atoms=5))
