"""Training that starts from a trained model: its weights, and reference energies that move to other labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carten.data.batches import BatchSampler, Bounds
from carten.data.dataset import Dataset, collate
from carten.data.labels import Frame
from carten.data.statistics import reference_energies
from carten.errors import ConfigError
from carten.model.conditions import Category, Coupled, Fidelity, Input
from carten.properties.averaged import with_members
from carten.properties.io import load
from carten.properties.planning import ENERGIES
from carten.properties.potential import Potential
from carten.properties.spec import input_table
from carten.train.baseline import by_level
from carten.train.config import Config, InputConfig
from carten.train.elements import with_elements
from carten.train.replay import Replay
from carten.train.sets import Sets
from carten.train.start_checks import (
    alike_elements,
    alike_levels,
    require_same_meaning,
    require_same_network,
    symbols,
)
from carten.train.transplant import take_over


def read_start(config: Config) -> tuple[Config, Potential | None]:
    """The model that a run starts from, and the configuration with what it leaves to that model.

    That is the network, or all of it but its number of members, and the energy terms where none are configured, and
    inputs that have a default.

    Raises:
        ConfigError: another network or other energy terms are configured, or the model requires an input.
        ModelFileError: the file cannot be read.
    """
    if config.start is None:
        return config, None
    path = config.start.model
    source = load(path)
    taken = {"model": source.config, "terms": source.term_configs}
    left_out = {key: value for key, value in taken.items() if key not in config.model_fields_set}
    config = config.model_copy(update=left_out)
    if config.model.model_fields_set == {"n_members"}:
        network = source.config.model_copy(update={"n_members": config.model.n_members})
        config = config.model_copy(update={"model": network})
    require_same_network(config, source, path)
    inputs = {name: _as_configured(row, path) for name, row in _further_inputs(source, config).items()}
    return config.model_copy(update={"inputs": {**config.inputs, **inputs}}), source


def _further_inputs(source: Potential, config: Config) -> dict[str, Input]:
    """Inputs of the trained model that are not configured."""
    rows = {name: row for name, row in source.inputs.items() if not isinstance(row.embed, Coupled)}
    return {name: row for name, row in rows.items() if name not in config.inputs}


def _as_configured(row: Input, path: Path) -> InputConfig:
    """An input of the trained model as a configuration gives it."""
    if row.default is None:
        raise ConfigError(f"start: {path} requires the input {row.name}: add it under inputs")
    options: dict[str, Any] = {"embed": type(row.embed).__name__.lower(), "scale": row.scale, "default": row.default}
    if isinstance(row.embed, Category):
        options |= {"embed": "category", "values": row.embed.values}
    if isinstance(row.embed, Fidelity):
        options["levels"] = row.embed.mode
    if row.name not in input_table():
        names = ("scope", "indices", "parity", "time_parity", "unit")
        options |= {name: getattr(row, name) for name in names}
    return InputConfig(**options)


def kept_elements(config: Config, source: Potential | None, replay: Replay | None = None) -> tuple[int, ...]:
    """Elements that the new model knows whether or not the data have them."""
    if source is None or config.start is None:
        return ()
    return source.elements if config.start.elements == "all" else (replay.elements if replay is not None else ())


def begin(model: Potential, source: Potential, config: Config, sets: Sets) -> None:
    """Take the weights and baselines of a trained model; what it lacks stays as it is.

    Where the number of members differs, members begin near the mean of those of the trained model, which stays what it
    is. Readouts that this model lacks are dropped; inputs that are new have no effect at first; new levels of theory
    begin as the first of the trained model, or as ``start.like`` says. The baselines of new elements are those of the
    data.

    Energies of isolated atoms that the configuration asks for replace those of the model. By default E0 of each level
    of theory moves instead, by the least-squares fit of what the energies differ from those predicted: the energies of
    another functional or other pseudopotentials are those of this one and something for each atom, and little else.

    Args:
        model: untrained, of the same network.
        source: trained.
        config: of the run.
        sets: the data.

    Raises:
        ConfigError: the elements, properties or inputs of the trained model do not fit those of the run.
    """
    if config.start is None:
        return
    path = config.start.model
    require_same_meaning(model, source, path)
    model.design = replace(model.design, pulls_ions=source.design.pulls_ions)
    baselines = _baselines(model)
    adapted = with_elements(source, model.elements, alike_elements(model, source, config.start), config.seed)
    adapted = with_members(adapted, model.config.n_members, config.seed)
    if misfits := take_over(model, adapted, alike_levels(model, source, config.start)):
        raise ConfigError(
            f"start: {misfits[0]} has another shape in {path}: the network or the definition of a property or "
            "input differs; make it equal, or train without start"
        )
    new = [k for k, number in enumerate(model.elements) if number not in source.elements]
    for name, values in baselines.items():
        for row in new:
            model.get_buffer(name)[row :: len(model.elements)] = values[row :: len(model.elements)]
    if "energy" in {row.name for row in sets.train.properties} and ENERGIES in source.heads:
        if new and config.reference_energies == "none":
            names = symbols([model.elements[row] for row in new])
            raise ConfigError(
                f"reference_energies: none keeps those of {path}, which has none for {names}: set it to auto, or give "
                "the energies"
            )
        _set_energies(model, config, sets)


def _baselines(model: Potential) -> dict[str, Tensor]:
    """Baselines of readouts, which have rows of elements."""
    names = [f"heads.{name}.{baseline}" for name in model.heads for baseline in ("reference", "shift")]
    return {name: model.get_buffer(name).clone() for name in names}


def start_lines(config: Config, model: Potential, source: Potential | None) -> list[str]:
    """What a model has more or less than the one that it starts from, in words."""
    if source is None or config.start is None:
        return []
    like = {new: f" (like {old})" for new, old in config.start.like.items()}
    names = [
        [*symbols(each.elements).split(), *sorted({*each.heads, *each.inputs}), *_levels(each)]
        for each in (model, source)
    ]
    new, dropped = ([name for name in ours if name not in theirs] for ours, theirs in (names, names[::-1]))
    new = [f"{name}{like.get(name.split()[-1], '')}" for name in new]
    lines = [f"{heading}: {', '.join(items)}" for heading, items in (("new", new), ("dropped", dropped)) if items]
    before, now = source.config.n_members, model.config.n_members
    if before != now:
        lines.append(f"{now} members, which begin with the mean of {before}" if before > 1 else f"{now} members")
    return ["; ".join([f"starts from {config.start.model}", *lines])]


def _levels(model: Potential) -> list[str]:
    return [] if model.levels is None else [f"{model.levels.name} {value}" for value in model.levels.values]


def _set_energies(model: Potential, config: Config, sets: Sets) -> None:
    reference = model.heads[ENERGIES].get_buffer("reference")
    if moved := config.reference_energies == "auto":
        bounds = config.data.batch
        frames = _deviations(model, sets.sample, Bounds(bounds.structures, bounds.atoms, bounds.edges))
        parts = by_level(frames, sets.level, max(len(sets.references), 1))
        levels = [reference_energies(part, "fitted").values if part else {} for part in parts]
    else:
        levels = list(sets.references)
    for level, energies in enumerate(levels):
        for number, energy in energies.items():
            row = level * len(model.elements) + model.elements.index(number)
            reference[row, 0] = energy + (reference[row, 0] if moved else 0.0)


def _deviations(model: Potential, data: Dataset, bounds: Bounds) -> list[Frame]:
    """Training frames with what their energies, eV, differ from the predicted ones as labels."""
    deviations = []
    for indices in BatchSampler(data, bounds, shuffle=False).batches(0):
        with torch.no_grad():
            energies = model.remainder(collate([data[index] for index in indices]).graph, ["energy"])["energy"]
        for index, energy in zip(indices, energies.tolist(), strict=True):
            if "energy" in (frame := data.frames[index]).labels:
                deviations.append(replace(frame, labels={"energy": frame.labels["energy"] - energy}))
    return deviations
