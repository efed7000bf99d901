"""Structures of before, trained on beside new ones so that a model does not forget them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from carten.data.batches import BatchSampler, Bounds
from carten.data.collection import open_collection
from carten.data.dataset import Dataset, collate
from carten.data.frames import Frames
from carten.data.labels import Frame, Label, frames_from
from carten.data.remainder import without
from carten.data.sequences import Chained
from carten.data.structures import require_known
from carten.errors import ConfigError, DataError
from carten.math.arrays import Array
from carten.model.conditions import Fidelity, Input
from carten.properties.fixed import Fixed
from carten.properties.potential import Potential
from carten.properties.routes import Property
from carten.train.config import Config
from carten.train.loss import LossTerm
from carten.train.sets import Sets, labels_of
from carten.train.start_config import ReplayConfig

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class Replay:
    """Structures to replay, those of ``replay`` in the configuration.

    Args:
        structures: each with where it comes from.
        config: the section.
    """

    structures: Sequence[tuple[str, Atoms]]
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
        rows = list(range(len(collection)))
        if (count := config.replay.structures) is not None and count < len(rows):
            rows = sorted(np.random.default_rng(config.seed).choice(len(rows), count, replace=False).tolist())
        structures = [collection[row] for row in rows]
        for where, atoms in structures:
            require_known(atoms.numbers, source.elements, f"replay.data: {where}")
        return cls(structures, config.replay)

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers in the structures."""
        return tuple(sorted({int(number) for _, atoms in self.structures for number in atoms.numbers}))

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
        inputs = _inputs(sets, config)
        structures = [(where, self._of_level(atoms, inputs)) for where, atoms in self.structures]
        if self.config.labels == "files":
            labels = [replace(label, required=False) for label in labels_of(config, terms)]
            frames = frames_from(structures, labels, inputs)
            rows = [term.property for term in terms]
            fixed = Fixed(config.terms, config.model, model.elements, rows, sets.inputs)
            frames = without(fixed, frames, config.model.cutoff)
        else:
            bounds = config.data.batch
            frames = frames_from(structures, (), inputs)
            rows = [term.property for term in terms if term.property.name in source.properties]
            data = Dataset(frames, rows, config.model.cutoff, prepared=False)
            frames = _predicted(model, data, Bounds(bounds.structures, bounds.atoms, bounds.edges))
        labelled = [replace(frame, weight=self.config.weight) for frame in frames if frame.labels]
        if not labelled:
            raise DataError(
                f"replay.data: none of the {len(frames)} structures has a label that is trained on; set replay.labels "
                "to model, which makes them, or take other files"
            )
        train, together = sets.train, Chained(sets.train.frames, labelled)
        in_memory = config.data.workers == 0 and isinstance(train.frames, Frames) and train.frames.in_memory
        n_atoms = np.concatenate([train.n_atoms(), [len(frame) for frame in labelled]])
        dataset = Dataset(together, train.properties, train.cutoff, in_memory, n_atoms)
        labels_from = "labels in the files" if self.config.labels == "files" else "labels of the model of start"
        note = f"replays {len(labelled)} structures of weight {self.config.weight:g}, {labels_from}"
        return replace(sets, train=dataset, notes=(note, *sets.notes))

    def _of_level(self, atoms: Atoms, inputs: Sequence[Label]) -> Atoms:
        """The structure with the level of theory that is configured, if any."""
        level = self.config.level
        if level is None:
            return atoms
        for label in inputs:
            if isinstance(label.row, Input) and isinstance(label.row.embed, Fidelity):
                labelled: Atoms = atoms.copy()
                labelled.calc = atoms.calc
                labelled.info[label.file_key] = {str(value): value for value in label.row.embed.values}[level]
                return labelled
        raise ConfigError(
            f"replay.level: the model has no levels of theory, found {level!r}: add inputs: {{fidelity: {{}}}}, or "
            "remove this key"
        )


def _inputs(sets: Sets, config: Config) -> list[Label]:
    """Where structures have the inputs of the model."""
    labels = []
    for row in sets.inputs:
        configured = config.inputs.get(row.name)
        key, unit = (configured.key, configured.unit) if configured is not None else (None, None)
        labels.append(Label(row, key or row.name, unit))
    return labels


def _predicted(model: Potential, data: Dataset, bounds: Bounds) -> list[Frame]:
    """The frames of a data set with labels that a model predicts, without the share of fixed terms."""
    names = [row.name for row in data.properties]
    frames = list(data.frames)
    model.eval()
    for indices in BatchSampler(data, bounds, shuffle=False).batches(0):
        values = model.remainder(collate([data[index] for index in indices]).graph, names)
        first = dict.fromkeys(names, 0)
        for index in indices:
            labels = {row.name: _part(row, values[row.name], len(frames[index]), first) for row in data.properties}
            meaningful = {row.name for row in data.properties if not row.per_volume or frames[index].has_volume}
            frames[index] = replace(frames[index], labels={name: labels[name] for name in labels if name in meaningful})
    model.train()
    return frames


def _part(row: Property, values: Tensor, n_atoms: int, first: dict[str, int]) -> Array:
    """The values of the next structure, whose first row is then counted up."""
    start = first[row.name]
    first[row.name] += row.n_rows(n_atoms)
    part: Array = values[start : first[row.name]].detach().cpu().numpy()
    return part[0] if row.scope == "structure" else part
