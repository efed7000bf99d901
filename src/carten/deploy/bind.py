"""Binding: the circuits of a model together with its weights, as plain data that no longer depends on the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

import carten
from carten.deploy.deviations import DEVIATIONS, deviation_head, force_calibration, uncertain_rows
from carten.deploy.library import Bound, HeadData, InputData, Radial
from carten.deploy.phases import Circuits
from carten.errors import ModelError
from carten.model.conditions import Category, Coupled, Fidelity
from carten.model.described import Layered
from carten.model.tables import tables
from carten.ops.circuit import Circuit
from carten.ops.interpreter import run, weights
from carten.ops.operators import renamed
from carten.physics import zbl
from carten.physics.constants import COULOMB
from carten.properties.averaged import averaged
from carten.properties.heads import Head
from carten.properties.planning import ENERGIES
from carten.properties.potential import Potential
from carten.properties.routes import AtomicVirial, Derivative, Positive, Property, Readout, Sum
from carten.properties.rows import dump

TOLERANCES = {"float32": (1e-6,), "float64": (1e-7, 1e-6)}
"""Of tables, the first that is met: errors of forces are some four times larger, relative to the largest force."""
PULL = "electric_field on total_charge"
EXPORTED = ("zbl",)
"""Kinds of terms that libraries have."""
ELSEWHERE = {
    "d3": "add it in the engine instead (in LAMMPS: pair_style hybrid/overlay carten .. dispersion/d3 ..)",
    "d4": "add it in the engine instead",
}
Arrays = dict[str, list[npt.NDArray[Any]]]


def bind(model: Potential, dtype: str, exact: bool = False) -> Bound:
    """A model as data. The model stays as it is. Of an ensemble it is the mean, and deviations of energies of atoms.

    Where tables can't reach their tolerance, radial networks are evaluated.

    Args:
        model: a model on any device.
        dtype: precision of the library, ``"float32"`` or ``"float64"``.
        exact: whether radial networks are evaluated for every pair, not looked up in tables.

    Raises:
        ModelError: the model has something that a library can't do; the message says what, and what to do instead.
    """
    require_local(model)
    deviations = deviation_head(model)
    source, model = model, averaged(model)
    constants: Arrays = {}
    network, config = model.network, model.config
    edges, start = (_take(network, name, "network.", constants) for name in ("edges", "start"))
    n_intervals = 0
    if not exact and not config.radial.elements:
        making = [
            (_circuits(layer)["tables"], _doubles(weights(layer, _circuits(layer)["tables"])))
            for layer in network.layers
        ]
        attempts = (tables(making, config, tolerance)[:2] for tolerance in TOLERANCES[dtype])
        n_intervals, results = next((attempt for attempt in attempts if attempt[0]), (0, []))
        for k, by_name in enumerate(results):
            constants.update({f"{k}:{name}": [table] for name, table in by_name.items()})
    kind = "tabulated" if n_intervals else "exact"
    layers = [_take(layer, kind, f"layers.{k}.", constants) for k, layer in enumerate(network.layers)]
    embeddings = network.inputs
    read = {name: _as_head(model, name) for name in heads(model)}
    data = {name: _head_data(model, name) for name in heads(model)}
    header = library_header(model, dtype, n_intervals)
    if deviations is not None:
        read[DEVIATIONS], data[DEVIATIONS] = deviations, _deviation_data(deviations)
        header["readouts"].append(DEVIATIONS)
        header["rows"] += uncertain_rows(source, header["rows"])
    circuits = Circuits(
        edges,
        start,
        tuple(layers),
        {name: _head(head, f"heads.{name}.", constants) for name, head in read.items()},
        tuple(_take(embeddings, name, "inputs.", constants) for name in ("start", "messages")) if embeddings else (),
    )
    radial = config.radial
    return Bound(
        circuits,
        constants,
        data,
        [_input(row) for row in model.inputs.values() if not isinstance(row.embed, Coupled)],
        Radial(config.cutoff, n_intervals, radial.basis, radial.n_basis, radial.envelope_power, radial.elements),
        model.elements,
        dtype,
        header,
        _zbl(model),
        1.0 if deviations is None else force_calibration(source),
    )


def require_local(model: Potential) -> None:
    """Check that all terms of a model can be in a library.

    Raises:
        ModelError: one can't.
    """
    for kind in beyond(model):
        instead = ELSEWHERE.get(kind, "it is long-ranged, and is evaluated in Python only")
        raise ModelError(
            f"a library cannot have the term {kind} yet: {instead}; carten.Calculator, md and predict evaluate the "
            "whole model"
        )


def heads(model: Potential) -> list[str]:
    """Properties that are read from features as they are."""
    constants = []
    for name in model.heads:
        route = model.properties[name].routes[0] if name in model.properties else None
        if name == ENERGIES or isinstance(route, Readout | Positive):
            constants.append(name)
    return constants


def library_header(model: Potential, dtype: str, n_intervals: int) -> dict[str, Any]:
    """What a library says about itself."""
    return {
        "version": carten.__version__,
        "dtype": dtype,
        "network": model.config.model_dump(mode="json"),
        "elements": list(model.elements),
        "neighbours": model.neighbours,
        "properties": [dump(row) for row in model.properties.values()],
        "rows": rows(model),
        "requested": list(model.requested),
        "usual": list(model.usual),
        "inputs": [dump(row) for row in model.inputs.values()],
        "terms": [config.model_dump(mode="json") for config in model.term_configs],
        "readouts": [name for name in heads(model) if name != ENERGIES],
        "intervals": n_intervals,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def rows(model: Potential) -> list[dict[str, Any]]:
    """The properties of a model in short, and how each follows from what a library gives; see :func:`_source`."""
    readable = [] if beyond(model) else heads(model)
    return [
        {
            "name": row.name,
            "scope": row.scope,
            "rank": row.rank,
            "ase": row.ase,
            "per_volume": row.per_volume,
            "source": _source(row, readable),
        }
        for row in model.properties.values()
    ]


def _source(row: Property, readable: Sequence[str]) -> str:
    """Where a calculator finds a property: among the results of a step, or ``sum NAME``, ``mean NAME`` of a readout.

    Nothing where it takes more than a step of a library.
    """
    energies = ENERGIES in readable
    match row.routes[0]:
        case Readout() | Positive() if row.name in readable and row.scope == "atom":
            return row.name
        case Readout(reduce) if row.name in readable and row.scope == "structure":
            return f"{reduce} {row.name}"
        case Sum("energies") if energies:
            return "energy"
        case Derivative("energy", ("positions",), -1, False) if energies:
            return "forces"
        case Derivative("energy", ("strain",), -1, False) if energies:
            return "virial"
        case Derivative("energy", ("strain",), 1, True) if energies and "virial" not in readable:
            return "stress"
        case AtomicVirial("energy", 1, False) if energies:
            return "virials"
        case AtomicVirial("energy", -1, True) if energies and "virials" not in readable:
            return "stresses"
    return ""


def beyond(model: Potential) -> list[str]:
    """Kinds of terms that a library can't have."""
    kinds = [term.kind for term in model.term_configs if term.kind not in EXPORTED]
    return [*kinds, PULL] if model.design.has_pull else kinds


def _doubles(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", torch.float64) for name, tensor in tensors.items()}


def _circuits(owner: nn.Module) -> Mapping[str, Circuit]:
    if not isinstance(owner, Layered):
        raise ModelError(f"{type(owner).__name__} does not describe itself as a circuit: it can't be compiled")
    return owner.circuits


def _take(owner: nn.Module, name: str, prefix: str, constants: Arrays) -> Circuit:
    """A circuit with weights under unique names, and their values as they are now added to those found."""
    named, arrays = _with_weights(owner, _circuits(owner)[name], prefix)
    constants.update({name: [array] for name, array in arrays.items()})
    return named


def _with_weights(owner: nn.Module, circuit: Circuit, prefix: str) -> tuple[Circuit, dict[str, npt.NDArray[Any]]]:
    first, rest = circuit.split()
    tensors = _doubles(weights(owner, circuit))
    results = run(first, {value.name: tensors[value.name] for value in first.weights}, {}, {}, "reference")
    values = {**tensors, **results}
    names = {value.name: f"{prefix}{value.name}" for value in rest.weights}
    arrays = {names[v.name]: values[v.name].reshape(int(v.rows), *v.row_shape).numpy() for v in rest.weights}
    return _renamed(rest, names), arrays


def _renamed(circuit: Circuit, names: Mapping[str, str]) -> Circuit:
    def called(name: str) -> str:
        return names.get(name, name)

    return Circuit(
        circuit.inputs,
        tuple(replace(value, name=called(value.name)) for value in circuit.weights),
        circuit.indices,
        circuit.values,
        tuple(renamed(operator, called) for operator in circuit.operators),
        circuit.outputs,
    )


def _head(head: Head, prefix: str, constants: Arrays) -> Circuit:
    """The circuit of a head; weights of the levels of theory side by side."""
    circuits = _circuits(head)
    levels = sorted((name for name in circuits if name.startswith("level ")), key=lambda name: int(name.split()[1]))
    results = [_with_weights(head, circuits[level], prefix) for level in levels]
    for names in zip(*(arrays for _, arrays in results), strict=True):
        constants[names[0]] = [arrays[name] for name, (_, arrays) in zip(names, results, strict=True)]
    return replace(results[0][0], outputs=tuple(part.name for part in head.copies))


def _as_head(model: Potential, name: str) -> Head:
    head = model.heads[name]
    if not isinstance(head, Head):
        raise ModelError(f"the readout of {name} was replaced by a {type(head).__name__}: it can't be compiled")
    return head


def _head_data(model: Potential, name: str) -> HeadData:
    head, row = _as_head(model, name), model.properties.get(name)
    return HeadData(
        float(head.scale),
        (head.reference + head.shift).cpu().numpy(),
        head.assembly.cpu().numpy(),
        tuple(part.size * copies for part, copies in head.copies.items()),
        row is not None and isinstance(row.routes[0], Positive),
        row.unit if row is not None else "",
    )


def _deviation_data(head: Head) -> HeadData:
    """Deviations have no baselines, and one component for each member but one."""
    members = head.kind.members
    shift = np.zeros((len(head.reference), 0))
    return HeadData(float(head.scale), shift, np.eye(members), (members,), unit="eV")


def _input(row: Any) -> InputData:
    values = row.embed.values if isinstance(row.embed, Category) else ()
    default = None
    if row.default is not None:
        default = float(values.index(row.default)) if values else float(row.default)
    level = isinstance(row.embed, Fidelity)
    return InputData(row.name, row.unit, row.scope == "atom", 3**row.rank, len(values), default, level)


def _zbl(model: Potential) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]] | None:
    """Tables of the repulsion of nuclei by pair of elements, and its constants, as ``geometry.h`` takes them."""
    term = next((term for term in model.terms if isinstance(term, zbl.Zbl)), None)
    if term is None:
        return None
    numbers = torch.tensor(model.elements)
    reach, size = (table.cpu()[numbers[:, None], numbers].numpy() for table in (term.reach, term.size))
    screening = [number for pair in zbl.SCREENING for number in pair]
    constants = [*zbl.CORE, zbl.POWER, zbl.LENGTH, COULOMB, *screening, float(zbl.SMOOTHNESS)]
    return reach, size, np.array(constants)


__all__ = ["bind", "heads", "require_local"]
