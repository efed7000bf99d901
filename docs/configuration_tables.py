"""The configuration reference, made from the models that check a configuration."""

import ast
import inspect
import itertools
import json
import textwrap
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from markdown_table import markdown_table

BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "null"}


def remarks(model: type[BaseModel]) -> dict[str, str]:
    """What is written below each field of a class, on one line; what it inherits included."""
    found = {}
    for base in model.__bases__:
        if issubclass(base, BaseModel) and base is not BaseModel:
            found.update(remarks(base))
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    lines = definition.body if isinstance(definition, ast.ClassDef) else []
    for field, below in itertools.pairwise(lines):
        is_remark = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and is_remark:
            found[field.target.id] = " ".join(str(below.value.value).split()).replace("``", "`")
    return found


def allowed(schema: dict[str, Any], definitions: dict[str, Any]) -> str:
    """The values a JSON schema allows, in words."""
    if "$ref" in schema:
        return allowed(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions)
    if "anyOf" in schema:
        return ", or ".join(dict.fromkeys(allowed(choice, definitions) for choice in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("format") == "path":
        return "path"
    if schema.get("type") == "array" and schema.get("items", {}).get("format") == "path":
        return "path or list of paths"
    if "oneOf" in schema:
        kinds = [allowed(definitions[name]["properties"]["kind"], definitions) for name in _branches(schema)]
        return f"sections with `kind` {', '.join(kinds)}, see below"
    if schema.get("type") == "array":
        if "prefixItems" in schema:
            return f"list of {len(schema['prefixItems'])}: {allowed(schema['prefixItems'][0], definitions)}"
        return f"list: {allowed(schema['items'], definitions)}"
    if schema.get("type") == "object":
        values = schema.get("additionalProperties")
        return f"name: {allowed(values, definitions)}" if isinstance(values, dict) else "section"
    bounds = " and ".join(f"{sign} {schema[key]:g}" for key, sign in BOUNDS.items() if key in schema)
    return " ".join(filter(None, (WORDS[schema["type"]], bounds)))


def _branches(schema: dict[str, Any]) -> list[str]:
    """Names of the definitions that a union tells by their kind."""
    return [branch["$ref"].rsplit("/", 1)[1] for branch in schema["oneOf"]]


def kinds_of(annotation: Any) -> list[type[BaseModel]]:
    """The models of a field that lists sections told by their kind."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation] if "kind" in annotation.model_fields else []
    return [model for argument in get_args(annotation) for model in kinds_of(argument)]


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The model of a field that is a section, or a mapping from names to sections."""
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return candidate
    return None


def default_of(field: FieldInfo) -> str:
    """The default of a field as JSON; of sections, only what differs from the defaults below."""
    if field.is_required():
        return "required"

    def plain(value: Any) -> Any:
        if isinstance(value, BaseModel):
            return value.model_dump(mode="json", exclude_defaults=True)
        return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value

    value = plain(field.get_default())
    return "" if isinstance(field.get_default(), BaseModel) and not value else f"`{json.dumps(value, default=str)}`"


def tables_of(model: type[BaseModel], path: str = "") -> str:
    """A heading and a table for a model and every section below it."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    said = remarks(model)
    rows, below = [], []
    for name, field in model.model_fields.items():
        inner = section_of(field.annotation)
        if inner is not None:
            mapping = "dict" in str(field.annotation)
            inner_path = f"{path}{name}.{'<name>.' if mapping else ''}"
            below.append(tables_of(inner, inner_path))
            kind = f"names, each with a section `{inner_path.removesuffix('.')}`" if mapping else "section, see below"
        else:
            kind = allowed(schema["properties"][name], definitions)
        kinds = kinds_of(field.annotation)
        below += [tables_of(entry, f"{path}{name}: {entry.model_fields['kind'].default}.") for entry in kinds]
        rows.append([f"`{name}`", kind, default_of(field), said.get(name, "")])
    title = f"`{path.removesuffix('.')}`" if path else "Top level"
    summary = inspect.cleandoc(model.__doc__ or "").replace("``", "`")
    return "\n\n".join(
        [f"## {title}\n\n{summary}", markdown_table(["key", "allowed", "default", "meaning"], rows), *below]
    )
