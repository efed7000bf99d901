"""What extended XYZ has no place for, as JSON in one entry of the comment line; :mod:`carten.data.write` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from carten.errors import DataError

if TYPE_CHECKING:
    from ase import Atoms

EXTRA = "carten_extra"
CONSTRAINTS = (
    "ExternalForce", "FixAtoms", "FixBondLength", "FixBondLengths", "FixCartesian", "FixCom", "FixInternals",
    "FixLinearTriatomic", "FixScaled", "FixSubsetCom", "FixedLine", "FixedMode", "FixedPlane", "Hookean",
    "MirrorForce", "MirrorTorque",
)  # fmt: skip
"""Constraints that files carry. ASE has others, made of expressions that are evaluated: no file may bring those."""


def restore(atoms: Atoms, where: str = "structure") -> Atoms:
    """Put back, in place, what :func:`carten.data.write.writable` set aside.

    Raises:
        DataError: it was not written by carten, or has been changed.
    """
    if EXTRA not in atoms.info:
        return atoms
    extra = atoms.info.pop(EXTRA)
    try:
        for name, value in extra.get("arrays", {}).items():
            atoms.set_array(name, _unpacked(value))
        atoms.info.update({key: _unpacked(value) for key, value in extra.get("info", {}).items()})
        if "constraints" in extra:
            atoms.set_constraint([_to_constraint(constraint) for constraint in extra["constraints"]])
        if "celldisp" in extra:
            atoms.set_celldisp(np.array(extra["celldisp"], dtype=np.float64).reshape(3, 1))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f'{where}: "{EXTRA}" is not as carten writes it ({error}); remove this key') from error
    return atoms


def _unpacked(packed: Mapping[str, Any]) -> Any:
    if "dtype" not in packed:
        return packed["value"]
    return np.array(packed["value"], dtype=np.dtype(packed["dtype"])).reshape(packed["shape"])


def _to_constraint(described: Mapping[str, Any]) -> Any:
    from ase.constraints import dict2constraint

    if described["name"] not in CONSTRAINTS:
        raise ValueError(f"no constraint {described['name']!r}")
    return dict2constraint(dict(described))
