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
    n = FEWEST
    while n <= MOST:
        tables = [_table(interaction, config, n) for interaction in interactions]
        error = max(_error(x, table, config) for x, table in zip(interactions, tables, strict=True))
        if error <= tolerance:
            for interaction, table in zip(interactions, tables, strict=True):
                interaction.table = table.to(interaction.radial.weight[0])
            return n
        n *= 2
    raise ModelError(
        f"a table of {MOST} intervals reproduces the radial network to {error:.1e}, asked were {tolerance:.1e}: "
        "use the exact network"
    )


def _exact(interaction: Interaction, config: NetworkConfig, length: Tensor) -> tuple[Tensor, Tensor]:
    """Values and slopes of the radial network in float64, each (lengths, paths * channels)."""
    network = _precise(interaction)
    value, slope = network.table(basis_with_slopes(length, config)).unbind(1)
    return value, slope


def _table(interaction: Interaction, config: NetworkConfig, n: int) -> Tensor:
    """(knots, 2 paths, channels): values, then slopes times the width of an interval."""
    network = _precise(interaction)
    return network.table(knots(config, n).to(network.weight[0])).view(n + 1, -1, config.n_channels)


def _precise(interaction: Interaction) -> RadialNetwork:
    return copy.deepcopy(interaction.radial).to(torch.float64).requires_grad_(False)


def _error(interaction: Interaction, table: Tensor, config: NetworkConfig) -> float:
    """Largest deviation inside intervals: of values, or a tenth of that of slopes, relative to the largest of each."""
    n = len(table) - 1
    t = 0.25  # between the ends, and away from the middle, where slopes are better than elsewhere
    inside = (torch.arange(n, dtype=torch.float64, device=table.device) + t) * (config.cutoff / n)
    exact = torch.stack(_exact(interaction, config, inside))
    values, slopes = table.flatten(1).chunk(2, dim=1)
    step, low, high = values[1:] - values[:-1], slopes[:-1], slopes[1:]
    value = values[:-1] + t * t * (3 - 2 * t) * step + t * (1 - t) * ((1 - t) * low - t * high)
    slope = 6 * t * (1 - t) * step + (1 - t) * (1 - 3 * t) * low + t * (3 * t - 2) * high
    found = torch.stack([value, slope * (n / config.cutoff)])
    deviation, size = (x.abs().flatten(1).amax(1) for x in (found - exact, exact))
    errors = deviation / size.clamp(min=torch.finfo(torch.float64).tiny)
    return float(torch.maximum(errors[0], errors[1] / 10))
