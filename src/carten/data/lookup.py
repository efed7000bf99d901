"""Entries of a structure by their names: in ``info``, in ``arrays``, or among the results of its calculator."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from carten.math.arrays import Array

if TYPE_CHECKING:
    from ase import Atoms

_STRUCTURE = ("numbers", "positions", "tags", "masses", "momenta")


def find_entry(atoms: Atoms, keys: Sequence[str]) -> Any:
    """What a structure has under the first of some names that it has, or ``None``."""
    results = atoms.calc.results if atoms.calc is not None else {}
    for key in keys:
        for place in (atoms.info, atoms.arrays, results):
            if place.get(key) is not None:
                return place[key]
    return None


def label_names(atoms: Atoms) -> dict[str, tuple[int, ...]]:
    """Every numeric entry a structure carries, by name in the file, with its shape."""
    results = atoms.calc.results if atoms.calc is not None else {}
    arrays = {name: value for name, value in atoms.arrays.items() if name not in _STRUCTURE}
    numeric = {str(name): as_numbers(value) for name, value in {**results, **arrays, **atoms.info}.items()}
    return {name: array.shape for name, array in numeric.items() if array is not None}


def as_numbers(value: Any) -> Array | None:
    """An entry as an array, or ``None`` if it is not made of numbers."""
    if isinstance(value, str | bytes | dict) or value is None:
        return None
    try:
        array = np.asarray(value)
    except ValueError:  # ragged
        return None
    return array if array.dtype.kind in "iuf" else None


def offer_names(names: Mapping[str, tuple[int, ...]], key: str) -> str:
    """What to say where a name is missing: the names there are, and the nearest."""
    if not names:
        return "the structures carry no labels at all"
    near = difflib.get_close_matches(key, names, n=1)
    hint = f'; did you mean "{near[0]}"?' if near else "; give the key of this label in the configuration"
    return "names in it: " + ", ".join(sorted(names)) + hint
