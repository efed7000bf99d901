"""What generated code depends on: the files of its generator."""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


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
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    parts = [name.split(".")[1:] for name in sorted(names) if name.startswith(f"{PACKAGE.name}.")]
    paths = [PACKAGE.joinpath(*part).with_suffix(".py") for part in parts]
    return [path for path in paths if path.is_file()]
