"""Groups of structures: errors are shown by group, weights are given by group, and splits keep groups together."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from carten.data.batches import Mixture
from carten.data.collection import Collection
from carten.data.table import Texts
from carten.errors import ConfigError, DataError
from carten.math.arrays import Array

USUAL = ("config_type", "group")
"""Names that files usually have for it."""
FILE = "file"
"""The group is the file."""


@dataclass(frozen=True)
class Groups:
    """The group of each of some structures.

    Args:
        key: name, in the files, of the group; or ``file``.
        names: of all groups, ascending.
        codes: (n,) position among the names.
    """

    key: str
    names: tuple[str, ...]
    codes: Array

    def take(self, rows: Array) -> Groups:
        """Of some of the structures."""
        return Groups(self.key, self.names, self.codes[rows])


def find_groups(collection: Collection, key: str | None) -> Groups:
    """The groups of structures.

    Args:
        collection: of structures.
        key: name, in the files, of the group, ``file``, or ``None`` for a usual name.

    Raises:
        DataError: no structure carries the key.
    """
    table = collection.table
    if key is None:
        key = next((name for name in USUAL if table.carries([name]).any()), FILE)
    if key != FILE and not table.carries([key]).any():
        names = ", ".join(table.names) or "nothing"
        raise DataError(f"none of the {len(table)} structures carries {key!r}; they carry {names}")
    return groups_by(collection, key)


def groups_by(collection: Collection, key: str) -> Groups:
    """The same by a name that need not be there; then there is one group."""
    if key == FILE:
        return _sorted(FILE, *collection.files())
    values = collection.table.values(key)
    if values is None and not collection.table.carries([key]).any():
        values = Texts(np.full(len(collection), -1), ())
    if values is None:
        raise DataError(f"{key!r} is no name of a group: expected text or one number, not too many different ones")
    return _sorted(key, values.codes, values.values)


def _sorted(key: str, codes: Array, values: Sequence[str]) -> Groups:
    """Groups with their names in order; what has none, or an empty one, is a group of its own."""
    labels = [value or f"no {key}" for value in (*values, "")]  # the last is that of the code -1
    names = sorted({labels[code] for code in np.unique(codes).tolist()})
    position = np.array([names.index(label) if label in names else 0 for label in labels])
    return Groups(key, tuple(names), position[codes])


def united(parts: Mapping[str, Groups]) -> dict[str, Groups]:
    """The same groups with names in common."""
    names = sorted({name for groups in parts.values() for name in groups.names})
    position = {name: k for k, name in enumerate(names)}
    return {
        part: Groups(groups.key, tuple(names), np.array([position[name] for name in groups.names])[groups.codes])
        for part, groups in parts.items()
    }


def weights_by_group(groups: Groups, weights: Mapping[str, float], key: str = "data.group_weights") -> Array:
    """The factor of each structure.

    Raises:
        ConfigError: there is no such group.
    """
    factors: Array = _factors(groups, weights, key)[groups.codes]
    return factors


def mixture_of(groups: Groups, factors: Mapping[str, float], temperature: float) -> Mixture | None:
    """How often groups come: so many times what they have, in proportion to a power of their sizes.

    Args:
        groups: of the structures that are trained on.
        factors: by name; 1 where there is none.
        temperature: groups of n structures come in proportion to n^(1 / temperature).

    Raises:
        ConfigError: there is no such group, or nothing would come.
    """
    if not factors and temperature == 1.0:
        return None
    sizes = np.bincount(groups.codes, minlength=len(groups.names)).astype(np.float64)
    shares = np.where(sizes > 0.0, np.maximum(sizes, 1.0) ** (1.0 / temperature - 1.0), 0.0)
    shares *= sizes.sum() / (shares * sizes).sum()
    mixture = Mixture(groups.codes, (shares * _factors(groups, factors, "data.group_sampling")).tolist())
    if not sum(mixture.draws):
        raise ConfigError("data.group_sampling: no structure would come in an epoch: raise some factors")
    return mixture


def _factors(groups: Groups, factors: Mapping[str, float], key: str) -> Array:
    if unknown := [name for name in factors if name not in groups.names]:
        near = difflib.get_close_matches(unknown[0], groups.names, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        raise ConfigError(
            f"{key}.{unknown[0]}: no structure of data.train is in this group; groups by {groups.key} are "
            f"{', '.join(groups.names[:20])}{hint}"
        )
    return np.array([factors.get(name, 1.0) for name in groups.names])
