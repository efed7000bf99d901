"""STF bases, packing, rotations and harmonics against SciPy and closed forms."""

from math import sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation
from scipy.special import sph_harm_y

from carten.math import stf

RANKS = range(7)
TOLERANCE = 1e-12  # float64 round-off of sums of 3^6 terms with much to spare


def unit_vectors(count: int, seed: int) -> NDArray[np.float64]:
    vectors = np.random.default_rng(seed).normal(size=(count, 3))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def orthogonal(seed: int, determinant: int) -> NDArray[np.float64]:
    return determinant * Rotation.random(random_state=seed).as_matrix()


def outer_power(vector: NDArray[np.float64], rank: int) -> NDArray[np.float64]:
    power = np.ones(())
    for _ in range(rank):
        power = np.multiply.outer(power, vector)
    return power


@pytest.mark.parametrize("rank", RANKS)
def test_basis_is_orthonormal_symmetric_and_trace_free(rank: int) -> None:
    basis = stf.basis(rank)
    assert basis.shape == (2 * rank + 1,) + (3,) * rank
    flat = basis.reshape(2 * rank + 1, -1)
    np.testing.assert_allclose(flat @ flat.T, np.eye(2 * rank + 1), atol=TOLERANCE)
    for axis in range(1, rank):
        np.testing.assert_allclose(basis, basis.swapaxes(axis, axis + 1), atol=0)
        np.testing.assert_allclose(np.trace(basis, axis1=axis, axis2=axis + 1), 0, atol=TOLERANCE)


def test_basis_of_low_ranks_has_the_stated_order() -> None:
    x, y, z = np.eye(3)
    np.testing.assert_array_equal(stf.basis(1), np.eye(3))
    pairs = [np.outer(x, x) - np.outer(y, y), *(np.outer(a, b) + np.outer(b, a) for a, b in ((x, y), (x, z), (y, z)))]
    expected = [pair / sqrt(2) for pair in pairs] + [(3 * np.outer(z, z) - np.eye(3)) / sqrt(6)]
    np.testing.assert_allclose(stf.basis(2), expected, atol=TOLERANCE)


def test_tables_are_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        stf.basis(2)[0] = 0.0


@pytest.mark.parametrize("rank", RANKS)
def test_packing_round_trip_keeps_the_norm(rank: int) -> None:
    packed = np.random.default_rng(rank).normal(size=(2, 5, 2 * rank + 1))
    cartesian = stf.to_cartesian(packed, rank)
    assert cartesian.shape == (2, 5) + (3,) * rank
    np.testing.assert_allclose(stf.from_cartesian(cartesian, rank), packed, atol=TOLERANCE)
    np.testing.assert_allclose(np.sum(cartesian**2), np.sum(packed**2), rtol=TOLERANCE)


def test_packing_a_general_matrix_keeps_its_symmetric_trace_free_part() -> None:
    matrix = np.random.default_rng(0).normal(size=(3, 3))
    expected = (matrix + matrix.T) / 2 - np.trace(matrix) / 3 * np.eye(3)
    np.testing.assert_allclose(stf.to_cartesian(stf.from_cartesian(matrix, 2), 2), expected, atol=TOLERANCE)


@pytest.mark.parametrize("rank", range(2, 7))
def test_is_stf_accepts_basis_tensors_and_rejects_others(rank: int) -> None:
    tensor = stf.to_cartesian(np.random.default_rng(rank).normal(size=2 * rank + 1), rank)
    assert stf.is_stf(tensor)
    with_trace = outer_power(np.array([0.6, 0.0, 0.8]), rank)
    assert not stf.is_stf(with_trace)
    asymmetric = tensor.copy()
    asymmetric[(0,) * (rank - 1) + (1,)] += 1e-6
    assert not stf.is_stf(asymmetric, tol=1e-9)
    assert stf.is_stf(asymmetric, tol=1e-3)


def test_is_stf_sees_each_defect_alone() -> None:
    assert not stf.is_stf(np.eye(3))
    assert not stf.is_stf(np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 0]]))
    assert stf.is_stf(np.zeros((3, 3)))
    assert stf.is_stf([1.0, 2.0, 3.0])
    swapped_in_the_last_pair_only = np.zeros((3, 3, 3))
    swapped_in_the_last_pair_only[0, 0, 1] = swapped_in_the_last_pair_only[0, 1, 0] = 1
    assert not stf.is_stf(swapped_in_the_last_pair_only)


@pytest.mark.parametrize("rank", RANKS)
def test_rotations_are_a_representation_of_all_orthogonal_matrices(rank: int) -> None:
    proper, improper = orthogonal(1, 1), orthogonal(2, -1)
    products = stf.rotation(rank, proper) @ stf.rotation(rank, improper)
    np.testing.assert_allclose(stf.rotation(rank, proper @ improper), products, atol=TOLERANCE)
    np.testing.assert_allclose(stf.rotation(rank, improper.T), stf.rotation(rank, improper).T, atol=TOLERANCE)
    np.testing.assert_allclose(stf.rotation(rank, -np.eye(3)), (-1) ** rank * np.eye(2 * rank + 1), atol=TOLERANCE)
    np.testing.assert_allclose(products @ products.T, np.eye(2 * rank + 1), atol=TOLERANCE)


def test_rotation_of_vectors_is_the_matrix_itself() -> None:
    reflection = orthogonal(3, -1)
    np.testing.assert_allclose(stf.rotation(1, reflection), reflection, atol=TOLERANCE)


@pytest.mark.parametrize("determinant", [1, -1])
def test_harmonics_rotate_with_their_argument(determinant: int) -> None:
    matrix, vectors = orthogonal(4, determinant), unit_vectors(7, 4)
    before, after = stf.harmonics(6, vectors), stf.harmonics(6, vectors @ matrix.T)
    for rank in RANKS:
        block = slice(rank**2, (rank + 1) ** 2)
        np.testing.assert_allclose(after[:, block], before[:, block] @ stf.rotation(rank, matrix).T, atol=TOLERANCE)


def test_harmonics_equal_those_of_scipy() -> None:
    vectors = unit_vectors(20, 5)
    theta, phi = np.arccos(vectors[:, 2]), np.arctan2(vectors[:, 1], vectors[:, 0])
    columns = []
    for rank in RANKS:
        for m in range(rank, 0, -1):
            scipy_with_condon_shortley = sqrt(2 * 4 * np.pi) * (-1) ** m * sph_harm_y(rank, m, theta, phi)
            columns += [scipy_with_condon_shortley.real, scipy_with_condon_shortley.imag]
        columns.append(sqrt(4 * np.pi) * sph_harm_y(rank, 0, theta, phi).real)
    np.testing.assert_allclose(stf.harmonics(6, vectors), np.stack(columns, axis=-1), atol=TOLERANCE)


def test_harmonics_have_component_normalisation() -> None:
    values = stf.harmonics(6, unit_vectors(5, 6))
    for rank in RANKS:
        norms = np.sum(values[:, rank**2 : (rank + 1) ** 2] ** 2, axis=1)
        np.testing.assert_allclose(norms, 2 * rank + 1, rtol=TOLERANCE)


def test_harmonics_of_any_leading_shape_and_length() -> None:
    vectors = unit_vectors(6, 7).reshape(2, 3, 3)
    assert stf.harmonics(3, vectors).shape == (2, 3, 16)
    stretched, unit = stf.harmonics(2, 2 * vectors), stf.harmonics(2, vectors)
    np.testing.assert_allclose(stretched[..., 4:], 4 * unit[..., 4:], rtol=TOLERANCE)


@pytest.mark.parametrize("rank", RANKS)
def test_ictp_normalisation_and_its_relation_to_ours(rank: int) -> None:
    vector = unit_vectors(1, 8)[0]
    power = outer_power(vector, rank)
    ictp = stf.ictp_norm(rank) * stf.to_cartesian(stf.from_cartesian(power, rank), rank)
    assert np.sum(ictp * power) == pytest.approx(1, rel=TOLERANCE)  # ICTP Eq. 1
    assert np.sum(ictp**2) == pytest.approx(stf.ictp_norm(rank), rel=TOLERANCE)
    ours = stf.to_cartesian(stf.harmonics(rank, vector)[rank**2 :], rank)
    np.testing.assert_allclose(ours, sqrt((2 * rank + 1) / stf.ictp_norm(rank)) * ictp, atol=TOLERANCE)


def test_bad_arguments_are_reported_with_what_was_expected() -> None:
    with pytest.raises(ValueError, match="must be >= 0, found -1"):
        stf.basis(-1)
    with pytest.raises(ValueError, match=r"\(\.\.\., 5\), found \(2, 3\)"):
        stf.to_cartesian(np.zeros((2, 3)), 2)
    with pytest.raises(ValueError, match=r"2 axes of length 3, found shape \(3, 2\)"):
        stf.from_cartesian(np.zeros((3, 2)), 2)
    with pytest.raises(ValueError, match="2 axes of length 3"):
        stf.from_cartesian(np.zeros(3), 2)
    with pytest.raises(ValueError, match="orthogonal matrix"):
        stf.rotation(2, np.diag([1, 1, 1.1]))
    with pytest.raises(ValueError, match="length 3"):
        stf.is_stf(np.zeros((3, 2)))
    with pytest.raises(ValueError, match=r"vectors \(\.\.\., 3\)"):
        stf.harmonics(2, np.zeros((4, 2)))
