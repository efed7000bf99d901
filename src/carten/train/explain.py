"""Explains errors in a configuration: the key, the value found, the allowed values, the nearest valid name."""

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
        if item["type"].startswith("union_tag"):
            location = [*location, item["ctx"]["discriminator"].strip("'")]
        mistakes.setdefault(".".join(str(part) for part in location), []).append(_reason(dict(item), model))
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


def _reason(item: dict[str, Any], model: type[BaseModel]) -> str:
    if item["type"] in ("missing", "union_tag_not_found"):
        return "is required"
    if item["type"] == "extra_forbidden":
        allowed = _fields(model, item["loc"][:-1])
        near = difflib.get_close_matches(str(item["loc"][-1]), allowed, n=1, cutoff=0.5)
        hint = f'did you mean "{near[0]}"? ' if near else ""
        return f"unknown key; {hint}allowed here: {', '.join(allowed)}"
    message = item["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if item["type"] == "value_error":
        return f"{message}; found {_shown(item['input'])}" if item["loc"] else message
    value = item["input"]
    if item["type"] == "union_tag_invalid":
        message, value = item["ctx"]["expected_tags"], item["ctx"]["tag"]
    near = difflib.get_close_matches(str(value), _choices(item), n=1, cutoff=0.6)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return f"expected {message}, found {_shown(value)}{hint}"


def _choices(item: dict[str, Any]) -> list[str]:
    keys = {"literal_error": "expected", "union_tag_invalid": "expected_tags"}
    if item["type"] not in keys:
        return []
    return [choice.strip(" '") for choice in item["ctx"][keys[item["type"]]].replace(" or ", ",").split(",")]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    """Names allowed at a location; tags in it select the branches of unions."""
    candidates = [model]
    for part in location:
        fields = [candidate.model_fields[str(part)] for candidate in candidates if str(part) in candidate.model_fields]
        inside = [inner for field in fields for inner in _models(field.annotation)]
        candidates = inside or [candidate for candidate in candidates if _tag(candidate) == part] or candidates
    return list(candidates[0].model_fields)


def _tag(model: type[BaseModel]) -> Any:
    """The tag by which a union selects this model."""
    return model.model_fields["kind"].default if "kind" in model.model_fields else None


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Models inside an annotation: of a section, of an optional section, of a dictionary of sections."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
