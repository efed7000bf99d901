"""The tables of properties and inputs in words: for ``carten properties`` and the documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from carten.model.conditions import Input
from carten.physics.names import CHARGE, ELECTRONEGATIVITIES, HARDNESSES, POLARIZABILITIES
from carten.properties.routes import (
    AtomicVirial,
    Balanced,
    Derivative,
    Equilibrated,
    Induced,
    Latent,
    Multipole,
    Permittivity,
    Positive,
    Property,
    Readout,
    Route,
    Sum,
)
from carten.properties.spec import INPUTS, PROPERTIES

_ROW = ("name", "per", "indices", "under inversion", "unit")
PROPERTY_HEADER = (*_ROW, "errors in", "routes (default first)", "conventions")
INPUT_HEADER = (*_ROW, "embedded as", "scale", "if missing", "meaning")


def property_cells() -> list[list[str]]:
    """One row of text for every property; names of the library stand between backquotes."""
    return [[*_cells(row), row.report_unit, "; ".join(map(route_text, row.routes)), row.note] for row in PROPERTIES]


def input_cells() -> list[list[str]]:
    """One row of text for every input."""
    return [
        [*_cells(row), type(row.embed).__name__.lower(), f"{row.scale:g}", _default(row), row.note] for row in INPUTS
    ]


def alias_cells() -> list[list[str]]:
    """The names that ASE has for rows of the tables."""
    rows: tuple[Property | Input, ...] = (*PROPERTIES, *INPUTS)
    return [[f"`{row.name}`", f"`{row.ase}`"] for row in rows if row.ase]


def _cells(row: Property | Input) -> list[str]:
    indices = f"`{row.indices}`" if row.indices else "scalar"
    parity = "even" if row.parity > 0 else "odd"
    return [f"`{row.name}`", row.scope, indices, f"{parity}, time-odd" if row.time_parity < 0 else parity, row.unit]


def _default(row: Input) -> str:
    return "error" if row.default is None else f"{row.default:g} {row.unit}".strip()


def route_text(route: Route) -> str:
    """A route in words, after its name in configurations."""
    match route:
        case Readout() | Positive() | Balanced():
            words = f"from the features{_corrected(route)}"
        case Equilibrated():
            words = f"minimum of the energy at a given `{CHARGE}`, from `{ELECTRONEGATIVITIES}` and `{HARDNESSES}`"
        case Induced():
            words = f"minimum of the energy in the field of `latent_charges`, from `{POLARIZABILITIES}`"
        case Sum(source):
            words = f"sum of `{source}`"
        case Multipole(charges, dipoles) | Latent(charges, dipoles):
            words = f"from `{charges}`{f' and `{dipoles}`' if dipoles else ''}"
        case Permittivity(source):
            words = f"1 + 4π `{source}` / volume"
        case AtomicVirial(source, sign, per_volume):
            volume = " / volume" if per_volume else ""
            words = f"{'−' if sign < 0 else ''}contribution of each atom to the virial of `{source}`{volume}"
        case Derivative(source, variables, sign, per_volume):
            words = f"{'−' if sign < 0 else ''}{_partial(source, variables)}{' / volume' if per_volume else ''}"
    return f"`{route.name}`: {words}"


def _corrected(route: Readout | Positive | Balanced) -> str:
    """What is done to values that are read from the features."""
    match route:
        case Readout(reduce):
            return "" if reduce == "sum" else ", mean over atoms"
        case Positive():
            return ", made positive"
        case Balanced(total, by):
            weights = ", weighted by learned softnesses" if by == "softness" else ""
            return f", corrected to add up to {f'`{total}`' if total else 'zero'}{weights}"


def _partial(source: str, variables: Sequence[str]) -> str:
    """A derivative of any order in symbols."""
    powers = Counter(variables)
    order = "⁰¹²³⁴⁵⁶"[len(variables)] if len(variables) > 1 else ""
    below = " ".join(f"∂`{name}`{'⁰¹²³⁴⁵⁶'[power] if power > 1 else ''}" for name, power in powers.items())
    return f"∂{order}`{source}`/{below}"
