"""carten: machine learning for atomistic simulation in Cartesian space."""

from importlib.metadata import version

__version__ = version("carten")
