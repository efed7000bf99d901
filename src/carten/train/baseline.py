"""What every property is predicted relative to: reference energies, shifts and scales from the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import nn

from carten.data.labels import Frame
from carten.data.statistics import Statistics, interaction_energies
from carten.math.arrays import Floats
from carten.math.symmetry import decompose
from carten.ops.space import SCALAR
from carten.physics import coulomb
from carten.physics.names import ELECTRONEGATIVITIES, HARDNESSES
from carten.properties.heads import Head, parts_of
from carten.properties.potential import Potential
from carten.properties.routes import Equilibrated, Multipole, Positive, Property


def set_energy_baseline(
    model: Potential, references: Sequence[Mapping[int, float]], frames: Sequence[Frame], numbers: Statistics
) -> None:
    """Atomic energies are ``E0[z] + mean interaction energy + scale * readout``, E0 and mean of each level of theory.

    The scale is the root mean square force component (which makes forces of order 1 per Å), or, without forces, the
    standard deviation of the energy per atom.

    Args:
        model: untrained.
        references: E0 in eV by atomic number, one mapping for each level of theory.
        frames: of the training set.
        numbers: statistics of the training set.
    """
    head = model.heads["energies"]
    if not isinstance(head, Head):
        return
    name = None if model.levels is None else model.levels.name
    complete = [{z: level.get(z, 0.0) for z in model.elements} for level in references or [{}] * head.kind.levels]
    energies = energies_by_level(frames, complete, name)
    means = [float(values.mean()) if len(values) else 0.0 for values in energies]
    rms = _rms([values - mean for values, mean in zip(energies, means, strict=True)])
    head.reference[:, 0] = torch.tensor([list(values.values()) for values in complete], dtype=torch.float64).flatten()
    head.shift[:, 0] = torch.tensor(means, dtype=torch.float64).repeat_interleave(len(model.elements))
    head.scale.fill_(numbers.force_rms or rms or 1.0)


def energies_by_level(
    frames: Sequence[Frame], references: Sequence[Mapping[int, float]], name: str | None
) -> list[Floats]:
    """Interaction energies per atom, eV, of each level of theory.

    Args:
        frames: with or without energies.
        references: E0 in eV of all elements, one mapping for each level.
        name: of the input that holds the level, if any.
    """
    parts = by_level(frames, name, len(references))
    return [interaction_energies(part, values) for part, values in zip(parts, references, strict=True)]


def by_level(frames: Sequence[Frame], name: str | None, n_levels: int) -> list[list[Frame]]:
    """The frames of each level of theory, by the value of the input of this name; all together without."""
    if name is None:
        return [list(frames)]
    return [[frame for frame in frames if int(frame.inputs[name][0]) == level] for level in range(n_levels)]


def set_readout_baselines(model: Potential, properties: Sequence[Property], frames: Sequence[Frame]) -> None:
    """Directly read properties are ``mean + scale * readout``: invariant part of the mean label, rms of the rest.

    Labels of atoms have a mean for each element; extensive labels of structures are taken per atom. Charges and dipoles
    of atoms without labels of their own get the scales that make multipoles as large as the labels of these, and
    electronegativities that which makes charges so that equilibrate.
    """
    labelled = {row.name for row in properties}
    for row in properties:
        used = [frame for frame in frames if row.name in frame.labels]
        if row.name in model.heads and isinstance(head := model.heads[row.name], Head):
            _set_baseline(head, model.design.readouts[row.name], used, model.elements)
        scale = _rms([_per_row(row, frame) for frame in used])
        if isinstance(row.routes[0], Equilibrated) and ELECTRONEGATIVITIES not in labelled:
            _fill_source(model, row.name, scale)
        if isinstance(route := row.routes[0], Multipole):
            names = [name for name in (route.charges, route.dipoles) if name and name not in labelled]
            for name in names:
                power = row.rank if name == route.charges else row.rank - 1
                _fill_source(model, name, scale / _radius(used) ** power)


def _fill_source(model: Potential, name: str, scale: float) -> None:
    """Give charges or dipoles of atoms a scale; those that equilibrate through their electronegativities."""
    if not isinstance(equilibrated := model.properties[name].routes[0], Equilibrated):
        _fill(model.heads[name], scale)
        return
    route = model.properties[HARDNESSES].routes[0]
    hardness = route.start if isinstance(route, Positive) else 0.0
    hardness += coulomb.self_interaction(equilibrated.sigma) / equilibrated.permittivity
    _fill(model.heads[ELECTRONEGATIVITIES], scale * hardness)


def _set_baseline(head: Head, row: Property, frames: Sequence[Frame], elements: Sequence[int]) -> None:
    means, residual = baseline(row, frames, elements)
    for index, mean in means.items():
        head.shift[index :: len(elements)] = torch.from_numpy(mean)
    _fill(head, _rms([residual]))


def baseline(row: Property, frames: Sequence[Frame], elements: Sequence[int]) -> tuple[dict[int, Floats], Floats]:
    """The invariant part of the mean label, and what it leaves of the labels.

    Args:
        row: the property.
        frames: that carry it.
        elements: atomic numbers, ascending.

    Returns:
        Coefficients (copies,) of the mean by position of the element, each its own for labels of atoms; and the labels
        without it, (rows, 3, ..), per atom if extensive.
    """
    values = np.concatenate([_per_row(row, frame) for frame in frames])
    means: dict[int, Floats] = {}
    if row.scope == "pair" or SCALAR not in parts_of(row):
        return means, values
    numbers = np.concatenate([frame.numbers for frame in frames]) if row.scope == "atom" else None
    residual = values.copy()
    for index, number in enumerate(elements):
        chosen = slice(None) if numbers is None else numbers == number
        if len(values[chosen]):
            means[index], tensor = _invariant(row, values[chosen])
            residual[chosen] = values[chosen] - tensor
    return means, residual


def _fill(head: nn.Module, scale: float) -> None:
    if isinstance(head, Head):
        head.scale.fill_(scale if scale > 0.0 else 1.0)


def _rms(values: Sequence[Floats]) -> float:
    everything = np.concatenate(values)
    return float(np.sqrt(np.mean(everything**2))) if len(everything) else 0.0


def _radius(frames: Sequence[Frame]) -> float:
    """Root mean square distance of atoms from the middle of their structure along an axis, Å."""
    return _rms([frame.positions - frame.positions.mean(axis=0) for frame in frames]) or 1.0


def _per_row(row: Property, frame: Frame) -> Floats:
    """Labels of one frame as (rows, 3, ..): of atoms, of pairs, or of the structure (per atom where it is a sum)."""
    label = np.asarray(frame.labels[row.name], dtype=np.float64)
    if row.scope != "structure":
        return label
    return label[None] / (len(frame) if row.extensive else 1)


def _invariant(row: Property, values: Floats) -> tuple[Floats, Floats]:
    """Rotation-invariant part of the mean: its coefficients (copies,), and the tensor itself."""
    decomposition = decompose(row.indices)
    basis = decomposition.basis(0)[:, 0]
    coefficients = np.tensordot(basis, values.mean(axis=0), axes=row.rank)
    return coefficients, np.tensordot(coefficients, basis, axes=1)
