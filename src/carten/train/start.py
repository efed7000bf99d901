"""Training that starts from a trained model: its weights, and reference energies that move to other labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from ase.data import chemical_symbols

from carten.data.batches import BatchSampler, Bounds
from carten.data.dataset import Dataset, collate
from carten.data.labels import Frame
from carten.data.statistics import reference_energies
from carten.errors import ConfigError
from carten.model.conditions import Category, Coupled, Input
from carten.model.config import NetworkConfig
from carten.properties.io import load
from carten.properties.planning import ENERGIES
from carten.properties.potential import Potential
from carten.train.baseline import by_level
from carten.train.config import Config
from carten.train.sets import Sets
from carten.train.transplant import take_over


def read_start(config: Config) -> tuple[Config, Potential | None]:
    """The model that a run starts from, and the configuration with its network where none is configured.

    Raises:
        ConfigError: another network or other energy terms are configured.
        ModelFileError: the file cannot be read.
    """
    if config.start is None:
        return config, None
    source = load(config.start)
    if "model" not in config.model_fields_set:
        config = config.model_copy(update={"model": source.config})
    if config.model != source.config:
        raise ConfigError(
            f"model: {_differences(config.model, source.config)} in {config.start}; "
            "leave the section out, or make it equal"
        )
    if config.terms != source.term_configs:
        kinds = ", ".join(term.kind for term in source.term_configs) or "none"
        raise ConfigError(f"terms: {config.start} has {kinds}; give the same, with the same options")
    return config, source


def _differences(configured: NetworkConfig, trained: NetworkConfig) -> str:
    ours, theirs = configured.model_dump(), trained.model_dump()
    return ", ".join(f"{key} is {ours[key]}, but {theirs[key]}" for key in ours if ours[key] != theirs[key])


def elements_at_start(source: Potential, present: Sequence[int], path: Path | None) -> tuple[int, ...]:
    """Elements of the model that a run starts from.

    Raises:
        ConfigError: the data have others.
    """
    if new := [chemical_symbols[number] for number in present if number not in source.elements]:
        names = " ".join(chemical_symbols[number] for number in source.elements)
        raise ConfigError(
            f"start: {path} knows {names}, the data have {', '.join(new)} as well; "
            "leave these structures out, or train without start"
        )
    return source.elements


def begin(model: Potential, source: Potential, config: Config, sets: Sets) -> None:
    """Take the weights and baselines of a trained model; readouts and embeddings that it lacks stay as they are.

    Readouts that this model lacks are dropped. New levels of theory begin as the first of the trained model.

    Energies of isolated atoms that the configuration asks for replace those of the model. By default E0 of each level
    of theory moves instead, by the least-squares fit of what the energies differ from those predicted: the energies of
    another functional or other pseudopotentials are those of this one and something for each atom, and little else.

    Args:
        model: untrained, of the same network and elements.
        source: trained.
        config: of the run.
        sets: the data.

    Raises:
        ConfigError: the trained model requires an input that this one lacks, or one of its weights does not fit.
    """
    for name, row in source.inputs.items():
        if not isinstance(row.embed, Coupled):
            _require_same_input(name, row, model, config)
    if misfits := take_over(model, source):
        raise ConfigError(
            f"start: {misfits[0]} has another shape in {config.start}: the network or the definition of a property or "
            "input differs; make it equal, or train without start"
        )
    if "energy" in {row.name for row in sets.train.properties} and ENERGIES in source.heads:
        _set_energies(model, config, sets)


def changes(model: Potential, source: Potential) -> list[str]:
    """What a model has more or less than the one that it starts from, in words."""
    ours, theirs = ({*each.heads, *each.inputs, *_levels(each)} for each in (model, source))
    lines = [("new", sorted(ours - theirs)), ("dropped", sorted(theirs - ours))]
    return [f"{heading}: {', '.join(names)}" for heading, names in lines if names]


def _levels(model: Potential) -> list[str]:
    return [] if model.levels is None else [f"{model.levels.name} {value}" for value in model.levels.values]


def _require_same_input(name: str, row: Input, model: Potential, config: Config) -> None:
    if name not in model.inputs:
        raise ConfigError(f"start: {config.start} requires the input {name}: add it under inputs")
    ours = model.inputs[name]
    kinds = [
        replace(each.embed, values=()) if isinstance(each.embed, Category) else each.embed for each in (ours, row)
    ]
    if kinds[0] != kinds[1] or ours.scale != row.scale:
        raise ConfigError(
            f"inputs.{name}: expected {row.embed} of scale {row.scale:g} as in {config.start}, "
            f"found {ours.embed} of scale {ours.scale:g}; make it equal"
        )


def _set_energies(model: Potential, config: Config, sets: Sets) -> None:
    reference = model.heads[ENERGIES].get_buffer("reference")
    if moved := config.reference_energies == "auto":
        bounds = config.data.batch
        frames = _deviations(model, sets.train, Bounds(bounds.structures, bounds.atoms, bounds.edges))
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
