"""Closest contacts and duplicates among structures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations, product

import numpy as np
from ase.data import covalent_radii
from scipy.spatial import cKDTree

from carten.data.labels import Frame
from carten.data.neighbours import pairs
from carten.math.arrays import Array
from carten.math.lattice import nearest_images

_SAME = 1e-3  # Å, largest difference of corresponding positions or distances in duplicates
SIGNATURE = 17  # numbers
_ALIKE = 5e-3  # largest difference of signatures of duplicates, relative to their scale
_WAVES, _STEP = 16, 1.3  # numbers of a signature, and between their wave numbers, 1/Å
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
        signature: (17,) Fourier components of the distribution of distances, then their scale: they depend on the
            geometry within the cutoff, not on its orientation, origin or order of atoms.
    """

    n_edges: int
    closest: Mapping[tuple[int, int], tuple[float, int, int]]
    signature: Array


def surroundings(frame: Frame, cutoff: float) -> Surroundings:
    """Neighbours of one structure within ``cutoff`` (Å); errors as :func:`carten.data.neighbours.edges`."""
    ends, distance = pairs(frame.positions, frame.cell, frame.pbc, cutoff)
    root = np.sqrt(frame.numbers)
    weight = 2.0 * root[ends[0]] * root[ends[1]] * np.exp(-distance) * (1.0 - distance / cutoff) ** 2
    closest = closest_pairs(frame.numbers, ends, distance)
    return Surroundings(2 * len(distance), closest, _signature(distance, weight))


def closest_pairs(numbers: Array, ends: Array, distance: Array) -> dict[tuple[int, int], tuple[float, int, int]]:
    """Distance and atoms of the closest contact by pair of elements, from pairs of atoms and their distances."""
    elements, kinds = np.unique(numbers, return_inverse=True)
    n = len(elements)
    first, second = kinds[ends[0]], kinds[ends[1]]
    pair = np.minimum(first, second) * n + np.maximum(first, second)
    shortest = np.full(n * n, np.inf)
    np.minimum.at(shortest, pair, distance)
    closest: dict[tuple[int, int], tuple[float, int, int]] = {}
    for edge in np.flatnonzero(distance == shortest[pair]).tolist():
        low, high = elements[list(divmod(int(pair[edge]), n))].tolist()
        i, j = sorted(ends[:, edge].tolist())
        contact = (float(distance[edge]), i, j)
        closest[low, high] = min(contact, closest.get((low, high), contact))
    return closest


def _signature(distance: Array, weight: Array) -> Array:
    """``sum_e w_e cos(k q r_e) / (1 + k q)`` for k = 0, 1, .., and the root of the sum of squares of the weights."""
    twice = 2.0 * np.cos(_STEP * distance)
    waves = [weight, 0.5 * twice * weight]
    for _ in range(_WAVES - 2):
        waves.append(twice * waves[-1] - waves[-2])
    sums = np.sum(waves, axis=1) / (1.0 + _STEP * np.arange(_WAVES))
    sums[0] *= 0.5  # all of it moves with the size of a structure
    return np.append(sums, np.sqrt(weight @ weight))


Closest = dict[tuple[int, int], tuple[float, int, int, int]]
"""Distance, atoms and number of the structure of the closest contact by pair of elements."""


def add_contacts(closest: Closest, number: int, contacts: Mapping[tuple[int, int], tuple[float, int, int]]) -> None:
    """Keep the contacts of a structure of this number that are closer than those before."""
    for pair, contact in contacts.items():
        if pair not in closest or contact[0] < closest[pair][0]:
            closest[pair] = (*contact, number)


def closest_contacts(closest: Closest, where: Callable[[int], str]) -> tuple[Contact, ...]:
    """Closest contact of every pair of elements, the one closest for its covalent radii first.

    Args:
        closest: of all structures.
        where: names a structure by its number.
    """
    contacts = [
        Contact(pair, distance, distance / float(covalent_radii[list(pair)].sum()), (i, j), where(number))
        for pair, (distance, i, j, number) in closest.items()
    ]
    return tuple(sorted(contacts, key=lambda contact: (contact.ratio, contact.elements)))


def kinds_of(frames: Sequence[Frame]) -> Array:
    """A number for each structure, equal where the elements and the periodic directions are."""
    seen: dict[tuple[bytes, bytes], int] = {}
    return np.array(
        [seen.setdefault((np.sort(f.numbers).tobytes(), f.pbc.tobytes()), len(seen)) for f in frames], dtype=np.int64
    )


def duplicates(frames: Sequence[Frame], kinds: Array, signatures: Array) -> tuple[tuple[int, ...], ...]:
    """Groups of indices of structures with the same geometry as the first of the group.

    Same means within 1e-3 Å, whatever the orientation, mirror image, origin and order of atoms: crystals can be
    superposed (cell vectors exchanged or reversed, but not another choice of cell), others have equal environments of
    atoms and equal distances between nearest images.

    The time is nearly linear in the number of structures: only structures whose signatures are neighbours in a tree
    are read, and compared atom by atom.

    Args:
        frames: the structures.
        kinds: (n,) see :func:`kinds_of`.
        signatures: (n, 17) see :class:`Surroundings`.
    """
    order = np.argsort(kinds, kind="stable")
    ends = np.flatnonzero(np.diff(kinds[order])) + 1
    groups: list[tuple[int, ...]] = []
    for indices in np.split(order, ends):
        if len(indices) > 1:
            groups += _groups(frames, indices, np.asarray(signatures[indices], dtype=np.float64))
    return tuple(sorted(groups))


def _groups(frames: Sequence[Frame], indices: Array, signatures: Array) -> Iterator[tuple[int, ...]]:
    """Groups among structures of the same elements."""
    features = signatures[:, :-1] / max(float(signatures[:, -1].max()), 1e-30)
    tree = cKDTree(features)
    candidates = tree.query_ball_point(features, _ALIKE, p=np.inf, return_length=True)
    grouped = np.zeros(len(indices), dtype=bool)
    for first in np.flatnonzero(candidates > 1).tolist():
        if grouped[first]:
            continue
        near = np.array(tree.query_ball_point(features[first], _ALIKE, p=np.inf))
        near = np.sort(near[(near > first) & ~grouped[near]])
        one = frames[int(indices[first])] if len(near) else None
        same = [other for other in near.tolist() if one is not None and _same(one, frames[int(indices[other])])]
        grouped[same] = True
        if same:
            yield tuple(int(indices[item]) for item in (first, *same))


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
