"""What every property is predicted relative to: reference energies, shifts and scales from the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from carten.data.labels import Frame
from carten.data.statistics import Statistics
from carten.math.symmetry import decompose
from carten.properties.heads import Head
from carten.properties.potential import Potential
from carten.properties.spec import Property, Readout

Floats = npt.NDArray[np.float64]


def set_energy_baseline(model: Potential, references: Mapping[int, float], found: Statistics) -> None:
    """Atomic energies are ``E0[z] + mean interaction energy + scale * readout``.

    The scale is the root mean square force component (which makes forces of order 1 per Å), or, without forces, the
    standard deviation of the energy per atom.
    """
    head = model.heads["energies"]
    if not isinstance(head, Head):
        return
    energies = [references.get(number, 0.0) for number in model.elements]
    head.reference[:, 0] = torch.tensor(energies, dtype=torch.float64)
    head.shift.fill_(found.energy_mean or 0.0)
    head.scale.fill_(found.force_rms or found.energy_rms or 1.0)


def set_readout_baselines(model: Potential, properties: Sequence[Property], frames: Sequence[Frame]) -> None:
    """Directly read properties are ``mean + scale * readout``: invariant part of the mean label, rms of the rest.

    Labels of atoms have a mean for each element; extensive labels of structures are taken per atom.
    """
    for row in properties:
        if row.name in model.heads and isinstance(head := model.heads[row.name], Head):
            _set_baseline(head, row, [frame for frame in frames if row.name in frame.labels], model.elements)


def _set_baseline(head: Head, row: Property, frames: Sequence[Frame], elements: Sequence[int]) -> None:
    values = np.concatenate([_per_row(row, frame) for frame in frames])
    numbers = np.concatenate([frame.numbers for frame in frames]) if row.scope == "atom" else None
    residual = values.copy()
    for index, number in enumerate(elements):
        chosen = slice(None) if numbers is None else numbers == number
        mean = _invariant(row, values[chosen]) if head.shift.shape[1] and len(values[chosen]) else None
        if mean is None:
            continue
        head.shift[index] = torch.from_numpy(mean[0])
        residual[chosen] = values[chosen] - mean[1]
    rms = float(np.sqrt(np.mean(residual**2)))
    head.scale.fill_(rms if rms > 0.0 else 1.0)


def _per_row(row: Property, frame: Frame) -> Floats:
    """Labels of one frame as (rows, 3, ..): of each atom, or of the structure (per atom where it is a sum)."""
    label = np.asarray(frame.labels[row.name], dtype=np.float64)
    if row.scope == "atom":
        return label
    summed = isinstance(row.routes[0], Readout) and row.routes[0].reduce == "sum"
    return label[None] / (len(frame) if summed else 1)


def _invariant(row: Property, values: Floats) -> tuple[Floats, Floats]:
    """Rotation-invariant part of the mean: its coefficients (copies,), and the tensor itself."""
    decomposition = decompose(row.indices)
    basis = decomposition.basis(0)[:, 0]
    coefficients = np.tensordot(basis, values.mean(axis=0), axes=row.rank)
    return coefficients, np.tensordot(coefficients, basis, axes=1)
