"""A look at the header of a model file, without torch: what kind of model it holds."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from carten.pretrained import located

KEY = "carten"
"""Key of the header in a file."""
COMMITTEE = "committee"
"""Key of the headers of all members, in files that hold several models."""
LONGEST = 100_000_000
"""Bytes of a header at most; those of models have some ten thousand."""


def peeked(path: str | Path) -> dict[str, Any]:
    """The header, not verified; empty where the file is no model: whoever reads it in full says why."""
    try:
        with located(path).open("rb") as file:
            (size,) = struct.unpack("<Q", file.read(8))
            text = json.loads(file.read(min(size, LONGEST)))
        facts = json.loads(text["__metadata__"][KEY])
    except (OSError, ValueError, KeyError, TypeError, struct.error, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def has_uncertainty(path: str | Path) -> bool:
    """Whether a file says that its model knows its errors; False for files of other kinds."""
    facts = peeked(path)
    network = facts.get("network")
    n_members = network.get("n_members", 1) if isinstance(network, dict) else 1
    return bool(COMMITTEE in facts or facts.get("uncertainty") or n_members != 1)
