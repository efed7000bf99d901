"""The system's C++ compiler: sources become loaded functions, or files; what was compiled is kept (see cache.py)."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from carten.errors import ModelError
from carten.ops.cache import keep, only_mine, read_kept

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O2", "-fPIC", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-w")
"""Safe arithmetic: not-a-number and infinity stay what they are, and sums keep their order."""
TUNED = ("-march=native", "-ffp-contract=fast", "-fno-tree-ter")
"""The last keeps GCC from undoing the order of operations."""
ATTEMPTS = (TUNED, TUNED[:2], ("-mcpu=native", "-ffp-contract=fast"), ())
"""Flags for the processor at hand, tried one after the other."""
USE_REFERENCE = "use backend='reference'"
REMEDY = f"repair the compiler, or {USE_REFERENCE}"
TIMEOUT = 600.0
"""Seconds for one source."""
TRIAL_TIMEOUT = 60.0
"""Seconds for a source of a few lines."""
TRIAL = """
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>
#include <utility>
extern "C" int answer() { return 42; }
"""


def load_library(key: str, source: Callable[[], str]) -> ctypes.CDLL:
    """The shared library of a source, compiled unless it was kept.

    Args:
        key: identifies the source; compiler, flags and processor are added to it.
        source: makes the C++ source when it is needed.

    Raises:
        ModelError: no compiler, it failed or took too long, or what it made can't be loaded.
    """
    return _load(key, source, TIMEOUT)


def _load(key: str, source: Callable[[], str], timeout: float) -> ctypes.CDLL:
    name = _entry_name(key, ATTEMPTS)
    for kept in read_kept(name, ".so"):
        with suppress(OSError):
            return load_bytes(kept)
    try:
        content = _compiled(source(), ("-shared",), ATTEMPTS, timeout)
        library = load_bytes(content)
    except OSError as error:
        compiler().failure = f"what {compiler().path} compiles can't be loaded ({error}): {REMEDY}"
        raise ModelError(compiler().failure) from error
    except ModelError as error:
        compiler().failure = str(error)
        raise
    keep(name, ".so", content)
    return library


def build(
    sources: Sequence[str],
    output: Path,
    attempts: Sequence[Sequence[str]] = ATTEMPTS,
    link_flags: Sequence[str] = (),
    files: Mapping[str, bytes] | None = None,
) -> Path:
    """Compile sources, each of which is kept as an object file, and link one shared library.

    Args:
        sources: C++ sources.
        output: the library; it appears complete or not at all.
        attempts: flags for the processor, tried one after the other.
        link_flags: further flags of the linker, which runs in a folder with ``files``.
        files: further files by name, such as objects and a version script.

    Raises:
        ModelError: no compiler, it failed or took too long, or the library can't be written.
    """
    library = linked(sources, attempts, link_flags, files)
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(8)}")
    try:
        try:
            temporary.write_bytes(library)
            os.replace(temporary, output)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ModelError(f"cannot write {output}: {error}") from error
    return output


def linked(
    sources: Sequence[str],
    attempts: Sequence[Sequence[str]] = ATTEMPTS,
    link_flags: Sequence[str] = (),
    files: Mapping[str, bytes] | None = None,
) -> bytes:
    """The content of a library, see :func:`build`.

    Raises:
        ModelError: no compiler, it failed or took too long.
    """
    objects = {f"{n}.o": _object(source, attempts) for n, source in enumerate(sources)}
    return _run_compiler([*objects, "-shared", *link_flags], {**(files or {}), **objects}, TIMEOUT)


def check() -> None:
    """Compile and load a few lines, once.

    Raises:
        ModelError: there is no compiler, or it does not work, now or when it was last used.
    """
    if failure := compiler().failure:
        raise ModelError(failure)
    _try_out()


@cache
def _try_out() -> None:
    if _load(TRIAL, lambda: TRIAL, TRIAL_TIMEOUT).answer() != 42:
        compiler().failure = f"{compiler().path} compiles wrongly: {REMEDY}"
        raise ModelError(compiler().failure)


@dataclass
class Compiler:
    """The C++ compiler: path, version, and why it can't be used or failed when it was last used."""

    path: str
    version: str
    failure: str = ""


@cache
def compiler() -> Compiler:
    """The first C++ compiler that tells its version."""
    for path in filter(None, map(shutil.which, COMPILERS)):
        with suppress(ModelError):
            return Compiler(path, _output([path, "--version"], TRIAL_TIMEOUT / 4))
    looked_for = ", ".join(COMPILERS)
    return Compiler("", "", f"no C++ compiler found (looked for {looked_for} on PATH); install one or {USE_REFERENCE}")


@cache
def processor() -> str:
    """What ``-march=native`` depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )


def _entry_name(key: str, attempts: Sequence[Sequence[str]]) -> str:
    """Name under which the compiled code is kept: a digest of all that it depends on."""
    flags = ("\t".join(FLAGS), *map("\t".join, attempts))
    parts = (key, compiler().path, compiler().version, *flags, platform.machine(), processor())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _object(source: str, attempts: Sequence[Sequence[str]]) -> bytes:
    """A source as an object file."""
    name = _entry_name(source, attempts)
    for kept in read_kept(name, ".o"):
        return kept
    content = _compiled(source, ("-c",), attempts, TIMEOUT)
    keep(name, ".o", content)
    return content


def _compiled(source: str, kind: Sequence[str], attempts: Sequence[Sequence[str]], timeout: float) -> bytes:
    """What the compiler makes of a source with the first flags that it accepts."""
    for n, flags in enumerate(attempts):
        try:
            return _run_compiler([*FLAGS, *kind, *flags, "source.cpp"], {"source.cpp": source.encode()}, timeout)
        except _FlagsRefused:
            if n == len(attempts) - 1:
                raise
    raise ValueError("no flags to try")


class _FlagsRefused(ModelError):
    """The compiler ended with an error, which may be due to its flags."""


def _run_compiler(arguments: Sequence[str], files: Mapping[str, bytes], timeout: float) -> bytes:
    """Output of the compiler for some files, in a temporary folder that is always removed."""
    if not compiler().path:
        raise ModelError(compiler().failure)
    try:
        with _private_folder() as folder:
            for name, content in files.items():
                (folder / name).write_bytes(content)
            _output([compiler().path, *arguments, "-o", "compiled"], timeout, folder)
            return (folder / "compiled").read_bytes()
    except OSError as error:
        raise ModelError(f"nothing can be compiled in {tempfile.gettempdir()}: {error}") from error


@contextmanager
def _private_folder() -> Iterator[Path]:
    """A fresh folder of this user; on Linux by its descriptor, so that nobody can put another in its place."""
    with tempfile.TemporaryDirectory(prefix="carten-") as path:
        if not Path("/proc/self/fd").is_dir():
            yield Path(path)
            return
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            if not only_mine(os.fstat(descriptor)):
                raise PermissionError(f"{path} was exchanged by somebody else")
            yield Path(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)


def _output(command: Sequence[str], timeout: float, folder: Path | None = None) -> str:
    """What a program prints; it and what it started are ended when it takes too long or this process is interrupted.

    Raises:
        ModelError: it can't be run, fails, or takes too long.
    """
    environment = {**os.environ, "TMPDIR": "."} if folder else None  # noqa: TID251  where the compiler puts its files
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8",
            errors="replace", cwd=folder, env=environment, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        raise ModelError(f"{command[0]} can't be run ({error}): {REMEDY}") from error
    with process:
        try:
            output, messages = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            _kill(process)
            raise ModelError(f"{command[0]} took more than {timeout:g} s: {REMEDY}") from error
        except BaseException:
            _kill(process)
            raise
    if process.returncode:
        kind = _FlagsRefused if process.returncode > 0 else ModelError
        status = f"exit status {process.returncode}"
        if process.returncode < 0:
            status = f"ended by {signal.Signals(-process.returncode).name}, maybe for want of memory"
        raise kind(
            f"{command[0]} could not compile generated code ({status}): {REMEDY}\n{messages.strip()[:2000]}".strip()
        )
    return output


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process and all that it started."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def load_bytes(library: bytes) -> ctypes.CDLL:
    """Load a shared library from memory, so that what was checked is what runs.

    Elsewhere than on Linux, and where the system forbids it, from a copy in a private folder.
    """
    if hasattr(os, "memfd_create"):
        with suppress(OSError):
            return _loaded_from_memory(library)
    with _private_folder() as folder:
        (folder / "library.so").write_bytes(library)
        return ctypes.CDLL(f"{folder}/{_detour()}library.so")


def _loaded_from_memory(library: bytes) -> ctypes.CDLL:
    with os.fdopen(os.memfd_create("carten"), "wb") as file:
        file.write(library)
        file.flush()
        return ctypes.CDLL(f"/proc/self/fd/{_detour()}{file.fileno()}")


def _detour() -> str:
    """Part of a path that means nothing and is never the same.

    The loader takes a path that it has seen before for the library that it loaded then, but a descriptor's number, and
    with it its path, is used again for other files.
    """
    return f"{secrets.randbits(64):b}".replace("0", "./").replace("1", ".//")
