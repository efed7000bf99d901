"""Memory of the process."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
LARGEST = 2**31 - 1
"""What glibc's ``mallopt`` takes at most."""


def keep_freed_memory() -> bool:
    """Have the C library keep freed memory for the next step instead of handing it back to the system.

    A training step allocates and frees the same hundreds of megabytes each time; fetching them anew costs a page fault
    per 4 kB, about a seventh of the step. Acts on the whole process; call it at the start of a long job.

    Returns:
        Whether the C library takes the setting (glibc on Linux).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, LARGEST)) and bool(mallopt(M_MMAP_THRESHOLD, 2**30))


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error of torch is about memory: on a CPU it has no class of its own."""
    return type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
