"""Predict properties of structures, many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import per_atom_properties, per_config_properties
from ase.stress import full_3x3_to_voigt_6_stress

from carten.data.labels import Label
from carten.data.layouts import VOIGT, matrix
from carten.data.structures import read_inputs, require_known, structure_graph
from carten.errors import DataError, ModelError
from carten.math.arrays import Floats
from carten.model.graph import Graph, batch
from carten.properties.potential import Potential
from carten.properties.routes import Property
from carten.uncertainty.ensemble import Ensemble
from carten.uncertainty.evaluator import evaluator

PREFIX = "carten_"
"""Of predictions in files that have labels of the same names."""
UNITS = "carten_units"
"""Entry of a structure that says in which units its predictions are."""


def predict(
    model: Potential | Ensemble,
    frames: Iterable[ase.Atoms],
    properties: Sequence[str] | None = None,
    max_atoms: int = 500,
    inputs: Mapping[str, Label] | None = None,
    where: Sequence[str] | None = None,
) -> Iterator[dict[str, Floats]]:
    """Properties of each structure in turn, (3, ..), (N, 3, ..) or (N * N, 3, ..).

    What has no meaning for a structure is left out: values per volume, such as stress, of one that is not periodic.

    Args:
        model: predicts, on the device and in the dtype it is in.
        frames: structures; inputs of the model are read as :class:`carten.Calculator` does.
        properties: names; those the model was made for when omitted, with the uncertainties of an ensemble.
        max_atoms: evaluated together, unless one structure has more.
        inputs: where else to look for inputs: names and units of the files at hand.
        where: names of the structures for messages; ``"structure 0"``, .. when omitted.

    Raises:
        ModelError: a structure has an element the model does not know, or a prediction is not finite.
        DataError: an input is missing, or a structure is impossible.
    """
    names = list(model.requested) if properties is None else list(dict.fromkeys(properties))
    if unknown := [name for name in names if name not in model.properties]:
        raise ModelError(
            f"the model does not predict {', '.join(unknown)}; it predicts {', '.join(model.properties)}"
        )
    evaluate = evaluator(model)
    done = 0
    for group in _groups(frames, max_atoms):
        places = [where[done + k] if where is not None else f"structure {done + k}" for k in range(len(group))]
        graphs = [_graph(model, atoms, place, inputs or {}) for place, atoms in zip(places, group, strict=True)]
        values = evaluate(batch(graphs), names)
        done += len(group)
        first = dict.fromkeys(names, 0)
        for place, atoms in zip(places, group, strict=True):
            parts = {name: _part(model.properties[name], values[name], len(atoms), first) for name in names}
            yield _meaningful(model, atoms, parts, place)


def has_meaning(row: Property, atoms: ase.Atoms) -> bool:
    """Whether a structure has a property at all: properties per volume need a periodic cell."""
    return not row.per_volume or bool(atoms.pbc.any() and abs(np.linalg.det(atoms.cell.array)) > 0.0)


def _meaningful(
    model: Potential | Ensemble, atoms: ase.Atoms, values: Mapping[str, Floats], where: str
) -> dict[str, Floats]:
    kept = {name: value for name, value in values.items() if has_meaning(model.properties[name], atoms)}
    for name, value in kept.items():
        if not np.isfinite(value).all():
            raise ModelError(
                f"{where}: the predicted {name} is not finite: look at this structure and at the model"
            )
    return kept


def _part(row: Property, values: Floats, n_atoms: int, first: dict[str, int]) -> Floats:
    """The values of the next structure, whose first row is then counted up."""
    start, first[row.name] = first[row.name], first[row.name] + row.n_rows(n_atoms)
    part = values[start : first[row.name]]
    return part[0] if row.scope == "structure" else part


def with_values(
    atoms: ase.Atoms, values: Mapping[str, Floats], rows: Mapping[str, Property], prefix: str = ""
) -> ase.Atoms:
    """A copy of a structure that carries properties, and what it carried before under other names.

    Without a prefix, what ASE knows (energy, forces, stress in Voigt order, ...) are results of a calculator; the
    others, and all with a prefix, are in ``info`` and ``arrays``, tensors flattened row-major. ``info["carten_units"]``
    says in which units they are.
    """
    copy: ase.Atoms = atoms.copy()
    results: dict[str, Any] = {} if atoms.calc is None else dict(atoms.calc.results)
    for key in replaced(atoms, values, prefix):
        for place in (copy.info, copy.arrays, results):
            place.pop(key, None)
    if not prefix and "energy" in values:
        results.pop("free_energy", None)  # of another energy
    for name, value in values.items():
        if not prefix and name in (*per_atom_properties, *per_config_properties):
            results[name] = full_3x3_to_voigt_6_stress(value) if name in VOIGT else value
        elif rows[name].scope == "atom":
            copy.arrays[f"{prefix}{name}"] = value.reshape(len(atoms), -1) if value.ndim > 2 else value
        else:
            value = matrix(value) if rows[name].scope == "pair" and rows[name].rank == 2 else value
            copy.info[f"{prefix}{name}"] = float(value) if value.ndim == 0 else value.ravel()
    copy.info[UNITS] = ", ".join(f"{prefix}{name}: {rows[name].unit or '1'}" for name in values)
    copy.calc = SinglePointCalculator(copy)
    copy.calc.results = results
    return copy


def replaced(atoms: ase.Atoms, values: Iterable[str], prefix: str) -> list[str]:
    """Which of the names of predictions a structure has already."""
    results = {} if atoms.calc is None else atoms.calc.results
    keys = [f"{prefix}{name}" for name in values]
    return [key for key in keys if key in atoms.info or key in atoms.arrays or key in results]


def _graph(model: Potential | Ensemble, atoms: ase.Atoms, where: str, inputs: Mapping[str, Label]) -> Graph:
    require_known(atoms.numbers, model.elements, where)
    try:
        input_values = read_inputs(atoms, model.inputs, {}, inputs) if len(atoms) else {}
    except (DataError, ModelError) as error:
        raise type(error)(f"{where}: {error}") from error
    return structure_graph(atoms, model.cutoff, input_values, where)


def _groups(frames: Iterable[ase.Atoms], max_atoms: int) -> Iterator[list[ase.Atoms]]:
    group: list[ase.Atoms] = []
    for atoms in frames:
        if group and sum(map(len, group)) + len(atoms) > max_atoms:
            yield group
            group = []
        group.append(atoms)
    if group:
        yield group
