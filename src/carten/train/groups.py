"""Groups of structures: errors are shown by group, weights are given by group, and splits keep groups together."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carten.data.labels import Frame
from carten.errors import ConfigError, DataError

if TYPE_CHECKING:
    from ase import Atoms

USUAL = ("config_type", "group")
"""Names that files usually have for it."""
FILE = "file"
"""The group is the file."""


@dataclass(frozen=True)
class Groups:
    """The group of every structure that was read.

    Args:
        key: name, in the files, of the group; or ``file``.
        members: name of the group, by where the structure is.
    """

    key: str
    members: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """All groups, ascending."""
        return tuple(sorted(set(self.members.values())))

    def joined(self, structures: Sequence[tuple[str, Atoms]]) -> Groups:
        """These and the groups of more structures, by the same key."""
        return Groups(self.key, {**self.members, **_members(structures, self.key)})

    def indices(self, frames: Sequence[Frame]) -> list[int]:
        """Positions among :attr:`names` of the groups of frames."""
        position = {name: k for k, name in enumerate(self.names)}
        return [position[self.members[frame.where]] for frame in frames]


def find_groups(structures: Sequence[tuple[str, Atoms]], key: str | None) -> Groups:
    """The groups of structures, each with where it is.

    Args:
        structures: of all files.
        key: name, in the files, of the group, ``file``, or ``None`` for a usual name.

    Raises:
        DataError: no structure carries the key.
    """
    if key is None:
        key = next((name for name in USUAL if any(name in atoms.info for _, atoms in structures)), FILE)
    if key != FILE and not any(key in atoms.info for _, atoms in structures):
        names = sorted({str(name) for _, atoms in structures for name in atoms.info})
        raise DataError(
            f"none of the {len(structures)} structures carries {key!r}; they carry {', '.join(names) or 'nothing'}"
        )
    return Groups(key, _members(structures, key))


def _members(structures: Sequence[tuple[str, Atoms]], key: str) -> dict[str, str]:
    return {where: file_of(where) if key == FILE else _value(atoms, key) for where, atoms in structures}


def file_of(where: str) -> str:
    """The file in ``"train.extxyz, frame 12"``."""
    return where.rpartition(", frame ")[0] or where


def _value(atoms: Atoms, key: str) -> str:
    value = atoms.info.get(key)
    return f"no {key}" if value is None or value == "" else str(value)


def weights_by_group(frames: Sequence[Frame], groups: Groups, weights: Mapping[str, float]) -> list[float]:
    """The weight of each frame times that of its group.

    Raises:
        ConfigError: there is no such group.
    """
    if unknown := [name for name in weights if name not in groups.names]:
        near = difflib.get_close_matches(unknown[0], groups.names, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        raise ConfigError(
            f"data.group_weights.{unknown[0]}: no structure of data.train is in this group; groups by {groups.key} are "
            f"{', '.join(groups.names[:20])}{hint}"
        )
    return [frame.weight * weights.get(groups.members[frame.where], 1.0) for frame in frames]
