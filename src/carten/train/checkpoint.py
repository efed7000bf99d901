"""Checkpoints to resume from: safetensors with a JSON header and a checksum, written whole or not at all, no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import CheckpointIO
from torch import Tensor

from carten.errors import ModelFileError
from carten.properties.container import read, write

CHECKPOINT_KEY = "carten_checkpoint"
CHECKPOINT_KIND = "a checkpoint of a training run"
CHECKPOINT_FORMAT = 2
MAX_DEPTH = 50
"""Lists and dictionaries within each other."""


class SafetensorsCheckpoint(CheckpointIO):
    """Stores Lightning's nested state: tensors in the body, everything else as JSON in the header."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Write; an interrupted write leaves the previous checkpoint intact."""
        tensors: dict[str, Tensor] = {}
        state = _encode(checkpoint, tensors)
        write(path, CHECKPOINT_KEY, tensors, {"format": CHECKPOINT_FORMAT, "state": state}, overwrite=True)

    def load_checkpoint(
        self, path: str | Path, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint onto the CPU; whatever loads it moves the tensors.

        Raises:
            ModelFileError: it is missing, damaged, no checkpoint, or of another format.
        """
        content = read(path, CHECKPOINT_KEY, CHECKPOINT_KIND)
        version = content.header.get("format")
        if isinstance(version, int) and version != CHECKPOINT_FORMAT:
            advice = (
                "please upgrade carten" if version > CHECKPOINT_FORMAT else "end the run with the carten that began it"
            )
            raise ModelFileError(
                f"{path} has format {version}, this carten reads {CHECKPOINT_FORMAT}: {advice}, or train anew"
            )
        if not content.is_verified:
            raise ModelFileError(
                f"{path} was changed after it was written, the checksum does not fit: restore it from a copy, or train "
                "anew"
            )
        try:
            state: dict[str, Any] = _decode(content.header.get("state"), content.tensors)
        except ValueError as error:
            raise ModelFileError(f"{path} is damaged ({error}): restore it from a copy, or train anew") from error
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


def _decode(value: Any, tensors: dict[str, Tensor], depth: int = 0) -> Any:
    """Inverse of :func:`_encode`.

    Raises:
        ValueError: the value is not what it returns.
    """
    if depth > MAX_DEPTH:
        raise ValueError("nested too deeply")
    match value:
        case list():
            return [_decode(item, tensors, depth + 1) for item in value]
        case {"tensor": str(name)} if len(value) == 1 and name in tensors:
            return tensors[name].clone()  # aligned as new tensors are: matrix products round by alignment
        case {"tuple": list(items)} if len(value) == 1:
            return tuple(_decode(item, tensors, depth + 1) for item in items)
        case {"dict": list(pairs)} if len(value) == 1:
            return dict(_pair(pair, tensors, depth) for pair in pairs)
        case dict():
            raise ValueError(f"expected a tensor, a tuple or a dictionary, found {value!r:.50}")
    return value


def _pair(pair: Any, tensors: dict[str, Tensor], depth: int) -> tuple[Any, Any]:
    """Key and value of a dictionary."""
    match pair:
        case [str() | int() | float() | None as key, value]:
            return key, _decode(value, tensors, depth + 1)
    raise ValueError(f"expected a key and a value, found {pair!r:.50}")
