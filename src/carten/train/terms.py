"""From the configured properties to rows of the property table and terms of the loss."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

from torch import nn

from carten.errors import ConfigError
from carten.math.symmetry import decompose
from carten.properties.planning import with_sources
from carten.properties.routes import Balanced, Derivative, Property, Readout, Route
from carten.properties.spec import property_table
from carten.train.config import DECLARATION, Config, PropertyConfig
from carten.train.loss import LossTerm


def terms(properties: Mapping[str, PropertyConfig]) -> tuple[LossTerm, ...]:
    """One term for each configured property whose weight is not 0; 1 stands for ``auto`` until the data are known.

    Raises:
        ConfigError: a name is unknown and not declared in full, a known row is declared anew, a route does not exist,
            or no weight is above 0.
    """
    rows = [(property_row(name, config), config) for name, config in properties.items()]
    loss_terms = tuple(
        LossTerm(row, _number(config.weight), config.loss, config.delta, config.rows)
        for row, config in rows
        if config.weight
    )
    if not loss_terms:
        raise ConfigError("properties: at least one weight must be above 0")
    return loss_terms


def untrained(config: Config, trained: Sequence[Property]) -> tuple[Property, ...]:
    """Rows of weight 0 that those trained, or energy terms, are obtained from: the routes chosen for them hold.

    Args:
        config: of the run.
        trained: rows with a term in the loss.
    """
    weightless = {name: chosen for name, chosen in config.properties.items() if not chosen.weight}
    untrained_rows = {name: property_row(name, chosen) for name, chosen in weightless.items()}
    table = property_table() | untrained_rows | {row.name: row for row in trained}
    taken = [source.name for term in config.terms for source in term.sources if source.name in table]
    needed = with_sources([*(row.name for row in trained), *taken], table)
    return tuple(row for name, row in needed.items() if name in untrained_rows)


def _number(weight: float | Literal["auto"]) -> float:
    return 1.0 if weight == "auto" else weight


def property_row(name: str, config: PropertyConfig) -> Property:
    """The row of one configured property, the chosen route first.

    Raises:
        ConfigError: see :func:`terms`.
    """
    table = property_table()
    row = _known(table[name], config) if name in table else _declared(name, config)
    if config.route is None:
        return row
    configured = [route for route in row.routes if route.name == config.route]
    if not configured:
        routes = ", ".join(route.name for route in row.routes)
        raise ConfigError(f"properties.{name}.route: expected one of {routes}, found {config.route!r}")
    return replace(row, routes=(configured[0], *(route for route in row.routes if route != configured[0])))


def _known(row: Property, config: PropertyConfig) -> Property:
    fixed = [key for key in (*DECLARATION[:3], "time_parity", "derivative") if getattr(config, key) is not None]
    if fixed:
        raise ConfigError(
            f"properties.{row.name}.{fixed[0]}: {row.name} is built in (scope {row.scope}, indices {row.indices!r}, "
            f"parity {row.parity:+d}); remove this key, or declare your property under another name"
        )
    return row


def _declared(name: str, config: PropertyConfig) -> Property:
    if config.scope is None:
        names = list(property_table())
        near = difflib.get_close_matches(name, names, n=1)
        hint = f'did you mean "{near[0]}"? ' if near else ""
        raise ConfigError(
            f"properties.{name}: is not known; {hint}Known are {', '.join(names)}. "
            f"To declare a property of your own give its {', '.join(DECLARATION)}"
        )
    missing = [key for key in DECLARATION if getattr(config, key) is None]
    if missing:
        keys = ", ".join(DECLARATION)
        raise ConfigError(f"properties.{name}: to declare it give {keys}; missing {', '.join(missing)}")
    require_name("properties", name)
    indices = config.indices or ""
    try:
        decompose(indices)
    except ValueError as error:
        raise ConfigError(f"properties.{name}.indices: {error}") from error
    row = Property(name, config.scope, indices, config.parity or 1, config.unit or "", _routes(config))
    return replace(row, time_parity=config.time_parity or 1)


def require_name(section: str, name: str) -> None:
    """Check that a new property or input has a name that parts of a model can have.

    Raises:
        ConfigError: it is no word, or torch needs it.
    """
    if not name.isidentifier() or hasattr(nn.ModuleDict(), name):
        raise ConfigError(
            f"{section}.{name}: expected a name of letters, digits and underscores that torch does not use itself; "
            "choose another, and tell the name in the files by key"
        )


def _routes(config: PropertyConfig) -> tuple[Route, ...]:
    if config.derivative is not None:
        derivative = config.derivative
        return (Derivative(derivative.of, derivative.wrt, derivative.sign, derivative.per_volume),)
    return (Readout("sum"), Readout("mean")) if config.scope == "structure" else (Readout(), Balanced())
