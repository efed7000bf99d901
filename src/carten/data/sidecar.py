"""Arrays kept beside a data file, in ``FILE.index``: they hold as long as the content of the file is the same."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from carten.math.arrays import Array

_VERSION = 1


def sidecar(path: Path) -> Path:
    """The folder for a data file."""
    return path.with_name(f"{path.name}.index")


def read_sidecar(path: Path, name: str, stamp: str) -> tuple[dict[str, Array], Any] | None:
    """Arrays and what goes with them as JSON; ``None`` where there are none of this content, or they are damaged."""
    from safetensors import SafetensorError, safe_open

    file = sidecar(path) / f"{name}.safetensors"
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="numpy") as content:
            header = json.loads(content.metadata()["carten"])
            if header["stamp"] != stamp or header["version"] != _VERSION:
                return None
            return {key: content.get_tensor(key) for key in content.keys()}, header["words"]  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None


def is_outdated(path: Path, name: str) -> bool:
    """Whether there is such a file at all: one that :func:`read_sidecar` does not take is older than the data."""
    return (sidecar(path) / f"{name}.safetensors").exists()


def write_sidecar(path: Path, name: str, stamp: str, arrays: Mapping[str, Array], words: Any = None) -> str:
    """Keep arrays, whole or not at all; returns why not, if they could not be written."""
    from safetensors.numpy import save

    header = json.dumps({"stamp": stamp, "version": _VERSION, "words": words})
    content = save({key: np.ascontiguousarray(value) for key, value in arrays.items()}, {"carten": header})
    folder = sidecar(path)
    temporary = folder / f".{name}.{secrets.token_hex(8)}"
    try:
        folder.mkdir(exist_ok=True)
        try:
            temporary.write_bytes(content)
            os.replace(temporary, folder / f"{name}.safetensors")
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        return f"{folder}: {error.strerror}"
    return ""
