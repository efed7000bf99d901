"""Which atoms are bonded, by their distances, and what hangs together by bonds."""

from __future__ import annotations

import ase
import numpy as np
from ase.data import covalent_radii
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from carten.data.neighbours import edges
from carten.math.arrays import Array, Floats

BONDED = 1.2
"""Atoms are bonded up to this multiple of the sum of their covalent radii."""


def bonded_pairs(atoms: ase.Atoms, times: float = BONDED) -> tuple[Array, Array, Floats]:
    """Bonded pairs in both orders, sorted by the first atom, and vectors from one to the other: (B,), (B,), (B, 3).

    Args:
        atoms: of any kind; images of periodic ones count.
        times: the sum of covalent radii, up to which atoms are bonded.
    """
    radii = covalent_radii[atoms.numbers]
    first, second, vectors = neighbour_vectors(atoms, 2.0 * times * float(radii.max()))
    bonded = np.linalg.norm(vectors, axis=1) < times * (radii[first] + radii[second])
    return first[bonded], second[bonded], vectors[bonded]


def fragments(n_atoms: int, first: Array, second: Array) -> Array:
    """(N,) numbers from 0 of the fragments that atoms belong to: those that bonds connect belong together.

    Args:
        n_atoms: number of atoms.
        first: (B,) ends of bonds.
        second: (B,) their other ends.
    """
    graph = coo_array((np.ones(len(first)), (first, second)), shape=(n_atoms, n_atoms))
    labels: Array = connected_components(graph, directed=False)[1]
    return labels


def neighbour_vectors(atoms: ase.Atoms, cutoff: float) -> tuple[Array, Array, Floats]:
    """Centres in ascending order, neighbours, and vectors from one to the other, images included."""
    (centre, neighbour), shift = edges(atoms.positions, atoms.cell.array, atoms.pbc, cutoff)
    vectors: Floats = atoms.positions[neighbour] - atoms.positions[centre] + shift @ atoms.cell.array
    return centre, neighbour, vectors
