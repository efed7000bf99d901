"""Rows of the tables as plain data, for files and configurations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, get_args

from carten.errors import ModelFileError
from carten.model import conditions
from carten.model.conditions import Input
from carten.properties.routes import Property, Route

_EMBEDDINGS = (*get_args(conditions.Embedding), conditions.Fidelity)
_KINDS: Mapping[str, type] = {kind.__name__: kind for kind in (*get_args(Route), *_EMBEDDINGS)}


def dump(row: Property | Input) -> dict[str, Any]:
    """A row as JSON-compatible data."""
    data = asdict(row)
    if isinstance(row, Property):
        data["routes"] = [{"kind": type(route).__name__, **asdict(route)} for route in row.routes]
    else:
        data["embed"] = {"kind": type(row.embed).__name__, **asdict(row.embed)}
    return data


def _part(data: Mapping[str, Any]) -> Any:
    fields = dict(data)
    kind = fields.pop("kind")
    if kind not in _KINDS:
        raise ModelFileError(
            f"expected a route or embedding of {', '.join(_KINDS)}, found {kind!r}: please upgrade carten"
        )
    return _KINDS[kind](**{name: tuple(v) if isinstance(v, list) else v for name, v in fields.items()})


def load_property(data: Mapping[str, Any]) -> Property:
    """The row written by :func:`dump`."""
    return Property(**{**data, "routes": tuple(_part(route) for route in data["routes"])})


def load_input(data: Mapping[str, Any]) -> Input:
    """The row written by :func:`dump`."""
    return Input(**{**data, "embed": _part(data["embed"])})
