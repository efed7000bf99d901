"""What generated code depends on: the files of its generator."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
_IMPORT = re.compile(r"^\s*(?:from\s+([\w.]+)\s+import\s+(\([^)]*\)|.*)|import\s+([\w.]+))", re.MULTILINE)
"""Import statements; the parser of Python would take a third of the time in which a model is loaded."""


@cache
def fingerprint(generator: str) -> str:
    """Digest of all files that a generator of code depends on, part of the name under which the code is kept."""
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in source_files(generator))).hexdigest()


def source_files(generator: str) -> list[Path]:
    """The C++ headers, the module ``generator`` (a path), what it imports from carten, what that imports, and so on."""
    files = sorted((PACKAGE / "ops").glob("*.h"))
    waiting = [Path(generator)]
    while waiting:
        path = waiting.pop()
        if path not in files:
            files.append(path)
            waiting += _imported(path)
    return files


def _imported(path: Path) -> list[Path]:
    """Modules of carten that a module imports."""
    names: set[str] = set()
    for origin, imported, module in _IMPORT.findall(path.read_text(encoding="utf-8")):
        names |= {origin, module, *(f"{origin}.{name}" for name in re.findall(r"\w+", imported))}
    parts = [name.split(".")[1:] for name in sorted(names) if name.startswith(f"{PACKAGE.name}.")]
    paths = [PACKAGE.joinpath(*part).with_suffix(".py") for part in parts]
    return [path for path in paths if path.is_file()]
