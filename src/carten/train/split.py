"""Random splits that keep duplicates, and other frames that belong together, on one side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from carten.data.dataset import split
from carten.data.frames import Frames
from carten.data.geometry import duplicates
from carten.data.progress import Say, silent
from carten.data.sequences import Chained
from carten.data.table import joined
from carten.errors import ConfigError
from carten.math.arrays import Array


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


def same_geometry(frames: Frames, cutoff: float, say: Say = silent) -> tuple[tuple[int, ...], ...]:
    """Groups of indices of frames that are the same but for orientation, origin and order of atoms."""
    kinds = frames.collection.table.kinds[frames.rows]
    return duplicates(frames, kinds, frames.signatures(cutoff, say))


def shared_geometries(one: Frames, other: Frames, cutoff: float, say: Say = silent) -> list[int]:
    """Indices of frames of the second that the first has too."""
    tables = [frames.collection.table.take(frames.rows) for frames in (one, other)]
    signatures = [frames.signatures(cutoff, say) for frames in (one, other)]
    twins = duplicates(Chained(one, other), joined(tables).kinds, np.concatenate(signatures))
    count = len(one)
    return sorted(index - count for group in twins if min(group) < count for index in group if index >= count)


def split_apart(
    frames: Frames, part: float | int, seed: int, cutoff: float, keys: Array | None = None, say: Say = silent
) -> Split:
    """Draw a validation set.

    The same arguments give the same sides. A structure that alone has some element is never drawn.

    Args:
        frames: the structures.
        part: fraction or number of structures to draw.
        seed: of the draw.
        cutoff: within which geometries are compared, Å.
        keys: (n,) of each structure; those with an equal one stay together. ``None`` keeps only duplicates together.
        say: takes lines on what takes long.

    Raises:
        ConfigError: nothing would remain on one side, or what stays together is larger than what is to be drawn.
    """
    plain = split(len(frames), [part], seed)
    count = len(plain[1])
    twins = same_geometry(frames, cutoff, say)
    units = _joined(len(frames), [*twins, *_equal([] if keys is None else keys.tolist())])
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


def _without_rare(frames: Frames, units: Sequence[Sequence[int]]) -> set[int]:
    """Units whose elements all occur in other units too: a model can't be validated on elements it never saw."""
    table = frames.collection.table.take(frames.rows)
    unit_of = np.empty(len(frames), dtype=np.int64)
    unit_of[[index for unit in units for index in unit]] = np.repeat(np.arange(len(units)), [len(u) for u in units])
    with_element = [np.unique(unit_of[table.has_element(number)]) for number in table.elements]
    rare = {int(units_with[0]) for units_with in with_element if len(units_with) == 1}
    return set(range(len(units))) - rare
