"""Files of models as compiled libraries. What was compiled for a file is kept, and then torch is not needed."""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from carten.deploy.deployed import Deployed
from carten.deploy.sealed import read_library
from carten.errors import ModelFileError
from carten.ops import cache, compiler
from carten.ops.fingerprint import fingerprint

GENERATOR = Path(__file__).with_name("make.py")
LIBRARY = ".so"
ELF = b"\x7fELF"


def open_file(path: str | Path, dtype: str | None = None) -> Deployed:
    """The model of a file as a compiled library.

    Args:
        path: a ``.carten`` file, or a library made by `carten export`.
        dtype: ``"float32"`` or ``"float64"``; that of the file by default. A library has the one it was made with.

    Raises:
        ModelFileError: the file is no model, or damaged.
        ModelError: the model can't be compiled: it has terms that libraries can't have, or there is no compiler.
    """
    path = Path(path)
    if is_library(path):
        found = Deployed(read_library(path), str(path))
        if dtype not in (None, found.header["dtype"]):
            raise ModelFileError(f"{path} computes in {found.header['dtype']}: export the model with --dtype {dtype}")
        return found
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} can't be read: {error.strerror or error}") from error
    parts = (hashlib.sha256(content).hexdigest(), str(dtype), _generator(), compiler.processor())
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    for kept in cache.read(name, LIBRARY):
        return Deployed(kept)
    from carten.deploy.make import deploy
    from carten.properties.io import header, load

    made = deploy(load(path, backend="reference", exact=True), dtype, provenance=header(path))
    cache.keep(name, LIBRARY, made.content)
    return made


def export(path: str | Path, output: str | Path, dtype: str | None = None, march: str = "native") -> Deployed:
    """Compile the model of a ``.carten`` file into a library file.

    Raises:
        ModelFileError: the file is no model, or the library can't be written.
        ModelError: the model can't be compiled.
        ConfigError: an unknown dtype or processor.
    """
    from carten.deploy.make import deploy
    from carten.properties.io import header, load

    made = deploy(load(path, backend="reference", exact=True), dtype, march=march, provenance=header(path))
    write(Path(output), made.content)
    return made


def _generator() -> str:
    """Digest of the code that makes libraries."""
    headers = sorted(GENERATOR.with_name("native").glob("*.h"))
    texts = b"".join(path.read_bytes() for path in headers)
    return fingerprint(str(GENERATOR)) + hashlib.sha256(texts).hexdigest()


def is_library(path: Path) -> bool:
    """Whether a file is a library, by its first bytes."""
    try:
        with path.open("rb") as file:
            return file.read(len(ELF)) == ELF or path.suffix in (".so", ".dylib")
    except OSError:
        return False


def write(path: Path, content: bytes) -> None:
    """Write a file, which appears complete or not at all.

    Raises:
        ModelFileError: it can't be written.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        try:
            with temporary.open("xb") as file:
                file.write(content)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ModelFileError(f"cannot write {path}: {error.strerror or error}") from error
