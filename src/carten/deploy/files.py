"""Files of models as compiled libraries. What was compiled for a file is kept, and then torch is not needed."""

from __future__ import annotations

import hashlib
from pathlib import Path

from carten.deploy.deployed import Deployed
from carten.deploy.sealed import read_library
from carten.errors import ConfigError, ModelFileError
from carten.ops import cache, compiler
from carten.ops.fingerprint import fingerprint
from carten.pretrained import absent, located

GENERATOR = Path(__file__).with_name("make.py")
LIBRARY = ".so"
LIBRARIES = (".so", ".dylib")


def open_library(path: str | Path, dtype: str | None = None) -> Deployed:
    """The model of a file as a compiled library.

    What was compiled once and compared with the model is used again whatever the compiler is now, and without one.

    Args:
        path: a ``.carten`` file, or a library made by `carten export`.
        dtype: ``"float32"`` or ``"float64"``; that of the file by default. A library has the one it was made with.

    Raises:
        ModelFileError: the file is no model, or damaged.
        ModelError: the model can't be compiled: it has terms that libraries can't have, or there is no compiler.
    """
    path = located(path)
    if is_library(path):
        library = Deployed(read_library(path), str(path))
        if dtype not in (None, library.header["dtype"]):
            raise ModelFileError(f"{path} computes in {library.header['dtype']}: export the model with --dtype {dtype}")
        return library
    if not path.is_file():
        raise ModelFileError(absent(path))
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(f"{path} can't be read: {error.strerror or error}") from error
    parts = (hashlib.sha256(content).hexdigest(), str(dtype), _generator(), compiler.processor())
    name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
    for kept in cache.read_kept(name, LIBRARY):
        return Deployed(kept)
    from carten.deploy.make import compile_model
    from carten.properties.io import header, load

    library = compile_model(load(path, backend="reference"), dtype, provenance=header(path))
    cache.keep(name, LIBRARY, library.content)
    return library


def export_library(path: str | Path, output: str | Path, dtype: str | None = None, march: str = "native") -> Deployed:
    """Compile the model of a ``.carten`` file into a library file.

    Raises:
        ModelFileError: the file is no model, or the library can't be written.
        ModelError: the model can't be compiled.
        ConfigError: an unknown dtype or processor, or an output that is not named as a library.
    """
    from carten.deploy.make import compile_model
    from carten.properties.container import write_bytes
    from carten.properties.io import header, load

    if not is_library(Path(output)):
        raise ConfigError(f"{output}: libraries are opened by their names: expected one that ends in .so")
    library = compile_model(load(path, backend="reference"), dtype, march=march, provenance=header(path))
    write_bytes(Path(output), library.content)
    return library


def _generator() -> str:
    """Digest of the code that makes libraries."""
    headers = sorted(GENERATOR.with_name("native").glob("*.h"))
    texts = b"".join(path.read_bytes() for path in headers)
    return fingerprint(str(GENERATOR)) + hashlib.sha256(texts).hexdigest()


def is_library(path: Path) -> bool:
    """Whether a file is opened as a library, which runs code in it: only by its name, whatever is in other files."""
    return path.suffix in LIBRARIES
