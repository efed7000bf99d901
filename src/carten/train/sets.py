"""The data of a run: read, checked, split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols

from carten.data.dataset import Dataset
from carten.data.labels import Frame, Label, frames_from, weighted
from carten.data.read import read_structures
from carten.data.remainder import without
from carten.data.statistics import elements
from carten.errors import DataError
from carten.model.conditions import Category, Fidelity, Input
from carten.properties.fixed import Fixed
from carten.properties.routes import Property
from carten.properties.spec import property_table
from carten.train.conditions import input_labels, with_replayed_level
from carten.train.config import Config
from carten.train.groups import Groups, find_groups, weights_by_group
from carten.train.loss import LossTerm
from carten.train.references import find_references, undetermined
from carten.train.split import same_geometry, split_apart
from carten.train.start_config import ReplayConfig
from carten.train.terms import property_row, untrained

if TYPE_CHECKING:
    from ase import Atoms

Structures = Sequence[tuple[str, "Atoms"]]


@dataclass(frozen=True)
class Sets:
    """Training, validation and optional test sets of a run: labels without the contribution of fixed terms.

    Args:
        train: without isolated atoms, unless nothing else is there.
        validation: chooses the best model.
        test: looked at once, at the end.
        references: E0 in eV by atomic number of every element in the training files, of each level of theory; empty
            when there are none.
        elements: atomic numbers that the model knows: those in the training files, and of the model that the run starts
            from.
        inputs: what the model requires besides the atoms.
        groups: of all structures.
        notes: what is to be said of the data.
    """

    train: Dataset
    validation: Dataset
    test: Dataset | None
    references: tuple[Mapping[int, float], ...]
    elements: tuple[int, ...]
    inputs: tuple[Input, ...]
    groups: Groups
    notes: tuple[str, ...] = ()

    @property
    def level(self) -> str | None:
        """Name of the input that holds the level of theory."""
        return next((row.name for row in self.inputs if isinstance(row.embed, Fidelity)), None)


@dataclass(frozen=True)
class _Reader:
    """What is read of structures.

    Args:
        labels: of trained properties.
        inputs: of the model.
        fixed: terms whose share is subtracted.
        cutoff: of the model, Å.
        elements: atomic numbers that the model will know.
    """

    labels: Sequence[Label]
    inputs: Sequence[Label]
    fixed: Fixed
    cutoff: float
    elements: frozenset[int]

    def train(self, structures: Structures, groups: Groups, config: Config) -> list[Frame]:
        """The structures as they are trained on; those of weight 0 are left out."""
        frames = frames_from(structures, self.labels, self.inputs)
        if config.data.weight is not None:
            frames = weighted(frames, structures, config.data.weight)
        if config.data.group_weights:
            weights = weights_by_group(frames, groups, config.data.group_weights)
            frames = [replace(frame, weight=weight) for frame, weight in zip(frames, weights, strict=True)]
        kept = [frame for frame in frames if frame.weight > 0.0]
        if not kept:
            raise DataError(
                f"all {len(frames)} structures of data.train have the weight 0 (data.weight, data.group_weights): "
                "give some a larger one"
            )
        return without(self.fixed, kept, self.cutoff)

    def other(self, structures: Structures, key: str) -> list[Frame]:
        """Frames of files that need not carry every label; they all weigh 1."""
        frames = frames_from(structures, [replace(label, required=False) for label in self.labels], self.inputs)
        _require_elements(frames, self.elements, key)
        return without(self.fixed, frames, self.cutoff)

    @property
    def rows(self) -> tuple[Input, ...]:
        """Of the inputs."""
        return tuple(label.row for label in self.inputs if isinstance(label.row, Input))


def read_sets(config: Config, terms: Sequence[LossTerm], start_elements: Sequence[int] = ()) -> Sets:
    """Read, check and split the data.

    Args:
        config: of the run.
        terms: of the loss.
        start_elements: those of the model that the run starts from which its model keeps.

    Raises:
        DataError: a file or structure is wrong, a structure lacks an input that has no default, no structure to train
            on carries a label that has a weight, none to validate on carries any, none has one of the values of an
            input, or an element occurs in validation or test alone.
        ConfigError: the split leaves nothing, an input or a group is not known, or reference energies do not fit the
            elements.
    """
    structures = read_structures(config.data.train, config.data.format)
    rows = [term.property for term in terms]
    inputs = input_labels(config.inputs, [*rows, *untrained(config, rows)], structures)
    inputs = [with_replayed_level(label, config.replay) for label in inputs]
    present = frozenset({*start_elements, *(number for _, atoms in structures for number in atoms.numbers.tolist())})
    input_rows = [label.row for label in inputs if isinstance(label.row, Input)]
    fixed = Fixed(config.terms, config.model, sorted(present), rows, input_rows)
    reader = _Reader(labels_of(config, terms), inputs, fixed, config.model.cutoff, present)
    groups = find_groups(structures, config.data.group)
    everything = reader.train(structures, groups, config)
    files = {"validation": config.data.validation, "test": config.data.test}
    own_files = {key: paths for key, paths in files.items() if isinstance(paths, tuple)}
    structures_of = {key: read_structures(paths, config.data.format) for key, paths in own_files.items()}
    others = {key: reader.other(separate_set, f"data.{key}") for key, separate_set in structures_of.items()}
    for separate_set in structures_of.values():
        groups = groups.joined(separate_set)
    frames = [frame for frame in everything if not frame.is_isolated(config.model.cutoff)] or everything
    train, validation, notes = _split(config, frames, others, structures)
    _require_labels(train, terms)
    _require_any(validation, terms)
    _require_values(everything, reader.rows, config.replay)
    trained = "energy" in {label.name for label in reader.labels}
    references = find_references(config, everything, reader.rows) if trained else ()
    if config.start is None or config.reference_energies != "auto":
        notes = [*undetermined(references), *notes]
    return Sets(
        _dataset(config, terms, train),
        _dataset(config, terms, validation),
        _dataset(config, terms, others["test"]) if "test" in others else None,
        tuple(level.values for level in references),
        tuple(sorted({*elements(everything), *start_elements})),
        reader.rows,
        groups,
        tuple(notes),
    )


def configured_labels(config: Config) -> dict[str, Label]:
    """Properties of a configuration as labels, those without weight too."""
    built_in = property_table()
    rows = [property_row(name, row) for name, row in config.properties.items()]
    return {row.name: _label(row, config, new=row.name not in built_in) for row in rows}


def labels_of(config: Config, terms: Sequence[LossTerm]) -> list[Label]:
    """What is read of the files of a run."""
    rows = [term.property for term in terms]
    built_in = property_table()
    return [_label(row, config, new=row.name not in built_in) for row in rows]


def _label(row: Property, config: Config, new: bool) -> Label:
    configured = config.properties[row.name]
    return Label(row, configured.key or row.name, None if new else configured.unit, project=configured.project)


def _split(
    config: Config, frames: list[Frame], others: Mapping[str, list[Frame]], structures: Structures
) -> tuple[list[Frame], list[Frame], list[str]]:
    """Frames for training and validation, and remarks on the split."""
    cutoff, part = config.model.cutoff, config.data.validation
    if isinstance(part, tuple):
        notes = [_leak(frames, others[key], key, cutoff) for key in others]
        return frames, others["validation"], [note for note in notes if note]
    keys = None
    if config.data.together is not None:
        members = find_groups(structures, config.data.together).members
        keys = [members[frame.where] for frame in frames]
    sides = split_apart(frames, part, config.seed, cutoff, keys)
    train, validation = ([frames[k] for k in side] for side in (sides.train, sides.validation))
    _require_elements(validation, frozenset(elements(train)), "data.validation (drawn by seed)")
    leak = _leak(frames, others["test"], "test", cutoff) if "test" in others else ""
    return train, validation, [*sides.notes, *([leak] if leak else [])]


def _leak(frames: Sequence[Frame], others: Sequence[Frame], key: str, cutoff: float) -> str:
    """Warning for structures that are in two sets."""
    count = len(frames)
    twins = same_geometry([*frames, *others], cutoff)
    shared = [index for group in twins if min(group) < count for index in group if index >= count]
    if not shared:
        return ""
    return (
        f"{len(shared)} of the {len(others)} structures of data.{key} are in data.train too, the first is "
        f"{others[min(shared) - count].where}: errors on them say nothing about new structures"
    )


def _require_elements(frames: Sequence[Frame], trained_elements: frozenset[int], key: str) -> None:
    for frame in frames:
        if unknown := sorted({int(number) for number in np.unique(frame.numbers)} - trained_elements):
            names = ", ".join(chemical_symbols[number] for number in unknown)
            raise DataError(
                f"{key}: {frame.where} contains {names}, which no structure that is trained on has: "
                "add such structures to data.train, or remove it"
            )


def _require_labels(frames: Sequence[Frame], terms: Sequence[LossTerm]) -> None:
    for name in (term.property.name for term in terms):
        if not any(name in frame.labels for frame in frames):
            raise DataError(
                f"properties.{name} has a weight but none of the {len(frames)} structures left for training carries it "
                "(isolated atoms and validation are not trained on); set its weight to 0, or correct the data"
            )


def _require_any(frames: Sequence[Frame], terms: Sequence[LossTerm]) -> None:
    names = [term.property.name for term in terms]
    if not any(name in frame.labels for frame in frames for name in names):
        raise DataError(
            f"data.validation: none of the {len(frames)} structures for validation carries a label of "
            f"{', '.join(names)}, so that no model is better than another; take others, or more"
        )


def _require_values(frames: Sequence[Frame], inputs: Sequence[Input], replay: ReplayConfig | None) -> None:
    replayed = None if replay is None else replay.level
    for row in inputs:
        if isinstance(row.embed, Category):
            present = {index for frame in frames for index in frame.inputs[row.name].tolist()}
            present |= {index for index, value in enumerate(row.embed.values) if str(value) == replayed}
            if absent := [value for index, value in enumerate(row.embed.values) if index not in present]:
                raise DataError(
                    f"inputs.{row.name}: none of the {len(frames)} structures of data.train has the value "
                    f"{absent[0]!r}, which can't be learned; add some, or remove it from values or default"
                )


def _dataset(config: Config, terms: Sequence[LossTerm], frames: Sequence[Frame]) -> Dataset:
    rows = [term.property for term in terms]
    return Dataset(frames, rows, config.model.cutoff, prepared=config.data.workers == 0)
