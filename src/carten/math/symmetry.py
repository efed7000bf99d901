"""Cartesian tensors of any index symmetry, and their exact decomposition into irreducible (STF) parts.

A formula such as ``"ij=ji"``, ``"ij=-ji"`` or ``"ijkl=jikl=ijlk=klij"`` names one index per axis, then the signed
permutations of them that leave the tensor unchanged; ``"ij=ji; ii=0"`` adds that a trace vanishes. The decomposition
follows from the formula alone:

1. coupling one vector index at a time, ((1 x 1 -> j2) x 1 -> j3) .., embeds the STF tensors of rank l in the tensors of
   rank n in as many mutually orthogonal ways as there are paths j1, j2, .., jn = l;
2. the projector on the symmetry commutes with rotations, so it only mixes the paths to one l (Schur's lemma);
3. the columns of the pivoted Cholesky factor of this small matrix, itself a projector, are an orthonormal basis of its
   range, each mixing few paths; vanishing traces leave out the part of the range that has them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import ArrayLike

from carten.math.arrays import Floats
from carten.math.coupling import ROUND_OFF, coupling

MAX_RANK = 6
Permutation = tuple[int, ...]


def _bad_formula(formula: str, expected: str, value: str) -> ValueError:
    return ValueError(
        f"index symmetry {formula!r}: expected {expected}, found {value}; "
        "write it like 'ij' (no symmetry), 'ij=ji' (symmetric), 'ij=-ji' (antisymmetric) or '' (a scalar)"
    )


@dataclass(frozen=True)
class Symmetry:
    """An index symmetry: T = sign * T with its axes permuted, for every (permutation, sign) of a generating set."""

    formula: str
    rank: int
    generators: tuple[tuple[Permutation, int], ...]
    traces: tuple[tuple[int, int], ...] = ()
    """Pairs of axes whose trace vanishes."""

    def group(self) -> dict[Permutation, int]:
        """Every permutation that follows from the generators, with its sign.

        Raises ValueError if a permutation follows with both signs: only the zero tensor has such a symmetry.
        """
        identity = tuple(range(self.rank))
        signs = {identity: 1}
        frontier = [identity]
        while frontier:
            element = frontier.pop()
            for permutation, sign in self.generators:
                product = tuple(element[axis] for axis in permutation)
                if product not in signs:
                    frontier.append(product)
                if signs.setdefault(product, sign * signs[element]) != sign * signs[element]:
                    raise _bad_formula(self.formula, "signs that allow a tensor other than zero", "a contradiction")
        return signs


def parse_indices(formula: str) -> Symmetry:
    """Index symmetry written as equal terms, e.g. ``"ij"`` (none), ``"ij=ji"``, ``"ij=-ji"``, ``""`` (a scalar).

    Traces that vanish follow after semicolons: ``"ij=ji; ii=0"``, ``"ijk=ikj; ijj=0"``.

    Raises ValueError, saying what was expected and found, unless the first term is at most 6 different letters and
    every other term a permutation of it, with or without a minus sign, and every trace the first term with one letter
    in the place of another.
    """
    equal, *traces = formula.split(";")
    first, *others = (term.strip() for term in equal.split("="))
    if not (first.isascii() and first.isalpha()) and formula.strip():
        raise _bad_formula(formula, "one letter for each index as the first term", repr(first))
    if len(set(first)) < len(first):
        raise _bad_formula(formula, "a different letter for each index", repr(first))
    if len(first) > MAX_RANK:
        raise _bad_formula(formula, f"at most {MAX_RANK} indices", str(len(first)))
    generators = []
    for term in others:
        letters = term.removeprefix("-").strip()
        if sorted(letters) != sorted(first):
            raise _bad_formula(formula, f"a permutation of {first!r}", repr(term))
        generators.append((tuple(first.index(letter) for letter in letters), -1 if term.startswith("-") else 1))
    return Symmetry(formula, len(first), tuple(generators), tuple(_trace(formula, first, trace) for trace in traces))


def _trace(formula: str, first: str, trace: str) -> tuple[int, int]:
    """The pair of axes of a term such as ``"iik=0"``."""
    letters, _, zero = (part.strip() for part in trace.partition("="))
    for one in range(len(first)):
        for other in range(one + 1, len(first)):
            if zero == "0" and letters == first[:other] + first[one] + first[other + 1 :]:
                return one, other
    raise _bad_formula(formula, f"a trace of {first!r} such as 'ii=0' after each semicolon", repr(trace.strip()))


@dataclass(frozen=True, eq=False)
class Decomposition:
    """Orthogonal decomposition of the tensors of one index symmetry into STF parts; made by ``decompose``.

    Under a proper rotation R the coordinates of a part transform with ``stf.rotation(l, R)``; under inversion all parts
    take the sign of the whole tensor, (-1)^rank for a true tensor.
    """

    symmetry: Symmetry
    bases: Mapping[int, Floats]

    @property
    def rank(self) -> int:
        """Number of Cartesian indices."""
        return self.symmetry.rank

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """Pairs (l, multiplicity), l ascending."""
        return tuple((ell, len(basis)) for ell, basis in self.bases.items())

    @property
    def dimension(self) -> int:
        """Number of independent components, the sum of multiplicity (2l+1)."""
        return sum(multiplicity * (2 * ell + 1) for ell, multiplicity in self.parts)

    def basis(self, ell: int) -> Floats:
        """Basis of the parts of rank l: read-only (multiplicity, 2l+1, 3, .., 3), orthonormal over all parts.

        Raises ValueError if there is no part of this rank.
        """
        if ell not in self.bases:
            raise self._wrong_parts([ell])
        return self.bases[ell]

    def pack(self, tensor: ArrayLike) -> dict[int, Floats]:
        """Coordinates <basis(l)[q, m], T> of tensors (..., 3, .., 3), as {l: (..., multiplicity, 2l+1)} in their unit.

        What violates the symmetry is projected out. Raises ValueError unless the last ``rank`` axes are of length 3.
        """
        values = self._tensors(tensor)
        flat = values.reshape(*values.shape[: values.ndim - self.rank], 3**self.rank)
        return {ell: np.tensordot(flat, b.reshape(*b.shape[:2], -1), axes=(-1, -1)) for ell, b in self.bases.items()}

    def unpack(self, parts: Mapping[int, ArrayLike]) -> Floats:
        """Tensors (..., 3, .., 3) from all their parts {l: (..., multiplicity, 2l+1)}: the inverse of ``pack``.

        Raises ValueError if the parts or their shapes are not those of this symmetry.
        """
        if set(parts) != set(self.bases):
            raise self._wrong_parts(sorted(parts))
        arrays = {ell: np.asarray(part, dtype=np.float64) for ell, part in parts.items()}
        for ell, multiplicity in self.parts:
            if arrays[ell].shape[-2:] != (multiplicity, 2 * ell + 1):
                raise self._wrong_parts(f"l = {ell} of shape {arrays[ell].shape}")
        terms = [np.tensordot(arrays[ell], basis, axes=2) for ell, basis in self.bases.items()]
        return np.asarray(np.add.reduce(terms))

    def project(self, tensor: ArrayLike) -> Floats:
        """Nearest tensors with the symmetry, for tensors (..., 3, .., 3) of any unit; idempotent."""
        return self.unpack(self.pack(tensor))

    def is_symmetric(self, tensor: ArrayLike, tol: float = 1e-10) -> bool:
        """Whether tensors (..., 3, .., 3) all have the symmetry, to ``tol`` times the largest component of them all.

        Raises ValueError unless the last ``rank`` axes are of length 3.
        """
        values = self._tensors(tensor)
        scale = np.abs(values).max(initial=0.0)
        images = _images(values, dict(self.symmetry.generators))
        lead = values.ndim - self.rank
        traces = (np.trace(values, axis1=lead + a, axis2=lead + b) for a, b in self.symmetry.traces)
        defects = (*(values - image for image in images), *traces)
        return all(bool(np.abs(defect).max(initial=0.0) <= tol * scale) for defect in defects)

    def _tensors(self, tensor: ArrayLike) -> Floats:
        values = np.asarray(tensor, dtype=np.float64)
        if values.ndim < self.rank or values.shape[values.ndim - self.rank :] != (3,) * self.rank:
            raise ValueError(
                f"tensors with index symmetry {self.symmetry.formula!r} must end in {self.rank} axes of length 3, "
                f"found shape {values.shape}"
            )
        return values

    def _wrong_parts(self, value: object) -> ValueError:
        expected = {ell: f"(..., {multiplicity}, {2 * ell + 1})" for ell, multiplicity in self.parts}
        return ValueError(f"tensors with index symmetry {self.symmetry.formula!r} have parts {expected}, found {value}")


def _images(tensors: Floats, signs: Mapping[Permutation, int]) -> Iterator[Floats]:
    """Tensors (..., 3, .., 3) with their last axes permuted and the sign applied, for each of some permutations."""
    for permutation, sign in signs.items():
        lead = tensors.ndim - len(permutation)
        yield sign * tensors.transpose(*range(lead), *(lead + axis for axis in permutation))


@cache
def _embeddings(rank: int) -> dict[int, Floats]:
    """All orthonormal embeddings of STF tensors in tensors of one rank: {l: (paths, 2l+1, 3, .., 3)}."""
    if rank == 0:
        return {0: np.ones((1, 1))}
    paths: dict[int, list[Floats]] = {}
    for j, shorter in _embeddings(rank - 1).items():
        for ell in range(abs(j - 1), j + 2):
            paths.setdefault(ell, []).append(np.einsum("pa...,abc->pc...b", shorter, coupling(j, 1, ell)))
    return {ell: np.concatenate(paths[ell]) for ell in sorted(paths)}


def _orthonormal_range(projector: Floats) -> Floats:
    """Pivoted Cholesky factor L, (n, r), of a projector P = L L^T of rank r; P^2 = P makes its columns orthonormal."""
    rest = projector.copy()
    columns = np.zeros((len(rest), round(np.trace(rest))))
    for index in range(columns.shape[1]):
        pivot = int(np.argmax(np.diag(rest).round(6)))  # the first of equals, whatever the round-off
        columns[:, index] = rest[:, pivot] / np.sqrt(rest[pivot, pivot])
        rest -= np.outer(columns[:, index], columns[:, index])
    return columns


def _without_traces(columns: Floats, one: Floats, traces: tuple[tuple[int, int], ...]) -> Floats:
    """The combinations of orthonormal columns, (paths, r), without traces; ``one`` is one component of every path."""
    if not traces or not columns.shape[1]:
        return columns
    tensors = np.tensordot(columns.T, one, axes=1)
    contracted = [np.trace(tensors, axis1=a + 1, axis2=b + 1).reshape(len(tensors), -1) for a, b in traces]
    vectors, singular, _ = np.linalg.svd(np.concatenate(contracted, axis=1), full_matrices=False)
    traced = vectors[:, singular > ROUND_OFF]
    return columns @ _orthonormal_range(np.eye(len(tensors)) - traced @ traced.T)


@cache
def decompose(indices: str) -> Decomposition:
    """Decomposition of the tensors of an index symmetry, e.g. ``"ij=ji"`` into l = 0 and l = 2, up to rank 6.

    The parts are orthonormal and complete: ``unpack(pack(T)) = T`` for every T with the symmetry. Signs and order of
    equal parts are deterministic. Raises ValueError for a formula that is malformed or leaves the zero tensor only.
    (Coope, Snider and McCourt 1965: embeddings by successive coupling.)
    """
    symmetry = parse_indices(indices)
    signs = symmetry.group()
    bases = {}
    for ell, embeddings in _embeddings(symmetry.rank).items():
        one = embeddings[:, -1]  # Schur: any component m gives the same matrix
        average = sum(_images(one, signs), np.zeros_like(one)) / len(signs)
        projector = np.tensordot(one.reshape(len(one), -1), average.reshape(len(one), -1), axes=(1, 1))
        kept = _without_traces(_orthonormal_range(projector), one, symmetry.traces)
        basis = np.tensordot(kept.T, embeddings, axes=1)
        basis[np.abs(basis) < ROUND_OFF] = 0.0
        basis.setflags(write=False)
        if len(basis):
            bases[ell] = basis
    if not bases:
        raise _bad_formula(indices, "a symmetry of tensors other than zero", "too many antisymmetric indices or traces")
    return Decomposition(symmetry, bases)
