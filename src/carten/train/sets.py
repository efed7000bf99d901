"""The data of a run: read, checked, split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from ase.data import atomic_numbers, chemical_symbols

from carten.data.dataset import Dataset, split
from carten.data.labels import Frame, Label, frames_from, read_frames, weighted
from carten.data.read import read_structures
from carten.data.remainder import without
from carten.data.statistics import elements, reference_energies
from carten.errors import ConfigError, DataError
from carten.model.conditions import Category, Fidelity, Input
from carten.properties.fixed import Fixed
from carten.properties.routes import Property
from carten.properties.spec import property_table
from carten.train.baseline import by_level
from carten.train.conditions import input_labels
from carten.train.config import Config
from carten.train.loss import LossTerm
from carten.train.terms import untrained

if TYPE_CHECKING:
    from ase import Atoms


@dataclass(frozen=True)
class Sets:
    """What a run trains on, validates on and, perhaps, tests on: labels without the share of fixed terms.

    Args:
        train: without isolated atoms, unless nothing else is there.
        validation: chooses the best model.
        test: looked at once, at the end.
        references: E0 in eV by atomic number of every element in the training files, of each level of theory; empty
            when there are none.
        elements: atomic numbers in the training files.
        inputs: what the model is told besides the atoms.
    """

    train: Dataset
    validation: Dataset
    test: Dataset | None
    references: tuple[Mapping[int, float], ...]
    elements: tuple[int, ...]
    inputs: tuple[Input, ...] = ()

    @property
    def level(self) -> str | None:
        """Name of the input that tells the level of theory."""
        return next((row.name for row in self.inputs if isinstance(row.embed, Fidelity)), None)


@dataclass(frozen=True)
class _Wanted:
    """What is read from files."""

    labels: Sequence[Label]
    inputs: Sequence[Label]
    weight: str | None
    fixed: Fixed
    cutoff: float

    def frames(self, structures: Sequence[tuple[str, Atoms]]) -> list[Frame]:
        """The structures as they are trained on; those of weight 0 are left out."""
        frames = frames_from(structures, self.labels, self.inputs)
        frames = frames if self.weight is None else weighted(frames, structures, self.weight)
        return without(self.fixed, [frame for frame in frames if frame.weight > 0.0], self.cutoff)

    def read(self, paths: Sequence[Path]) -> list[Frame]:
        """Frames of files that need not carry every label; they all weigh 1."""
        frames = read_frames(paths, [replace(label, required=False) for label in self.labels], self.inputs)
        return without(self.fixed, frames, self.cutoff)

    @property
    def rows(self) -> tuple[Input, ...]:
        """Of the inputs."""
        return tuple(label.row for label in self.inputs if isinstance(label.row, Input))


def read_sets(config: Config, terms: Sequence[LossTerm]) -> Sets:
    """Read, check and split the data.

    Raises:
        DataError: a file or structure is wrong, a structure lacks an input that has no default, no structure to train
            on carries a label that has a weight, none to validate on carries any, or none has one of the values of an
            input.
        ConfigError: the split leaves nothing, an input is not known, or reference energies do not fit the elements.
    """
    structures = read_structures(config.data.train)
    rows = [term.property for term in terms]
    inputs = input_labels(config.inputs, [*rows, *untrained(config, rows)], structures)
    present = {number for _, atoms in structures for number in atoms.numbers.tolist()}
    told = [label.row for label in inputs if isinstance(label.row, Input)]
    fixed = Fixed(config.terms, config.model, sorted(present), rows, told)
    wanted = _Wanted(_labels(config, terms), inputs, config.data.weight, fixed, config.model.cutoff)
    everything = wanted.frames(structures)
    frames = [frame for frame in everything if not frame.is_isolated_atom] or everything
    train, validation = _split(config, frames, wanted)
    _require_labels(train, terms)
    _require_any(validation, terms)
    _require_values(everything, wanted.rows)
    trained = "energy" in {label.name for label in wanted.labels}
    sets = [_dataset(config, terms, part) for part in (train, validation)]
    test = _dataset(config, terms, wanted.read(config.data.test)) if config.data.test else None
    references = _references(config, everything, wanted.rows) if trained else ()
    return Sets(sets[0], sets[1], test, references, elements(everything), wanted.rows)


def _labels(config: Config, terms: Sequence[LossTerm]) -> list[Label]:
    rows = [term.property for term in terms]
    built_in = property_table()
    return [_label(row, config, new=row.name not in built_in) for row in rows]


def _label(row: Property, config: Config, new: bool) -> Label:
    given = config.properties[row.name]
    return Label(row, given.key or row.name, None if new else given.unit, project=given.project)


def _split(config: Config, frames: list[Frame], reader: _Wanted) -> tuple[list[Frame], list[Frame]]:
    wanted = config.data.validation
    if isinstance(wanted, tuple):
        return frames, reader.read(wanted)
    train, validation = split(len(frames), [wanted], config.seed)
    return [frames[k] for k in train], [frames[k] for k in validation]


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


def _require_values(frames: Sequence[Frame], inputs: Sequence[Input]) -> None:
    for row in inputs:
        if isinstance(row.embed, Category):
            found = {index for frame in frames for index in frame.inputs[row.name].tolist()}
            if untold := [value for index, value in enumerate(row.embed.values) if index not in found]:
                raise DataError(
                    f"inputs.{row.name}: none of the {len(frames)} structures of data.train has the value "
                    f"{untold[0]!r}, which can't be learned; add some, or remove it from values or default"
                )


def _dataset(config: Config, terms: Sequence[LossTerm], frames: Sequence[Frame]) -> Dataset:
    rows = [term.property for term in terms]
    dtype = torch.float64 if config.dtype == "float64" else torch.float32
    return Dataset(frames, rows, config.model.cutoff, dtype, prepared=config.data.workers == 0)


def _references(config: Config, frames: Sequence[Frame], inputs: Sequence[Input]) -> tuple[Mapping[int, float], ...]:
    """E0 of each level of theory."""
    given = config.reference_energies
    level = next((row for row in inputs if isinstance(row.embed, Fidelity)), None)
    levels = [""] if level is None or not isinstance(level.embed, Fidelity) else level.embed.values
    if isinstance(given, Mapping):
        return (_given_references(given, elements(frames)),) * len(levels)
    if given == "none":
        return ()
    parts = by_level(frames, None if level is None else level.name, len(levels))
    return tuple(_found_references(part, given) for part in parts)


def _found_references(frames: Sequence[Frame], how: Literal["auto", "isolated", "fitted"]) -> Mapping[int, float]:
    """E0 of the elements of one level; none where no structure of the level has an energy."""
    return reference_energies(frames, how).values if any("energy" in frame.labels for frame in frames) else {}


def _given_references(given: Mapping[str, float], present: Sequence[int]) -> Mapping[int, float]:
    if unknown := [symbol for symbol in given if symbol not in atomic_numbers]:
        raise ConfigError(f"reference_energies.{unknown[0]}: expected the symbol of an element, as in {{H: -13.6}}")
    if missing := [chemical_symbols[number] for number in present if chemical_symbols[number] not in given]:
        raise ConfigError(f"reference_energies: no energy for {', '.join(missing)}, which the data contain")
    return {atomic_numbers[symbol]: energy for symbol, energy in given.items()}
