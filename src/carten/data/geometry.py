"""Closest contacts and duplicates among structures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
from ase.data import covalent_radii

from carten.data.labels import Frame
from carten.data.neighbours import edges

Array = npt.NDArray[Any]

_SAME = 1e-4  # Å, largest difference of corresponding distances in duplicates
_ALIKE = 1e-4  # relative difference of fingerprints within which structures are compared in full
_LARGE = 2000  # atoms; beyond, all distances of a structure are too many


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
        fingerprint: a number that depends on the geometry, not on its orientation, origin or order of atoms.
    """

    n_edges: int
    closest: Mapping[tuple[int, int], tuple[float, int, int]]
    fingerprint: float


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
    fingerprint = float(np.sum((low + 1.7 * high) * np.exp(-distance)))
    return Surroundings(n_edges=len(distance), closest=closest, fingerprint=fingerprint)


def closest_contacts(frames: Sequence[Frame], found: Sequence[Surroundings]) -> tuple[Contact, ...]:
    """Closest contact of every pair of elements, the one closest for its covalent radii first."""
    best: dict[tuple[int, int], tuple[float, int, int, str]] = {}
    for frame, around in zip(frames, found, strict=True):
        for pair, (distance, i, j) in around.closest.items():
            if pair not in best or distance < best[pair][0]:
                best[pair] = (distance, i, j, frame.where)
    contacts = [
        Contact(pair, distance, distance / float(covalent_radii[list(pair)].sum()), (i, j), where)
        for pair, (distance, i, j, where) in best.items()
    ]
    return tuple(sorted(contacts, key=lambda contact: (contact.ratio, contact.elements)))


def duplicates(frames: Sequence[Frame], found: Sequence[Surroundings]) -> tuple[tuple[int, ...], ...]:
    """Groups of indices of structures with the same geometry.

    Same means: the same elements and periodic directions, and all interatomic distances (of nearest images) equal
    within 1e-4 Å, whatever the orientation, mirror image, origin or order of atoms.
    """
    alike: dict[tuple[bytes, bytes], list[int]] = defaultdict(list)
    for index, frame in enumerate(frames):
        alike[(np.sort(frame.numbers).tobytes(), frame.pbc.tobytes())].append(index)
    groups: list[tuple[int, ...]] = []
    for indices in alike.values():
        groups += _groups(frames, sorted(indices, key=lambda index: found[index].fingerprint), found)
    return tuple(sorted(groups))


def _groups(frames: Sequence[Frame], ordered: list[int], found: Sequence[Surroundings]) -> list[tuple[int, ...]]:
    """Groups among structures of the same elements, in the order of their fingerprints."""

    @lru_cache(maxsize=64)
    def all_distances(index: int) -> Array:
        return _distances(frames[index])

    groups: dict[int, list[int]] = {}
    leader: dict[int, int] = {}
    for position, index in enumerate(ordered):
        value = found[index].fingerprint
        for other in reversed(ordered[:position]):
            if value - found[other].fingerprint > _ALIKE * (1.0 + abs(value)):
                break
            if other in leader or not np.allclose(all_distances(index), all_distances(other), rtol=0.0, atol=_SAME):
                continue
            leader[index] = other
            groups.setdefault(other, [other]).append(index)
            break
    return [tuple(sorted(group)) for group in groups.values()]


def _distances(frame: Frame) -> Array:
    """All distances between nearest images, sorted within each pair of elements, and the lengths of the cell."""
    n_atoms = len(frame)
    i, j = np.triu_indices(n_atoms, 1) if n_atoms <= _LARGE else (np.arange(n_atoms - 1), np.arange(1, n_atoms))
    vectors = frame.positions[j] - frame.positions[i]
    cell = frame.cell[frame.pbc]
    if len(cell):
        inverse = np.linalg.pinv(cell)
        vectors = vectors - np.round(vectors @ inverse) @ cell
    numbers = np.sort(np.stack([frame.numbers[i], frame.numbers[j]]), axis=0)
    lengths = np.linalg.norm(vectors, axis=1)
    ordered = lengths[np.lexsort((lengths, numbers[1], numbers[0]))]
    return np.concatenate([ordered, np.sort(np.linalg.norm(cell, axis=1))])
