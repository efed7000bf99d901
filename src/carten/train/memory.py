"""Whether a network fits into memory in training, before it is built."""

from __future__ import annotations

import os
from pathlib import Path

import torch

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
    count, memory = parameters(config, n_elements), memory_limit(torch.device("cpu"))
    if memory is not None and BYTES_PER_PARAMETER * count > memory:
        raise ConfigError(
            f"model: some {count:.3g} parameters need {BYTES_PER_PARAMETER * count / 1e9:.3g} GB in training, this "
            f"machine has {memory / 1e9:.3g} GB: lower n_channels, n_layers, radial.hidden or correlation_order"
        )


def memory_limit(device: torch.device, processes: int = 1) -> int | None:
    """Bytes of memory that each of the processes on a machine may use; ``None`` where the system does not tell.

    On a CPU it is that of the machine, or what a batch system or a container leaves of it.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
    try:
        bound = Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii").strip()
    except OSError:
        bound = "max"
    return min(memory, int(bound) if bound.isdecimal() else memory) // processes
