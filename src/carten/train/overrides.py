"""Keys of a configuration that are set on the command line: ``training.epochs=10``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from carten.errors import ConfigError
from carten.train.document import read_value


def override(document: Any, assignments: Sequence[str]) -> Any:
    """A document with some keys set; what the keys and values mean is checked with those of the document.

    Args:
        document: of a YAML file; it stays as it is.
        assignments: ``section.key=value``, with values in YAML (``[a, b]``, ``{structures: 8}``, ``null``); sections
            that the document lacks are added, and items of lists are named by their number from 0.

    Raises:
        ConfigError: a text is no assignment, a key is set twice, or a list has no such item.
    """
    values: dict[str, Any] = {}
    for text in assignments:
        key, separator, value = text.partition("=")
        if not separator or not all(part.strip() == part != "" for part in key.split(".")):
            raise ConfigError(f"expected an option or KEY=VALUE, as in training.epochs=10; found {text!r}")
        if key in values:
            raise ConfigError(f"{key} is set twice on the command line")
        try:
            values[key] = read_value(value)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"{text!r}: the value is not valid YAML: {error}") from error
    for key, value in values.items():
        document = _with(document, key.split("."), value, key)
    return document


def _with(container: Any, path: Sequence[str], value: Any, key: str) -> Any:
    """A copy of nested dictionaries and lists in which one value is set."""
    if not path:
        return value
    first, rest = path[0], path[1:]
    if isinstance(container, list) and first.isdecimal():
        if int(first) >= len(container):
            raise ConfigError(f"{key}: the configuration has {len(container)} there, numbered from 0")
        return [_with(item, rest, value, key) if k == int(first) else item for k, item in enumerate(container)]
    inner = container if isinstance(container, dict) else {}
    return {**inner, first: _with(inner.get(first), rest, value, key)}
