"""Which rows of a table of features differ most from each other: indices, the same for the same table.

Each function takes features (structures, features), how many rows to pick, and features of rows that are there already
(known, features); it returns the picked indices in the order of their choice.
"""

from __future__ import annotations

import numpy as np

from carten.errors import ConfigError
from carten.math.arrays import Floats

ROUNDS = 100
RANK = 1e-10  # smaller singular values, relative to the largest, are round-off


def farthest_points(features: Floats, number: int, known: Floats, weights: Floats | None = None) -> list[int]:
    """Each row is the farthest from all those before it: the greedy choice of Gonzalez (1985).

    Without known rows the first is the one nearest to the mean. With weights it is weight times distance that counts.
    """
    weights = np.ones(len(features)) if weights is None else weights
    chosen: list[int] = []
    if len(known):
        distances = nearest(features, known)
    else:
        spread = np.linalg.norm(features - features.mean(axis=0), axis=1)
        first = int(np.argmin(spread)) if np.ptp(weights) == 0.0 else int(np.argmax(weights))
        chosen, distances = [first], np.linalg.norm(features - features[first], axis=1)
    while len(chosen) < number:
        scores = weights * distances
        scores[chosen] = -np.inf
        chosen.append(int(np.argmax(scores)))
        distances = np.minimum(distances, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return chosen


def medoids(features: Floats, number: int, known: Floats) -> list[int]:
    """Centres of clusters, by alternation (Park and Jun 2009) from the farthest points; known rows are centres too."""
    centres = farthest_points(features, number, known)
    for _ in range(ROUNDS):
        distances = np.stack([np.linalg.norm(features - features[centre], axis=1) for centre in centres], axis=1)
        owner = np.argmin(distances, axis=1)
        if len(known):
            owner[nearest(features, known) < distances.min(axis=1)] = -1
        moved = [_medoid(features, np.flatnonzero(owner == k), centre) for k, centre in enumerate(centres)]
        if moved == centres:
            break
        centres = moved
    return centres


def leading_rows(features: Floats, number: int, known: Floats) -> list[int]:
    """CUR: the row with the most weight in the first singular vector, then the same of what is left without it.

    Source: Imbalzano et al. 2018, Automatic selection of atomic fingerprints.

    Raises:
        ConfigError: the rows are combinations of fewer rows than asked for.
    """
    table = np.concatenate([features, known]) if len(known) else features
    for place in range(len(features), len(table)):
        table = _without(table, table[place])
    rest = table[: len(features)]
    scale = np.abs(features).max(initial=0.0)
    chosen: list[int] = []
    while len(chosen) < number:
        if np.abs(rest).max(initial=0.0) <= RANK * scale:
            raise ConfigError(f"cur can tell {len(chosen)} of these structures apart, {number} are asked for")
        _, vectors = np.linalg.eigh(rest.T @ rest)
        scores = np.square(rest @ vectors[:, -1])
        scores[chosen] = -np.inf
        chosen.append(int(np.argmax(scores)))
        rest = _without(rest, rest[chosen[-1]])
    return chosen


def nearest(features: Floats, others: Floats) -> Floats:
    """Distance of each row to the nearest of the others."""
    distances = np.full(len(features), np.inf)
    for row in others:
        distances = np.minimum(distances, np.linalg.norm(features - row, axis=1))
    return distances


def _medoid(features: Floats, members: np.ndarray, centre: int) -> int:
    """The member with the least sum of distances to the others."""
    if not len(members):
        return centre
    sums = [np.linalg.norm(features[members] - features[member], axis=1).sum() for member in members]
    return int(members[int(np.argmin(sums))])


def _without(rows: Floats, direction: Floats) -> Floats:
    """Rows without their components along a direction."""
    length = np.linalg.norm(direction)
    if length == 0.0:
        return rows
    unit = direction / length
    return rows - np.outer(rows @ unit, unit)
