"""Files of tensors and facts: safetensors with one JSON header and a checksum, written atomically, never a pickle."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialise
from torch import Tensor

from carten.errors import ModelFileError
from carten.pretrained import absent, located

CHECKSUM = "sha256"
"""Key of the checksum in a header."""

TYPES = frozenset({"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"})
"""Types of numbers that a file may hold."""


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Args:
        tensors: by name, on the CPU.
        header: facts, without the checksum.
        is_verified: whether the checksum is right; None where the file has none.
    """

    tensors: dict[str, Tensor]
    header: dict[str, Any]
    is_verified: bool | None


def write(
    path: str | Path, key: str, tensors: Mapping[str, Tensor], header: Mapping[str, Any], overwrite: bool = False
) -> None:
    """Write tensors and a header, with a checksum: to a temporary file, flushed to disk, then renamed.

    Args:
        path: where; the folder must exist.
        key: says what kind of file it is.
        tensors: by name.
        header: JSON-compatible facts.
        overwrite: whether an existing file may be replaced.

    Raises:
        ModelFileError: when the file exists, or cannot be written; an existing file then stays intact.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise ModelFileError(f"{path} exists already: choose another name or remove it")
    tensors = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    header = json.loads(json.dumps(header))
    text = json.dumps({**header, CHECKSUM: checksum(tensors, header)})
    write_bytes(path, serialise(tensors, {key: text}))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically: to a temporary file, flushed to disk, then renamed.

    Raises:
        ModelFileError: when it cannot be written; an existing file then stays intact.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise ModelFileError(f"cannot write {path}: {reason}; what was there before is unchanged") from error
    with suppress(OSError):  # so that the name, too, survives a power cut
        _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: str | Path, key: str, kind: str) -> Content:
    """Read what :func:`write` wrote.

    Args:
        path: of the file.
        key: says what kind of file it is.
        kind: for people.

    Raises:
        ModelFileError: when the file is missing, damaged, or of another kind.
    """
    tensors, metadata = parts(path)
    if key not in metadata:
        raise ModelFileError(f"{path} is a safetensors file but not {kind}: expected a header {key!r}")
    try:
        header = json.loads(metadata[key])
    except (ValueError, RecursionError) as error:
        raise ModelFileError(f"{path} has a damaged header ({error}): restore it from a copy") from error
    if not isinstance(header, dict):
        raise ModelFileError(f"{path} has a damaged header (expected names and values): restore it from a copy")
    expected = header.pop(CHECKSUM, None)
    return Content(tensors, header, None if expected is None else checksum(tensors, header) == expected)


def parts(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and texts of any safetensors file.

    Raises:
        ModelFileError: when the file is missing, damaged, or of another kind.
    """
    path = located(path)
    if not path.is_file():
        raise ModelFileError(absent(path))
    if path.suffix in (".so", ".dylib"):
        raise ModelFileError(f"{path} is named like a library of carten export: give the .carten file it was made from")
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            if foreign := {file.get_slice(name).get_dtype() for name in names} - TYPES:
                raise ValueError(f"numbers of type {min(foreign)}")
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except (SafetensorError, OSError, ValueError) as error:
        raise ModelFileError(
            f"{path} is damaged, cut off, or not a carten file ({error}): restore it from a copy"
        ) from error


def checksum(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """SHA-256 of a header and of names, types, shapes and values of tensors."""
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
