"""What a data file holds and what is suspicious about it: the report behind ``carten check``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from carten.data.consistency import agreements
from carten.data.findings import Duplicates, Report
from carten.data.geometry import SIGNATURE, Surroundings, closest_contacts, duplicates, kinds_of, surroundings
from carten.data.guess import guess_labels, with_categories
from carten.data.label_check import input_report, label_report
from carten.data.labels import MAX_NUMBER, Frame, Label, carried, carries, frame_from, is_meaningless
from carten.data.lookup import label_names
from carten.data.read import Paths, read_structures
from carten.data.response import responses
from carten.data.statistics import ReferenceEnergies, reference_energies
from carten.data.stress import check_stress
from carten.errors import DataError
from carten.properties.routes import Property

if TYPE_CHECKING:
    from ase import Atoms


def check(
    paths: Paths,
    labels: Sequence[Label] | None = None,
    cutoff: float = 5.0,
    inputs: Sequence[Label] | None = None,
    format: str | None = None,
) -> Report:
    """Report on the structures and labels of one or more files.

    Args:
        paths: as :func:`carten.data.read.read_structures`.
        labels: the properties and where they are; ``None``: those that :func:`carten.data.guess.guess_labels` finds.
        cutoff: for neighbours and contacts, in Å.
        inputs: what models can use, and where it is; ``None``: as for labels.
        format: as :func:`carten.data.read.read_structures`.

    Raises:
        DataError: a file cannot be read. What is wrong with single structures and labels is in ``Report.problems``.
        ConfigError: a unit is unknown or does not fit.
    """
    structures = read_structures(paths, format)
    guess = guess_labels(structures)
    labels = guess.labels if labels is None else labels
    inputs = guess.inputs if inputs is None else [with_categories(label, structures) for label in inputs]
    frames, problems = _sound_labels(structures, labels, inputs)
    sound, environments, impossible = _sound_geometries(frames, cutoff)
    references, undetermined = _references(sound, cutoff)
    problems += impossible + _uncarried(frames, labels) + undetermined
    carried_labels = [label for label in labels if carried(sound, label.name)]
    rows = {label.name: label.row for label in carried_labels if isinstance(label.row, Property)}
    n_atoms = [len(atoms) for _, atoms in structures]
    return Report(
        n_structures=len(structures),
        atoms=(min(n_atoms), float(np.mean(n_atoms)), max(n_atoms)),
        periodic=dict(sorted(Counter(int(atoms.pbc.sum()) for _, atoms in structures).items())),
        elements=_elements(structures),
        cutoff=cutoff,
        neighbours=sum(around.n_edges for around in environments) / max(sum(len(frame) for frame in sound), 1),
        labels=tuple(label_report(label, sound, references) for label in carried_labels),
        inputs=tuple(input_report(label, sound) for label in inputs if any(label.name in f.inputs for f in sound)),
        unused=_unused(structures, {key for label in (*labels, *inputs) for key in label.keys}),
        references=references,
        duplicates=_duplicates(sound, environments),
        contacts=closest_contacts(sound, environments),
        stress=check_stress(sound) if carried(sound, "stress") else None,
        agreements=agreements(sound, rows) + responses(sound),
        others={label.name: guess.others[label.name] for label in labels if guess.others.get(label.name)},
        zero=tuple(key for key in guess.zero if key not in {label.file_key for label in labels}),
        left_out={label.name: count for label in labels if (count := _meaningless(structures, label))},
        problems=tuple(problems),
    )


def _elements(structures: Sequence[tuple[str, Atoms]]) -> dict[int, int]:
    counts = Counter(int(number) for _, atoms in structures for number in np.unique(atoms.numbers))
    return {number: counts[number] for number in sorted(counts) if 1 <= number <= MAX_NUMBER}


def _uncarried(frames: Sequence[Frame], labels: Sequence[Label]) -> list[str]:
    return [
        f'label "{label.file_key}" of {label.name} is carried by no structure'
        for label in labels
        if label.required and not carried(frames, label.name)
    ]


def _meaningless(structures: Sequence[tuple[str, Atoms]], label: Label) -> int:
    return sum(is_meaningless(atoms, label) for _, atoms in structures)


def _sound_labels(
    structures: Sequence[tuple[str, Atoms]], labels: Sequence[Label], inputs: Sequence[Label]
) -> tuple[list[Frame], list[str]]:
    """Frames with the labels and inputs that they carry and that can be used, and what is wrong with the others."""
    _ = [label.factor for label in (*labels, *inputs)]  # a unit that does not fit is an error of the whole check
    frames: list[Frame] = []
    problems: list[str] = []
    for where, atoms in structures:
        carried_inputs = [label for label in inputs if carries(atoms, label)]
        try:
            frames.append(frame_from(atoms, labels, carried_inputs, where))
        except DataError:
            wrong = _problems(atoms, labels, carried_inputs, where)
            problems += dict.fromkeys(wrong.values())
            if "" not in wrong:
                sound_labels = [label for label in labels if label.name not in wrong]
                sound_inputs = [label for label in carried_inputs if label.name not in wrong]
                frames.append(frame_from(atoms, sound_labels, sound_inputs, where))
    return frames, problems


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


def _sound_geometries(frames: Sequence[Frame], cutoff: float) -> tuple[list[Frame], list[Surroundings], list[str]]:
    sound, environments, problems = [], [], []
    for frame in frames:
        try:
            environments.append(surroundings(frame, cutoff))
            sound.append(frame)
        except DataError as error:
            problems.append(f"{frame.where}: {error}")
    return sound, environments, problems


def _references(frames: Sequence[Frame], cutoff: float) -> tuple[ReferenceEnergies | None, list[str]]:
    used = [frame for frame in frames if "energy" in frame.labels]
    if not used:
        return None, []
    try:
        return reference_energies(used, cutoff=cutoff), []
    except DataError as error:
        return None, [str(error)]


def _unused(structures: Sequence[tuple[str, Atoms]], used: set[str]) -> tuple[tuple[str, tuple[int, ...], int], ...]:
    shapes: dict[str, tuple[int, ...]] = {}
    counts: Counter[str] = Counter()
    for _, atoms in structures:
        for name, shape in label_names(atoms).items():
            if name not in used:
                shapes.setdefault(name, shape)
                counts[name] += 1
    return tuple((name, shapes[name], counts[name]) for name in sorted(shapes))


def _duplicates(frames: Sequence[Frame], environments: Sequence[Surroundings]) -> tuple[Duplicates, ...]:
    groups = []
    signatures = np.array([around.signature for around in environments]).reshape(-1, SIGNATURE)
    for group in duplicates(frames, kinds_of(frames), signatures):
        members = [frames[index] for index in group]
        energies = [float(frame.labels["energy"]) for frame in members if "energy" in frame.labels]
        spread = max(energies) - min(energies) if energies else None
        groups.append(Duplicates(tuple(frame.where for frame in members), spread))
    return tuple(groups)
