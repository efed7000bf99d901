"""The shortest distances between atoms of each pair of elements in a data set: closer, models extrapolate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from carten.data.geometry import closest_pairs
from carten.data.neighbours import pairs

if TYPE_CHECKING:
    from carten.data.dataset import Dataset

MOST_FRAMES = 20_000
"""Looked at; of larger data sets so many, evenly spread."""


def shortest_contacts(dataset: Dataset, most: int = MOST_FRAMES) -> dict[str, float]:
    """Shortest distance in Å by pair of elements within the cutoff of a data set, by names such as ``"H-O"``.

    Args:
        dataset: of any size.
        most: number of structures that are looked at.
    """
    shortest: dict[tuple[int, int], float] = {}
    for index in np.unique(np.linspace(0, len(dataset) - 1, min(most, len(dataset))).astype(int)).tolist():
        frame = dataset.frames[index]
        ends, lengths = pairs(frame.positions, frame.cell, frame.pbc, dataset.cutoff)
        for pair, (length, _, _) in closest_pairs(frame.numbers, ends, lengths).items():
            shortest[pair] = min(length, shortest.get(pair, np.inf))
    return {pair_name(*pair): length for pair, length in sorted(shortest.items())}


def pair_name(first: int, second: int) -> str:
    """``"H-O"`` for 1 and 8, in either order."""
    return "-".join(chemical_symbols[number] for number in sorted((first, second)))
