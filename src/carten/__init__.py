"""carten: machine learning for atomistic simulation in Cartesian space."""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from carten.interfaces.ase import Calculator
    from carten.properties.io import load
    from carten.uncertainty.descriptors import descriptors

__all__ = ["Calculator", "__version__", "descriptors", "load"]

__version__ = version("carten")

_HOMES = {
    "Calculator": "carten.interfaces.ase",
    "descriptors": "carten.uncertainty.descriptors",
    "load": "carten.properties.io",
}
"""Imported when they are first used: `import carten` stays light."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'carten' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
