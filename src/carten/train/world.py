"""How many processes train together: what started them and the configuration have to agree."""

from __future__ import annotations

import os
from collections.abc import Mapping

from carten.errors import ConfigError

COUNTS = {"WORLD_SIZE": "torchrun --nproc-per-node", "SLURM_NTASKS": "srun --ntasks"}
"""Variables in which launchers tell the number of processes, and how to choose it."""
INTERACTIVE = ("bash", "interactive")
"""Names of interactive SLURM jobs: a command that is typed there starts one process."""


def require_world(devices: int, environment: Mapping[str, str] | None = None) -> None:
    """Check that as many processes were started as train together.

    Args:
        devices: of the configuration.
        environment: of the process.

    Raises:
        ConfigError: each of several processes would train the same model into the same folder.
    """
    environment = os.environ if environment is None else environment  # noqa: TID251  the launcher's, not a switch of ours
    for name, option in COUNTS.items():
        text = environment.get(name, "")
        if not text or (name == "SLURM_NTASKS" and environment.get("SLURM_JOB_NAME") in INTERACTIVE):
            continue
        if text != str(devices):
            raise ConfigError(
                f"training.devices is {devices}, but {name}={text}: every one of these processes would train; "
                f"set training.devices: {text}, or start {devices} ({option} {devices})"
            )
        return
