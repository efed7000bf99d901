"""From the configured inputs to rows of the input table and where they are in files."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from carten.data.categories import categories, category
from carten.data.collection import Collection
from carten.data.labels import Label
from carten.errors import ConfigError
from carten.math.symmetry import decompose
from carten.model.conditions import Category, Coupled, EmbeddingKind, Exchange, Fidelity, Input, Scalar, Tensor
from carten.properties.planning import needed_inputs
from carten.properties.routes import Property
from carten.properties.spec import input_table
from carten.train.config import DECLARATION, InputConfig
from carten.train.start_config import ReplayConfig
from carten.train.terms import require_name

if TYPE_CHECKING:
    from ase import Atoms


def input_labels(
    inputs: Mapping[str, InputConfig], properties: Sequence[Property], structures: Sequence[tuple[str, Atoms]]
) -> list[Label]:
    """The configured inputs, and those that properties need, as labels.

    Args:
        inputs: of the configuration.
        properties: what is trained.
        structures: of the training files, which give categories their values.

    Raises:
        ConfigError: a name is unknown and not declared in full, or a known row is declared anew.
    """
    needed = [name for row in properties for name in needed_inputs(row) if name in input_table()]
    configured = {**dict.fromkeys(needed, InputConfig()), **inputs}
    return [_label(name, config, structures) for name, config in configured.items()]


def _label(name: str, config: InputConfig, structures: Sequence[tuple[str, Atoms]]) -> Label:
    new = name not in input_table()
    row, key = input_row(name, config), config.key or name
    if isinstance(row.embed, Category) and not row.embed.values:
        values = _categories(structures, key)
        defaults = () if row.default is None or row.default in values else (_whole(row.default),)
        row = replace(row, embed=replace(row.embed, values=(*values, *defaults)))
    return Label(row, key, None if new else config.unit)


def _categories(structures: Sequence[tuple[str, Atoms]], key: str) -> tuple[str | int, ...]:
    if isinstance(structures, Collection) and (column := structures.table.values(key)) is not None:
        number = key in structures.table.numbers
        values = {column.values[code] for code in np.unique(column.codes).tolist() if code >= 0}
        return tuple(sorted((category(float(value)) if number else value for value in values), key=_order))
    return categories(structures, key)


def _order(value: str | int) -> tuple[bool, str | int]:
    return isinstance(value, str), value


def with_replayed_level(label: Label, replay: ReplayConfig | None) -> Label:
    """The input with the level of theory of replayed structures, which the data need not have."""
    row = label.row
    if replay is None or replay.level is None or not (isinstance(row, Input) and isinstance(row.embed, Fidelity)):
        return label
    values = row.embed.values
    if replay.level in map(str, values):
        return label
    return replace(label, row=replace(row, embed=replace(row.embed, values=(*values, replay.level))))


def input_row(name: str, config: InputConfig) -> Input:
    """The row of one configured input.

    Raises:
        ConfigError: see :func:`input_labels`.
    """
    table = input_table()
    row = _known(table[name], config) if name in table else _declared(name, config)
    if config.default is not None:
        row = replace(row, default=_whole(config.default) if isinstance(row.embed, Category) else config.default)
    if not isinstance(row.embed, Category) and isinstance(row.default, str):
        raise ConfigError(f"inputs.{name}.default: expected a number, found {row.default!r}")
    return replace(row, scale=config.scale) if config.scale is not None else row


def _whole(value: float | str) -> float | str:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _known(row: Input, config: InputConfig) -> Input:
    fixed = [key for key in (*DECLARATION[:3], "time_parity") if getattr(config, key) is not None]
    if fixed:
        raise ConfigError(
            f"inputs.{row.name}.{fixed[0]}: {row.name} is built in (scope {row.scope}, indices {row.indices!r}, "
            f"parity {row.parity:+d}); remove this key, or declare your input under another name"
        )
    return replace(row, embed=_embedding(row.name, row.embed, config))


def _declared(name: str, config: InputConfig) -> Input:
    missing = [key for key in DECLARATION if getattr(config, key) is None]
    if missing:
        names = list(input_table())
        near = difflib.get_close_matches(name, names, n=1)
        hint = f'did you mean "{near[0]}"? ' if near else ""
        raise ConfigError(
            f"inputs.{name}: is not known; {hint}Known are {', '.join(names)}. "
            f"To declare an input of your own give its {', '.join(DECLARATION)}; missing {', '.join(missing)}"
        )
    require_name("inputs", name)
    indices = config.indices or ""
    try:
        decompose(indices)
    except ValueError as error:
        raise ConfigError(f"inputs.{name}.indices: {error}") from error
    scalar = not indices and config.parity == 1
    embed = _embedding(name, Scalar() if scalar else Tensor(), config)
    row = Input(name, config.scope or "structure", indices, config.parity or 1, config.unit or "", embed)
    return replace(row, time_parity=config.time_parity or 1)


def _embedding(name: str, default: EmbeddingKind, config: InputConfig) -> EmbeddingKind:
    kinds: Mapping[str, EmbeddingKind] = {
        "scalar": Scalar(),
        "category": default if isinstance(default, Category) else Category(),
        "tensor": Tensor(),
        "exchange": Exchange(),
        "coupled": Coupled(),
    }
    embed = default if config.embed is None else kinds[config.embed]
    if config.values is not None:
        if not isinstance(embed, Category):
            raise ConfigError(f"inputs.{name}.values: only categories have values; remove this key")
        embed = replace(embed, values=config.values)
    if config.levels is not None:
        if not isinstance(embed, Fidelity):
            raise ConfigError(f"inputs.{name}.levels: only fidelity has levels; remove this key")
        embed = replace(embed, mode=config.levels)
    return embed
