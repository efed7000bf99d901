"""Decompositions of Cartesian tensors against brute-force projection, characters and textbook counts."""

from functools import cache
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from carten.math import stf
from carten.math.coupling import levi_civita
from carten.math.symmetry import Decomposition, decompose, parse_indices

Array = NDArray[np.float64]
TOLERANCE = 1e-12

COUNTS: dict[str, dict[int, int] | None] = {
    "": {0: 1},
    "i": {1: 1},
    "ij": {0: 1, 1: 1, 2: 1},
    "ij=ji": {0: 1, 2: 1},
    "ij=-ji": {1: 1},
    "ijk": {0: 1, 1: 3, 2: 2, 3: 1},
    "ijk=jik": {1: 2, 2: 1, 3: 1},  # piezoelectric, 18
    "ijk=jik=ikj": {1: 1, 3: 1},  # first hyperpolarizability, 10
    "ijk=-jik=-ikj": {0: 1},  # the Levi-Civita tensor
    "ijk=-ikj": {0: 1, 1: 1, 2: 1},
    "ijk=jki": {0: 1, 1: 1, 3: 1},
    "ijkl=jikl=ijlk=klij": {0: 2, 2: 2, 4: 1},  # elastic, 21
    "ijkl=jikl=ijlk": {0: 2, 1: 1, 2: 3, 3: 1, 4: 1},  # photoelastic, 36
    "ijkl=jikl=jkli": {0: 1, 2: 1, 4: 1},  # totally symmetric, 15
    "ijkl=-jikl=-ijlk=klij": {0: 1, 2: 1},  # square of the antisymmetric part of "ij"
    "ijklm=jiklm=jklmi": {1: 1, 3: 1, 5: 1},
    "ijklmn": {0: 15, 1: 36, 2: 40, 3: 29, 4: 15, 5: 5, 6: 1},
    "ijklmn=jiklmn=klijmn=ijmnkl": {0: 3, 2: 3, 3: 1, 4: 2, 6: 1},  # third-order elastic, 56
    "ijklmn=jiklmn=jklmni": {0: 1, 2: 1, 4: 1, 6: 1},  # totally symmetric, 28
    "ijklmn=-jiklmn=lmnijk": None,
    "ijklmn=jkilmn=-lmnijk": None,
}


@cache
def closure(formula: str) -> dict[tuple[int, ...], int]:
    """All signed permutations a formula implies, by multiplying all pairs until nothing new appears."""
    first, *others = formula.split("=")
    group = {tuple(range(len(first))): 1}
    for term in others:
        group[tuple(first.index(letter) for letter in term.removeprefix("-"))] = -1 if "-" in term else 1
    while True:
        products = {tuple(p[i] for i in q): s * t for (p, s), (q, t) in product(group.items(), repeat=2)}
        if products.keys() <= group.keys():
            return group
        group |= products


def brute_force(formula: str, tensor: Array) -> Array:
    group = closure(formula)
    return sum((sign * tensor.transpose(axes) for axes, sign in group.items()), np.zeros_like(tensor)) / len(group)


def character_counts(formula: str) -> dict[int, int]:
    """Multiplicities from characters: tr(permutation R(t) x .. x R(t)) is the product of tr R(length t) over cycles."""
    rank, group = len(formula.split("=")[0]), closure(formula)
    angle = 2 * np.pi * np.arange(64) / 64  # the trapezoid rule is exact for trigonometric polynomials of degree < 64
    trace = np.zeros(64)
    for permutation, sign in group.items():
        term, left = np.full(64, float(sign)), set(range(rank))
        while left:
            start = axis = left.pop()
            length = 1
            while (axis := permutation[axis]) != start:
                left.remove(axis)
                length += 1
            term = term * (1 + 2 * np.cos(length * angle))
        trace += term / len(group)
    counts = {}
    for ell in range(rank + 1):
        character = 1 + 2 * sum((np.cos(m * angle) for m in range(1, ell + 1)), np.zeros(64))
        counts[ell] = round(float(np.mean((1 - np.cos(angle)) * character * trace)))
    return {ell: count for ell, count in counts.items() if count}


def rotate(tensor: Array, matrix: Array) -> Array:
    for axis in range(tensor.ndim):
        tensor = np.moveaxis(np.tensordot(tensor, matrix, axes=(axis, 1)), -1, axis)
    return tensor


def random_tensors(decomposition: Decomposition, count: int) -> Array:
    return np.random.default_rng(decomposition.rank).normal(size=(count,) + (3,) * decomposition.rank)


@pytest.mark.parametrize("formula", COUNTS)
def test_counts_of_parts(formula: str) -> None:
    decomposition = decompose(formula)
    assert dict(decomposition.parts) == character_counts(formula)
    if COUNTS[formula] is not None:
        assert dict(decomposition.parts) == COUNTS[formula]
    assert decomposition.dimension == sum(count * (2 * ell + 1) for ell, count in decomposition.parts)
    assert decomposition.rank == len(formula.split("=")[0])


@pytest.mark.parametrize("formula", COUNTS)
def test_basis_is_orthonormal_over_all_parts(formula: str) -> None:
    decomposition = decompose(formula)
    bases = [decomposition.basis(ell) for ell, _ in decomposition.parts]
    rows = np.concatenate([basis.reshape(-1, 3**decomposition.rank) for basis in bases])
    np.testing.assert_allclose(rows @ rows.T, np.eye(decomposition.dimension), atol=TOLERANCE)
    for (ell, count), basis in zip(decomposition.parts, bases, strict=True):
        assert basis.shape == (count, 2 * ell + 1) + (3,) * decomposition.rank


@pytest.mark.parametrize("formula", COUNTS)
def test_reconstruction_is_the_identity_and_projection_that_of_brute_force(formula: str) -> None:
    decomposition = decompose(formula)
    tensors = random_tensors(decomposition, 2)
    symmetric = np.stack([brute_force(formula, tensor) for tensor in tensors])
    parts = decomposition.pack(symmetric)
    assert {ell: part.shape for ell, part in parts.items()} == {
        ell: (2, count, 2 * ell + 1) for ell, count in decomposition.parts
    }
    np.testing.assert_allclose(decomposition.unpack(parts), symmetric, atol=TOLERANCE)
    np.testing.assert_allclose(decomposition.project(tensors), symmetric, atol=TOLERANCE)
    for ell, part in decomposition.pack(decomposition.unpack(parts)).items():
        np.testing.assert_allclose(part, parts[ell], atol=TOLERANCE)


@pytest.mark.parametrize("formula", COUNTS)
def test_parts_rotate_as_stf_tensors_and_all_take_the_parity_of_the_whole(formula: str) -> None:
    decomposition = decompose(formula)
    tensor = random_tensors(decomposition, 1)[0]
    matrix = Rotation.random(random_state=1).as_matrix()
    before = decomposition.pack(tensor)
    after, inverted = decomposition.pack(rotate(tensor, matrix)), decomposition.pack(rotate(tensor, -np.eye(3)))
    for ell, part in before.items():
        np.testing.assert_allclose(after[ell], part @ stf.rotation(ell, matrix).T, atol=TOLERANCE)
        np.testing.assert_allclose(inverted[ell], (-1) ** decomposition.rank * part, atol=TOLERANCE)


@pytest.mark.parametrize("formula", [formula for formula in COUNTS if "=" in formula])
def test_is_symmetric_accepts_projected_and_rejects_other_tensors(formula: str) -> None:
    decomposition = decompose(formula)
    tensor = random_tensors(decomposition, 1)[0]
    symmetric = brute_force(formula, tensor)
    assert decomposition.is_symmetric(symmetric)
    assert not decomposition.is_symmetric(tensor)
    assert not decomposition.is_symmetric(symmetric + 1e-6 * tensor)
    assert decomposition.is_symmetric(symmetric + 1e-6 * tensor, tol=1e-3)


def test_is_symmetric_minds_the_sign_and_each_generator() -> None:
    matrix = np.array([[1.0, 2, 3], [2, 5, 6], [3, 6, 9]])
    assert decompose("ij=ji").is_symmetric(matrix)
    assert not decompose("ij=-ji").is_symmetric(matrix)
    assert not decompose("ijk=jik=ikj").is_symmetric(np.multiply.outer(matrix, np.array([1.0, 0, 0])))
    assert decompose("ijk=-jik=-ikj").is_symmetric(levi_civita())
    assert decompose("ij=ji").is_symmetric(np.zeros((0, 3, 3)))


def test_familiar_parts() -> None:
    matrix = np.random.default_rng(0).normal(size=(3, 3))
    parts = decompose("ij").pack(matrix)
    np.testing.assert_allclose(parts[0], [[np.trace(matrix) / np.sqrt(3)]], rtol=TOLERANCE)
    np.testing.assert_allclose(parts[1], np.einsum("kij,ij->k", levi_civita(), matrix)[None] / np.sqrt(2), rtol=1e-11)
    np.testing.assert_allclose(parts[2], stf.from_cartesian(matrix, 2)[None], atol=TOLERANCE)
    np.testing.assert_allclose(decompose("ijk=jik=ikj").basis(3)[0], stf.basis(3), atol=TOLERANCE)


def test_isotropic_elasticity_has_two_scalars_only() -> None:
    d = np.eye(3)
    volume, shear = np.einsum("ij,kl->ijkl", d, d), np.einsum("ik,jl->ijkl", d, d) + np.einsum("il,jk->ijkl", d, d)
    lame = 2.0 * volume + 0.7 * shear
    decomposition = decompose("ijkl=jikl=ijlk=klij")
    assert decomposition.is_symmetric(lame)
    parts = decomposition.pack(lame)
    assert np.linalg.norm(parts[0]) == pytest.approx(np.linalg.norm(lame), rel=TOLERANCE)
    assert max(np.abs(parts[2]).max(), np.abs(parts[4]).max()) < TOLERANCE


@pytest.mark.parametrize(
    ("formula", "counts"),
    [
        ("ij=ji; ii=0", {2: 1}),
        ("ij; ii=0", {1: 1, 2: 1}),
        ("ijk=jik=ikj; iik=0", {3: 1}),
        ("ijk=jik; iik=0", {1: 1, 2: 1, 3: 1}),
        ("ijk; iik=0; ijj=0; iji=0", {0: 1, 2: 2, 3: 1}),
        ("ijkl=jikl=ijlk=klij; iikl=0", {0: 1, 2: 1, 4: 1}),
    ],
)
def test_traces_vanish_and_nothing_else_is_lost(formula: str, counts: dict[int, int]) -> None:
    decomposition = decompose(formula)
    assert dict(decomposition.parts) == counts
    whole = decompose(formula.split(";")[0])
    tensor = whole.project(random_tensors(whole, 1)[0])
    inside = decomposition.project(tensor)
    assert decomposition.is_symmetric(inside)
    assert not decomposition.is_symmetric(tensor)
    for a, b in decomposition.symmetry.traces:
        assert np.abs(np.trace(inside, axis1=a, axis2=b)).max() < TOLERANCE
    np.testing.assert_allclose(decomposition.project(inside), inside, atol=TOLERANCE)


def test_decompositions_are_cached_and_read_only() -> None:
    assert decompose("ij=ji") is decompose("ij=ji")
    with pytest.raises(ValueError, match="read-only"):
        decompose("ij=ji").basis(2)[0] = 0.0


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("ij=jk", "expected a permutation of 'ij', found 'jk'"),
        ("ij=jii", "expected a permutation of 'ij', found 'jii'"),
        ("ij=", "expected a permutation of 'ij', found ''"),
        ("ij=--ji", "expected a permutation of 'ij', found '--ji'"),
        ("ii", "expected a different letter for each index, found 'ii'"),
        ("i1", "expected one letter for each index as the first term, found 'i1'"),
        ("-ij=ji", "as the first term, found '-ij'"),
        ("=ij", "as the first term, found ''"),
        ("ijklmno", "expected at most 6 indices, found 7"),
        ("ij=ji=-ji", "found a contradiction"),
        ("i=-i", "found a contradiction"),
        ("ijk=jki=-kij", "found a contradiction"),
        ("ijkl=-jikl=-ikjl=-ijlk", "too many antisymmetric indices"),
        ("ij=ji; ij=0", "expected a trace of 'ij' such as 'ii=0' after each semicolon, found 'ij=0'"),
        ("ij=ji; ii", "found 'ii'"),
        ("ijk; jjk=0", "found 'jjk=0'"),
    ],
)
def test_bad_formulas_are_explained(formula: str, message: str) -> None:
    with pytest.raises(ValueError, match="index symmetry") as error:
        decompose(formula)
    assert message in str(error.value)
    assert repr(formula) in str(error.value)


def test_spaces_and_repeated_terms_do_not_matter() -> None:
    assert parse_indices(" ij = - ji ").generators == parse_indices("ij=-ji").generators
    assert decompose("ij = ji = ij").parts == decompose("ab=ba").parts


def test_bad_tensors_and_parts_are_explained() -> None:
    decomposition = decompose("ij=ji")
    with pytest.raises(ValueError, match=r"'ij=ji' must end in 2 axes of length 3, found shape \(4, 6\)"):
        decomposition.pack(np.zeros((4, 6)))
    with pytest.raises(ValueError, match="must end in 2 axes"):
        decomposition.is_symmetric(np.zeros(3))
    with pytest.raises(ValueError, match=r"have parts .*found \[1\]"):
        decomposition.basis(1)
    with pytest.raises(ValueError, match=r"found \[0\]"):
        decomposition.unpack({0: np.zeros((1, 1))})
    with pytest.raises(ValueError, match=r"found l = 2 of shape \(1, 3\)"):
        decomposition.unpack({0: np.zeros((1, 1)), 2: np.zeros((1, 3))})
