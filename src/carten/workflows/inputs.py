"""Inputs of a model, from where files have them to where a calculator and the frames of a trajectory have them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import ase
import numpy as np

from carten.data.labels import Label, carries
from carten.data.structures import find_label, read_inputs
from carten.model.conditions import Category
from carten.properties.potential import Potential
from carten.uncertainty.ensemble import Ensemble
from carten.workflows.predict import PREFIX, UNITS


def with_inputs(model: Potential | Ensemble, atoms: ase.Atoms, labels: Mapping[str, Label]) -> ase.Atoms:
    """A copy whose ``info`` and ``arrays`` hold the model's inputs under their own names, in their own units.

    Reading a file puts some, such as magnetic moments, among the results of a calculator, and a model may have been
    trained on other names and units: a new calculator would find neither.

    Args:
        model: whose inputs are wanted.
        atoms: as read from a file.
        labels: names and units of inputs in the files.

    Raises:
        DataError: an input is missing and has no default, or its shape is wrong.
    """
    copy: ase.Atoms = atoms.copy()
    values = read_inputs(atoms, model.inputs, {}, labels)
    for name, row in model.inputs.items():
        label = find_label(atoms, row, labels.get(name))
        in_place = label.file_key == find_label(copy, row, None).file_key and label.factor == 1.0
        if not carries(atoms, label) or (in_place and label.file_key in {*copy.info, *copy.arrays}):
            continue
        value = values[name]
        if isinstance(row.embed, Category):
            value = np.array([row.embed.values[int(index)] for index in value])
        if row.scope == "atom":
            copy.info.pop(name, None)
            copy.arrays[name] = value
        else:
            copy.info[name] = value[0].item() if row.rank == 0 else value[0]
    return copy


def without_labels(atoms: ase.Atoms, labels: Collection[Label], kept: Collection[Label]) -> tuple[ase.Atoms, list[str]]:
    """A copy without the labels, which belong to these positions alone, and the names of those that were left out.

    Args:
        atoms: the start of a trajectory.
        labels: of properties.
        kept: inputs, which stay even if a property has the same name.
    """
    copy: ase.Atoms = atoms.copy()
    stay = {label.file_key for label in kept} | {label.name for label in kept}
    names = {label.file_key for label in labels} | {label.name for label in labels}
    names |= {f"{PREFIX}{label.name}" for label in labels} | {UNITS}
    left_out = sorted(name for name in names - stay if name in copy.info or name in copy.arrays)
    for name in left_out:
        copy.info.pop(name, None)
        copy.arrays.pop(name, None)
    return copy, left_out
