"""Radial functions as cubic Hermite tables, as fine as a tolerance asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from carten.math.arrays import Floats
from carten.model.config import NetworkConfig
from carten.model.edges import basis_with_slopes, knots
from carten.ops.circuit import Circuit
from carten.ops.interpreter import run

FEWEST, MOST = 256, 16384
"""Numbers of intervals."""
_PROBE = 0.25
"""Where intervals are looked into: away from the middle, where slopes are better than elsewhere."""


@torch.inference_mode(False)
@torch.no_grad()
def tables(
    circuits: Sequence[tuple[Circuit, Mapping[str, Tensor]]], config: NetworkConfig, tolerance: float, most: int = MOST
) -> tuple[int, list[dict[str, Floats]], float]:
    """Tables of all layers on the same equidistant knots.

    Args:
        circuits: from knots to tables, for every layer, and their weights in float64.
        config: hyperparameters of the network.
        tolerance: largest error of values between knots, relative to the largest value; ten times that for slopes.
        most: intervals at most.

    Returns:
        The number of intervals (0 where the tolerance can't be met), the tables by name for every layer, and the
        largest error.
    """
    n, error = FEWEST, 0.0
    while n <= most:
        width = config.cutoff / n
        inside = basis_with_slopes((torch.arange(n, dtype=torch.float64) + _PROBE) * width, config)
        tables_of_layers: list[dict[str, Floats]] = []
        for circuit, weights in circuits:
            at_knots, between = (_values(circuit, weights, basis) for basis in (knots(config, n), inside))
            error = max(_error(at_knots[name], between[name], width) for name in at_knots)
            tables_of_layers.append({name: table.reshape(n + 1, -1) for name, table in at_knots.items()})
            if not error <= tolerance:
                break
        else:
            return n, tables_of_layers, error
        n *= 2
    return 0, [], error


def _values(circuit: Circuit, weights: Mapping[str, Tensor], basis: Tensor) -> dict[str, Floats]:
    """Values and slopes (knots, 2, ..) by name."""
    basis = basis.to(torch.float64)
    outputs = run(circuit, {**weights, "knots": basis}, {}, {"knots": len(basis)}, "reference")
    return {name: table.reshape(len(basis), 2, -1).numpy() for name, table in outputs.items()}


def _error(table: Floats, exact: Floats, width: float) -> float:
    """Largest deviation inside intervals: of values, or a tenth of that of slopes, relative to the largest of each.

    Slopes of tables are those times the width of an interval.
    """
    left, right = table[:-1], table[1:]
    ends = (left[:, 0], left[:, 1], right[:, 0], right[:, 1])
    worst = 0.0
    for order, weights in enumerate(_hermite(_PROBE, width)):
        values = sum(weight * end for weight, end in zip(weights, ends, strict=True))
        size = max(float(np.abs(exact[:, order]).max()), np.finfo(np.float64).tiny)
        worst = max(worst, float(np.abs(values - exact[:, order]).max()) / size / (10 if order else 1))
    return worst


def _hermite(t: float, width: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Weights of the value and the slope at either end of an interval, for the value and the slope at ``t`` of it."""
    value = t * t * (3 - 2 * t)
    slope = 6 * t * (1 - t) / width
    return (
        (1 - value, t * (1 - t) ** 2, value, -t * t * (1 - t)),
        (-slope, (1 - t) * (1 - 3 * t) / width, slope, t * (3 * t - 2) / width),
    )
