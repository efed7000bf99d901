"""Descriptors: what a model makes of the surroundings of each atom, as numbers that do not change under rotations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ase
import numpy as np

from carten.data.labels import Label
from carten.data.structures import read_inputs, require_known, structure_graph
from carten.math.arrays import Floats
from carten.model.graph import batch
from carten.properties.potential import Potential


def descriptors(
    model: Potential,
    frames: Sequence[ase.Atoms],
    max_atoms: int = 500,
    inputs: Mapping[str, Label] | None = None,
) -> list[Floats]:
    """Invariant features of the atoms of each structure, (N, features) float64.

    They are what the energies of atoms are linear in, in eV for weights of variance one, see
    :meth:`carten.properties.potential.Potential.descriptors`: similar surroundings have similar descriptors.

    Args:
        model: any model; of an ensemble give one of its models.
        frames: structures; inputs of the model are read as :class:`carten.Calculator` does.
        max_atoms: evaluated together, unless one structure has more.
        inputs: where else to look for inputs: names and units of the files at hand.

    Raises:
        ModelError: a structure has an element the model does not know.
        DataError: an input is missing, or a structure is impossible.

    Example:
        >>> features = carten.descriptors(carten.load("run/best.carten"), ase.io.read("pool.extxyz", ":"))
    """
    results: list[Floats] = []
    first = 0
    sizes = [len(atoms) for atoms in frames]
    while first < len(frames):
        end = first + 1
        while end < len(frames) and sum(sizes[first : end + 1]) <= max_atoms:
            end += 1
        graphs = []
        for k in range(first, end):
            atoms, where = frames[k], f"structure {k}"
            require_known(atoms.numbers, model.elements, where)
            values = read_inputs(atoms, model.inputs, {}, inputs or {})
            graphs.append(structure_graph(atoms, model.cutoff, values, where))
        features = model.descriptors(batch(graphs).to(device=model.element_of.device)).detach().cpu().numpy()
        results += np.split(features, np.cumsum(sizes[first : end - 1]))
        first = end
    return results
