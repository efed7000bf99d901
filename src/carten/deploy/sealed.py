"""Library files: whole, made by carten, for this processor, and what they say about themselves; nothing is run."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import struct
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from carten.errors import ModelFileError

INTERFACE = 2
"""Version of ``carten_model.h``."""
MARK = b"carten library "
"""Before the version of the interface, at the beginning of the constants."""
SEAL = b"sealed by carten"
"""The last bytes of a library file, after a digest of all that stands before."""
_V2 = ("sse4_2",)
_V3 = (*_V2, "avx2", "bmi2", "fma", "f16c")
LEVELS = {
    "x86-64-v2": _V2,
    "x86-64-v3": _V3,
    "x86-64-v4": (*_V3, *(f"avx512{part}" for part in ("f", "bw", "cd", "dq", "vl"))),
}
"""What processors need for code of a level."""
INSTRUCTIONS = re.compile(
    r"(sse|avx|amx|bmi|fma|xop|tbm|gfni|vaes|vpclmul|f16c|movbe|abm|adx|popcnt|sha_ni|pclmul|aes)"
)
"""Beginnings of the names of instructions that compilers use unasked where a processor has them."""


def mark(version: int = INTERFACE) -> bytes:
    """First 16 bytes of the constants of a library."""
    return MARK + str(version).encode()


def sealed(library: bytes) -> bytes:
    """A library with its seal."""
    return library + hashlib.sha256(library).digest() + SEAL


def read_library(path: str | Path) -> bytes:
    """The content of a library file.

    Raises:
        ModelFileError: it can't be read, is cut off or changed, is no library of carten or of another version, or is
            for another processor.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} can't be read: {error.strerror or error}") from error
    require_whole(content, str(path))
    return content


def require_whole(content: bytes, where: str) -> None:
    """Check a library before any of it runs.

    Raises:
        ModelFileError: as :func:`read_library`.
    """
    if not content.startswith(b"\x7fELF") and MARK not in content:
        raise ModelFileError(f"{where} is no library: expected a file made by `carten export`")
    position = content.find(MARK)
    if position < 0:
        raise ModelFileError(f"{where} was not made by carten: expected a file made by `carten export`")
    body, digest, seal = content[: -32 - len(SEAL)], content[-32 - len(SEAL) : -len(SEAL)], content[-len(SEAL) :]
    if seal != SEAL or hashlib.sha256(body).digest() != digest:
        raise ModelFileError(f"{where} is cut off or was changed: export the model again, or copy the file again")
    version = content[position : position + 16].removeprefix(MARK).decode("ascii", "replace")
    if version != str(INTERFACE):
        raise ModelFileError(
            f"{where} has version {version} of the C interface, this carten has version {INTERFACE}: export it anew"
        )
    require_processor(header_of(content), where)


def header_of(content: bytes) -> dict[str, Any]:
    """The header of a library."""
    start = content.index(MARK)
    (offset,) = struct.unpack_from("<q", content, start + 16)
    end = content.index(b"\0", start + offset)
    header: dict[str, Any] = json.loads(content[start + offset : end])
    return header


def require_processor(header: Mapping[str, Any], where: str) -> None:
    """Check that the code of a library can run here.

    Raises:
        ModelFileError: it can't.
    """
    machine = header.get("machine", platform.machine())
    if machine != platform.machine():
        raise ModelFileError(f"{where} is for {machine} processors, this one is {platform.machine()}: export it here")
    if missing := [name for name in header.get("features", ()) if name not in features()]:
        raise ModelFileError(
            f"{where} needs a processor with {', '.join(missing)}, which this one has not: export it here, or with "
            "--march x86-64-v3 for most processors"
        )


def needed_features(march: str) -> Sequence[str]:
    """Features of the processor that code for this architecture uses."""
    return features() if march == "native" else LEVELS[march]


@cache
def features() -> tuple[str, ...]:
    """Instructions that this processor has beyond those of all, as Linux names them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    flags = {flag for line in lines if line.startswith("flags") for flag in line.split()}
    return tuple(sorted(filter(INSTRUCTIONS.match, flags)))
