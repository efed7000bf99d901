"""What a run and the trained model that it starts from must have in common, and where new things begin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ase.data import atomic_numbers, chemical_symbols

from carten.errors import ConfigError
from carten.model.conditions import Category, Coupled, Input
from carten.properties.potential import Potential
from carten.properties.routes import Property
from carten.train.config import Config
from carten.train.start_config import StartConfig


def symbols(numbers: Sequence[int]) -> str:
    """Elements in words."""
    return " ".join(chemical_symbols[number] for number in numbers)


def require_same_network(config: Config, source: Potential, path: Path) -> None:
    """Check that a run has the network and the energy terms of the trained model; its number of members may differ.

    Raises:
        ConfigError: it has not.
    """
    ours, theirs = (network.model_dump(exclude={"n_members"}) for network in (config.model, source.config))
    if different := [f"{key} is {ours[key]}, but {theirs[key]}" for key in ours if ours[key] != theirs[key]]:
        raise ConfigError(
            f"model: {', '.join(different)} in {path}; leave the section out, or make it equal"
        )
    if config.terms != source.term_configs:
        kinds = ", ".join(term.kind for term in source.term_configs) or "none"
        raise ConfigError(f"terms: {path} has {kinds}; give the same, with the same options")


def require_same_meaning(model: Potential, source: Potential, path: Path) -> None:
    """Check that properties and inputs that both models have mean the same in both.

    Raises:
        ConfigError: one does not, or the trained model requires an input that the other lacks.
    """
    for name in (name for name in source.requested if name in model.requested):
        _require_same_property(source.properties[name], model.properties[name], path)
    for name, row in source.inputs.items():
        if not isinstance(row.embed, Coupled):
            _require_same_input(name, row, model, path)


def _require_same_property(trained: Property, row: Property, path: Path) -> None:
    for key in ("unit", "scope", "indices", "parity"):
        before, now = getattr(trained, key), getattr(row, key)
        if before != now:
            raise ConfigError(
                f"properties.{row.name}: {key} is {now!r}, but {before!r} in {path}; make it equal, or give the "
                "property another name: its readout then begins anew"
            )


def _require_same_input(name: str, row: Input, model: Potential, path: Path) -> None:
    if name not in model.inputs:
        raise ConfigError(f"start: {path} requires the input {name}: add it under inputs")
    ours = model.inputs[name]
    kinds = [
        replace(each.embed, values=()) if isinstance(each.embed, Category) else each.embed for each in (ours, row)
    ]
    if kinds[0] != kinds[1] or ours.scale != row.scale or ours.unit != row.unit:
        raise ConfigError(
            f"inputs.{name}: expected {row.embed} of scale {row.scale:g} {row.unit} as in {path}, "
            f"found {ours.embed} of scale {ours.scale:g} {ours.unit}; make it equal"
        )


def alike_elements(model: Potential, source: Potential, start: StartConfig) -> dict[int, int]:
    """For new elements the trained one that they begin like.

    Raises:
        ConfigError: an element is not new, or the other is not known to the trained model.
    """
    alike = {}
    for new, old in start.like.items():
        if new in _levels(model) or (number := atomic_numbers.get(new)) is None:
            continue
        if number in source.elements or number not in model.elements:
            why = f"is known to {start.model}" if number in source.elements else "does not occur in the data"
            raise ConfigError(f"start.like.{new}: expected a new element, but {new} {why}; remove this key")
        if (alike_number := atomic_numbers.get(old)) not in source.elements:
            raise ConfigError(
                f"start.like.{new}: expected an element that {start.model} knows ({symbols(source.elements)}), "
                f"found {old!r}"
            )
        alike[number] = alike_number
    return alike


def alike_levels(model: Potential, source: Potential, start: StartConfig) -> dict[str, str]:
    """For new levels of theory the trained one that they begin as.

    Raises:
        ConfigError: a name is neither of an element nor of a new level, or the other is no trained level.
    """
    alike = {}
    for new, old in start.like.items():
        if new not in _levels(model):
            if new in atomic_numbers:
                continue
            raise ConfigError(f"start.like.{new}: expected a new element or a new level of theory, found neither")
        if old not in _levels(source):
            known = ", ".join(_levels(source)) or "none"
            raise ConfigError(f"start.like.{new}: expected a level of theory of {start.model} ({known}), found {old!r}")
        alike[new] = old
    return alike


def _levels(model: Potential) -> list[str]:
    return [] if model.levels is None else [str(value) for value in model.levels.values]
