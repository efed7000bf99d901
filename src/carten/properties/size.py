"""How large a model will be, before it is built: what no memory holds is refused with the option to change."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

from carten.errors import ModelError
from carten.model.config import NetworkConfig
from carten.ops.builders import couples, interaction_paths
from carten.ops.space import Part

MOST_PARAMETERS = 500_000_000
"""4 GB while a model is built."""
MOST_PATHS = 50_000
"""Of the product of one layer: beyond, code of it is neither generated nor compiled in hours."""


def require_feasible(config: NetworkConfig, n_elements: int, neighbours: float) -> None:
    """Check that a network can be built.

    Raises:
        ModelError: no atom has neighbours, products have too many paths, or parameters do not fit into memory.
    """
    if not (math.isfinite(neighbours) and neighbours > 0.0):
        raise ModelError(
            f"the average number of neighbours is {neighbours:g}: no two atoms of the training data are within the "
            f"cutoff of {config.cutoff:g} Å; increase model.cutoff, or add structures of more than one atom"
        )
    if config.product.kind == "recursive" and (paths := product_paths(config)) > MOST_PATHS:
        raise ModelError(
            f"products of order {config.correlation_order} of features up to rank {config.l_max_edges} have about "
            f"{paths:,} paths, at most {MOST_PATHS:,} can be evaluated: decrease model.correlation_order or "
            "model.l_max_edges"
        )
    if (total := parameters(config, n_elements)) > MOST_PARAMETERS:
        raise ModelError(
            f"the network would have about {total:,} parameters, at most {MOST_PARAMETERS:,} can be held: "
            "decrease model.n_channels, model.radial.hidden, model.n_layers or model.correlation_order"
        )


def product_paths(config: NetworkConfig) -> int:
    """Paths of the product of a layer, at most: ways of multiplying up to ν tensors to one that is kept."""
    factors = config.space(config.l_max_edges).parts
    targets = config.space(max(config.l_max_features, config.l_max_edges)).parts
    copies: Mapping[Part, int] = dict.fromkeys(factors, 1)
    total = len(factors)
    for order in range(2, config.correlation_order + 1):
        ends = targets if order == config.correlation_order else factors
        pairs = [(end, n) for end in ends for part, n in copies.items() for x in factors if couples(part, x, end)]
        copies = {end: sum(n for other, n in pairs if other == end) for end in ends}
        total += sum(copies.values())
    return total


def parameters(config: NetworkConfig, n_elements: int) -> int:
    """Number of parameters, about; more rather than less."""
    n, space = config.n_channels, config.space(config.l_max_edges)
    features = config.space(config.l_max_features)
    messages = len(interaction_paths(features, config.l_max_edges, space))
    radial = sum(a * b for a, b in pairwise([config.radial.n_basis, *config.radial.hidden, messages * n]))
    kinds = n_elements if config.product.elements else 1
    spatial = config.product.kind == "spatial"
    product = config.correlation_order * len(space.parts) if spatial else product_paths(config)
    n_factors = config.n_product_channels
    products = kinds * product * n_factors * (n_factors if config.product.weights == "coupled" else 1)
    mixes = (messages + len(features.parts) * (2 + n_elements)) * n**2
    return n_elements * n + config.n_layers * (radial + products + mixes) + config.n_readout_channels * n * 10
