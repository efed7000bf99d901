"""Silences what Lightning says about choices that carten makes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

EXPECTED = (
    ".*does not have many workers.*",  # structures are prepared once and kept
    ".*dataloader is not resumable.*",  # it is: its state travels with the data module
    ".*smaller than the logging interval.*",  # nothing is logged in steps
    ".*overridden `transfer_batch_to_device`.*",  # in the module, on purpose
    ".*LeafSpec.*deprecated.*",  # Lightning's own use of torch
    ".*`srun` command is available.*",  # one process is what was asked for
    ".*`broadcast_buffers` is deprecated.*",  # its successor is not in older releases of torch
)


@contextmanager
def quiet() -> Iterator[None]:
    """Context in which expected warnings and notes such as "GPU available" are not shown."""
    loggers = [logging.getLogger(f"lightning.{part}") for part in ("pytorch", "fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in EXPECTED:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
