"""Says what is wrong with a configuration: the key, what was found, what is allowed, the nearest valid name."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

Location = Sequence[int | str]


def explain(error: ValidationError, model: type[BaseModel], document: Any, source: str) -> str:
    """One line for each mistake in ``document``, which was checked against ``model``."""
    mistakes: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        location = _in_document(item["loc"], document)
        if item["type"] == "missing":
            location = [*location, item["loc"][-1]]
        mistakes.setdefault(".".join(str(part) for part in location), []).append(_reason(dict(item), model, location))
    lines = [f"  {key or 'configuration'}: {' or '.join(dict.fromkeys(why))}" for key, why in mistakes.items()]
    return "\n".join([f"{source}: {len(lines)} {'mistake' if len(lines) == 1 else 'mistakes'}", *lines])


def _in_document(location: Location, document: Any) -> list[int | str]:
    """The part of a location that the user wrote: pydantic adds the branches of unions it tried."""
    kept: list[int | str] = []
    for part in location:
        inside = (
            document if isinstance(document, dict) else dict(enumerate(document if isinstance(document, list) else ()))
        )
        if part in inside:
            document = inside[part]
            kept.append(part)
    return kept


def _reason(item: dict[str, Any], model: type[BaseModel], location: Location) -> str:
    if item["type"] == "missing":
        return "is required"
    if item["type"] == "extra_forbidden":
        allowed = _fields(model, location[:-1])
        near = difflib.get_close_matches(str(location[-1]), allowed, n=1, cutoff=0.5)
        hint = f'did you mean "{near[0]}"? ' if near else ""
        return f"unknown key; {hint}allowed here: {', '.join(allowed)}"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if item["type"] == "value_error":
        return f"{message}; found {_shown(item['input'])}"
    near = difflib.get_close_matches(str(item["input"]), _choices(item), n=1, cutoff=0.6)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return f"expected {message}, found {_shown(item['input'])}{hint}"


def _choices(item: dict[str, Any]) -> list[str]:
    if item["type"] != "literal_error":
        return []
    return [choice.strip(" '") for choice in item["ctx"]["expected"].replace(" or ", ",").split(",")]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    """Names allowed at a location."""
    for part in location:
        field = model.model_fields.get(str(part))
        inner = next(_models(field.annotation), None) if field else None
        model = inner if inner is not None else model
    return list(model.model_fields)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Models inside an annotation: of a section, of an optional section, of a dictionary of sections."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
