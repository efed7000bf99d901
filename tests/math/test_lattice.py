"""Complete cells and nearest images."""

from itertools import product

import numpy as np
import pytest

from carten.math.lattice import complete_cell, nearest

CELL = np.array([[4.0, 0.3, 0.0], [0.5, 5.0, 0.2], [0.0, -0.4, 3.0]])


@pytest.mark.parametrize("pbc", product((True, False), repeat=3))
def test_open_directions_get_unit_vectors_normal_to_all_others(pbc):
    pbc = np.array(pbc)
    found = complete_cell(np.where(pbc[:, None], CELL, np.nan), pbc)
    np.testing.assert_array_equal(found[pbc], CELL[pbc])
    overlaps = found @ found.T
    np.testing.assert_allclose(overlaps[~pbc][:, ~pbc], np.eye((~pbc).sum()), atol=1e-14)
    np.testing.assert_allclose(overlaps[~pbc][:, pbc], 0.0, atol=1e-14)


@pytest.mark.parametrize("periodic", range(4))
def test_nearest_images(periodic):
    rng = np.random.default_rng(0)
    vectors, cell = rng.normal(size=(20, 3)), CELL[:periodic]
    steps = rng.integers(-3, 4, size=(20, periodic))
    images = np.array(list(product((-1, 0, 1), repeat=periodic))) @ cell
    expected = np.linalg.norm(vectors[:, None] + images, axis=2).min(axis=1)
    found = nearest(vectors + steps @ cell, cell)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), expected, rtol=1e-12)
