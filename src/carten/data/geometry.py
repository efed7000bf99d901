"""Closest contacts and duplicates among structures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product

import numpy as np
from ase.data import covalent_radii
from scipy.spatial import cKDTree

from carten.data.labels import Frame
from carten.data.neighbours import edges
from carten.math.arrays import Array
from carten.math.lattice import nearest_images

_SAME = 1e-3  # Å, largest difference of corresponding positions or distances in duplicates
_ALIKE = 1e-2  # largest difference of fingerprints of duplicates, relative to their largest entry
_FEATURES = 16  # entries of fingerprints by which candidates are sought
_LARGE = 2000  # atoms; larger structures are not compared atom by atom


@dataclass(frozen=True)
class Contact:
    """Closest two atoms of a pair of elements in all structures.

    Args:
        elements: atomic numbers, ascending.
        distance: in Å.
        ratio: distance over the sum of covalent radii (Cordero et al. 2008).
        atoms: the two atoms in their structure.
        where: the structure.
    """

    elements: tuple[int, int]
    distance: float
    ratio: float
    atoms: tuple[int, int]
    where: str


@dataclass(frozen=True)
class Surroundings:
    """What one pass over the neighbours of a structure tells.

    Args:
        n_edges: number of edges within the cutoff.
        closest: distance and atoms of the closest contact by pair of elements.
        fingerprint: (N, 3) invariants of the environments of the atoms, each column sorted: they depend on the geometry
            within the cutoff, not on its orientation, origin or order of atoms.
    """

    n_edges: int
    closest: Mapping[tuple[int, int], tuple[float, int, int]]
    fingerprint: Array


def surroundings(frame: Frame, cutoff: float) -> Surroundings:
    """Neighbours of one structure within ``cutoff`` (Å); errors as :func:`carten.data.neighbours.edges`."""
    (centre, neighbour), shift = edges(frame.positions, frame.cell, frame.pbc, cutoff)
    vectors = frame.positions[neighbour] - frame.positions[centre] + shift @ frame.cell
    distance = np.linalg.norm(vectors, axis=1)
    low = np.minimum(frame.numbers[centre], frame.numbers[neighbour])
    high = np.maximum(frame.numbers[centre], frame.numbers[neighbour])
    order = np.argsort(distance, kind="stable")
    pairs, first = np.unique(low[order] * 1000 + high[order], return_index=True)
    closest = {}
    for pair, edge in zip(pairs.tolist(), order[first].tolist(), strict=True):
        closest[(pair // 1000, pair % 1000)] = (float(distance[edge]), int(centre[edge]), int(neighbour[edge]))
    smooth = np.exp(-distance) * (1.0 - distance / cutoff) ** 2
    fingerprint = _fingerprint(frame.numbers, centre, neighbour, vectors / distance[:, None], smooth)
    return Surroundings(n_edges=len(distance), closest=closest, fingerprint=fingerprint)


def _fingerprint(numbers: Array, centre: Array, neighbour: Array, unit: Array, smooth: Array) -> Array:
    """Norms of the monopole, dipole and quadrupole of neighbours about each atom, passed on to neighbours once."""
    quadrupole = unit[:, :, None] * unit[:, None, :] - np.eye(3) / 3.0
    basis = np.concatenate([np.ones((len(unit), 1)), unit, quadrupole.reshape(-1, 9)], axis=1)
    ends = np.searchsorted(centre, np.arange(len(numbers) + 1))  # edges are sorted by centre
    weight = numbers.astype(np.float64)
    for _ in range(2):
        moments = (weight[neighbour] * smooth)[:, None] * basis
        sums = np.diff(np.concatenate([np.zeros((1, 13)), np.cumsum(moments, axis=0)])[ends], axis=0)
        invariants = np.sqrt(np.add.reduceat(sums**2, (0, 1, 4), axis=1))
        weight = numbers + invariants @ (1.0, 0.7, 0.4)
    return np.sort(invariants, axis=0)


def closest_contacts(frames: Sequence[Frame], environments: Sequence[Surroundings]) -> tuple[Contact, ...]:
    """Closest contact of every pair of elements, the one closest for its covalent radii first."""
    best: dict[tuple[int, int], tuple[float, int, int, str]] = {}
    for frame, around in zip(frames, environments, strict=True):
        for pair, (distance, i, j) in around.closest.items():
            if pair not in best or distance < best[pair][0]:
                best[pair] = (distance, i, j, frame.where)
    contacts = [
        Contact(pair, distance, distance / float(covalent_radii[list(pair)].sum()), (i, j), where)
        for pair, (distance, i, j, where) in best.items()
    ]
    return tuple(sorted(contacts, key=lambda contact: (contact.ratio, contact.elements)))


def duplicates(frames: Sequence[Frame], environments: Sequence[Surroundings]) -> tuple[tuple[int, ...], ...]:
    """Groups of indices of structures with the same geometry as the first of the group.

    Same means within 1e-3 Å, whatever the orientation, mirror image, origin and order of atoms: crystals can be
    superposed (cell vectors exchanged or reversed, but not another choice of cell), others have equal environments of
    atoms and equal distances between nearest images.

    The time is nearly linear in the number of structures: only structures whose fingerprints are neighbours in a tree
    are compared atom by atom.
    """
    alike: dict[tuple[bytes, bytes], list[int]] = defaultdict(list)
    for index, frame in enumerate(frames):
        alike[(np.sort(frame.numbers).tobytes(), frame.pbc.tobytes())].append(index)
    groups: list[tuple[int, ...]] = []
    for indices in alike.values():
        fingerprints = np.stack([environments[index].fingerprint.ravel() for index in indices])
        groups += _groups([frames[index] for index in indices], indices, fingerprints)
    return tuple(sorted(groups))


def _groups(frames: Sequence[Frame], indices: Sequence[int], fingerprints: Array) -> list[tuple[int, ...]]:
    """Groups among structures of the same elements."""
    if len(frames) < 2:
        return []
    tolerances = _ALIKE * np.maximum(np.abs(fingerprints).max(axis=1, initial=0.0), 1.0)
    telling = np.argsort(-np.ptp(fingerprints, axis=0), kind="stable")[:_FEATURES]
    features = fingerprints[:, telling]
    tree = cKDTree(features)
    candidates = tree.query_ball_point(features, tolerances, p=np.inf, return_length=True)
    grouped = np.zeros(len(frames), dtype=bool)
    groups = []
    for first in np.flatnonzero(candidates > 1).tolist():
        if grouped[first]:
            continue
        near = np.array(tree.query_ball_point(features[first], tolerances[first], p=np.inf))
        near = np.sort(near[(near > first) & ~grouped[near]])
        near = near[np.abs(fingerprints[near] - fingerprints[first]).max(axis=1, initial=0.0) <= tolerances[first]]
        same = [other for other in near.tolist() if _same(frames[first], frames[other])]
        grouped[same] = True
        if same:
            groups.append(tuple(indices[item] for item in (first, *same)))
    return groups


def _same(one: Frame, other: Frame) -> bool:
    if len(one) > _LARGE:  # the environments must do
        return True
    if one.pbc.all():
        return any(_superposed(one, other, operation) for operation in _signed_permutations())
    return np.allclose(_distances(one), _distances(other), rtol=0.0, atol=_SAME)


@lru_cache(maxsize=1)
def _signed_permutations() -> tuple[Array, ...]:
    """The 48 ways of exchanging and reversing three cell vectors, the identity first."""
    return tuple(
        np.diag(signs) @ np.eye(3)[list(order)]
        for order in permutations(range(3))
        for signs in product((1, -1), repeat=3)
    )


def _superposed(one: Frame, other: Frame, operation: Array) -> bool:
    """Whether some translation brings one crystal, with its cell vectors exchanged, upon the other."""
    cell = operation @ one.cell
    if np.abs(cell @ cell.T - other.cell @ other.cell.T).max() > 2.0 * _SAME * np.abs(other.cell).max():
        return False
    moving = one.positions @ np.linalg.inv(cell)
    fixed = other.positions @ np.linalg.inv(other.cell)
    rarest = min(np.unique(one.numbers).tolist(), key=lambda number: np.count_nonzero(one.numbers == number))
    shifts = fixed[other.numbers == rarest] - moving[np.argmax(one.numbers == rarest)]
    for position, number in zip(moving, one.numbers, strict=True):
        difference = position + shifts[:, None] - fixed[other.numbers == number]
        distance = np.linalg.norm((difference - np.round(difference)) @ other.cell, axis=2)
        shifts = shifts[distance.min(axis=1) < _SAME]
        if not len(shifts):
            return False
    return True


def _distances(frame: Frame) -> Array:
    """All distances between nearest images, sorted within each pair of elements, and the lengths of the cell."""
    i, j = np.triu_indices(len(frame), 1)
    cell = frame.cell[frame.pbc]
    vectors = nearest_images(frame.positions[j] - frame.positions[i], cell)
    numbers = np.sort(np.stack([frame.numbers[i], frame.numbers[j]]), axis=0)
    lengths = np.linalg.norm(vectors, axis=1)
    ordered = lengths[np.lexsort((lengths, numbers[1], numbers[0]))]
    return np.concatenate([ordered, np.sort(np.linalg.norm(cell, axis=1))])
