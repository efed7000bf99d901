"""Dipoles of periodic cells are compared up to whole quanta of polarization."""

import numpy as np
import pytest
import torch
from ase import Atoms

from carten.data.neighbours import graph
from carten.model.graph import batch
from carten.properties.branches import nearest_branch
from carten.properties.spec import property_table

POLARIZATION = property_table()["polarization"]
CELL = np.array([[3.0, 0.2, 0.1], [0.4, 4.1, 0.3], [0.2, 0.5, 6.2]])
SKEW = np.array([[3.0, 0.0, 0.0], [1.45, 2.6, 0.0], [1.4, 0.8, 2.5]])


def cells(*pbc, cell=CELL):
    return batch([graph(Atoms("H", cell=cell, pbc=periodic), 2.0) for periodic in pbc])


@pytest.mark.parametrize("cell", [CELL, SKEW], ids=["long", "skew"])
def test_the_branch_nearest_to_the_reference_is_taken(cell):
    generator = np.random.default_rng(0)
    count = 200
    reference = generator.normal(size=(count, 3))
    small = generator.uniform(-1, 1, size=(count, 3)) * 0.2
    shifts = generator.integers(-4, 5, size=(count, 3)) @ cell
    found = nearest_branch(
        POLARIZATION,
        torch.tensor(reference + small + shifts),
        torch.tensor(reference),
        cells(*[True] * count, cell=cell),
    )
    np.testing.assert_allclose(found.numpy() - reference, small, atol=1e-12)


def test_it_is_the_shortest_difference_even_between_vectors_at_sharp_angles():
    """Rounding alone is not enough there."""
    generator = np.random.default_rng(1)
    predicted = torch.tensor(generator.normal(size=(300, 3)) * 2)
    zeros = torch.zeros(300, 3, dtype=torch.float64)
    found = nearest_branch(POLARIZATION, predicted, zeros, cells(*[True] * 300, cell=SKEW))
    steps = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) @ SKEW
    shortest = np.linalg.norm(predicted.numpy()[:, None] + steps, axis=2).min(axis=1)
    np.testing.assert_allclose(found.norm(dim=1).numpy(), shortest, atol=1e-12)


def test_only_periodic_directions_fold():
    graphs = cells((True, False, True), False)
    reference = torch.zeros(2, 3, dtype=torch.float64)
    predicted = torch.tensor(np.stack([CELL[0] + CELL[2] + CELL[1], CELL.sum(0)]))
    found = nearest_branch(POLARIZATION, predicted, reference, graphs)
    choices = [CELL[1] + i * CELL[0] + k * CELL[2] for i in (-1, 0, 1) for k in (-1, 0, 1)]
    np.testing.assert_allclose(found[0].numpy(), min(choices, key=np.linalg.norm), atol=1e-12)
    torch.testing.assert_close(found[1], predicted[1])


def test_predictions_of_single_precision_fold_too():
    reference = torch.zeros(1, 3, dtype=torch.float64)
    predicted = torch.tensor(CELL[:1] + 0.125, dtype=torch.float32)
    found = nearest_branch(POLARIZATION, predicted, reference, cells(True).to(dtype=torch.float32))
    np.testing.assert_allclose(found.numpy(), 0.125, atol=1e-6)


def test_missing_labels_stay_missing_and_gradients_pass():
    graphs = cells(True, True)
    reference = torch.tensor([[0.0, 0.0, 0.0], [torch.nan] * 3], dtype=torch.float64)
    predicted = torch.tensor(np.stack([CELL[0] + 0.1, CELL[0]]), requires_grad=True)
    error = nearest_branch(POLARIZATION, predicted, reference, graphs) - reference
    assert error[1].isnan().all()
    (gradient,) = torch.autograd.grad(torch.where(reference.isnan(), 0.0, error).sum(), predicted)
    assert gradient.tolist() == [[1.0] * 3, [0.0] * 3]


def test_other_properties_are_left_alone():
    dipole = property_table()["dipole"]
    predicted = torch.full((1, 3), 100.0)
    assert nearest_branch(dipole, predicted, predicted * 0, cells(True)) is predicted
