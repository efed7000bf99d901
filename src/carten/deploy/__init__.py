"""Models as compiled libraries: a snapshot of the weights, one shared library, a C interface.

``deploy(model)`` makes one; ``open_file(path)`` takes it from the cache where it is there, without torch.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from carten.deploy.deployed import Deployed, Evaluator, PairList

if TYPE_CHECKING:
    from carten.properties.potential import Potential

__all__ = ["Deployed", "Evaluator", "PairList", "deploy", "export", "open_file"]


def deploy(model: Potential, dtype: str | None = None, exact: bool = False, march: str = "native") -> Deployed:
    """A snapshot of a model as a compiled library, see :func:`carten.deploy.make.compile_model`."""
    from carten.deploy.make import compile_model

    return compile_model(model, dtype, exact, march)


def open_file(path: str | Path, dtype: str | None = None) -> Deployed:
    """The model of a file (``.carten``, or a library) as a compiled library, see :mod:`carten.deploy.files`."""
    from carten.deploy.files import open_library

    return open_library(path, dtype)


def export(path: str | Path, output: str | Path, dtype: str | None = None, march: str = "native") -> Deployed:
    """Compile the model of a ``.carten`` file into a library file, see :mod:`carten.deploy.files`."""
    from carten.deploy.files import export_library

    return export_library(path, output, dtype, march)
