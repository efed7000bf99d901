"""Properties from properties: sums over atoms and derivatives, planned by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.model.graph import Graph
from carten.properties.spec import AtomicVirial, Derivative, Property, Sum

SPATIAL = ("positions", "strain")
"""What every graph can be differentiated with respect to."""


def sources(row: Property) -> tuple[str, ...]:
    """Names of the properties that a property is obtained from."""
    route = row.routes[0]
    return (route.of,) if isinstance(route, Sum | Derivative | AtomicVirial) else ()


def with_sources(names: Sequence[str], table: Mapping[str, Property]) -> dict[str, Property]:
    """The named rows and all that they are obtained from, sources first.

    Raises:
        ModelError: when a name is not in the table, or a property is obtained from itself.
    """
    ordered: dict[str, Property] = {}

    def visit(name: str, above: tuple[str, ...] = ()) -> None:
        if name in ordered:
            return
        if name in above:
            raise ModelError(f"a property can't be obtained from itself: {' from '.join((*above, name))}")
        if name not in table:
            raise ModelError(f"no property {name!r} here; there are: {', '.join(table)}")
        for source in sources(table[name]):
            visit(source, (*above, name))
        ordered[name] = table[name]

    for name in names:
        visit(name)
    return ordered


def with_derived(table: Mapping[str, Property], names: Sequence[str]) -> dict[str, Property]:
    """The named rows, their sources, and every row that is a sum or a derivative in space of one of these.

    Raises:
        ModelError: when a name is not in the table.
    """
    rows = with_sources(names, table)
    for name, row in table.items():
        route = row.routes[0]
        spatial = isinstance(route, Sum | AtomicVirial) or (isinstance(route, Derivative) and route.wrt in SPATIAL)
        if spatial and name not in rows and all(source in rows for source in sources(row)):
            rows[name] = row
    return rows


@dataclass(frozen=True)
class Leaves:
    """What properties are differentiated with respect to."""

    graph: Graph
    vectors: Tensor
    wrt: Mapping[str, Tensor]


def leaves(graph: Graph, rows: Mapping[str, Property]) -> Leaves:
    """Prepare the graph for the derivatives that the rows ask for.

    Raises:
        ModelError: when a property is a derivative with respect to an input that the graph does not carry.
    """
    names = {row.routes[0].wrt for row in rows.values() if isinstance(row.routes[0], Derivative)}
    wrt: dict[str, Tensor] = {}
    if "positions" in names:
        wrt["positions"] = graph.positions.detach().requires_grad_()
        graph = replace(graph, positions=wrt["positions"])
    inputs = {name: value.detach().requires_grad_() for name, value in graph.inputs.items() if name in names}
    if inputs:
        wrt.update(inputs)
        graph = replace(graph, inputs={**graph.inputs, **inputs})
    if "strain" in names:
        wrt["strain"] = torch.zeros_like(graph.cell).requires_grad_()
        symmetric = (wrt["strain"] + wrt["strain"].mT) / 2
        moved = torch.einsum("na,nab->nb", graph.positions, symmetric[graph.structure])
        graph = replace(graph, positions=graph.positions + moved, cell=graph.cell + graph.cell @ symmetric)
    for row in rows.values():
        route = row.routes[0]
        if isinstance(route, Derivative) and route.wrt not in wrt:
            raise ModelError(
                f"property {row.name!r} is a derivative with respect to {route.wrt!r}, which the structures do not "
                f"carry: expected one of {', '.join(('positions', 'strain', *graph.inputs))}"
            )
    vectors = graph.edge_vectors()
    if any(isinstance(row.routes[0], AtomicVirial) for row in rows.values()):
        vectors = vectors if vectors.requires_grad else vectors.requires_grad_()
        wrt["edges"] = vectors
    return Leaves(graph, vectors, wrt)


def derive(values: dict[str, Tensor], rows: Mapping[str, Property], at: Leaves, keep_graph: bool) -> None:
    """Add to ``values`` every derivative among the rows, sources first; one backward pass per source component."""
    pending = [row for row in rows.values() if isinstance(row.routes[0], Derivative | AtomicVirial)]
    while pending:
        of = next(source for row in pending for source in sources(row) if source in values)
        group = [row for row in pending if sources(row) == (of,)]
        pending = [row for row in pending if row not in group]
        names = list(dict.fromkeys(_wrt(row) for row in group))
        gradients = _gradients(values[of], [at.wrt[name] for name in names], keep_graph or bool(pending))
        for row in group:
            values[row.name] = _finish(row, gradients[names.index(_wrt(row))], at)


def _wrt(row: Property) -> str:
    route = row.routes[0]
    return route.wrt if isinstance(route, Derivative) else "edges"


def _gradients(value: Tensor, wrt: Sequence[Tensor], create_graph: bool) -> list[Tensor]:
    """Derivative of every component of the value: (rows of wrt, components of value.., components of wrt..)."""
    columns = value.reshape(len(value), -1).unbind(1) if value.dim() > 1 else [value]
    passes: list[tuple[Tensor, ...]] = []
    for k, column in enumerate(columns):
        retain = create_graph or k < len(columns) - 1
        passes.append(
            torch.autograd.grad(
                column.sum(),
                wrt,
                create_graph=create_graph,
                retain_graph=retain,
                allow_unused=True,
                materialize_grads=True,
            )
        )
    if value.dim() == 1:
        return list(passes[0])
    stacked = [torch.stack(gradients, dim=1) for gradients in zip(*passes, strict=True)]
    return [g.reshape(len(g), *value.shape[1:], *g.shape[2:]) for g in stacked]


def _finish(row: Property, gradient: Tensor, at: Leaves) -> Tensor:
    route = row.routes[0]
    if isinstance(route, AtomicVirial):
        return _atomic_virials(gradient, at)
    if not isinstance(route, Derivative):
        raise ModelError(f"property {row.name!r} is not a derivative")
    gradient = gradient * route.sign if route.sign != 1 else gradient
    if not route.per_volume:
        return gradient
    volume = torch.linalg.det(at.graph.cell.detach()).abs()
    divisor = torch.where(volume > 0, volume, 1.0).view(-1, *[1] * (gradient.dim() - 1))
    there = (volume > 0).view_as(divisor)
    return torch.where(there, gradient / divisor, torch.nan)


def _atomic_virials(gradient: Tensor, at: Leaves) -> Tensor:
    """Half of ``-dE/dr_e r_e`` of every edge to each of its two atoms, (N, 3, 3)."""
    share = -0.5 * gradient.unsqueeze(2) * at.vectors.unsqueeze(1)
    total = share.new_zeros(at.graph.n_atoms, 3, 3)
    centre, neighbour = at.graph.edge_index
    return total.index_add(0, centre, share).index_add(0, neighbour, share)
