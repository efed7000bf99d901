"""Predict properties of structures, many at a time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import ase
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import per_atom_properties, per_config_properties
from ase.stress import full_3x3_to_voigt_6_stress

from carten.data.labels import VOIGT, Label, matrix
from carten.data.neighbours import graph
from carten.errors import ModelError
from carten.interfaces.ase import read_inputs, require_known
from carten.math.arrays import Floats
from carten.model.graph import Graph, batch
from carten.properties.potential import Potential
from carten.properties.spec import Property


def evaluate_graph(model: Potential, graph: Graph, names: Sequence[str]) -> dict[str, Floats]:
    """Properties of a graph as arrays, (S, 3, ..) or (N, 3, ..)."""
    values = model(graph.to(device=model.element_of.device), names)
    return {name: value.detach().cpu().double().numpy() for name, value in values.items()}


def predict(
    model: Potential,
    frames: Iterable[ase.Atoms],
    properties: Sequence[str] | None = None,
    max_atoms: int = 500,
    inputs: Mapping[str, Label] | None = None,
) -> Iterator[dict[str, Floats]]:
    """Properties of each structure in turn, (3, ..), (N, 3, ..) or (N * N, 3, ..).

    Args:
        model: predicts, on the device and in the dtype it is in.
        frames: structures; inputs of the model are read as :class:`carten.Calculator` does.
        properties: names; those the model was made for when omitted.
        max_atoms: evaluated together, unless one structure has more.
        inputs: where else to look for inputs: names and units of the files at hand.

    Raises:
        ModelError: a structure has an element the model does not know.
        DataError: an input is missing.
    """
    names = list(model.requested) if properties is None else list(properties)
    if unknown := [name for name in names if name not in model.properties]:
        raise ModelError(f"the model does not predict {', '.join(unknown)}; it predicts {', '.join(model.properties)}")
    done = 0
    for group in _groups(frames, max_atoms):
        graphs = [_graph(model, atoms, f"structure {done + k}", inputs or {}) for k, atoms in enumerate(group)]
        values = evaluate_graph(model, batch(graphs), names)
        done += len(group)
        first = dict.fromkeys(names, 0)
        for atoms in group:
            yield {name: _part(model.properties[name], values[name], len(atoms), first) for name in names}


def _part(row: Property, values: Floats, n_atoms: int, first: dict[str, int]) -> Floats:
    """The values of the next structure, whose first row is then counted up."""
    start, first[row.name] = first[row.name], first[row.name] + row.n_rows(n_atoms)
    part = values[start : first[row.name]]
    return part[0] if row.scope == "structure" else part


def with_values(
    atoms: ase.Atoms, values: Mapping[str, Floats], rows: Mapping[str, Property], prefix: str = ""
) -> ase.Atoms:
    """A copy of a structure that carries properties.

    Without a prefix, what ASE knows (energy, forces, stress in Voigt order, ...) are results of a calculator, which
    replace those of ``atoms``; the others, and all with a prefix, are in ``info`` and ``arrays``, tensors flattened
    row-major.
    """
    copy: ase.Atoms = atoms.copy()
    results: dict[str, float | Floats] = {}
    for name, value in values.items():
        if not prefix and name in (*per_atom_properties, *per_config_properties):
            results[name] = full_3x3_to_voigt_6_stress(value) if name in VOIGT else value
        elif rows[name].scope == "atom":
            copy.arrays[f"{prefix}{name}"] = value.reshape(len(atoms), -1) if value.ndim > 2 else value
        else:
            value = matrix(value) if rows[name].scope == "pair" and rows[name].rank == 2 else value
            copy.info[f"{prefix}{name}"] = float(value) if value.ndim == 0 else value.ravel()
    if prefix and atoms.calc is not None:
        results = dict(atoms.calc.results)
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def _graph(model: Potential, atoms: ase.Atoms, where: str, inputs: Mapping[str, Label]) -> Graph:
    require_known(atoms.numbers, model.elements, where)
    return graph(atoms, model.cutoff, read_inputs(atoms, model.inputs, {}, inputs))


def _groups(frames: Iterable[ase.Atoms], max_atoms: int) -> Iterator[list[ase.Atoms]]:
    group: list[ase.Atoms] = []
    for atoms in frames:
        if group and sum(map(len, group)) + len(atoms) > max_atoms:
            yield group
            group = []
        group.append(atoms)
    if group:
        yield group
