"""How large a model will be, before it is built: what no memory holds is refused with the option to change."""

from __future__ import annotations

import math
from itertools import pairwise, product

from carten.errors import ModelError
from carten.model.config import NetworkConfig

MOST_PARAMETERS = 500_000_000
"""4 GB while a model is built."""
MOST_PATHS = 200_000
"""Of products of one layer: more take minutes to find and hours to compile."""
LIMITS = {
    "cutoff": (0.1, 1000.0),
    "n_layers": (1, 100),
    "n_channels": (1, 65_536),
    "n_readout_channels": (1, 65_536),
    "radial.n_basis": (1, 1024),
    "radial.envelope_power": (2, 100),
}
"""The smallest and largest values of options of the network that are of any use."""


def require_feasible(config: NetworkConfig, n_elements: int, neighbours: float) -> None:
    """Check that a network can be built.

    Raises:
        ModelError: an option is absurd, or the network is larger than memory.
    """
    for name, (least, most) in LIMITS.items():
        section, _, option = name.rpartition(".")
        value = getattr(config.radial if section else config, option)
        if not least <= value <= most:
            raise ModelError(f"model.{name}: expected {least:g} to {most:g}, found {_short(value)}")
    if not (math.isfinite(neighbours) and neighbours > 0.0):
        raise ModelError(
            f"the average number of neighbours is {neighbours:g}: no two atoms of the training data are within the "
            f"cutoff of {config.cutoff:g} Å; increase model.cutoff, or add structures of more than one atom"
        )
    if (paths := product_paths(config)) > MOST_PATHS:
        raise ModelError(
            f"products of order {config.correlation_order} of features up to rank {config.l_max_edges} have about "
            f"{_short(paths)} paths, at most {MOST_PATHS:,} can be evaluated: decrease model.correlation_order or "
            "model.l_max_edges"
        )
    if (total := parameters(config, n_elements)) > MOST_PARAMETERS:
        raise ModelError(
            f"the network would have about {_short(total)} parameters, at most {MOST_PARAMETERS:,} can be held: "
            "decrease model.n_channels, model.radial.hidden, model.n_layers or model.correlation_order"
        )


def _short(value: float) -> str:
    """A number that may be too large for a float."""
    return f"{value:,}" if 1e-3 < value < 1e9 else f"10^{math.log10(value):.0f}"


def parameters(config: NetworkConfig, n_elements: int) -> int:
    """About how many parameters a network has, to a factor of three."""
    n, ranks = config.n_channels, config.l_max_edges + 1
    kinds = n_elements if config.product.elements else 1
    messages = len(_couplings(config, config.l_max_features, config.l_max_edges))
    radial = sum(a * b for a, b in pairwise([config.radial.n_basis, *config.radial.hidden, messages * n]))
    coupled = n if config.product.weights == "coupled" else 1
    products = kinds * product_paths(config) * n * coupled
    linear = n * n * (messages + (2 + n_elements) * (config.l_max_features + 1) + ranks)
    readout = n * config.n_readout_channels * ranks
    return config.n_layers * (radial + products + linear + readout) + n_elements * n


def product_paths(config: NetworkConfig) -> int:
    """About how many weights products of one layer have, for each element and channel."""
    target = config.l_max_features + 1
    if config.product.kind == "spatial":
        return config.correlation_order * target
    numbers = dict.fromkeys(range(config.l_max_edges + 1), 1)
    couplings = _couplings(config, config.l_max_edges, config.l_max_edges)
    total = target
    for _ in range(config.correlation_order - 1):
        longer = dict.fromkeys(numbers, 0)
        for first, _, result in couplings:
            longer[result] += numbers[first]
        numbers = longer
        total += sum(number for l, number in numbers.items() if l < target)
    return total


def _couplings(config: NetworkConfig, first: int, second: int) -> list[tuple[int, int, int]]:
    """Ranks that products couple: even ones, and odd ones where these take part."""
    ranks = product(range(first + 1), range(second + 1), range(config.l_max_edges + 1))
    allowed = [(a, b, c) for a, b, c in ranks if abs(a - b) <= c <= a + b]
    return [one for one in allowed if config.odd_products or sum(one) % 2 == 0]
