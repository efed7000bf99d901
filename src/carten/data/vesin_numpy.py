"""The neighbour search of vesin, without torch, which vesin imports: that takes longer than to load a model."""

from __future__ import annotations

import sys
from typing import Any


def _search_without_torch() -> Any:
    """The class; vesin that others import later is as it always is."""
    if "torch" in sys.modules:
        from vesin import NeighborList

        return NeighborList
    sys.modules["torch"] = None  # type: ignore[assignment]  # to Python: not installed
    try:
        from vesin import NeighborList
    finally:
        del sys.modules["torch"]
        for name in [name for name in sys.modules if name.partition(".")[0] == "vesin"]:
            del sys.modules[name]
    return NeighborList


NeighborList = _search_without_torch()
"""For arrays of NumPy."""
