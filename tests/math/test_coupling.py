"""Coupling tables against e3nn's Clebsch-Gordan coefficients, closed forms of Cartesian products, and equivariance."""

from functools import cache
from itertools import permutations, product
from math import factorial, prod

import numpy as np
import pytest
import torch
from e3nn import o3
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from carten.math import stf
from carten.math.coupling import coupling, is_admissible, is_odd, levi_civita

Array = NDArray[np.float64]
TOLERANCE = 1e-12
TRIPLES = [(l1, l2, l3) for l1, l2, l3 in product(range(5), repeat=3) if is_admissible(l1, l2, l3)]
LARGE_TRIPLES = [(5, 5, 5), (6, 6, 6), (6, 5, 6), (6, 3, 4), (4, 4, 8), (1, 6, 6)]


def double_factorial(n: int) -> int:
    return prod(range(n, 0, -2))


def symmetrise(tensor: Array) -> Array:
    axes = list(permutations(range(tensor.ndim)))
    return sum((tensor.transpose(order) for order in axes), np.zeros_like(tensor)) / len(axes)


def random_stf(rank: int, seed: int) -> Array:
    """Real part of a sum of powers of complex null vectors, n.n = 0: symmetric and trace-free by construction."""
    generator = np.random.default_rng(seed)
    total = np.zeros((3,) * rank)
    for _ in range(2 * rank + 1):
        u, v, _ = Rotation.random(random_state=generator).as_matrix()
        power = np.array(generator.normal() + 1j * generator.normal())
        for _ in range(rank):
            power = np.multiply.outer(power, u + 1j * v)
        total += power.real
    return total


def contract(x: Array, y: Array, pairs: int, crossed: bool) -> Array:
    """x and y contracted over ``pairs`` index pairs and, if ``crossed``, over one further index each with epsilon."""
    if not crossed:
        return np.tensordot(x, y, axes=(range(pairs), range(pairs)))
    both = np.tensordot(x, y, axes=(range(1, pairs + 1), range(1, pairs + 1)))
    return np.tensordot(levi_civita(), both, axes=((0, 1), (0, x.ndim - pairs)))


def closed_form(x: Array, y: Array, rank: int) -> Array:
    """STF product by ICTP Eqs. 2 and 3: sum_m (-2)^m (2l-2m-1)!!/(2l-1)!! {delta^m (x ._(k+m) y)}, unnormalised.

    {T} is the sum over the distinct placements of the indices, their number times the symmetrised tensor.
    """
    crossed = is_odd(x.ndim, y.ndim, rank)
    k = (x.ndim + y.ndim - rank) // 2
    free_x, free_y = x.ndim - k - crossed, y.ndim - k - crossed
    total = np.zeros((3,) * rank)
    for m in range(min(free_x, free_y) + 1):
        term = contract(x, y, k + m, crossed)
        for _ in range(m):
            term = np.multiply.outer(np.eye(3), term)
        placements = factorial(rank) / (2**m * factorial(m) * factorial(free_x - m) * factorial(free_y - m))
        coefficient = (-2) ** m * double_factorial(2 * rank - 2 * m - 1) / double_factorial(2 * rank - 1)
        total += coefficient * placements * symmetrise(term)
    return total


@cache
def from_e3nn(rank: int) -> Array:
    """Orthogonal change of basis Q with Y_carten = Q Y_e3nn, found by matching harmonics on random directions."""
    vectors = np.random.default_rng(rank).normal(size=(64, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    theirs = o3.spherical_harmonics(rank, torch.from_numpy(vectors), normalize=True, normalization="component").numpy()
    ours = stf.harmonics(rank, vectors)[:, rank**2 :]
    change, residual, *_ = np.linalg.lstsq(theirs, ours, rcond=None)
    assert np.all(residual < TOLERANCE)
    np.testing.assert_allclose(change @ change.T, np.eye(2 * rank + 1), atol=TOLERANCE)
    return np.asarray(change.T)


@pytest.mark.parametrize("triple", TRIPLES + LARGE_TRIPLES[:4])
def test_tables_equal_e3nn_clebsch_gordan_up_to_sign(triple: tuple[int, int, int]) -> None:
    theirs = o3.wigner_3j(*triple, dtype=torch.float64).numpy()
    q1, q2, q3 = (from_e3nn(rank) for rank in triple)
    expected = np.sqrt(2 * triple[2] + 1) * np.einsum("aA,bB,cC,ABC->abc", q1, q2, q3, theirs, optimize=True)
    table = coupling(*triple)
    np.testing.assert_allclose(table, np.sign(np.sum(table * expected)) * expected, atol=TOLERANCE)


@pytest.mark.parametrize("triple", TRIPLES)
def test_products_equal_the_closed_form_up_to_a_positive_factor(triple: tuple[int, int, int]) -> None:
    l1, l2, l3 = triple
    factors = []
    for seed in range(3):
        x, y = random_stf(l1, 2 * seed), random_stf(l2, 2 * seed + 1)
        expected = closed_form(x, y, l3)
        assert stf.is_stf(expected, tol=TOLERANCE)
        packed = np.einsum("a,b,abc->c", stf.from_cartesian(x, l1), stf.from_cartesian(y, l2), coupling(*triple))
        actual = stf.to_cartesian(packed, l3)
        factors.append(np.sum(actual * expected) / np.sum(expected**2))
        scale = np.linalg.norm(x) * np.linalg.norm(y)
        np.testing.assert_allclose(actual / scale, factors[-1] * expected / scale, atol=TOLERANCE)
    assert factors[0] > 0
    np.testing.assert_allclose(factors, factors[0], rtol=1e-10)


@pytest.mark.parametrize("triple", TRIPLES + LARGE_TRIPLES)
@pytest.mark.parametrize("determinant", [1, -1])
def test_even_products_are_true_and_odd_products_pseudotensors(triple: tuple[int, int, int], determinant: int) -> None:
    matrix = determinant * Rotation.random(random_state=sum(triple)).as_matrix()
    d1, d2, d3 = (stf.rotation(rank, matrix) for rank in triple)
    parity = determinant if is_odd(*triple) else 1
    product_of_rotated = np.einsum("abc,aA,bB->ABc", coupling(*triple), d1, d2, optimize=True)
    rotated_product = parity * np.einsum("ABC,cC->ABc", coupling(*triple), d3)
    np.testing.assert_allclose(product_of_rotated, rotated_product, atol=TOLERANCE)


@pytest.mark.parametrize("triple", TRIPLES + LARGE_TRIPLES)
def test_normalisation_exact_zeros_and_exchange(triple: tuple[int, int, int]) -> None:
    l1, l2, l3 = triple
    table = coupling(l1, l2, l3)
    np.testing.assert_allclose(np.sum(table**2, axis=(0, 1)), 1, rtol=TOLERANCE)
    assert np.min(np.abs(table[table != 0])) > 1e-3
    np.testing.assert_allclose(coupling(l2, l1, l3).swapaxes(0, 1), (-1) ** (l1 + l2 - l3) * table, atol=TOLERANCE)


@pytest.mark.parametrize(("l1", "l2"), list(product(range(4), repeat=2)))
def test_all_products_of_two_ranks_are_orthogonal_and_complete(l1: int, l2: int) -> None:
    columns = [coupling(l1, l2, l3).reshape(-1, 2 * l3 + 1) for l3 in range(abs(l1 - l2), l1 + l2 + 1)]
    matrix = np.concatenate(columns, axis=1)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye((2 * l1 + 1) * (2 * l2 + 1)), atol=TOLERANCE)


def test_familiar_products() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 3))
    scalar, vector = (np.einsum("a,b,abc->c", x, y, coupling(1, 1, rank)) for rank in (0, 1))
    np.testing.assert_allclose(scalar, [x @ y / np.sqrt(3)], atol=TOLERANCE)
    np.testing.assert_allclose(vector, np.cross(x, y) / np.sqrt(2), atol=TOLERANCE)
    for rank in range(5):
        np.testing.assert_allclose(coupling(0, rank, rank)[0], np.eye(2 * rank + 1), atol=TOLERANCE)


def test_tables_are_sparse() -> None:
    for l1, l2, l3 in product(range(1, 5), repeat=3):
        if is_admissible(l1, l2, l3):  # |m1 +- m2| = m3: at most two partners for each pair of azimuthal numbers
            assert np.count_nonzero(coupling(l1, l2, l3)) <= 2 * (2 * l1 + 1) * (2 * l2 + 1)


def test_harmonics_are_powers_of_the_vector() -> None:
    vector = np.array([2.0, -3.0, 6.0]) / 7
    values = stf.harmonics(6, vector)
    for rank in range(1, 6):
        power, following = values[rank**2 : (rank + 1) ** 2], values[(rank + 1) ** 2 : (rank + 2) ** 2]
        raised = np.einsum("a,b,abc->c", power, vector, coupling(rank, 1, rank + 1))
        raised *= np.sqrt(2 * rank + 3) / np.linalg.norm(raised)
        np.testing.assert_allclose(raised, following, atol=TOLERANCE)


def test_inadmissible_ranks_are_refused() -> None:
    assert not is_admissible(1, 1, 3)
    assert not is_admissible(0, 2, 1)
    assert not is_admissible(-1, 1, 0)
    assert is_odd(1, 1, 1)
    assert not is_odd(1, 1, 2)
    with pytest.raises(ValueError, match="no product 1 x 1 -> 3"):
        coupling(1, 1, 3)


def test_tables_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        coupling(1, 1, 1)[0] = 0.0
