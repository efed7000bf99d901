"""The data of a run: read, checked, split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols

from carten.data.batches import Mixture
from carten.data.collection import Collection, open_collection
from carten.data.dataset import Dataset
from carten.data.frames import SAMPLE, Frames
from carten.data.labels import Frame, Label, frame_from, needs_volume
from carten.data.lookup import offer_names
from carten.data.progress import Say, silent
from carten.data.remainder import without_fixed
from carten.errors import DataError
from carten.math.arrays import Array
from carten.model.conditions import Category, Fidelity, Input
from carten.properties.fixed import Fixed
from carten.properties.routes import Property
from carten.properties.spec import property_table
from carten.train.conditions import input_labels, with_replayed_level
from carten.train.config import Config
from carten.train.groups import Groups, find_groups, groups_by, mixture_of, united, weights_by_group
from carten.train.loss import LossTerm
from carten.train.references import find_references, undetermined
from carten.train.split import shared_geometries, split_apart
from carten.train.start_config import ReplayConfig
from carten.train.terms import property_row, untrained

MOST_PREPARED = 500_000
"""Atoms of structures in memory up to which their neighbour lists are kept there too."""


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
        groups: of the structures of ``train``, ``validation`` and ``test``, with names in common.
        sample: of ``train``, on which statistics are made; all of it where it is small.
        notes: what is to be said of the data.
        mixture: how often groups come; once by default.
    """

    train: Dataset
    validation: Dataset
    test: Dataset | None
    references: tuple[Mapping[int, float], ...]
    elements: tuple[int, ...]
    inputs: tuple[Input, ...]
    groups: Mapping[str, Groups]
    sample: Dataset
    notes: tuple[str, ...] = ()
    mixture: Mixture | None = None

    @property
    def group_names(self) -> tuple[str, ...]:
        """Of all groups."""
        return self.groups["train"].names

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

    def train(self, collection: Collection, groups: Groups, config: Config) -> Frames:
        """The structures as they are trained on; those of weight 0 are left out."""
        for label in (*self.labels, *self.inputs):
            require_carried(collection, label)
        weights = np.ones(len(collection))
        if config.data.weight is not None:
            weights = weights_of(collection, config.data.weight)
        if config.data.group_weights:
            weights = weights * weights_by_group(groups, config.data.group_weights)
        if not weights.any():
            raise DataError(
                f"all {len(collection)} structures of data.train have the weight 0 (data.weight, data.group_weights): "
                "give some a larger one"
            )
        return Frames.of(collection, self.labels, self.inputs, weights, self.remainder)

    def other(self, collection: Collection, key: str) -> Frames:
        """Frames of files that need not carry every label; they all weigh 1."""
        for label in self.inputs:
            require_carried(collection, label)
        frames = Frames.of(collection, self.labels, self.inputs, None, self.remainder)
        _require_elements(frames, self.elements, key)
        return frames

    def remainder(self, frame: Frame) -> Frame:
        """The frame with the share of fixed terms subtracted."""
        return without_fixed(self.fixed, frame, self.cutoff) if self.fixed.terms else frame

    @property
    def rows(self) -> tuple[Input, ...]:
        """Of the inputs."""
        return tuple(label.row for label in self.inputs if isinstance(label.row, Input))


def read_sets(
    config: Config, terms: Sequence[LossTerm], start_elements: Sequence[int] = (), say: Say = silent
) -> Sets:
    """Read, check and split the data.

    Args:
        config: of the run.
        terms: of the loss.
        start_elements: those of the model that the run starts from which its model keeps.
        say: takes lines on what takes long.

    Raises:
        DataError: a file or structure is wrong, a structure lacks an input that has no default, no structure to train
            on carries a label that has a weight, none to validate on carries any, none has one of the values of an
            input, or an element occurs in validation or test alone.
        ConfigError: the split leaves nothing, an input or a group is not known, or reference energies do not fit the
            elements.
    """
    data, cutoff = config.data, config.model.cutoff
    collection = open_collection(data.train, data.format, say)
    rows = [term.property for term in terms]
    inputs = input_labels(config.inputs, [*rows, *untrained(config, rows)], collection)
    inputs = [with_replayed_level(label, config.replay) for label in inputs]
    present = frozenset({*start_elements, *collection.table.elements})
    input_rows = [label.row for label in inputs if isinstance(label.row, Input)]
    fixed = Fixed(config.terms, config.model, sorted(present), rows, input_rows)
    reader = _Reader(labels_of(config, terms), inputs, fixed, cutoff, present)
    groups = find_groups(collection, data.group)
    everything = reader.train(collection, groups, config)
    files = {"validation": data.validation, "test": data.test}
    own_files = {key: paths for key, paths in files.items() if isinstance(paths, tuple)}
    collections = {key: open_collection(paths, data.format, say) for key, paths in own_files.items()}
    others = {key: reader.other(separate_set, f"data.{key}") for key, separate_set in collections.items()}
    frames = _without_isolated(everything, cutoff)
    train, validation, notes = _split(config, frames, others, say)
    _require_labels(train, terms)
    notes = [*_incomplete(train), *notes]
    _require_any(validation, terms)
    sample = everything.sample()
    _require_values(sample, reader.rows, config.replay)
    trained = "energy" in {label.name for label in reader.labels}
    references = find_references(config, sample, reader.rows) if trained else ()
    if config.start is None or config.reference_energies != "auto":
        notes = [*undetermined(references), *notes]
    if len(sample) < len(everything):
        notes = [f"statistics are those of {len(sample):,} of the {len(everything):,} structures", *notes]
    members = {key: groups_by(other, groups.key) for key, other in collections.items()}
    drawn = {"train": groups.take(train.rows), "validation": groups.take(validation.rows)}
    training = _dataset(config, terms, train, say)
    return Sets(
        training,
        _dataset(config, terms, validation, say),
        _dataset(config, terms, others["test"], say) if "test" in others else None,
        tuple(level.values for level in references),
        tuple(sorted({*everything.elements, *start_elements})),
        reader.rows,
        united({**drawn, **members}),
        training if train.in_memory and len(train) <= SAMPLE else _dataset(config, terms, _among(sample, train), say),
        tuple(notes),
        mixture_of(drawn["train"], data.group_sampling, data.temperature),
    )


def _among(sample: Frames, frames: Frames) -> Frames:
    """Those of a sample that are among other frames of the same collection: they are not read again."""
    return sample.take(np.flatnonzero(np.isin(sample.rows, frames.rows)))


def _without_isolated(frames: Frames, cutoff: float) -> Frames:
    """Without isolated atoms, unless nothing else is there."""
    single = np.flatnonzero(frames.n_atoms == 1)
    isolated = [number for number in single.tolist() if frames[number].is_isolated(cutoff)]
    if not isolated or len(isolated) == len(frames):
        return frames
    return frames.take(np.delete(np.arange(len(frames)), isolated))


def require_carried(collection: Collection, label: Label) -> None:
    """Check that some structure has a label, or that it need not.

    Raises:
        DataError: none has.
    """
    table = collection.table
    optional = not label.required or (isinstance(label.row, Input) and label.row.default is not None)
    if optional or table.carries(label.keys).any():
        return
    files = collection.files()[1]
    shown = ", ".join(files[:3]) + (", ..." if len(files) > 3 else "")
    names = {name: () for name in table.names if name not in table.texts}
    raise DataError(
        f'label "{label.file_key}" of {label.name} is carried by none of the {len(table)} structures of {shown}; '
        + offer_names(names, label.file_key)
    )


def weights_of(collection: Collection, key: str) -> Array:
    """The weights in the loss that structures carry under a name; 1 where they carry none.

    Raises:
        DataError: a weight is negative or not one finite number, or no structure carries one.
    """
    label = Label(Property("weight", "structure", "", +1, ""), key)
    require_carried(collection, label)
    carried = collection.table.carries([key])
    weights: Array = np.where(carried, collection.table.numbers.get(key, np.full(len(collection), np.nan)), 1.0)
    for number in np.flatnonzero(~(np.isfinite(weights) & (weights >= 0.0))).tolist():
        where, atoms = collection[number]
        weights[number] = frame_from(atoms, [label], (), where).labels["weight"]
        if weights[number] < 0.0:
            raise DataError(f'{where}: label "{key}" of weight should be at least 0, found {weights[number]:g}')
    return weights


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
    config: Config, frames: Frames, others: Mapping[str, Frames], say: Say
) -> tuple[Frames, Frames, list[str]]:
    """Frames for training and validation, and remarks on the split."""
    cutoff, part = config.model.cutoff, config.data.validation
    if isinstance(part, tuple):
        notes = [_leak(frames, others[key], key, cutoff, say) for key in others]
        return frames, others["validation"], [note for note in notes if note]
    keys = None
    if config.data.together is not None:
        keys = find_groups(frames.collection, config.data.together).codes[frames.rows]
    sides = split_apart(frames, part, config.seed, cutoff, keys, say)
    train, validation = frames.take(sides.train), frames.take(sides.validation)
    _require_elements(validation, frozenset(train.elements), "data.validation (drawn by seed)")
    leak = _leak(frames, others["test"], "test", cutoff, say) if "test" in others else ""
    return train, validation, [*sides.notes, *([leak] if leak else [])]


def _leak(frames: Frames, others: Frames, key: str, cutoff: float, say: Say) -> str:
    """Warning for structures that are in two sets."""
    shared = shared_geometries(frames, others, cutoff, say)
    if not shared:
        return ""
    return (
        f"{len(shared)} of the {len(others)} structures of data.{key} are in data.train too, the first is "
        f"{others.where(shared[0])}: errors on them say nothing about new structures"
    )


def _require_elements(frames: Frames, trained_elements: frozenset[int], key: str) -> None:
    if not (unknown := sorted({*frames.elements} - trained_elements)):
        return
    table = frames.collection.table
    first = min(int(np.argmax(table.has_element(number)[frames.rows])) for number in unknown)
    present = [number for number in unknown if table.has_element(number)[frames.rows[first]]]
    names = ", ".join(chemical_symbols[number] for number in present)
    raise DataError(
        f"{key}: {frames.where(first)} contains {names}, which no structure that is trained on has: "
        "add such structures to data.train, or remove it"
    )


def _labelled(frames: Frames, name: str) -> bool:
    return any(frames.carries(label).any() for label in frames.labels if label.name == name)


def _require_labels(frames: Frames, terms: Sequence[LossTerm]) -> None:
    for name in (term.property.name for term in terms):
        if not _labelled(frames, name):
            raise DataError(
                f"properties.{name} has a weight but none of the {len(frames)} structures left for training carries it "
                "(isolated atoms and validation are not trained on); set its weight to 0, or correct the data"
            )


def _incomplete(frames: Frames) -> list[str]:
    """Remarks on labels that some of the structures lack, of those that can have them."""
    notes = []
    for label in frames.labels:
        carried = frames.carries(label)
        lacking = np.flatnonzero(~carried & (frames.has_volume if needs_volume(label) else True))
        if len(lacking):
            notes.append(
                f"no {label.name} in {len(lacking):,} of the {len(frames):,} structures for training, the first is "
                f"{frames.where(int(lacking[0]))}: only other labels of these are trained on"
            )
    return notes


def _require_any(frames: Frames, terms: Sequence[LossTerm]) -> None:
    names = [term.property.name for term in terms]
    if not any(_labelled(frames, name) for name in names):
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


def _dataset(config: Config, terms: Sequence[LossTerm], frames: Frames, say: Say) -> Dataset:
    rows, cutoff = [term.property for term in terms], config.model.cutoff
    few = frames.collection.in_memory and int(frames.n_atoms.sum()) <= MOST_PREPARED
    prepared = config.data.workers == 0 and few
    n_edges = None if prepared else frames.n_edges(cutoff, say)
    return Dataset(frames, rows, cutoff, prepared, frames.n_atoms, n_edges)
