"""Structures of before, trained on beside new ones so that a model does not forget them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from tempfile import TemporaryFile

import numpy as np
import torch

from carten.data.batches import BatchSampler, Bounds
from carten.data.collection import Collection, open_collection
from carten.data.dataset import Dataset, collate
from carten.data.frames import Frames
from carten.data.labels import Frame, Label
from carten.data.remainder import without_fixed
from carten.data.sequences import Chained, LazySequence
from carten.data.structures import require_known
from carten.errors import ConfigError, DataError
from carten.math.arrays import Array
from carten.model.conditions import Fidelity, Input
from carten.properties.fixed import Fixed
from carten.properties.potential import Potential
from carten.properties.routes import Property
from carten.train.config import Config
from carten.train.loss import LossTerm
from carten.train.sets import MOST_PREPARED, Sets, labels_of
from carten.train.start_config import ReplayConfig


@dataclass(frozen=True)
class Replay:
    """Structures to replay, those of ``replay`` in the configuration.

    Args:
        collection: of structures, which are read when they are asked for where they are on disk.
        rows: (n,) which of them.
        config: the section.
    """

    collection: Collection
    rows: Array
    config: ReplayConfig

    @classmethod
    def read(cls, config: Config, source: Potential | None) -> Replay | None:
        """From the files; None where nothing is replayed.

        Raises:
            DataError: a file can't be read.
            ModelError: a structure has an element that the trained model does not know.
        """
        if config.replay is None or source is None:
            return None
        collection = open_collection(config.replay.data, config.data.format)
        rows = np.arange(len(collection))
        if (count := config.replay.structures) is not None and count < len(rows):
            rows = np.sort(np.random.default_rng(config.seed).choice(len(rows), count, replace=False))
        replay = cls(collection, rows, config.replay)
        for number in sorted({*replay.elements} - {*source.elements}):
            row = int(rows[np.argmax(collection.table.has_element(number)[rows])])
            require_known(collection[row][1].numbers, source.elements, f"replay.data: {collection.where(row)}")
        return replay

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers in the structures."""
        return self.collection.table.take(self.rows).elements

    def added(self, sets: Sets, config: Config, terms: Sequence[LossTerm], model: Potential, source: Potential) -> Sets:
        """The data of a run with the structures among those that are trained on.

        Args:
            sets: the data.
            config: of the run.
            terms: of the loss.
            model: before its first step: it predicts as ``source`` does, but for energies of atoms, which are those of
                the level of theory of the structures.
            source: the trained model.

        Raises:
            ConfigError: ``replay.level`` does not fit the levels of theory of the model.
            DataError: a structure lacks an input, or none has a label.
        """
        frames: Frames | Predicted
        if self.config.labels == "files":
            rows = [term.property for term in terms]
            fixed = Fixed(config.terms, config.model, model.elements, rows, sets.inputs)
            frames = self._frames(sets, config, labels_of(config, terms), fixed)
        else:
            bounds = config.data.batch
            frames = self._frames(sets, config)
            rows = [term.property for term in terms if term.property.name in source.properties]
            batches = Bounds(bounds.structures, bounds.atoms, bounds.edges)
            frames = predicted(model, frames, rows, batches)
        train, together = sets.train, Chained(sets.train.frames, frames)
        n_atoms = np.concatenate([train.n_atoms(), frames.n_atoms])
        few = self.collection.in_memory and isinstance(train.frames, Frames) and train.frames.in_memory
        in_memory = config.data.workers == 0 and few and int(n_atoms.sum()) <= MOST_PREPARED
        dataset = Dataset(together, train.properties, config.model.cutoff, in_memory, n_atoms)
        labels_from = "labels in the files" if self.config.labels == "files" else "labels of the model of start"
        note = f"replays {len(frames)} structures of weight {self.config.weight:g}, {labels_from}"
        mixture = None if sets.mixture is None else sets.mixture.with_more(len(frames))
        return replace(sets, train=dataset, notes=(note, *sets.notes), mixture=mixture)

    def _frames(
        self, sets: Sets, config: Config, labels: Sequence[Label] = (), fixed: Fixed | None = None
    ) -> Frames:
        """The structures with labels that are in the files, or with none."""
        inputs = _inputs(sets, config)
        chosen = np.zeros(len(self.collection), dtype=bool)
        chosen[self.rows] = True
        if labels:
            keys = {key for label in labels for key in label.keys}
            chosen &= self.collection.table.carries(sorted(keys))
        if not chosen.any():
            raise DataError(
                f"replay.data: none of the {len(self.rows)} structures has a label that is trained on; set "
                "replay.labels to model, which makes them, or take other files"
            )
        levels: dict[str, Array] = {}
        if self.config.level is not None:
            level = _level_input(inputs, self.config.level)
            inputs.remove(level)
            levels[level.name] = _code(level, self.config.level)
        remainder = _Remainder(levels, fixed, config.model.cutoff)
        return Frames.of(self.collection, labels, inputs, self.config.weight * chosen, remainder)


@dataclass(frozen=True)
class _Remainder:
    """What is done with frames as they are read: inputs are set, the share of fixed terms is subtracted."""

    inputs: Mapping[str, Array]
    fixed: Fixed | None
    cutoff: float

    def __call__(self, frame: Frame) -> Frame:
        if self.inputs:
            frame = replace(frame, inputs={**frame.inputs, **self.inputs})
        return frame if self.fixed is None or not self.fixed.terms else without_fixed(self.fixed, frame, self.cutoff)


class Predicted(LazySequence[Frame]):
    """Frames with labels that were predicted, which are kept in temporary files.

    Args:
        frames: without labels.
        labels: by property, (rows of all frames, ...).
        rows: the properties.
    """

    def __init__(self, frames: Frames, labels: Mapping[str, Array], rows: Sequence[Property]) -> None:
        self.frames, self.labels = frames, labels
        self.n_atoms = frames.n_atoms
        self._rows = rows
        self._starts = {row.name: _starts(row, self.n_atoms) for row in rows}

    def __len__(self) -> int:
        return len(self.frames)

    def item(self, number: int) -> Frame:
        frame = self.frames[number]
        rows = [row for row in self._rows if not row.per_volume or frame.has_volume]
        return replace(frame, labels={row.name: self._label(row, number) for row in rows})

    def _label(self, row: Property, number: int) -> Array:
        first, last = self._starts[row.name][number : number + 2]
        values = np.array(self.labels[row.name][first:last])
        label: Array = values[0] if row.scope == "structure" else values
        return label


def predicted(model: Potential, frames: Frames, rows: Sequence[Property], bounds: Bounds) -> Predicted:
    """Frames with labels that a model predicts, without the share of fixed terms."""
    data = Dataset(frames, rows, model.config.cutoff, prepared=False, n_atoms=frames.n_atoms)
    names = [row.name for row in rows]
    starts = {row.name: _starts(row, frames.n_atoms) for row in rows}
    labels = {row.name: _on_disk((starts[row.name][-1], *row.shape)) for row in rows}
    model.eval()
    for indices in BatchSampler(data, bounds, shuffle=False).batches(0):
        values = model.remainder(collate([data[index] for index in indices]).graph, names)
        for name in names:
            first, last = starts[name][indices[0]], starts[name][indices[-1] + 1]
            labels[name][first:last] = values[name].detach().cpu().to(torch.float64).numpy()
    model.train()
    return Predicted(frames, labels, rows)


def _starts(row: Property, n_atoms: Array) -> list[int]:
    """Where the rows of each structure begin, and where those of the last end."""
    return list(accumulate((row.n_rows(count) for count in n_atoms.tolist()), initial=0))


def _on_disk(shape: Sequence[int]) -> Array:
    """An array in a file that has no name, so that it lives as long as the array."""
    with TemporaryFile(prefix="carten-") as file:
        return np.memmap(file, np.float64, "w+", shape=tuple(shape))


def _inputs(sets: Sets, config: Config) -> list[Label]:
    """Where structures have the inputs of the model."""
    labels = []
    for row in sets.inputs:
        configured = config.inputs.get(row.name)
        key, unit = (configured.key, configured.unit) if configured is not None else (None, None)
        labels.append(Label(row, key or row.name, unit))
    return labels


def _level_input(inputs: Sequence[Label], level: str) -> Label:
    for label in inputs:
        if isinstance(label.row, Input) and isinstance(label.row.embed, Fidelity):
            return label
    raise ConfigError(
        f"replay.level: the model has no levels of theory, found {level!r}: add inputs: {{fidelity: {{}}}}, or "
        "remove this key"
    )


def _code(label: Label, level: str) -> Array:
    """A level of theory as frames have it."""
    values = label.row.embed.values if isinstance(label.row, Input) and isinstance(label.row.embed, Fidelity) else ()
    return np.array([list(map(str, values)).index(level)])
