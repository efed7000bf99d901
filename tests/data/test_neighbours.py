"""Neighbour lists against matscipy and against direct enumeration of images."""

import subprocess
import sys
from itertools import product

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, fcc111, molecule, nanotube
from matscipy.neighbours import neighbour_list

from carten.data import neighbours
from carten.data.neighbours import SAME_PLACE, edges, graph
from carten.errors import DataError


def as_set(index, shift):
    rows = [tuple(map(int, row)) for row in np.concatenate([np.asarray(index), np.asarray(shift).T]).T]
    assert len(rows) == len(set(rows)), "an edge is listed twice"
    return set(rows)


def enumerate_images(positions, cell, pbc, cutoff, reach):
    """All (i, j, image) by trying every image up to ``reach`` cells away."""
    found = set()
    for image in product(*[range(-reach, reach + 1) if periodic else (0,) for periodic in pbc]):
        vectors = positions[None] - positions[:, None] + np.array(image) @ cell
        for i, j in zip(*np.nonzero(np.linalg.norm(vectors, axis=-1) < cutoff), strict=True):
            if i != j or any(image):
                found.add((int(i), int(j), *image))
    return found


def random_system(rng, n_atoms, size):
    pbc = rng.random(3) < 0.5
    cell = np.diag(rng.uniform(*size, 3)) + rng.normal(size=(3, 3)) * 0.25 * size[0]
    positions = rng.uniform(-1.2, 2.2, size=(n_atoms, 3)) @ cell  # many atoms outside the cell
    return positions, cell, pbc


@pytest.mark.parametrize("seed", range(60))
def test_small_cells_any_periodicity(seed):
    """Cells of 2 to 5 Å with a cutoff up to 6 Å: several images of the same neighbour."""
    rng = np.random.default_rng(seed)
    heights = np.zeros(3)
    while heights.min() < 1.0:  # flatter cells need more images than the enumeration tries
        positions, cell, pbc = random_system(rng, int(rng.integers(1, 6)), (2.0, 5.0))
        heights = abs(np.linalg.det(cell)) / [np.linalg.norm(np.cross(cell[i - 2], cell[i - 1])) for i in range(3)]
    cutoff = rng.uniform(2.0, 6.0)
    reach = int(np.ceil(cutoff / heights.min())) + 4  # + atoms up to 3.4 cells apart
    index, shift = edges(positions, cell, pbc, cutoff)
    assert as_set(index, shift) == enumerate_images(positions, cell, pbc, cutoff, reach)


@pytest.mark.parametrize("seed", range(12))
def test_many_atoms_any_periodicity_against_matscipy(seed):
    rng = np.random.default_rng(100 + seed)
    positions, cell, pbc = random_system(rng, 300, (12.0, 20.0))
    index, shift = edges(positions, cell, pbc, 4.0)
    i, j, s = neighbour_list("ijS", positions=positions, cell=cell, pbc=pbc, cutoff=4.0)
    assert as_set(index, shift) == as_set(np.stack([i, j]), s)


@pytest.mark.parametrize(
    "atoms",
    [molecule("CH3CH2OH"), fcc111("Cu", (2, 2, 3), periodic=False), nanotube(3, 0), bulk("Cu"), Atoms("He")],
    ids=["molecule", "slab", "wire", "bulk", "atom"],
)
def test_kinds_of_system(atoms):
    """A molecule without cell, slab and wire without a vector where they are not periodic, one-atom cell, one atom."""
    found = graph(atoms, 5.0)
    cell = np.array(atoms.cell)
    cell[~atoms.pbc] = 0.0
    expected = enumerate_images(atoms.positions, cell, atoms.pbc, 5.0, 6)
    assert as_set(found.edge_index, found.edge_shift) == expected
    assert bool(expected) == (len(atoms) > 1 or atoms.pbc.any())
    vectors = found.edge_vectors()
    assert ((vectors.norm(dim=1) < 5.0) & (vectors.norm(dim=1) > SAME_PLACE)).all()


def test_known_coordination():
    """fcc copper: 12 first and 6 second neighbours, from one atom in a cell smaller than the cutoff."""
    copper = bulk("Cu", a=3.6)
    assert graph(copper, 3.6 / np.sqrt(2) + 0.01).n_edges == 12
    assert graph(copper, 3.61).n_edges == 18


def test_non_periodic_vectors_do_not_matter():
    slab = fcc111("Al", (2, 2, 3), vacuum=8.0)
    slab.pbc = (True, True, False)
    reference = graph(slab, 5.0)
    tilted = slab.copy()
    tilted.cell[2] = slab.cell[0] * 1.3 + np.array([0.0, 0.0, 0.1])
    for other in (tilted, Atoms(slab.numbers, slab.positions, cell=[*slab.cell[:2], [0, 0, 0]], pbc=slab.pbc)):
        found = graph(other, 5.0)
        assert torch.equal(found.edge_index, reference.edge_index)
        assert torch.equal(found.edge_shift, reference.edge_shift)


@pytest.mark.parametrize("pbc", [(False,) * 3, (True, True, False), (False, True, False)])
@pytest.mark.parametrize("distance", [50.0, 1e4, 1e8])
def test_parts_far_apart(pbc, distance):
    """Two parts at any distance have the edges each has alone, and the search stays small."""
    rng = np.random.default_rng(4)
    cell = np.array([[9.0, 0, 0], [2.0, 8.0, 0], [1.0, 2.0, 7.0]])
    parts = [rng.uniform(0, 8, (20, 3)), rng.uniform(0, 8, (30, 3))]
    parts[1][:, 2] += distance  # never along a periodic vector only
    together = as_set(*edges(np.concatenate(parts), cell, np.array(pbc), 4.0))
    alone = [as_set(*edges(part, cell, np.array(pbc), 4.0)) for part in parts]
    assert together == alone[0] | {(i + 20, j + 20, *image) for i, j, *image in alone[1]}


def test_order_is_deterministic_and_by_centre():
    rng = np.random.default_rng(3)
    atoms = Atoms("Si64", rng.uniform(0, 11, (64, 3)), cell=[11, 11, 11], pbc=True)
    first, second = graph(atoms, 6.0), graph(atoms, 6.0)
    assert torch.equal(first.edge_index, second.edge_index)
    assert torch.equal(first.edge_shift, second.edge_shift)
    rows = torch.cat([first.edge_index, first.edge_shift.T.long()]).T.tolist()
    assert rows == sorted(rows)
    reverse = {(j, i, -a, -b, -c) for i, j, a, b, c in rows}
    assert reverse == {tuple(row) for row in rows}, "every edge has its reverse"


def test_graph_fields():
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    inputs = {"charge": np.array([1.0]), "level": np.array([2]), "moment": np.zeros((2, 3))}
    found = graph(atoms, 3.0, inputs, dtype=torch.float32)
    assert found.positions.dtype == found.cell.dtype == found.edge_shift.dtype == torch.float32
    assert found.numbers.tolist() == [11, 17]
    assert found.cell.shape == (1, 3, 3)
    assert found.pbc.tolist() == [[True] * 3]
    assert found.structure.tolist() == [0, 0]
    assert found.inputs["charge"].dtype == torch.float32
    assert found.inputs["level"].dtype == torch.int64
    assert found.inputs["moment"].shape == (2, 3)
    found.positions[0] = 99.0
    assert atoms.positions[0, 0] == 0.0, "the graph owns its memory"


def test_no_neighbours_and_no_atoms():
    far = graph(Atoms("He2", [[0, 0, 0], [9, 0, 0]]), 5.0)
    assert far.edge_index.shape == (2, 0)
    assert far.edge_shift.shape == (0, 3)
    assert graph(Atoms(), 5.0).n_atoms == 0


@pytest.mark.parametrize(
    ("atoms", "words"),
    [
        (Atoms("HHe", [[0, 0, 0], [0, 0, 5e-4]]), ["atoms 0 and 1", "0.0005 Å"]),
        (Atoms("HeH2", [[3, 0, 0], [1, 1, 1], [1, 1, 1]]), ["atoms 1 and 2"]),
        (Atoms("H2", [[0.1, 0, 0], [3.1, 0, 0]], cell=[3, 3, 3], pbc=True), ["atoms 0 and 1"]),
        (Atoms("H", cell=[4, 4, 4e-4], pbc=True), ["atom 0 and its periodic image"]),
        (Atoms("H", pbc=True), ["periodic directions a, b, c", "set pbc to False"]),
        (Atoms("H", cell=[[3, 0, 0], [6, 0, 0], [0, 0, 3]], pbc=(1, 1, 0)), ["periodic directions a, b "]),
        (Atoms("H2", [[0, 0, 0], [0, np.nan, 1]]), ["atom 1", "nan", "expected finite"]),
        (Atoms("H", [[0, 0, 0]], cell=[np.inf, 3, 3], pbc=True), ["cell is not finite"]),
    ],
)
def test_impossible_structures(atoms, words):
    with pytest.raises(DataError) as error:
        graph(atoms, 2.0)
    for word in words:
        assert word in str(error.value)


ABSURD = """
import sys
import numpy as np
from carten.data.neighbours import edges
from carten.errors import DataError
rng = np.random.default_rng(int(sys.argv[1]))
for _ in range(60):
    n_atoms = int(rng.choice([1, 2, 8, 300]))
    positions = rng.normal(size=(n_atoms, 3)) * 10.0 ** rng.uniform(-4, 10, 3)
    cell = np.diag(10.0 ** rng.uniform(-3, 8, 3)) + rng.normal(size=(3, 3)) * 10.0 ** rng.uniform(-3, 5)
    if rng.random() < 0.3:
        cell.flat[rng.integers(9)] = rng.choice([np.nan, np.inf, 1e300, 0.0, 1e20, 3.7e7, 1e6])
        positions.flat[rng.integers(3 * n_atoms)] = rng.choice([np.nan, np.inf, 1e300, -1e300, 0.0])
    try:
        edges(positions, cell, rng.random(3) < 0.7, 5.0)
    except DataError:
        pass
print("alive")
"""


@pytest.mark.parametrize("seed", range(3))
def test_absurd_structures_never_kill_the_process(seed):
    run = subprocess.run([sys.executable, "-c", ABSURD, str(seed)], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "alive\n"), run.stderr[-500:]


WIDE = """
import numpy as np
from carten.data.neighbours import edges
grid = np.stack(np.meshgrid(np.arange({n}), np.arange({n}), [0.0], indexing="ij"), -1).reshape(-1, 3) * 3.0
cell = np.diag([{n} * 3.0, {n} * 3.0, {height}])
index, shift = edges(grid, cell, np.array({pbc}), 3.5)
print(index.shape[1])
"""


@pytest.mark.parametrize(
    ("n", "height", "pbc", "neighbours"),
    [
        (450, 1.0, [True, True, False], 4), (450, 3.0, [True, True, True], 6),
        (450, 20.0, [True, True, True], 4), (450, 1.0, [False, False, False], 4 * (1 - 1 / 450)),
    ],
)  # fmt: skip
def test_wide_sheets(n, height, pbc, neighbours):
    """A square lattice of 200,000 atoms, for which the grid of vesin 0.6 divides by zero."""
    program = WIDE.format(n=n, height=height, pbc=pbc)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-500:]
    assert int(run.stdout) == round(neighbours * n**2)


@pytest.mark.parametrize(
    ("positions", "cell", "words"),
    [
        (np.zeros((1, 3)), np.eye(3) * 0.01, "lattice planes"),
        (np.zeros((1, 3)), np.diag([1e6, 3.0, 3.0]), "vectors of 1e"),
        (np.full((2, 3), 1e300), np.eye(3) * 5.0, "position of atom 0"),
        (np.random.default_rng(0).random((30000, 3)), np.eye(3) * 5.0, "pairs of 30000 atoms"),
        (np.random.default_rng(0).random((200, 3)) * 0.3, np.eye(3) * 0.3, "pairs of 200 atoms"),
    ],
)
def test_absurd_structures_are_refused_before_the_search(positions, cell, words):
    with pytest.raises(DataError, match=words):
        edges(positions, cell, np.ones(3, dtype=bool), 5.0)


def test_threads_are_those_of_torch(monkeypatch):
    """As many as torch may use, for large structures."""
    used = []

    class Recorder(neighbours.NeighborList):
        def __init__(self, **options):
            used.append(options["n_threads"])
            super().__init__(**options)

    monkeypatch.setattr(neighbours, "NeighborList", Recorder)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for size in (2, 9):
                atoms = bulk("Cu", cubic=True) * (size, size, size)
                graph(atoms, 3.0)
    finally:
        torch.set_num_threads(before)
    assert used == [1, 1, 1, 2]


@pytest.mark.parametrize("seed", range(6))
def test_pairs_are_each_of_the_edges_once(seed):
    random = np.random.default_rng(seed)
    cell = np.eye(3) * random.uniform(1.5, 6.0, 3) + random.normal(0, 0.8, (3, 3))
    positions = random.uniform(-1.5, 2.5, (7, 3)) @ cell
    pbc = random.random(3) < 0.6
    index, shift = edges(positions, cell, pbc, 4.5)
    lengths = np.linalg.norm(positions[index[1]] - positions[index[0]] + shift @ cell, axis=1)
    ends, distance = neighbours.pairs(positions, cell, pbc, 4.5)
    assert 2 * len(distance) == len(lengths) > 0
    both = np.concatenate([ends, ends[::-1]], axis=1)
    one, other = (np.lexsort((length, *pair)) for length, pair in ((lengths, index), (np.tile(distance, 2), both)))
    np.testing.assert_array_equal(index[:, one], both[:, other])
    np.testing.assert_allclose(lengths[one], np.tile(distance, 2)[other], rtol=0, atol=1e-9)
