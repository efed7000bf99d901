"""Complete cells and nearest images."""

from itertools import product

import numpy as np
import pytest

from carten.math.lattice import complete_cell, nearest_images

CELL = np.array([[4.0, 0.3, 0.0], [0.5, 5.0, 0.2], [0.0, -0.4, 3.0]])


@pytest.mark.parametrize("pbc", list(product((True, False), repeat=3)))
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
    found = nearest_images(vectors + steps @ cell, cell)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), expected, rtol=1e-12)


@pytest.mark.parametrize("periodic", [1, 2, 3])
def test_nearest_images_in_skew_cells(periodic):
    """Against all images that can be nearer: their whole numbers are bounded by the distance over the heights."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        cell = (5.0 * np.eye(3) + rng.normal(scale=4.0, size=(3, 3)))[:periodic]
        vectors = rng.normal(scale=8.0, size=(5, 3))
        found = nearest_images(vectors, cell)
        inverse = np.linalg.pinv(cell)
        whole = (vectors - found) @ inverse
        np.testing.assert_allclose(whole, np.round(whole), atol=1e-9)
        farthest = np.linalg.norm(vectors, axis=1).max() + np.linalg.norm(found, axis=1).max()
        reach = np.ceil(farthest * np.linalg.norm(inverse, axis=0)).astype(int)
        steps = np.array(list(product(*[range(-n, n + 1) for n in reach]))) @ cell
        shortest = [np.linalg.norm(vector - steps, axis=1).min() for vector in vectors]
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), shortest, rtol=1e-10)
