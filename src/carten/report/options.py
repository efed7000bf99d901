"""The options of a configuration in words: for ``carten init --all`` and the documentation."""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import textwrap
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_WIDTH = 100
"""Characters of a line of remarks."""

_TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}


@dataclass(frozen=True)
class Option:
    """One key of a section.

    Args:
        name: the key.
        allowed: its values, in words.
        default: as JSON, ``"required"``, or empty for a section with its defaults.
        meaning: what it does.
        section: the model of its value, if that is a section.
        named: whether the value maps names to such sections.
        kinds: models of the sections that it lists, told apart by their ``kind``.
    """

    name: str
    allowed: str
    default: str
    meaning: str
    section: type[BaseModel] | None
    named: bool
    kinds: tuple[type[BaseModel], ...]


def options_of(model: type[BaseModel]) -> Iterator[Option]:
    """The keys of a section, in the order of its definition."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    meanings = _meanings(model)
    for name, field in model.model_fields.items():
        section = _section(field.annotation)
        allowed = "" if section else _allowed(schema["properties"][name], definitions)
        named = section is not None and "dict" in str(field.annotation)
        kinds = tuple(_kinds(field.annotation))
        yield Option(name, allowed, _default(field), meanings.get(name, ""), section, named, kinds)


def summary_of(model: type[BaseModel]) -> str:
    """What a section is for."""
    return inspect.cleandoc(model.__doc__ or "").replace("``", "`")


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """The text below each field of a class, on one line, including inherited ones."""
    meanings: dict[str, str] = {}
    for base in model.__bases__:
        if issubclass(base, BaseModel) and base is not BaseModel:
            meanings.update(_meanings(base))
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    statements = definition.body if isinstance(definition, ast.ClassDef) else []
    for field, below in itertools.pairwise(statements):
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_text:
            text = str(below.value.value)  # type: ignore[attr-defined]
            meanings[field.target.id] = " ".join(text.split()).replace("``", "`")
    return meanings


def _allowed(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """The values a JSON schema allows, in words."""
    if "$ref" in schema:
        return _allowed(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if "anyOf" in schema:
        return ", or ".join(dict.fromkeys(_allowed(choice, definitions) for choice in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("format") == "path":
        return "path"
    if "oneOf" in schema:
        branches = [branch["$ref"].rsplit("/", 1)[1] for branch in schema["oneOf"]]
        kinds = [_allowed(definitions[name]["properties"]["kind"], definitions) for name in branches]
        return f"sections with `kind` {', '.join(kinds)}, see below"
    if schema.get("type") == "array":
        return _allowed_items(schema, definitions)
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"name: {_allowed(values, definitions)}" if isinstance(values, dict) else "section"
    bounds = " and ".join(f"{sign} {schema[key]:g}" for key, sign in _BOUNDS.items() if key in schema)
    return " ".join(filter(None, (_TYPES[schema["type"]], bounds)))


def _allowed_items(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    if "prefixItems" in schema:
        return f"list of {len(schema['prefixItems'])}: {_allowed(schema['prefixItems'][0], definitions)}"
    if schema.get("items", {}).get("format") == "path":
        return "path or list of paths"
    return f"list: {_allowed(schema['items'], definitions)}"


def _kinds(annotation: Any) -> list[type[BaseModel]]:
    """The models of a field that lists sections told apart by their kind."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation] if "kind" in annotation.model_fields else []
    return [model for argument in get_args(annotation) for model in _kinds(argument)]


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model of a field that is a section, or a mapping from names to sections."""
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def _default(field: FieldInfo) -> str:
    """The default of a field as JSON; for sections, only what differs from the defaults below."""
    if field.is_required():
        return "required"
    value = _plain(field.get_default(call_default_factory=True, validated_data={}))
    if isinstance(field.get_default(), BaseModel) and not value:
        return ""
    return json.dumps(value, default=str, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_defaults=True)
    return {key: _plain(item) for key, item in value.items()} if isinstance(value, dict) else value


def commented(model: BaseModel, active: Collection[str]) -> list[str]:
    """A configuration in YAML with every option, its value, what it is for and what is allowed.

    Args:
        model: the configuration whose values are written.
        active: paths of the options that are not commented out, such as ``data.train``.
    """
    return [
        f"{'' if path in active else '# '}{'  ' * path.count('.')}{text}"
        for path, text in _yaml(type(model), model, "")
    ]


def _yaml(model: type[BaseModel], values: BaseModel | None, prefix: str) -> Iterator[tuple[str, str]]:
    """Path and text of every line."""
    for option in options_of(model):
        path = f"{prefix}{option.name}"
        value = getattr(values, option.name) if values is not None else None
        yield from ((f"{path}#", f"# {line}") for line in textwrap.wrap(option.meaning, _WIDTH))
        if isinstance(value, BaseModel):
            yield path, f"{option.name}:"
            yield from _yaml(type(value), value, f"{path}.")
            continue
        text = option.default if values is None else json.dumps(_plain(value), default=_json, ensure_ascii=False)
        allowed = f"  # {option.allowed.replace('`', '')}" if option.allowed else ""
        yield path, f"{option.name}: {text}{allowed}"
        for entry in option.kinds or ([option.section] if option.section else []):
            title = f"kind {entry.model_fields['kind'].default}" if option.kinds else "each entry"
            yield f"{path}#", f"# {title}:"
            yield from ((f"{path}#", f"#   {line}") for _, line in _yaml(entry, None, "") if not line.startswith("#"))


def _json(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else str(value)
