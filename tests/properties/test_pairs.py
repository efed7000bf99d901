"""Properties of pairs of atoms: Hessians whole, by rows, and by products with vectors."""

import numpy as np
import pytest
import torch

import contract
from carten.errors import ModelError
from carten.physics.charges import LesConfig
from carten.physics.dispersion import D3Config
from carten.properties.pairs import AtomPairs, covered, draw_rows
from carten.properties.products import Products
from carten.properties.spec import property_table
from properties.cases import build, ion, other_solid, solid
from small import small_model

ENERGY = property_table()["energy"]
FORCES = ("energy", ("positions",))


@pytest.fixture(scope="module")
def model():
    return build((ENERGY,))


@pytest.fixture
def graph(model):
    return contract.graphs(model, [solid(), other_solid(), ion()])


def matrices(model, graph, **options):
    """The Hessian of each structure, (3n, 3n)."""
    values = model(graph, ["hessian"], **options)["hessian"]
    counts = torch.bincount(graph.structure).tolist()
    parts = torch.split(values, [n * n for n in counts])
    return [part.view(n, n, 3, 3).transpose(1, 2).reshape(3 * n, 3 * n) for n, part in zip(counts, parts, strict=True)]


def test_hessians_are_symmetric_and_obey_the_sum_rule(model, graph):
    for hessian in matrices(model, graph):
        assert hessian.abs().max() > 1e-3
        torch.testing.assert_close(hessian, hessian.T, rtol=0, atol=1e-13)
        assert hessian.view(len(hessian), -1, 3).sum(1).abs().max() < 1e-12


def test_rows_drawn_are_those_of_the_whole(model, graph):
    rows = draw_rows(graph, 3, 7, [(0, k) for k in range(3)])
    assert rows.shape == (3, 7)
    whole, some = matrices(model, graph), matrices(model, graph, drawn={FORCES: rows})
    for k, (hessian, part) in enumerate(zip(whole, some, strict=True)):
        chosen = rows[k][rows[k] >= 0]
        assert len(chosen) == min(7, len(hessian)) == len(set(chosen.tolist()))
        torch.testing.assert_close(part[chosen], hessian[chosen], rtol=1e-12, atol=1e-14)
        others = [row for row in range(len(hessian)) if row not in chosen.tolist()]
        assert part[others].isnan().all()
    inside = covered(graph, rows, 3).unsqueeze(2).expand(-1, 3, 3)
    values = model(graph, ["hessian"], drawn={FORCES: rows})["hessian"]
    assert torch.equal(inside, ~values.isnan())


def test_every_row_is_drawn_equally_often(graph):
    counts = torch.zeros(12)
    for step in range(600):
        counts[draw_rows(graph, 3, 2, [(step, k) for k in range(3)])[1]] += 1
    assert (counts - 100).abs().max() < 45, "beyond four standard deviations of the binomial distribution"


def test_training_on_rows_has_finite_gradients(model, graph):
    model.train()
    try:
        rows = draw_rows(graph, 3, 2, [(0, k) for k in range(3)])
        values = model(graph, ["hessian"], {FORCES: rows})["hessian"]
        gradients = torch.autograd.grad(
            torch.where(values.isnan(), 0.0, values).square().sum(), list(model.parameters()), allow_unused=True
        )
    finally:
        model.eval()
    assert sum(int(g is not None) for g in gradients) > 10
    assert all(g.isfinite().all() for g in gradients if g is not None)


def test_products_are_those_of_the_matrix(model, graph):
    times = Products(model, graph)
    vectors = torch.randn(graph.n_atoms, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    for _ in range(2):
        found = times(vectors)
        first = 0
        for hessian in matrices(model, graph):
            n = len(hessian) // 3
            expected = (vectors[first : first + n].reshape(-1) @ hessian).view(n, 3)
            torch.testing.assert_close(found[first : first + n], expected, rtol=1e-11, atol=1e-13)
            first += n
        vectors = vectors.flip(0)
    with pytest.raises(ValueError, match=r"expected vectors of shape \(9, 3\), found \(2, 3\)"):
        times(vectors[:2])
    with pytest.raises(ModelError, match="no property 'forces' of pairs"):
        Products(model, graph, "forces")


@pytest.mark.parametrize("term", [LesConfig(neutral=True), D3Config(functional="pbe", cutoff=8.0)], ids=["les", "d3"])
def test_products_of_models_with_terms(term):
    """What terms take and give is in the products as well."""
    model = small_model(properties=("energy",), terms=(term,))
    graph = contract.graphs(model, [solid(), ion()])
    vectors = torch.randn(graph.n_atoms, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    expected = vectors.flatten() @ torch.block_diag(*matrices(model, graph))  # in fields cells are not symmetric
    torch.testing.assert_close(Products(model, graph)(vectors).flatten(), expected, rtol=1e-6, atol=1e-7)


def test_places_of_pairs(graph):
    pairs = AtomPairs.of(graph)
    assert pairs.n_pairs == 4 + 16 + 9
    one, other = pairs.atoms()
    expected = [(a, b) for atoms in (range(2), range(2, 6), range(6, 9)) for a in atoms for b in atoms]
    assert list(zip(one.tolist(), other.tolist(), strict=True)) == expected
    np.testing.assert_array_equal(pairs.structure(), [0] * 4 + [1] * 16 + [2] * 9)
