"""Random splits that keep duplicates, and other frames that belong together, on one side."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from carten.data.dataset import split
from carten.data.geometry import duplicates, kinds_of, surroundings
from carten.data.labels import Frame
from carten.errors import ConfigError


@dataclass(frozen=True)
class Split:
    """Two sides.

    Args:
        train: indices, ascending.
        validation: indices, ascending.
        notes: what is to be said.
    """

    train: list[int]
    validation: list[int]
    notes: tuple[str, ...] = ()


def same_geometry(frames: Sequence[Frame], cutoff: float) -> tuple[tuple[int, ...], ...]:
    """Groups of indices of frames that are the same but for orientation, origin and order of atoms."""
    return duplicates(frames, kinds_of(frames), np.stack([surroundings(frame, cutoff).signature for frame in frames]))


def split_apart(
    frames: Sequence[Frame], part: float | int, seed: int, cutoff: float, keys: Sequence[Hashable] | None = None
) -> Split:
    """Draw a validation set.

    The same arguments give the same sides. A structure that alone has some element is never drawn.

    Args:
        frames: the structures.
        part: fraction or number of structures to draw.
        seed: of the draw.
        cutoff: within which geometries are compared, Å.
        keys: of each structure; those with an equal one stay together. ``None`` keeps only duplicates together.

    Raises:
        ConfigError: nothing would remain on one side, or what stays together is larger than what is to be drawn.
    """
    plain = split(len(frames), [part], seed)
    count = len(plain[1])
    twins = same_geometry(frames, cutoff)
    units = _joined(len(frames), [*twins, *_equal(keys or ())])
    drawable = _without_rare(frames, units)
    chosen: list[int] = []
    for number in np.random.default_rng(seed).permutation(len(units)).tolist():
        if number in drawable and len(chosen) + len(units[number]) <= count:
            chosen += units[number]
    if not chosen and keys is None:  # nearly all are the same
        return Split(plain[0], plain[1], ("structures for validation have duplicates in training, as nearly all do",))
    if not chosen:
        raise ConfigError(
            f"data.together: {count} of {len(frames)} structures are to be drawn for validation, fewer than belong "
            "together anywhere: ask for more, or give a file"
        )
    drawn = set(chosen)
    rest = [index for index in range(len(frames)) if index not in drawn]
    return Split(rest, sorted(chosen), tuple(_notes(twins, len(chosen), count)))


def _notes(twins: Sequence[Sequence[int]], n_drawn: int, count: int) -> Iterable[str]:
    if twins:
        n_structures = sum(len(group) for group in twins)
        yield (
            f"{n_structures} structures have a duplicate ({len(twins)} different geometries): "
            "each stays on one side of the split"
        )
    if n_drawn < count:
        yield f"{n_drawn} instead of {count} structures are drawn for validation, so that none is torn from its like"


def _equal(keys: Sequence[Hashable]) -> Iterable[list[int]]:
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        groups[key].append(index)
    return groups.values()


def _joined(n_structures: int, groups: Iterable[Sequence[int]]) -> list[list[int]]:
    """Everything in units that no group crosses, ordered by their first index."""
    first = list(range(n_structures))

    def root(index: int) -> int:
        while first[index] != index:
            first[index] = first[first[index]]
            index = first[index]
        return index

    for group in groups:
        for index in group:
            one, other = sorted((root(group[0]), root(index)))
            first[other] = one
    units: dict[int, list[int]] = defaultdict(list)
    for index in range(n_structures):
        units[root(index)].append(index)
    return [units[index] for index in sorted(units)]


def _without_rare(frames: Sequence[Frame], units: Sequence[Sequence[int]]) -> set[int]:
    """Units whose elements all occur in other units too: a model can't be validated on elements it never saw."""
    elements = [{int(z) for index in unit for z in np.unique(frames[index].numbers)} for unit in units]
    occurrences = Counter(number for present in elements for number in present)
    return {k for k, present in enumerate(elements) if all(occurrences[number] > 1 for number in present)}
