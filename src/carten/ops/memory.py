"""How the process allocates: large buffers of one step are reused by the next."""

from __future__ import annotations

import ctypes
import ctypes.util

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGE = 1 << 30


def reuse_freed_memory() -> bool:
    """Let glibc keep freed memory instead of returning every large buffer to the system, for this process.

    A training step frees and takes the same megabytes again and again; without this, a quarter of its time goes into
    page faults. For programs, not libraries, to call. Returns whether the C library has the setting.
    """
    name = ctypes.util.find_library("c")
    library = ctypes.CDLL(name) if name else None
    if library is None or not hasattr(library, "mallopt"):
        return False
    return bool(library.mallopt(M_MMAP_THRESHOLD, LARGE) and library.mallopt(M_TRIM_THRESHOLD, LARGE))
