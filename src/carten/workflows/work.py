"""What an evaluation of a model consists of: operators, their multiply-adds, bytes and times."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from carten.model.edges import locate
from carten.model.graph import Graph
from carten.model.interaction import Interaction
from carten.model.network import Layer, Network
from carten.ops import builders
from carten.ops.gates import look_up_plan
from carten.ops.plan import Plan
from carten.ops.record import RecordedPlan, recorded
from carten.properties.potential import Potential

LINEAR = "linear maps"


@dataclass(frozen=True)
class OperatorWork:
    """Part of an evaluation, or several evaluations of it together.

    Args:
        name: for example ``interaction 2``, or ``gradient of interaction 2``.
        multiply_adds: of the whole system.
        bytes: that have to be read and written if every number moves once.
        seconds: that it took; on a GPU, until it was handed over.
    """

    name: str
    multiply_adds: float
    bytes: float
    seconds: float


def count(model: Potential, system: Graph, names: Sequence[str]) -> list[OperatorWork]:
    """Count and time the operators of an evaluation, in the order in which they run first.

    Operators run one by one, also where compiled code runs them all in one call. All products of matrices are one
    operator, counted in an evaluation of their own since that slows the others down.
    The last one is what is left of the time: activations, sums over atoms, autograd itself. Tables in which radial
    functions are looked up do not count: libraries make them once.

    Args:
        model: any.
        system: structures.
        names: properties to evaluate.
    """
    network = model.network
    counted = _observed(lambda: model(system, names), _plans(network))
    if network.training and network.trained_intervals:
        for name, tables in _observed(lambda: _make_tables(network), _plans(network)).items():
            counted[name] = _less(counted[name], tables)
    return list(counted.values())


def _observed(evaluate: Callable[[], object], named_plans: Sequence[tuple[str, Plan]]) -> dict[str, OperatorWork]:
    started = time.perf_counter()
    with recorded() as runs:
        evaluate()
    seconds = time.perf_counter() - started
    with recorded(), _MatrixProducts() as products:
        evaluate()
    operators: dict[str, list[OperatorWork]] = {}
    for run in runs:
        name = _name(run, named_plans)
        operators.setdefault(name, []).append(OperatorWork(name, run.multiply_adds, run.bytes, run.seconds))
    operators[LINEAR] = products.operators
    totals = {name: total(name, parts) for name, parts in operators.items()}
    rest = seconds - sum(operator.seconds for operator in totals.values())
    return {**totals, "rest": OperatorWork("rest", 0, 0, max(rest, 0.0))}


def _make_tables(network: Network) -> None:
    """What is done at every step of training, and by a library once."""
    knots = locate(network.embedding.new_empty(0), network.config, network.trained_intervals).knots
    for layer in network.layers:
        if isinstance(layer, Layer):
            layer.tables_at(knots, network.backend)


def _less(work: OperatorWork, part: OperatorWork) -> OperatorWork:
    seconds = max(work.seconds - part.seconds, 0.0)
    return OperatorWork(work.name, work.multiply_adds - part.multiply_adds, work.bytes - part.bytes, seconds)


def total(name: str, parts: Sequence[OperatorWork]) -> OperatorWork:
    """Several operators as one."""
    return OperatorWork(
        name,
        sum(part.multiply_adds for part in parts),
        sum(part.bytes for part in parts),
        sum(part.seconds for part in parts),
    )


def per_atom(model: Potential) -> OperatorWork:
    """Multiply-adds and bytes of one evaluation, for each atom of :func:`sample`, named after what is evaluated."""
    usual = ("energy", "forces")
    names = usual if all(name in model.properties for name in usual) else model.requested
    system = sample(model)
    totals = total(" and ".join(names), count(model, system, names))
    return OperatorWork(totals.name, totals.multiply_adds / system.n_atoms, totals.bytes / system.n_atoms, 0.0)


def sample(model: Potential, n_atoms: int = 64) -> Graph:
    """Atoms of all the model's elements with the number of neighbours it saw in training, at random: to count work.

    Every input is zero.
    """
    generator = torch.Generator().manual_seed(0)
    neighbours = max(1, round(model.neighbours))
    centre = torch.arange(n_atoms).repeat_interleave(neighbours)
    neighbour = (centre + 1 + torch.randint(n_atoms - 1, centre.shape, generator=generator)) % n_atoms
    positions = torch.randn(n_atoms, 3, generator=generator, dtype=torch.float64) * (model.cutoff / 8)
    inputs = {}
    for name, row in model.inputs.items():
        shape = (n_atoms if row.scope == "atom" else 1, *row.shape)
        category = getattr(row.embed, "values", None)
        inputs[name] = torch.zeros(shape, dtype=torch.int64 if category else torch.float64)
    return Graph(
        positions=positions,
        numbers=torch.tensor(model.elements)[torch.arange(n_atoms) % len(model.elements)],
        cell=torch.zeros(1, 3, 3, dtype=torch.float64),
        pbc=torch.zeros(1, 3, dtype=torch.bool),
        structure=torch.zeros(n_atoms, dtype=torch.int64),
        edge_index=torch.stack([centre, neighbour]),
        edge_shift=torch.zeros(len(centre), 3, dtype=torch.float64),
        inputs=inputs,
    )


def _plans(network: Network) -> list[tuple[str, Plan]]:
    """Plans of the network by name; those of several layers at once have all their numbers."""
    layers: dict[tuple[str, Plan], list[str]] = {}
    for number, layer in enumerate(network.layers, start=1):
        if isinstance(layer, Layer) and isinstance(layer.interaction, Interaction):
            layer_plans = [("interaction", layer.interaction.plan), ("interaction", layer.interaction.table_plan)]
            layer_plans += [
                ("product", plan) for plan in [getattr(layer.product, "plan", None)] if isinstance(plan, Plan)
            ]
            for kind, plan in layer_plans:
                layers.setdefault((kind, plan), []).append(str(number))
    named = [(f"{kind} {', '.join(numbers)}", plan) for (kind, plan), numbers in layers.items()]
    start = [("harmonics", builders.harmonics_plan(network.config.l_max_edges)), ("embedding", look_up_plan())]
    return [*start, *named]


def _name(run: RecordedPlan, named_plans: Sequence[tuple[str, Plan]]) -> str:
    """The operator that a plan belongs to: it is it, or its derivative, which has its inputs first."""
    for name, plan in named_plans:
        if run.plan == plan:
            return name
        if run.plan.inputs[: len(plan.inputs)] == plan.inputs and len(run.plan.inputs) > len(plan.inputs):
            return f"gradient of {name}"
    return "other plans"


class _MatrixProducts(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no annotation
    """Counts and times products of matrices while it is active."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: list[OperatorWork] = []

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        started = time.perf_counter()
        result = func(*args, **(kwargs or {}))
        packet = getattr(func, "_overloadpacket", None)
        if packet in flop_registry:
            seconds = time.perf_counter() - started
            moved = [x for x in (*args, result) if isinstance(x, Tensor)]
            flops = flop_registry[packet](*args, **(kwargs or {}), out_val=result)
            self.operators.append(OperatorWork(LINEAR, flops / 2, sum(x.numel() * x.itemsize for x in moved), seconds))
        return result
