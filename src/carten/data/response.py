"""Do dipoles follow the electric field that the data hold? Programs disagree about its sign."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from carten.data.consistency import Agreement
from carten.data.labels import Frame
from carten.math.arrays import Array
from carten.physics.names import FIELD
from carten.units import conversion

_NEEDED = ("dipole", "polarizability")
_CORRELATION = 0.5  # what charges that change with the geometry leave of it
_PER_UNKNOWN = 2.0  # components of dipoles, at least, per number that is fitted


def responses(frames: Sequence[Frame]) -> tuple[Agreement, ...]:
    """Polarizability times field, compared with what fixed charges leave of the dipoles of molecules.

    ``mu = sum_i q_i r_i + c alpha E`` is fitted to molecules of the same atoms in the same order: c is 1 for fields
    that push positive charges along, -1 for those with the other sign.

    Args:
        frames: with labels of dipoles and polarizabilities, and with fields, in the units of the table.
    """
    groups: dict[bytes, list[Frame]] = defaultdict(list)
    for frame in frames:
        if FIELD in frame.inputs and all(name in frame.labels for name in _NEEDED) and not frame.pbc.any():
            groups[frame.numbers.tobytes()].append(frame)
    enough = [group for group in groups.values() if 3 * len(group) > _PER_UNKNOWN * (len(group[0]) + 1)]
    if not enough:
        return ()
    induced, rest = (np.concatenate(columns) for columns in zip(*map(_residuals, enough), strict=True))
    if not (induced.any() and rest.any()):
        return ()
    along = float(induced @ rest)
    correlation = along / float(np.linalg.norm(induced) * np.linalg.norm(rest))
    ratio = along / float(induced @ induced)
    n = sum(map(len, enough))
    return (Agreement(f"polarizability * {FIELD}", "dipole", n, ratio, correlation, _CORRELATION, "molecules"),)


def _residuals(frames: Sequence[Frame]) -> tuple[Array, Array]:
    """Induced and total dipoles without what charges of the atoms, the same in all frames, can describe."""
    factor = conversion("Angstrom^3*V/Angstrom", "e*Angstrom")
    positions = np.concatenate([(frame.positions - frame.positions.mean(axis=0)).T for frame in frames])
    induced = np.concatenate([factor * frame.labels["polarizability"] @ frame.inputs[FIELD][0] for frame in frames])
    dipoles = np.concatenate([frame.labels["dipole"] for frame in frames])
    values = np.stack([induced, dipoles], axis=1)
    charges, *_ = np.linalg.lstsq(positions, values, rcond=None)
    left = values - positions @ charges
    return left[:, 0], left[:, 1]
