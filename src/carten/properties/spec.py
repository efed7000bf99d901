"""The two tables: what a model predicts and what it is told. Everything else is derived from these rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scope = Literal["structure", "atom"]


@dataclass(frozen=True)
class Readout:
    """Read from the features of atoms; a structure's value is the sum (extensive) or mean (intensive) over them."""

    reduce: Literal["sum", "mean"] = "sum"


@dataclass(frozen=True)
class Sum:
    """The sum over atoms of another property, plus additive terms."""

    of: str


@dataclass(frozen=True)
class Derivative:
    """``sign * d(of)/d(wrt)``, divided by the volume of the cell if asked; ``wrt`` is positions, strain or an input.

    The indices of the property are those of ``of`` followed by those of ``wrt``.
    """

    of: str
    wrt: str
    sign: int = 1
    per_volume: bool = False


@dataclass(frozen=True)
class AtomicVirial:
    """``-1/2 sum_edges (d(of)/d r_e) r_e`` over the edges an atom takes part in: adds up to the virial."""

    of: str


Route = Readout | Sum | Derivative | AtomicVirial


@dataclass(frozen=True)
class Property:
    """One thing a model predicts.

    Args:
        name: key in results, files and configuration.
        scope: one value per structure or per atom.
        indices: Cartesian indices and their symmetry, ``""`` (scalar), ``"i"``, ``"ij"``, ``"ij=ji"``, ...
        parity: eigenvalue under inversion of the whole tensor (a polar vector -1, an axial vector +1).
        unit: unit of values in memory, results and files.
        routes: ways to obtain it, the default first.
        report: unit in which errors are reported.
    """

    name: str
    scope: Scope
    indices: str
    parity: int
    unit: str
    routes: tuple[Route, ...] = (Readout(),)
    report: str = ""

    @property
    def rank(self) -> int:
        """Number of Cartesian indices."""
        return len(self.indices.split("=")[0].strip())

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value, ``(3,) * rank``."""
        return (3,) * self.rank

    @property
    def extensive(self) -> bool:
        """Whether a structure's value grows with its number of atoms (errors are then also given per atom)."""
        route = self.routes[0]
        by_sum = isinstance(route, Sum) or (isinstance(route, Readout) and route.reduce == "sum")
        return self.scope == "structure" and (by_sum or (isinstance(route, Derivative) and not route.per_volume))

    @property
    def report_unit(self) -> str:
        """Unit in which errors are reported."""
        return self.report or self.unit


@dataclass(frozen=True)
class Scalar:
    """Embed a number through radial functions of its value."""


@dataclass(frozen=True)
class Category:
    """Embed one of a finite set of integers or names."""


@dataclass(frozen=True)
class Tensor:
    """Embed a Cartesian tensor as equivariant features; a zero tensor leaves the features unchanged."""


Embedding = Scalar | Category | Tensor


@dataclass(frozen=True)
class Input:
    """One condition a model is told.

    Args:
        name: key in files and configuration.
        scope: one value per structure or per atom.
        indices: Cartesian indices and symmetry.
        parity: eigenvalue under inversion.
        unit: unit of values.
        embed: how it enters the features.
        default: value when a structure does not carry it; ``None`` makes that an error.
    """

    name: str
    scope: Scope
    indices: str
    parity: int
    unit: str
    embed: Embedding
    default: float | None = None

    @property
    def rank(self) -> int:
        """Number of Cartesian indices."""
        return len(self.indices.split("=")[0].strip())

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one value, ``(3,) * rank``."""
        return (3,) * self.rank


PROPERTIES: tuple[Property, ...] = (
    Property("energies", "atom", "", +1, "eV", report="meV"),
    Property("energy", "structure", "", +1, "eV", (Sum("energies"),), report="meV"),
    Property(
        "forces",
        "atom",
        "i",
        -1,
        "eV/Angstrom",
        (Derivative("energy", "positions", sign=-1), Readout()),
        report="meV/Angstrom",
    ),
    Property(
        "stress",
        "structure",
        "ij=ji",
        +1,
        "eV/Angstrom^3",
        (Derivative("energy", "strain", per_volume=True), Readout("mean")),
        report="meV/Angstrom^3",
    ),
    Property(
        "virial", "structure", "ij=ji", +1, "eV", (Derivative("energy", "strain", sign=-1), Readout()), report="meV"
    ),
    Property("virials", "atom", "ij", +1, "eV", (AtomicVirial("energy"),), report="meV"),
    Property("dipole", "structure", "i", -1, "e*Angstrom", (Readout(),), report="e*Angstrom"),
    Property("polarizability", "structure", "ij=ji", +1, "Angstrom^3", (Readout(),)),
    Property("charges", "atom", "", +1, "e", (Readout(),)),
)

INPUTS: tuple[Input, ...] = ()


def property_table() -> dict[str, Property]:
    """The built-in properties by name."""
    return {row.name: row for row in PROPERTIES}


def input_table() -> dict[str, Input]:
    """The built-in inputs by name."""
    return {row.name: row for row in INPUTS}
