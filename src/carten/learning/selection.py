"""Structures worth labelling: those that a model is uncertain of and that differ from each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from ase import Atoms

from carten.data.geometry import SIGNATURE, duplicates, kinds_of, surroundings
from carten.data.labels import Frame
from carten.errors import ConfigError
from carten.learning.diversity import farthest_points, leading_rows, medoids
from carten.math.arrays import Floats
from carten.model.config import NetworkConfig
from carten.properties.potential import Potential
from carten.properties.spec import property_table
from carten.uncertainty.descriptors import descriptors
from carten.workflows.limits import overlapping

Method = Literal["farthest", "kmedoids", "cur", "uncertainty"]
UNCERTAINTY = "forces_uncertainty"
CUTOFF = 5.0  # Å, within which duplicates have equal surroundings
UNTRAINED = NetworkConfig(n_channels=16, l_max_edges=2, l_max_features=1)
"""Of the descriptors where there is no model."""


@dataclass(frozen=True)
class Selection:
    """Structures that were chosen.

    Args:
        indices: in the pool, in the order of their choice.
        method: by which they were.
        left_out: number of structures by reason why they were no candidates.
        uncertainties: of the chosen ones, the largest of the forces of each in eV/Å; empty if the model gives none.
    """

    indices: list[int]
    method: Method
    left_out: Mapping[str, int] = field(default_factory=dict)
    uncertainties: list[float] = field(default_factory=list)


def select(
    pool: Sequence[Atoms],
    number: int,
    model: Potential | None = None,
    method: Method = "farthest",
    known: Sequence[Atoms] = (),
    uncertainties: Floats | None = None,
) -> Selection:
    """Choose structures from a pool; the same pool gives the same choice.

    Duplicates, of each other and of known structures, and structures with two atoms closer than 0.6 times the sum of
    their covalent radii are no candidates.

    Args:
        pool: candidates.
        number: how many to choose.
        model: its descriptors say how much structures differ; those of an untrained network when omitted.
        method: ``farthest`` points, the centres of clusters (``kmedoids``), rows that span the others (``cur``), or
            ``uncertainty``: the largest product of uncertainty and distance to what was chosen before.
        known: structures that have labels already.
        uncertainties: (pool,) in eV/Å, for ``uncertainty``.

    Raises:
        ConfigError: there are fewer candidates than asked for, or a method lacks what it needs.
        ModelError: a structure has an element the model does not know.
    """
    if method == "uncertainty" and uncertainties is None:
        raise ConfigError(
            "method uncertainty: this model gives no uncertainties of forces; use farthest, or a committee"
        )
    places, left_out = candidates(pool, known)
    if number > len(places):
        reasons = "".join(f", {count} {reason}" for reason, count in left_out.items())
        raise ConfigError(
            f"{number} structures are asked for, the pool has {len(places)} candidates among {len(pool)}{reasons}"
        )
    frames = [*(pool[k] for k in places), *known]
    features = structure_features(frames, model or untrained_network(frames))
    ours, others = features[: len(places)], features[len(places) :]
    weights = None if method != "uncertainty" or uncertainties is None else np.asarray(uncertainties)[places]
    match method:
        case "farthest" | "uncertainty":
            chosen = farthest_points(ours, number, others, weights)
        case "kmedoids":
            chosen = medoids(ours, number, others)
        case "cur":
            chosen = leading_rows(ours, number, others)
    indices = [places[k] for k in chosen]
    values = [] if uncertainties is None else [float(uncertainties[k]) for k in indices]
    return Selection(indices, method, left_out, values)


def structure_features(frames: Sequence[Atoms], model: Potential) -> Floats:
    """Mean and spread of the descriptors of the atoms of each element, (structures, 2 * elements * features).

    They are divided by their typical size over all structures, so that they have no unit.
    """
    atomic = descriptors(model, frames)
    elements = sorted({int(number) for atoms in frames for number in atoms.numbers})
    table = np.zeros((len(frames), len(elements), 2, atomic[0].shape[1]))
    for row, (atoms, values) in enumerate(zip(frames, atomic, strict=True)):
        for column, element in enumerate(elements):
            members = values[atoms.numbers == element]
            if len(members):
                table[row, column] = members.mean(axis=0), members.std(axis=0)
    scale = np.concatenate(atomic).std(axis=0)
    table /= np.where(scale > 0.0, scale, 1.0)
    return np.asarray(table.reshape(len(frames), -1))


def untrained_network(frames: Sequence[Atoms]) -> Potential:
    """A small network with random weights, the same for the same elements: its features tell geometries apart."""
    elements = sorted({int(number) for atoms in frames for number in atoms.numbers})
    return Potential(UNTRAINED, elements, [property_table()["energy"]], backend="reference")


def candidates(pool: Sequence[Atoms], known: Sequence[Atoms]) -> tuple[list[int], dict[str, int]]:
    """Indices of structures that can be chosen, and how many cannot, by reason."""
    reasons: Counter[str] = Counter()
    frames, places = [_frame(atoms) for atoms in known], [-1] * len(known)
    signatures = [surroundings(frame, CUTOFF).signature for frame in frames]
    for index, atoms in enumerate(pool):
        if overlapping(atoms):
            reasons["with atoms that overlap"] += 1
            continue
        frame = _frame(atoms)
        frames.append(frame)
        places.append(index)
        signatures.append(surroundings(frame, CUTOFF).signature)
    groups = duplicates(frames, kinds_of(frames), np.array(signatures).reshape(-1, SIGNATURE))
    repeated = {member for group in groups for member in group[1:] if places[member] >= 0}
    if repeated:
        reasons["duplicates"] = len(repeated)
    return [place for k, place in enumerate(places) if place >= 0 and k not in repeated], dict(reasons)


def _frame(atoms: Atoms) -> Frame:
    return Frame(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)
