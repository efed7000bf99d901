"""The system's C++ compiler, and a cache of what it made."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

from carten.errors import ModelError

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O2", "-fPIC", "-shared", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-w")
"""Safe arithmetic: not-a-number and infinity stay what they are, and sums keep their order."""
TUNED = ("-march=native", "-ffp-contract=fast", "-fno-tree-ter")
"""The last keeps GCC from undoing the order of operations."""
ATTEMPTS = (TUNED, TUNED[:2], ("-mcpu=native", "-ffp-contract=fast"), ())
TIMEOUT = 600.0


def load(key: str, source: Callable[[], str]) -> ctypes.CDLL:
    """The shared library of a source, compiled unless the cache has it.

    Args:
        key: identifies the source; compiler, flags and processor are added to it.
        source: makes the C++ source when it is needed.

    Raises:
        ModelError: no compiler, or it failed.
    """
    path, version = compiler()
    name = hashlib.sha256("\n".join((key, path, version, *FLAGS, *TUNED, processor())).encode()).hexdigest()[:32]
    folder = cache_folder()
    for entry in [folder / there for there in sorted(os.listdir(folder)) if there.startswith(name)]:
        library = _open(entry)
        if library is not None:
            return library
        entry.unlink(missing_ok=True)
    return ctypes.CDLL(str(_compile(path, source(), folder, name)))


@cache
def compiler() -> tuple[str, str]:
    """Path and version of the C++ compiler.

    Raises:
        ModelError: there is none.
    """
    for name in COMPILERS:
        path = shutil.which(name)
        if path:
            done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                return path, done.stdout
    raise ModelError(
        f"no C++ compiler found (looked for {', '.join(COMPILERS)} on PATH); install one or use backend='reference'"
    )


@cache
def processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return "\n".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )


@cache
def cache_folder() -> Path:
    """Where compiled plans are kept: the user's cache, or a private temporary folder where that can't be written."""
    for folder in (_user_cache() / "carten", Path(tempfile.gettempdir()) / f"carten-{_user()}"):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError:
            continue
        if not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid():
            return folder
    return Path(tempfile.mkdtemp(prefix="carten-"))


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"


def _user_cache() -> Path:
    if sys.platform == "win32":
        return Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    named = os.environ.get("XDG_CACHE_HOME", "")  # noqa: TID251  the platform's convention, not a switch of ours
    return Path(named) if Path(named).is_absolute() else Path.home() / ".cache"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _open(entry: Path) -> ctypes.CDLL | None:
    """A cached library, or None where the file is not what was written."""
    try:
        if entry.stem.rpartition("-")[2] == _digest(entry.read_bytes()):
            return ctypes.CDLL(str(entry))
    except OSError:
        pass
    return None


def _compile(path: str, source: str, folder: Path, name: str) -> Path:
    """Compile into the cache; the name holds a digest of the content, and the file appears at once and complete."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        text, made = Path(place) / "plan.cpp", Path(place) / "plan.so"
        text.write_text(source, encoding="utf-8")
        done = None
        for flags in ATTEMPTS:
            command = [path, *FLAGS, *flags, str(text), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
            if done.returncode == 0:
                entry = folder / f"{name}-{_digest(made.read_bytes())}.so"
                os.replace(made, entry)
                return entry
    message = done.stderr.strip()[:2000] if done else ""
    raise ModelError(
        f"{path} could not compile a generated plan; use backend='reference', or repair the compiler:\n{message}"
    )
