"""How large a network is, before it is built."""

from __future__ import annotations

import os
from collections.abc import Mapping
from itertools import pairwise

from carten.errors import ConfigError
from carten.model.config import NetworkConfig
from carten.ops.builders import couples, interaction_paths
from carten.ops.space import Part, Space

MOST_PATHS = 50_000
"""Of the product of one layer: beyond, code of it is neither generated nor compiled in hours."""
BYTES = 40
"""Of one parameter in training: in double precision with gradient, average and two moments."""


def product_paths(config: NetworkConfig) -> int:
    """Paths of the product of a layer, at most: ways of multiplying up to ν tensors to one that is kept."""
    factors = Space.up_to(config.l_max_edges, config.odd_products).parts
    targets = Space.up_to(max(config.l_max_features, config.l_max_edges), config.odd_products).parts
    copies: Mapping[Part, int] = dict.fromkeys(factors, 1)
    total = len(factors)
    for order in range(2, config.correlation_order + 1):
        ends = targets if order == config.correlation_order else factors
        pairs = [(end, n) for end in ends for part, n in copies.items() for x in factors if couples(part, x, end)]
        copies = {end: sum(n for target, n in pairs if target == end) for end in ends}
        total += sum(copies.values())
    return total


def parameters(config: NetworkConfig, n_elements: int) -> int:
    """Number of parameters, about; more rather than less."""
    n, space = config.n_channels, Space.up_to(config.l_max_edges, config.odd_products)
    features = Space.up_to(config.l_max_features, config.odd_products)
    messages = len(interaction_paths(features, config.l_max_edges, space))
    radial = sum(a * b for a, b in pairwise([config.radial.n_basis, *config.radial.hidden, messages * n]))
    kinds = n_elements if config.product.elements else 1
    spatial = config.product.kind == "spatial"
    product = config.correlation_order * len(space.parts) if spatial else product_paths(config)
    products = kinds * product * n * (n if config.product.weights == "coupled" else 1)
    mixes = (messages + len(features.parts) * (2 + n_elements)) * n**2
    return n_elements * n + config.n_layers * (radial + products + mixes) + config.n_readout_channels * n * 10


def require_feasible(config: NetworkConfig, n_elements: int) -> None:
    """Check that a network can be built and trained on this machine.

    Raises:
        ConfigError: its products have too many paths, or its parameters do not fit into memory.
    """
    if config.product.kind == "recursive" and (paths := product_paths(config)) > MOST_PATHS:
        raise ConfigError(
            f"model: products of correlation order {config.correlation_order} with l_max_edges {config.l_max_edges} "
            f"have {paths:,} paths, at most {MOST_PATHS:,} can be compiled: lower correlation_order or l_max_edges, or "
            "set product.kind: spatial"
        )
    needed, available = BYTES * parameters(config, n_elements), _memory()
    if available is not None and needed > available:
        raise ConfigError(
            f"model: some {parameters(config, n_elements):.3g} parameters need {needed / 1e9:.3g} GB in training, this "
            f"machine has {available / 1e9:.3g} GB: lower n_channels, n_layers, radial.hidden or correlation_order"
        )


def _memory() -> int | None:
    """Bytes of memory; ``None`` where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
