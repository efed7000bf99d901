"""The graph: edge vectors, concatenation, moving."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from carten.data.neighbours import graph
from carten.model.graph import batch
from model.models import crystal, molecule, slab, wire

CUTOFF = 3.0


def test_edge_vectors_point_from_centre_to_neighbour():
    """Each is a lattice vector away from r_j - r_i; its reverse is an edge too; all are within the cutoff."""
    atoms = crystal()
    one = graph(atoms, CUTOFF)
    vectors, (i, j) = one.edge_vectors().numpy(), one.edge_index.numpy()
    rest = (vectors - atoms.positions[j] + atoms.positions[i]) @ np.linalg.inv(atoms.cell.array)
    np.testing.assert_allclose(rest, one.edge_shift, atol=1e-12)
    assert np.linalg.norm(vectors, axis=1).max() < CUTOFF
    edges = {(a, b, *np.round(v, 9)) for a, b, v in zip(i.tolist(), j.tolist(), vectors, strict=True)}
    assert edges == {(b, a, *np.round(-np.array(v), 9)) for a, b, *v in edges}
    assert (np.diff(i) >= 0).all()


def test_edge_vectors_of_a_batch_are_those_of_its_structures():
    structures = [molecule(), crystal(), wire(), slab()]
    graphs = [graph(atoms, CUTOFF) for atoms in structures]
    joined = batch(graphs)
    assert torch.equal(joined.edge_vectors(), torch.cat([one.edge_vectors() for one in graphs]))
    assert joined.structure.tolist() == np.repeat(range(4), [len(atoms) for atoms in structures]).tolist()
    assert (joined.n_structures, joined.n_atoms) == (4, sum(map(len, structures)))
    assert joined.n_edges == sum(one.n_edges for one in graphs)
    assert (joined.edge_index[0].diff() >= 0).all()
    assert torch.equal(joined.structure[joined.edge_index[0]], joined.structure[joined.edge_index[1]])


def test_edge_vectors_follow_positions_and_cell():
    """d(vector)/d(cell) is the number of lattice vectors crossed, d(vector)/d(position) is 1 or -1."""
    one = graph(crystal(), CUTOFF)
    one = replace(one, positions=one.positions.requires_grad_(), cell=one.cell.requires_grad_())
    weights = torch.randn(one.n_edges, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    positions, cell = torch.autograd.grad((one.edge_vectors() * weights).sum(), [one.positions, one.cell])
    torch.testing.assert_close(cell[0], one.edge_shift.T @ weights)
    expected = torch.zeros(2, 3, dtype=torch.float64)
    expected.index_add_(0, one.edge_index[1], weights).index_add_(0, one.edge_index[0], -weights)
    torch.testing.assert_close(positions, expected)


def test_batches_of_batches():
    a, b, c = (graph(atoms, CUTOFF) for atoms in (molecule(), crystal(), slab()))
    once, twice = batch([a, b, c]), batch([batch([a, b]), c])
    for name in ("positions", "numbers", "cell", "pbc", "structure", "edge_index", "edge_shift"):
        assert torch.equal(getattr(once, name), getattr(twice, name))


def test_inputs_are_joined_along_their_first_axis():
    graphs = [
        graph(atoms, CUTOFF, {"field": np.full((1, 3), k), "moments": np.full((len(atoms), 3), 10.0 * k)})
        for k, atoms in enumerate((molecule(), crystal()))
    ]
    joined = batch(graphs)
    assert joined.inputs["field"].tolist() == [[0.0] * 3, [1.0] * 3]
    assert joined.inputs["moments"][:, 0].tolist() == [0.0] * 5 + [10.0] * 2


def test_batches_that_cannot_be_made():
    with pytest.raises(ValueError, match="at least one graph, found none"):
        batch([])
    plain, charged = graph(molecule(), CUTOFF), graph(molecule(), CUTOFF, {"total_charge": np.ones(1)})
    with pytest.raises(ValueError, match=r"same inputs in every graph, found \[\[\], \['total_charge'\]\]"):
        batch([plain, charged])


def test_casting_changes_floats_only():
    one = graph(crystal(), CUTOFF, {"field": np.ones((1, 3)), "level": np.array([2])})
    cast = one.to(dtype=torch.float32)
    assert {getattr(cast, name).dtype for name in ("positions", "cell", "edge_shift")} == {torch.float32}
    assert {getattr(cast, name).dtype for name in ("numbers", "structure", "edge_index")} == {torch.int64}
    assert cast.pbc.dtype == torch.bool
    assert (cast.inputs["field"].dtype, cast.inputs["level"].dtype) == (torch.float32, torch.int64)
    assert one.positions.dtype == torch.float64
