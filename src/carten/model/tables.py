"""Radial functions of a trained network as cubic Hermite tables."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.model.config import NetworkConfig
from carten.model.edges import basis_with_slopes, knots
from carten.model.interaction import Interaction, RadialNetwork

FEWEST, MOST = 256, 16384
PROBE = 0.25
"""Where intervals are looked into: away from the middle, where slopes are better than elsewhere."""


def tabulate(interactions: list[Interaction], config: NetworkConfig, tolerance: float = 1e-6) -> int:
    """Give interactions tables on the same equidistant knots, fine enough for the tolerance.

    Args:
        interactions: of all layers; their radial networks may depend on the length of edges only.
        config: hyperparameters of the network.
        tolerance: largest error of values between knots, relative to the largest value; ten times that for slopes.

    Returns:
        Number of intervals between 0 and the cutoff.

    Raises:
        ModelError: when the tolerance is not met.
    """
    networks = [copy.deepcopy(x.radial).to(torch.float64).requires_grad_(False) for x in interactions]
    n, error = FEWEST, 0.0
    while n <= MOST:
        tables, error = _tables(networks, config, n, tolerance)
        if error <= tolerance:
            for interaction, table in zip(interactions, tables, strict=True):
                interaction.table = table.view(n + 1, -1, config.n_channels).to(interaction.radial.weight[0])
            return n
        n *= 2
    raise ModelError(
        f"the radial functions could not be tabulated to {tolerance:.1e} (reached {error:.1e} with {MOST} intervals)"
    )


def _tables(
    networks: list[RadialNetwork], config: NetworkConfig, n: int, tolerance: float
) -> tuple[list[Tensor], float]:
    """Tables (n + 1, 2, paths * channels) of networks, up to the first that misses the tolerance; error of the last.

    Values, then slopes times the width of an interval.
    """
    width = config.cutoff / n
    place = networks[0].weight[0]
    at, inside = (
        basis.to(place)
        for basis in (knots(config, n), basis_with_slopes((torch.arange(n).double() + PROBE) * width, config))
    )
    tables, error = [], 0.0
    for network in networks:
        tables.append(network.table(at))
        error = _error(tables[-1], network.table(inside), width)
        if not error <= tolerance:
            break
    return tables, error


def _error(table: Tensor, exact: Tensor, width: float) -> float:
    """Largest deviation inside intervals: of values, or a tenth of that of slopes, relative to the largest of each."""
    ends = (*table[:-1].unbind(1), *table[1:].unbind(1))
    deviation = exact.clone()
    for row, weights in zip(deviation.unbind(1), _hermite(PROBE, width), strict=True):
        for end, weight in zip(ends, weights, strict=True):
            row.sub_(end, alpha=weight)
    errors, sizes = (torch.linalg.vector_norm(x, torch.inf, dim=(0, 2)) for x in (deviation, exact))
    value, slope = errors / sizes.clamp(min=torch.finfo(torch.float64).tiny)
    return float(torch.maximum(value, slope / 10))


def _hermite(t: float, width: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Weights of the value and the slope at either end of an interval, for the value and the slope at ``t`` of it."""
    value = t * t * (3 - 2 * t)
    slope = 6 * t * (1 - t) / width
    return (
        (1 - value, t * (1 - t) ** 2, value, -t * t * (1 - t)),
        (-slope, (1 - t) * (1 - 3 * t) / width, slope, t * (3 * t - 2) / width),
    )
