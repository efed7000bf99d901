"""Geometry of the edges, computed once and shared by all layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from torch import Tensor

from carten.math import radial
from carten.model.config import NetworkConfig
from carten.ops import builders
from carten.ops.circuit import Circuit
from carten.ops.draft import Draft
from carten.ops.index import Index
from carten.ops.operators import CircuitIndex, Value

Tables = Callable[[Tensor, str | None], dict[str, Tensor]]
"""Tables of radial functions by name, from the radial basis at knots (K, 2, n_basis), by a back end."""


@dataclass(frozen=True)
class Interval:
    """Where lengths lie on a grid of knots: ``fraction`` (E, 1) of the way from knot ``low`` to knot ``high``.

    ``knots`` (K, 2, n_basis) is the radial basis there, see :func:`knots`.
    """

    fraction: Tensor
    low: Index
    high: Index
    knots: Tensor

    @property
    def n_knots(self) -> int:
        return len(self.knots)

    def tables(self, evaluate: Tables) -> dict[str, Tensor]:
        """Radial functions at the knots by name, (K, 2 paths, channels): values, then slopes."""
        return evaluate(self.knots, None)


@dataclass(frozen=True, eq=False)
class Edges:
    """E edges of N atoms.

    Args:
        basis: (E, n_basis) radial basis times envelope; no columns where tables take its place.
        harmonics: (E, (l_max + 1)^2), ``|Y_l|^2 = 2l + 1``.
        centre, neighbour: the atoms of an edge.
        element: element of each atom.
        backend: how plans are evaluated.
        interval: where to look up tabulated radial functions; ``None`` asks for their exact values.
    """

    basis: Tensor
    harmonics: Tensor
    centre: Index
    neighbour: Index
    element: Index
    backend: str
    interval: Interval | None = None

    @property
    def n_atoms(self) -> int:
        return self.centre.rows

    @property
    def n_edges(self) -> int:
        return self.basis.shape[0]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Inputs of the circuits of layers, by name."""
        radial = {"basis": self.basis} if self.interval is None else {"fraction": self.interval.fraction}
        return {"harmonics": self.harmonics, **radial}

    @property
    def rows(self) -> dict[str, int]:
        """Numbers of rows by symbol; where nothing is distributed, all atoms are own ones."""
        knots = {} if self.interval is None else {"knots": self.interval.n_knots}
        return {"own": self.n_atoms, "all": self.n_atoms, "edges": self.n_edges, **knots}

    def index(self, name: str) -> Index:
        """An index of the circuits of layers, by name."""
        if self.interval is not None and name in ("low", "high"):
            return self.interval.low if name == "low" else self.interval.high
        index: Index = getattr(self, name)
        return index

    @cached_property
    def zero(self) -> Index:
        """One kind for all atoms."""
        return Index(torch.zeros_like(self.element.values), 1, ascending=True)

    @cached_property
    def centre_element(self) -> Index:
        """Element of the centre of each edge."""
        return Index(self.element.values.index_select(0, self.centre.values), self.element.rows)

    @cached_property
    def neighbour_element(self) -> Index:
        """Element of the neighbour of each edge."""
        return Index(self.element.values.index_select(0, self.neighbour.values), self.element.rows)


@dataclass(frozen=True)
class EdgeValues:
    """Edges in the circuit of a layer.

    Args:
        draft: of the circuit.
        harmonics: see :class:`Edges`.
        basis: the radial basis; ``None`` where radial functions are looked up in tables.
        n_elements: number of elements.
    """

    draft: Draft
    harmonics: Value
    basis: Value | None
    n_elements: int

    @classmethod
    def of(cls, draft: Draft, config: NetworkConfig, n_elements: int, tabulated: bool) -> EdgeValues:
        """The inputs of a circuit for exact or tabulated radial functions."""
        harmonics = draft.input("harmonics", "edges", (config.l_max_edges + 1) ** 2)
        basis = None if tabulated else draft.input("basis", "edges", config.radial.n_basis)
        return cls(draft, harmonics, basis, n_elements)

    @property
    def ends(self) -> dict[str, CircuitIndex]:
        """The atoms of an edge: ``centre`` among the own ones, ``neighbour`` among all."""
        ends = {"centre": "own", "neighbour": "all"}
        return {name: self.draft.index(name, "edges", rows) for name, rows in ends.items()}

    @property
    def elements(self) -> dict[str, CircuitIndex]:
        """Elements of these atoms, as ``centre`` and ``neighbour``."""
        names = ("centre", "neighbour")
        return {name: self.draft.index(f"{name}_element", "edges", self.n_elements) for name in names}

    @property
    def knots(self) -> dict[str, CircuitIndex]:
        """The ends of the interval of an edge's length."""
        return {name: self.draft.index(name, "edges", "knots") for name in ("low", "high")}


def edge_circuit(config: NetworkConfig) -> Circuit:
    """Harmonics of unit vectors ``unit`` (E, 3), from these and ``one`` (E, 1), filled with ones."""
    draft = Draft()
    operands = [draft.input("one", "edges", 1), draft.input("unit", "edges", 3)]
    (values,) = draft.run(builders.harmonics_plan(config.l_max_edges), operands, "edges")
    return draft.finish({"harmonics": values})


def radial_basis(length: Tensor, config: NetworkConfig) -> Tensor:
    """Radial basis times envelope, (E,) in Å to (E, n_basis)."""
    options = config.radial
    functions = radial.bessel if options.basis == "bessel" else radial.chebyshev
    envelope = radial.polynomial_envelope(length, config.cutoff, options.envelope_power)
    return functions(length, options.n_basis, config.cutoff) * envelope.unsqueeze(1)


@cache
def knots(config: NetworkConfig, n_intervals: int) -> Tensor:
    """Radial basis at equidistant knots from 0 to the cutoff, float64 (n_intervals + 1, 2, n_basis).

    Values, then slopes times the width of an interval.
    """
    with torch.inference_mode(False):  # the tensor is kept, also for training
        lengths = torch.linspace(0, config.cutoff, n_intervals + 1, dtype=torch.float64)
        units = torch.tensor([[1.0], [config.cutoff / n_intervals]], dtype=torch.float64)
        return basis_with_slopes(lengths, config) * units


@cache
def _cast_knots(config: NetworkConfig, n_intervals: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return knots(config, n_intervals).to(device, dtype)


def basis_with_slopes(lengths: Tensor, config: NetworkConfig) -> Tensor:
    """Radial basis and its derivatives (n, 2, n_basis) at lengths (n,) in Å."""
    with torch.enable_grad():
        lengths = lengths.detach().requires_grad_()
        values = radial_basis(lengths, config)
        slopes = [torch.autograd.grad(column.sum(), lengths, retain_graph=True)[0] for column in values.unbind(1)]
    return torch.stack([values.detach(), torch.stack(slopes, dim=1)], dim=1)


def locate(length: Tensor, config: NetworkConfig, n_intervals: int) -> Interval:
    """Where lengths (E,) lie on the grid; those beyond the cutoff at its end, where tables vanish with their slopes."""
    position = (length * (n_intervals / config.cutoff)).clamp(max=n_intervals)
    low = position.detach().to(torch.int64).clamp_(max=n_intervals - 1)
    fraction = (position - low).unsqueeze(1)
    basis = _cast_knots(config, n_intervals, length.dtype, length.device)
    return Interval(fraction, Index(low, n_intervals + 1), Index(low + 1, n_intervals + 1), basis)
