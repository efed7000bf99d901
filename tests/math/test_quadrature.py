"""Sphere quadratures against the closed form of monomial integrals."""

from itertools import product
from math import prod

import numpy as np
import pytest

from carten.math import stf
from carten.math.quadrature import sphere


def double_factorial(n: int) -> int:
    return prod(range(n, 0, -2))


def monomial_mean(powers: tuple[int, ...]) -> float:
    """Mean of x^a y^b z^c over the unit sphere: (a-1)!! (b-1)!! (c-1)!! / (a+b+c+1)!! if all are even, else 0."""
    if any(power % 2 for power in powers):
        return 0.0
    return prod(double_factorial(power - 1) for power in powers) / double_factorial(sum(powers) + 1)


@pytest.mark.parametrize("degree", [0, 1, 2, 3, 5, 8, 12, 13, 16, 20, 25, 28])
def test_exact_up_to_its_degree(degree: int) -> None:
    points, weights = sphere(degree)
    for powers in product(range(degree + 1), repeat=3):
        if sum(powers) <= degree:
            mean = weights @ np.prod(points**powers, axis=1)
            assert mean == pytest.approx(monomial_mean(powers), abs=1e-14)


def test_not_exact_beyond_its_degree() -> None:
    points, weights = sphere(7)
    assert abs(weights @ points[:, 2] ** 8 - monomial_mean((0, 0, 8))) > 1e-4


@pytest.mark.parametrize("degree", range(0, 132, 7))
def test_unit_points_and_positive_weights_of_sum_one(degree: int) -> None:
    points, weights = sphere(degree)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-15)
    assert weights.min() > 0
    assert weights.sum() == pytest.approx(1, rel=1e-14)


@pytest.mark.parametrize("l_max", [2, 4, 6])
def test_harmonics_are_orthonormal(l_max: int) -> None:
    points, weights = sphere(2 * l_max)
    values = stf.harmonics(l_max, points)
    np.testing.assert_allclose(values.T @ (weights[:, None] * values), np.eye((l_max + 1) ** 2), atol=1e-13)


def test_unavailable_degrees_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 131, found 132"):
        sphere(132)
    with pytest.raises(ValueError, match="found -1"):
        sphere(-1)


def test_tables_are_read_only() -> None:
    for table in sphere(5):
        with pytest.raises(ValueError, match="read-only"):
            table[0] = 0.0
