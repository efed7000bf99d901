"""Inputs that are one of several values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from carten.data.lookup import find_entry

if TYPE_CHECKING:
    from ase import Atoms


def category(value: Any) -> str | int:
    """A value of a category: whole numbers as such, anything else as text."""
    is_integer = isinstance(value, int | float) and float(value).is_integer()
    return int(value) if is_integer else str(value)


def categories(structures: Sequence[tuple[str, Atoms]], key: str) -> tuple[str | int, ...]:
    """All values of a category in some structures, sorted."""
    values: set[str | int] = set()
    for _, atoms in structures:
        if (entry := find_entry(atoms, [key])) is not None:
            values.update(category(item) for item in np.ravel(np.asarray(entry)).tolist())
    return tuple(sorted(values, key=lambda value: (isinstance(value, str), value)))
