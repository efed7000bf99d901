"""Geometry of the edges, computed once and shared by all layers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from carten.math import radial
from carten.model.config import NetworkConfig
from carten.model.kinds import Kinds
from carten.ops import builders
from carten.ops.index import Index
from carten.ops.library import evaluate


@dataclass(frozen=True)
class Interval:
    """Where lengths lie on a grid of knots: ``fraction`` (E, 1) of the way from knot ``low`` to knot ``high``.

    ``knots`` (K, 2, n_basis) is the radial basis there, see :func:`knots`.
    """

    fraction: Tensor
    low: Index
    high: Index
    knots: Tensor


@dataclass(frozen=True)
class Edges:
    """E edges of N atoms.

    Args:
        basis: (E, n_basis) radial basis times envelope; no columns where tables take its place.
        harmonics: (E, (l_max + 1)^2), ``|Y_l|^2 = 2l + 1``.
        centre, neighbour: the atoms of an edge.
        kinds: element of each atom.
        backend: how plans are evaluated.
        interval: where to look up tabulated radial functions; ``None`` asks for their exact values.
    """

    basis: Tensor
    harmonics: Tensor
    centre: Index
    neighbour: Index
    kinds: Kinds
    backend: str
    interval: Interval | None = None

    @property
    def n_atoms(self) -> int:
        return self.centre.rows

    @property
    def n_edges(self) -> int:
        return self.basis.shape[0]


def describe(
    vectors: Tensor, ends: tuple[Index, Index], kinds: Kinds, config: NetworkConfig, backend: str, n_intervals: int = 0
) -> Edges:
    """Radial basis, or intervals of radial tables, and harmonics of edge vectors (E, 3) in Å.

    Args:
        vectors: from centre to neighbour.
        ends: centre and neighbour of every edge.
        kinds: element of each atom.
        config: hyperparameters.
        backend: how plans are evaluated.
        n_intervals: of the tables from 0 to the cutoff; 0 where there are none.
    """
    length = vectors.norm(dim=1)
    unit = vectors / length.unsqueeze(1)
    interval = locate(length, config, n_intervals) if n_intervals else None
    basis = unit[:, :0] if n_intervals else radial_basis(length, config)
    values = harmonics(unit, torch.ones_like(unit[:, :1]), config, backend)
    return Edges(basis, values, *ends, kinds, backend, interval)


def harmonics(unit: Tensor, one: Tensor, config: NetworkConfig, backend: str) -> Tensor:
    """Harmonics of unit vectors (E, 3); ``one`` (E, 1) is filled with ones."""
    (values,) = evaluate(builders.harmonics(config.l_max_edges), [one, unit], {}, len(unit), backend)
    return values


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
    basis = knots(config, n_intervals).to(length)
    return Interval(fraction, Index(low, n_intervals + 1), Index(low + 1, n_intervals + 1), basis)
