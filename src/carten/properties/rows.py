"""Rows of the tables as plain data, for files and configurations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any, TypeVar, get_args

from pydantic import TypeAdapter, ValidationError

from carten.errors import ModelFileError
from carten.model import conditions
from carten.model.conditions import Input
from carten.properties.routes import Property, Route

_ROUTES = get_args(Route)
_EMBEDDINGS = (*get_args(conditions.EmbeddingKind), conditions.Fidelity)

Kind = TypeVar("Kind")


def dump(row: Property | Input) -> dict[str, Any]:
    """A row as JSON-compatible data."""
    data = asdict(row)
    if isinstance(row, Property):
        data["routes"] = [{"kind": type(route).__name__, **asdict(route)} for route in row.routes]
    else:
        data["embed"] = {"kind": type(row.embed).__name__, **asdict(row.embed)}
    return data


def load_property(data: Any) -> Property:
    """The row written by :func:`dump`.

    Raises:
        ModelFileError: the data are no such row.
    """
    if isinstance(data, Property):
        return data
    values = _values(data, "a property")
    if not isinstance(routes := values.get("routes"), list | tuple) or not routes:
        raise ModelFileError(f"the property {values.get('name')!r} has no list of routes")
    return _built(Property, {**values, "routes": tuple(_part(route, _ROUTES) for route in routes)})


def load_input(data: Any) -> Input:
    """The row written by :func:`dump`.

    Raises:
        ModelFileError: the data are no such row.
    """
    if isinstance(data, Input):
        return data
    values = _values(data, "an input")
    return _built(Input, {**values, "embed": _part(values.get("embed"), _EMBEDDINGS)})


def _part(data: Any, kinds: Sequence[type]) -> Any:
    """A route or an embedding."""
    values = _values(data, "a route or embedding")
    kind = values.pop("kind", None)
    for allowed in kinds:
        if allowed.__name__ == kind:
            return _built(allowed, values)
    names = ", ".join(allowed.__name__ for allowed in kinds)
    raise ModelFileError(f"expected one of {names}, found {kind!r}: please upgrade carten")


def _values(data: Any, description: str) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise ModelFileError(f"expected {description}, found {data!r:.50}")
    return dict(data)


def _built(kind: type[Kind], values: Mapping[str, Any]) -> Kind:
    """An instance from data of the right types under the right names."""
    if unknown := set(values) - {field.name for field in fields(kind)}:  # type: ignore[arg-type]
        raise ModelFileError(f"{kind.__name__} has no {', '.join(sorted(unknown))}: please upgrade carten")
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelFileError(f"{kind.__name__} {values.get('name', '')}: {where}: {first['msg']}") from error
