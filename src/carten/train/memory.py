"""Whether a network fits into memory in training, before it is built."""

from __future__ import annotations

import os

from carten.errors import ConfigError
from carten.model.config import NetworkConfig
from carten.properties.size import parameters

BYTES_PER_PARAMETER = 40
"""In double precision with gradient, average and two moments."""


def require_memory(config: NetworkConfig, n_elements: int) -> None:
    """Check that the parameters of a network can be trained on this machine.

    Raises:
        ConfigError: they do not fit into memory.
    """
    count, memory = parameters(config, n_elements), _memory()
    if memory is not None and BYTES_PER_PARAMETER * count > memory:
        raise ConfigError(
            f"model: some {count:.3g} parameters need {BYTES_PER_PARAMETER * count / 1e9:.3g} GB in training, this "
            f"machine has {memory / 1e9:.3g} GB: lower n_channels, n_layers, radial.hidden or correlation_order"
        )


def _memory() -> int | None:
    """Bytes of memory; ``None`` where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
