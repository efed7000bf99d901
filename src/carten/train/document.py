"""Untrusted YAML files: numbers, words, lists and mappings of bounded size; everything else is an error."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from carten.errors import ConfigError

MAX_CONFIG_BYTES = 2**20
MOST_VALUES = 10_000
DEEPEST = 30


class _Loader(yaml.SafeLoader):
    """Dates are read as words, keys are unique, and nothing has a tag (``!!set``, ``!!binary``, ..)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise ConstructorError(None, None, f"found the key {key!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if tag := getattr(event, "tag", None):
            raise ConstructorError(None, None, f"found the tag {tag!r}, which has no meaning here", event.start_mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_document(path: Path) -> Any:
    """The content of a YAML file.

    Raises:
        ConfigError: it cannot be read, is not YAML, or is too large or too deeply nested for what it should be.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a name no file can have
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    if len(content) > MAX_CONFIG_BYTES:
        raise ConfigError(f"{path}: expected a configuration, found a file of more than {MAX_CONFIG_BYTES} bytes")
    try:
        document = yaml.load(content.decode("utf-8"), _Loader)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: is not valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply: expected at most {DEEPEST} levels") from error
    except ValueError as error:  # a number with thousands of digits
        raise ConfigError(f"{path}: has a number that can't be read: {error}") from error
    require_bounded(document, str(path))
    return document


def read_value(text: str) -> Any:
    """One value in YAML.

    Raises:
        yaml.YAMLError: it is none.
        ValueError: it has a number that cannot be read.
    """
    return yaml.load(text, _Loader)


def require_bounded(document: Any, source: str) -> None:
    """Check the size and the depth of nested lists and mappings: few lines of anchors can stand for billions of values.

    Raises:
        ConfigError: there is too much, or something contains itself.
    """
    level, n_values = [document], 0
    for _ in range(DEEPEST):
        level = [inner for value in level for inner in _inside(value)]
        n_values += len(level)
        if n_values > MOST_VALUES:
            raise ConfigError(f"{source}: has more than {MOST_VALUES} values; a configuration has some hundred")
        if not level:
            return
    raise ConfigError(f"{source}: is nested too deeply: expected at most {DEEPEST} levels")


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset):
        yield from value
