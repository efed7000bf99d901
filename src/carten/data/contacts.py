"""The shortest distance between atoms of each pair of elements: what a model has seen, and what it has not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from ase.data import chemical_symbols

from carten.data.labels import MAX_NUMBER
from carten.model.graph import Graph


def shortest_contacts(graphs: Iterable[Graph]) -> dict[str, float]:
    """Shortest distance in Å by pair of elements (``"H-O"``), of those closer than the cutoff of the graphs."""
    shortest = np.full((MAX_NUMBER + 1, MAX_NUMBER + 1), np.inf)
    for graph in graphs:
        centre, neighbour = graph.edge_index.cpu().numpy()
        positions, numbers = graph.positions.double().cpu().numpy(), graph.numbers.cpu().numpy()
        cells = graph.cell.double().cpu().numpy()[graph.structure.cpu().numpy()[centre]]
        images = np.einsum("ei,eij->ej", graph.edge_shift.double().cpu().numpy(), cells)
        distances = np.linalg.norm(positions[neighbour] - positions[centre] + images, axis=1)
        np.minimum.at(shortest, (numbers[centre], numbers[neighbour]), distances)
    pairs = zip(*np.nonzero(np.isfinite(shortest)), strict=True)
    return {pair_name(int(a), int(b)): float(round(shortest[a, b], 4)) for a, b in pairs if a <= b}


def pair_name(first: int, second: int) -> str:
    """``"H-O"`` for the atomic numbers 1 and 8, in either order."""
    return "-".join(chemical_symbols[number] for number in sorted((first, second)))
