"""What every property is predicted relative to: reference energies, shifts and scales from the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from carten.data.labels import Frame
from carten.data.statistics import Statistics, interaction_energies
from carten.math.symmetry import decompose
from carten.properties.heads import Head
from carten.properties.potential import Potential
from carten.properties.spec import Multipole, Property

Floats = npt.NDArray[np.float64]


def set_energy_baseline(
    model: Potential, references: Sequence[Mapping[int, float]], frames: Sequence[Frame], found: Statistics
) -> None:
    """Atomic energies are ``E0[z] + mean interaction energy + scale * readout``, E0 and mean of each level of theory.

    The scale is the root mean square force component (which makes forces of order 1 per Å), or, without forces, the
    standard deviation of the energy per atom.

    Args:
        model: untrained.
        references: E0 in eV by atomic number, one mapping for each level of theory.
        frames: of the training set.
        found: statistics of the training set.
    """
    head = model.heads["energies"]
    if not isinstance(head, Head):
        return
    name = None if model.levels is None else model.levels.name
    parts = by_level(frames, name, head.kind.levels)
    complete = [
        {z: references[k].get(z, 0.0) if references else 0.0 for z in model.elements} for k in range(len(parts))
    ]
    energies = [interaction_energies(part, values) for part, values in zip(parts, complete, strict=True)]
    means = [float(values.mean()) if len(values) else 0.0 for values in energies]
    rest = np.concatenate([values - mean for values, mean in zip(energies, means, strict=True)])
    rms = float(np.sqrt(np.mean(rest**2))) if len(rest) else 0.0
    head.reference[:, 0] = torch.tensor([list(values.values()) for values in complete], dtype=torch.float64).flatten()
    head.shift[:, 0] = torch.tensor(means, dtype=torch.float64).repeat_interleave(len(model.elements))
    head.scale.fill_(found.force_rms or rms or 1.0)


def by_level(frames: Sequence[Frame], name: str | None, n_levels: int) -> list[list[Frame]]:
    """The frames of each level of theory, which the input of this name tells; all in one without."""
    if name is None:
        return [list(frames)]
    return [[frame for frame in frames if int(frame.inputs[name][0]) == level] for level in range(n_levels)]


def set_readout_baselines(model: Potential, properties: Sequence[Property], frames: Sequence[Frame]) -> None:
    """Directly read properties are ``mean + scale * readout``: invariant part of the mean label, rms of the rest.

    Labels of atoms have a mean for each element; extensive labels of structures are taken per atom. Charges and dipoles
    of atoms without labels of their own get the scales that make multipoles as large as the labels of these.
    """
    labelled = {row.name for row in properties}
    for row in properties:
        used = [frame for frame in frames if row.name in frame.labels]
        if row.name in model.heads and isinstance(head := model.heads[row.name], Head):
            _set_baseline(head, row, used, model.elements)
        if isinstance(route := row.routes[0], Multipole):
            names = [name for name in (route.charges, route.dipoles) if name and name not in labelled]
            sources = {name: model.heads[name] for name in names}
            scale, length = _rms([_per_row(row, frame) for frame in used]), _radius(used)
            for name, source in sources.items():
                power = row.rank if name == route.charges else row.rank - 1
                _fill(source, scale / length**power)


def _set_baseline(head: Head, row: Property, frames: Sequence[Frame], elements: Sequence[int]) -> None:
    values = np.concatenate([_per_row(row, frame) for frame in frames])
    numbers = np.concatenate([frame.numbers for frame in frames]) if row.scope == "atom" else None
    residual = values.copy()
    for index, number in enumerate(elements):
        chosen = slice(None) if numbers is None else numbers == number
        mean = _invariant(row, values[chosen]) if head.shift.shape[1] and len(values[chosen]) else None
        if mean is None:
            continue
        head.shift[index :: len(elements)] = torch.from_numpy(mean[0])
        residual[chosen] = values[chosen] - mean[1]
    _fill(head, _rms([residual]))


def _fill(head: nn.Module, scale: float) -> None:
    if isinstance(head, Head):
        head.scale.fill_(scale if scale > 0.0 else 1.0)


def _rms(values: Sequence[Floats]) -> float:
    return float(np.sqrt(np.mean(np.concatenate(values) ** 2)))


def _radius(frames: Sequence[Frame]) -> float:
    """Root mean square distance of atoms from the middle of their structure along an axis, Å."""
    return _rms([frame.positions - frame.positions.mean(axis=0) for frame in frames]) or 1.0


def _per_row(row: Property, frame: Frame) -> Floats:
    """Labels of one frame as (rows, 3, ..): of each atom, or of the structure (per atom where it is a sum)."""
    label = np.asarray(frame.labels[row.name], dtype=np.float64)
    if row.scope == "atom":
        return label
    return label[None] / (len(frame) if row.extensive else 1)


def _invariant(row: Property, values: Floats) -> tuple[Floats, Floats]:
    """Rotation-invariant part of the mean: its coefficients (copies,), and the tensor itself."""
    decomposition = decompose(row.indices)
    basis = decomposition.basis(0)[:, 0]
    coefficients = np.tensordot(basis, values.mean(axis=0), axes=row.rank)
    return coefficients, np.tensordot(coefficients, basis, axes=1)
