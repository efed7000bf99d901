"""What a data file holds and what is suspicious about it: the report behind ``carten check``."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from carten.data.collection import Collection, GeometryBuilder, open_collection
from carten.data.consistency import agreements
from carten.data.findings import Duplicates, Report, counted_noun
from carten.data.frames import SAMPLE, STRATUM, Frames
from carten.data.geometry import closest_contacts, duplicates
from carten.data.guess import guess_labels, with_categories
from carten.data.label_check import InputCollector, LabelCollector
from carten.data.labels import Frame, Label, carries, frame_from, needs_volume
from carten.data.lookup import label_names
from carten.data.progress import Say, counted, silent
from carten.data.read import Paths
from carten.data.response import responses
from carten.data.statistics import ReferenceEnergies, reference_energies
from carten.data.stress import check_stress
from carten.data.table import StructureTable
from carten.errors import DataError
from carten.math.arrays import Array
from carten.properties.routes import Property

if TYPE_CHECKING:
    from ase import Atoms

_RUN = 50  # consecutive structures in a sample: labels are compared between neighbours
_CHARGES = ("charge", "total_charge", "net_charge", "molecular_charge")
_LAYOUTS = 100  # of which some structures are sampled


def check(
    paths: Paths,
    labels: Sequence[Label] | None = None,
    cutoff: float = 5.0,
    inputs: Sequence[Label] | None = None,
    format: str | None = None,
    say: Say = silent,
) -> Report:
    """Report on the structures and labels of one or more files.

    Every structure is looked at once. Names of labels, reference energies and comparisons of labels with each other
    are those of a sample where there are more than 20,000.

    Args:
        paths: as :func:`carten.data.read.read_structures`.
        labels: the properties and where they are; ``None``: those that :func:`carten.data.guess.guess_labels` finds.
        cutoff: for neighbours and contacts, in Å.
        inputs: what models can use, and where it is; ``None``: as for labels.
        format: as :func:`carten.data.read.read_structures`.
        say: takes lines on what takes long.

    Raises:
        DataError: a file cannot be read. What is wrong with single structures and labels is in ``Report.problems``.
        ConfigError: a unit is unknown or does not fit.
    """
    collection = open_collection(paths, format, say)
    table, sampled = collection.table, _sampled(collection.table)
    sample = {number: collection[number] for number in np.flatnonzero(sampled).tolist()}
    structures = list(sample.values())
    guess = guess_labels(structures)
    labels = guess.labels if labels is None else labels
    inputs = guess.inputs if inputs is None else [with_categories(label, structures) for label in inputs]
    _ = [label.factor for label in (*labels, *inputs)]  # a unit that does not fit is an error of the whole check
    looked = _Pass(collection, labels, inputs, cutoff, sample, say)
    references, undetermined = _references(looked.sample, cutoff)
    sound_labels = [collector for collector in looked.labels if len(collector.numbers)]
    rows = {c.label.name: c.label.row for c in sound_labels if isinstance(c.label.row, Property)}
    has_stress = any(collector.label.name == "stress" for collector in sound_labels)
    return Report(
        n_structures=len(table),
        atoms=(int(table.n_atoms.min()), float(table.n_atoms.mean()), int(table.n_atoms.max())),
        periodic={count: int(n) for count, n in enumerate(_directions(table)) if n},
        elements={number: int(table.has_element(number).sum()) for number in table.elements if number},
        cutoff=cutoff,
        neighbours=int(looked.geometry.n_edges.sum()) / max(int(table.n_atoms[looked.rows].sum()), 1),
        labels=tuple(collector.report(collection, references) for collector in sound_labels),
        inputs=tuple(collector.report() for collector in looked.inputs if collector.count),
        unused=_unused(collection, {key for label in (*labels, *inputs) for key in label.keys}),
        references=references,
        duplicates=looked.duplicates(),
        contacts=closest_contacts(looked.geometry.closest, lambda n: collection.where(int(looked.rows[n]))),
        stress=check_stress(looked.sample) if has_stress else None,
        agreements=agreements(looked.sample, rows) + responses(looked.sample),
        others={label.name: guess.others[label.name] for label in labels if guess.others.get(label.name)},
        zero=tuple(key for key in guess.zero if key not in {label.file_key for label in labels}),
        left_out={label.name: count for label in labels if (count := _meaningless(table, label))},
        problems=(*looked.problems, *looked.impossible, *looked.uncarried(), *undetermined),
        hints=_hints(collection, labels, inputs),
        sampled=int(sampled.sum()),
    )


class _Pass:
    """One look at every structure."""

    def __init__(
        self,
        collection: Collection,
        labels: Sequence[Label],
        inputs: Sequence[Label],
        cutoff: float,
        sample: dict[int, tuple[str, Atoms]],
        say: Say,
    ) -> None:
        self._collection = collection
        self.labels = [LabelCollector(label) for label in labels]
        self.inputs = [InputCollector(label) for label in inputs]
        self._carried: Counter[str] = Counter()
        self.problems: list[str] = []
        self.impossible: list[str] = []
        self.sample: list[Frame] = []
        numbers = array("q")
        kept, builder = collection.kept_geometry(cutoff), GeometryBuilder(cutoff)
        for number in counted(range(len(collection)), "checking", len(collection), say):
            sampled = number in sample
            where, atoms = sample.pop(number) if sampled else collection[number]
            frame = self._frame(where, atoms)
            if frame is None:
                continue
            self._carried.update(frame.labels.keys())
            try:
                if kept is None:
                    builder.add(frame)
            except DataError as error:
                self.impossible.append(str(error))
                continue
            numbers.append(number)
            for label_collector in self.labels:
                label_collector.add(number, frame)
            for input_collector in self.inputs:
                input_collector.add(frame)
            if sampled:
                self.sample.append(frame)
        self.rows = np.asarray(numbers, dtype=np.int64)
        self.geometry = builder.finish() if kept is None else kept

    def _frame(self, where: str, atoms: Atoms) -> Frame | None:
        """The frame with the labels and inputs that it carries and that can be used; None without any."""
        labels = [collector.label for collector in self.labels]
        inputs = [collector.label for collector in self.inputs if carries(atoms, collector.label)]
        try:
            return frame_from(atoms, labels, inputs, where)
        except DataError:
            wrong = _problems(atoms, labels, inputs, where)
            self.problems += dict.fromkeys(wrong.values())
            if "" in wrong:
                return None
            sound_labels = [label for label in labels if label.name not in wrong]
            return frame_from(atoms, sound_labels, [label for label in inputs if label.name not in wrong], where)

    def uncarried(self) -> list[str]:
        """Labels that have to be there and are not."""
        return [
            f'label "{collector.label.file_key}" of {collector.label.name} is carried by no structure'
            for collector in self.labels
            if collector.label.required and not self._carried[collector.label.name]
        ]

    def duplicates(self) -> tuple[Duplicates, ...]:
        """Structures of equal geometry, and how far their energies are apart."""
        frames = Frames(self._collection, (), (), self.rows, np.ones(len(self.rows)))
        kinds = self._collection.table.kinds[self.rows]
        energies = {}
        for collector in self.labels:
            if collector.label.name == "energy":
                energies = dict(zip(*(column.tolist() for column in collector.energies()), strict=True))
        groups = []
        for group in duplicates(frames, kinds, self.geometry.signatures):
            numbers = self.rows[list(group)].tolist()
            values = [energies[number] for number in numbers if number in energies]
            spread = max(values) - min(values) if values else None
            groups.append(Duplicates(tuple(map(self._collection.where, numbers)), spread))
        return tuple(groups)


def _sampled(table: StructureTable) -> Array:
    """(n,) which structures are compared with each other: all, or runs of consecutive ones and some of each element."""
    if len(table) <= SAMPLE:
        return np.ones(len(table), dtype=bool)
    chosen = np.zeros(len(table), dtype=bool)
    starts = np.linspace(0, len(table) - _RUN, SAMPLE // _RUN).astype(np.int64)
    chosen[(starts[:, None] + np.arange(_RUN)).ravel()] = True
    order = np.random.default_rng(0).permutation(len(table))
    layouts = [table.layout == layout for layout in np.unique(table.layout)[:_LAYOUTS]]
    for stratum in (*(table.has_element(number) for number in table.elements), *layouts):
        chosen[order[stratum[order]][:STRATUM]] = True
    chosen[np.flatnonzero(table.n_atoms == 1)[:SAMPLE]] = True
    return chosen


def _directions(table: StructureTable) -> Array:
    """Numbers of structures that are periodic in 0, 1, 2 and 3 directions."""
    directions = sum((table.periodic >> bit) & 1 for bit in range(3))
    return np.bincount(np.asarray(directions), minlength=4)


def _meaningless(table: StructureTable, label: Label) -> int:
    return int((table.carries(label.keys) & ~table.has_volume).sum()) if needs_volume(label) else 0


def _problems(atoms: Atoms, labels: Sequence[Label], inputs: Sequence[Label], where: str) -> dict[str, str]:
    """What is wrong with a structure, under ``""``, and with its labels and inputs, under their names."""
    wrong = {}
    parts = [("", (), ()), *((x.name, [x], ()) for x in labels), *((x.name, (), [x]) for x in inputs)]
    for name, some_labels, some_inputs in parts:
        try:
            frame_from(atoms, some_labels, some_inputs, where)
        except DataError as error:
            wrong[name] = str(error)
    return wrong


def _references(frames: Sequence[Frame], cutoff: float) -> tuple[ReferenceEnergies | None, list[str]]:
    used = [frame for frame in frames if "energy" in frame.labels]
    if not used:
        return None, []
    try:
        return reference_energies(used, cutoff=cutoff), []
    except DataError as error:
        return None, [str(error)]


def _hints(collection: Collection, labels: Sequence[Label], inputs: Sequence[Label]) -> tuple[str, ...]:
    """What entries may be meant as."""
    table, hints = collection.table, []
    dipole = next((label for label in labels if label.name == "dipole"), None)
    if dipole is not None and (count := int((table.carries(dipole.keys) & table.has_volume).sum())):
        hints.append(
            f"dipoles of {counted_noun(count, 'periodic structure')} are defined up to e times lattice vectors: train "
            f"them as polarization (properties: {{polarization: {{key: {dipole.file_key}}}}})"
        )
    charges = () if "total_charge" in {label.name for label in inputs} else _CHARGES
    hints += [
        f"{name} may be the total charge of {counted_noun(int(table.carries([name]).sum()), 'structure')}: a model "
        f"takes it as an input (inputs: {{total_charge: {{key: {name}}}}})"
        for name in charges
        if name in table.numbers
    ]
    return tuple(hints)


def _unused(collection: Collection, used: set[str]) -> tuple[tuple[str, tuple[int, ...], int], ...]:
    unused = []
    for name in collection.table.names:
        carriers = collection.table.carries([name])
        shape = label_names(collection[int(np.argmax(carriers))][1]).get(name) if name not in used else None
        if shape is not None:
            unused.append((name, shape, int(carriers.sum())))
    return tuple(unused)
