"""Checkpoints to resume from: safetensors with a JSON header, written whole or not at all, never a pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from carten.errors import ModelFileError
from carten.properties.io import read, write

CHECKPOINT_KEY = "carten_checkpoint"
CHECKPOINT_FORMAT = 1


class SafetensorsCheckpoint(CheckpointIO):
    """Stores Lightning's nested state: tensors in the body, everything else as JSON in the header."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write; an interrupted write leaves the previous checkpoint intact."""
        tensors: dict[str, Tensor] = {}
        state = _encode(checkpoint, tensors)
        header = json.dumps({"format": CHECKPOINT_FORMAT, "state": state})
        write(path, tensors, {CHECKPOINT_KEY: header}, overwrite=True)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU; whatever loads it moves the tensors.

        Raises:
            ModelFileError: it is missing, damaged, no checkpoint, or of a newer format.
        """
        tensors, header = read(path)
        if CHECKPOINT_KEY not in header:
            raise ModelFileError(f"{path} is not a checkpoint of a training run; expected a header {CHECKPOINT_KEY!r}")
        content = json.loads(header[CHECKPOINT_KEY])
        if content["format"] > CHECKPOINT_FORMAT:
            raise ModelFileError(
                f"{path} has format {content['format']}, this carten reads up to {CHECKPOINT_FORMAT}: "
                "please upgrade carten"
            )
        state: dict[str, Any] = _decode(content["state"], tensors)
        return state

    def remove_checkpoint(self, path: str | Path) -> None:
        """Delete a checkpoint."""
        Path(path).unlink(missing_ok=True)


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """JSON for a nested state; tensors are put aside under a number."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        tensors[name := str(len(tensors))] = value.detach().to("cpu", copy=True)
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_encode(key, tensors), _encode(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_encode(item, tensors) for item in value]
    raise TypeError(f"a checkpoint holds tensors, numbers, strings, lists, dictionaries; found {type(value).__name__}")


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:
    """Inverse of :func:`_encode`."""
    if isinstance(value, list):
        return [_decode(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    kind, content = next(iter(value.items()))
    if kind == "tensor":
        return tensors[content].clone()  # aligned as new tensors are: matrix products round by alignment
    if kind == "tuple":
        return tuple(_decode(item, tensors) for item in content)
    return {_decode(key, tensors): _decode(item, tensors) for key, item in content}
