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
            atoms.set_constraint([constraint(description) for description in extra["constraints"]])
            require_fitting_constraints(atoms, where)
        if "celldisp" in extra:
            atoms.set_celldisp(np.array(extra["celldisp"], dtype=np.float64).reshape(3, 1))
    except DataError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f'{where}: "{EXTRA}" is not as carten writes it ({error}); remove this key') from error
    return atoms


def with_moments(atoms: Atoms) -> Atoms:
    """Magnetic moments among the results become the initial ones where a structure has no others and they are not zero.

    Results are lost as soon as a structure gets another calculator or is copied; what a model reads has to stay.
    """
    moments = atoms.calc.results.get("magmoms") if atoms.calc is not None else None
    if moments is None or {"magmoms", "initial_magmoms"} & set(atoms.arrays) or len(moments) != len(atoms):
        return atoms
    if np.any(moments):
        atoms.arrays["initial_magmoms"] = np.array(moments, dtype=float)
    return atoms


def require_fitting_constraints(atoms: Atoms, where: str) -> None:
    """Check that constraints can act on a structure.

    Raises:
        DataError: they name atoms that it does not have, or cannot be obeyed.
    """
    trial: Atoms = atoms.copy()
    try:
        trial.set_momenta(np.zeros((len(atoms), 3)))
        fits = np.isfinite(trial.get_number_of_degrees_of_freedom())
    except (ArithmeticError, AssertionError, IndexError, RuntimeError, TypeError, ValueError) as error:
        raise DataError(f"{where}: its constraints do not fit the structure ({error}); remove them") from error
    if not fits:
        raise DataError(f"{where}: its constraints do not fit the structure; remove them")


def _unpacked(packed: Mapping[str, Any]) -> Any:
    if "dtype" not in packed:
        return packed["value"]
    dtype = np.dtype(packed["dtype"])
    if dtype.kind not in "biufUO":
        raise ValueError(f"no array of type {packed['dtype']}")
    # text is as wide as it is, whatever the file announces
    return np.array(packed["value"], dtype=str if dtype.kind == "U" else dtype).reshape(packed["shape"])


def constraint(described: Mapping[str, Any]) -> Any:
    """A constraint from its description; ``ValueError`` where no file may bring it."""
    from ase.constraints import dict2constraint

    if described["name"] not in CONSTRAINTS:
        raise ValueError(f"no constraint {described['name']!r}")
    return dict2constraint(dict(described))
