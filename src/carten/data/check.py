"""What a data file holds and what is suspicious about it: the report behind ``carten check``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from carten.data.consistency import Agreement, agreements
from carten.data.geometry import Contact, Surroundings, closest_contacts, duplicates, surroundings
from carten.data.labels import Frame, Label, carried, carries, categories, frame_from, label_names, obeying
from carten.data.read import Paths, read_structures
from carten.data.response import responses
from carten.data.statistics import ReferenceEnergies, energies_per_atom, reference_energies
from carten.data.stress import StressCheck, check_stress
from carten.errors import DataError
from carten.math.arrays import Array
from carten.model.conditions import Category, Input
from carten.properties.routes import Property
from carten.properties.spec import input_table, property_table

if TYPE_CHECKING:
    from ase import Atoms

OUTLIER = 8.0  # robust standard deviations
BROAD = 0.05  # with more outliers than this fraction, the distribution is broad and no structure stands out
SHOWN = 5


@dataclass(frozen=True)
class Outlier:
    """A structure whose value lies far from those of the others.

    Args:
        where: the structure.
        value: of the quantity compared, in the unit of the property.
        score: distance from the median in robust standard deviations (1.4826 median absolute deviations).
    """

    where: str
    value: float
    score: float


@dataclass(frozen=True)
class LabelReport:
    """One property in the data.

    Args:
        name: the property.
        key: its name in the file.
        unit: of all numbers here.
        carried: structures that carry it.
        lowest: smallest component.
        highest: largest component.
        mean: of all components.
        rms: of all components.
        compared: the quantity of which outliers are sought, in words.
        n_outliers: structures beyond 8 robust standard deviations.
        outliers: the worst of them; none if they are more than 5 % (a broad distribution).
        asymmetry: largest violation of the index symmetry, relative to the rms of its structure; ``None`` without one.
        asymmetric: the structure that has it.
        sums: rms and largest norm of the sum over the atoms of a structure, less the total it should be where the
            structures carry that, and the structure of the latter, for properties that obey a sum rule; ``None`` for
            others.
        total: what was subtracted, ``""`` for nothing.
    """

    name: str
    key: str
    unit: str
    carried: int
    lowest: float
    highest: float
    mean: float
    rms: float
    compared: str
    n_outliers: int
    outliers: tuple[Outlier, ...]
    asymmetry: float | None
    asymmetric: str
    sums: tuple[float, float, str] | None
    total: str


@dataclass(frozen=True)
class InputReport:
    """One input in the data: a range in ``unit``, or how many structures have each value of a category."""

    name: str
    key: str
    unit: str
    carried: int
    lowest: float
    highest: float
    values: tuple[tuple[str | int, int], ...]


@dataclass(frozen=True)
class Duplicates:
    """Structures of the same geometry; ``spread`` is the range of their energies in eV, ``None`` without energies."""

    where: tuple[str, ...]
    spread: float | None


@dataclass(frozen=True)
class Report:
    """Everything ``carten check`` shows.

    Args:
        n_structures: structures read, whether sound or not.
        atoms: smallest, mean and largest number of atoms.
        periodic: number of structures by number of periodic directions.
        elements: number of structures that contain each atomic number.
        cutoff: within which neighbours were sought, in Å.
        neighbours: average number of neighbours of an atom within the cutoff.
        labels: the properties found.
        inputs: those found.
        unused: numeric entries of the file that are neither here, with their shape and number of structures.
        references: reference energies; ``None`` without energies.
        duplicates: structures of the same geometry.
        contacts: closest contact of each pair of elements.
        stress: sign and unit of the stress; ``None`` without stress.
        agreements: of labels that are slopes of other labels, or follow a field.
        problems: what prevents structures or labels from being used.
    """

    n_structures: int
    atoms: tuple[int, float, int]
    periodic: dict[int, int]
    elements: dict[int, int]
    cutoff: float
    neighbours: float
    labels: tuple[LabelReport, ...]
    inputs: tuple[InputReport, ...]
    unused: tuple[tuple[str, tuple[int, ...], int], ...]
    references: ReferenceEnergies | None
    duplicates: tuple[Duplicates, ...]
    contacts: tuple[Contact, ...]
    stress: StressCheck | None
    agreements: tuple[Agreement, ...]
    problems: tuple[str, ...]


def known_labels(structures: Sequence[tuple[str, Atoms]]) -> list[Label]:
    """A label for every built-in property that some structure carries under its own name."""
    names = {name for _, atoms in structures for name in label_names(atoms)}
    return [Label(row, required=False) for name, row in property_table().items() if name in names]


def known_inputs(structures: Sequence[tuple[str, Atoms]]) -> list[Label]:
    """A label for every built-in input that structures carry under its own name, in its shape."""
    found = [_with_values(Label(row, required=False), structures) for row in input_table().values()]
    return [label for label in found if _fits(label, structures)]


def _with_values(label: Label, structures: Sequence[tuple[str, Atoms]]) -> Label:
    """Categories have the values that occur."""
    row = label.row
    if not (isinstance(row, Input) and isinstance(row.embed, Category)):
        return label
    return replace(label, row=replace(row, embed=replace(row.embed, values=categories(structures, label.file_key))))


def _fits(label: Label, structures: Sequence[tuple[str, Atoms]]) -> bool:
    there = [atoms for _, atoms in structures if carries(atoms, label)]
    try:
        return bool([frame_from(atoms, (), [label]) for atoms in there])
    except DataError:
        return False


def check(
    paths: Paths, labels: Sequence[Label] | None = None, cutoff: float = 5.0, inputs: Sequence[Label] | None = None
) -> Report:
    """Report on the structures and labels of one or more files.

    Args:
        paths: as :func:`carten.data.read.read_structures`.
        labels: the properties and where they are; ``None``: every built-in property found under its own name.
        cutoff: for neighbours and contacts, in Å.
        inputs: what models can be told, and where it is; ``None``: every built-in input found under its own name.

    Raises:
        DataError: a file cannot be read. What is wrong with single structures and labels is in ``Report.problems``.
        ConfigError: a unit is unknown or does not fit.
    """
    structures = read_structures(paths)
    labels = known_labels(structures) if labels is None else labels
    inputs = known_inputs(structures) if inputs is None else [_with_values(label, structures) for label in inputs]
    frames, problems = _sound_labels(structures, labels, inputs)
    sound, found, more = _sound_geometries(frames, cutoff)
    problems += more
    problems += [
        f'label "{label.file_key}" of {label.name} is carried by no structure'
        for label in labels
        if label.required and not carried(frames, label.name)
    ]
    n_atoms = [len(atoms) for _, atoms in structures]
    references, more = _references(sound)
    there = [label for label in labels if carried(sound, label.name)]
    rows = {label.name: label.row for label in there if isinstance(label.row, Property)}
    return Report(
        n_structures=len(structures),
        atoms=(min(n_atoms), float(np.mean(n_atoms)), max(n_atoms)),
        periodic=dict(sorted(Counter(int(atoms.pbc.sum()) for _, atoms in structures).items())),
        elements=dict(sorted(Counter(int(z) for _, atoms in structures for z in np.unique(atoms.numbers)).items())),
        cutoff=cutoff,
        neighbours=sum(around.n_edges for around in found) / max(sum(len(frame) for frame in sound), 1),
        labels=tuple(_label_report(label, sound, references) for label in there),
        inputs=tuple(_input_report(label, sound) for label in inputs if any(label.name in f.inputs for f in sound)),
        unused=_unused(structures, {label.file_key for label in (*labels, *inputs)}),
        references=references,
        duplicates=_duplicates(sound, found),
        contacts=closest_contacts(sound, found),
        stress=check_stress(sound) if carried(sound, "stress") else None,
        agreements=agreements(sound, rows) + responses(sound),
        problems=tuple(problems + more),
    )


def _sound_labels(
    structures: Sequence[tuple[str, Atoms]], labels: Sequence[Label], inputs: Sequence[Label]
) -> tuple[list[Frame], list[str]]:
    """Frames with the labels and inputs that they carry and that can be used, and what is wrong with the others."""
    _ = [label.factor for label in (*labels, *inputs)]  # a unit that does not fit is an error of the whole check
    frames: list[Frame] = []
    problems: list[str] = []
    for where, atoms in structures:
        told = [label for label in inputs if carries(atoms, label)]
        wrong = _problems(atoms, labels, told, where)
        problems += [message for message in wrong.values() if message not in problems]
        if "" not in wrong:
            good, known = ([label for label in group if label.name not in wrong] for group in (labels, told))
            frames.append(frame_from(atoms, good, known, where))
    return frames, problems


def _problems(atoms: Atoms, labels: Sequence[Label], inputs: Sequence[Label], where: str) -> dict[str, str]:
    """What is wrong with a structure, under ``""``, and with its labels and inputs, under their names."""
    wrong = {}
    parts = [("", (), ()), *((x.name, [x], ()) for x in labels), *((x.name, (), [x]) for x in inputs)]
    for name, wanted, told in parts:
        try:
            frame_from(atoms, wanted, told, where)
        except DataError as error:
            wrong[name] = str(error)
    return wrong


def _sound_geometries(frames: Sequence[Frame], cutoff: float) -> tuple[list[Frame], list[Surroundings], list[str]]:
    sound, found, problems = [], [], []
    for item in frames:
        try:
            found.append(surroundings(item, cutoff))
            sound.append(item)
        except DataError as error:
            problems.append(f"{item.where}: {error}")
    return sound, found, problems


def _references(frames: Sequence[Frame]) -> tuple[ReferenceEnergies | None, list[str]]:
    used = [frame for frame in frames if "energy" in frame.labels]
    if not used:
        return None, []
    try:
        return reference_energies(used), []
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


def _sums(row: Any, frames: Sequence[Frame], total: str) -> tuple[float, float, str] | None:
    if not row.total:
        return None
    frames = [frame for frame in frames if not total or total in frame.inputs]
    sums = [frame.labels[row.name].sum(axis=0) - (frame.inputs[total][0] if total else 0.0) for frame in frames]
    lengths = np.array([np.linalg.norm(found) for found in sums])
    return float(np.sqrt(np.mean(lengths**2))), float(lengths.max()), frames[int(lengths.argmax())].where


def _duplicates(frames: Sequence[Frame], found: Sequence[Surroundings]) -> tuple[Duplicates, ...]:
    groups = []
    for group in duplicates(frames, found):
        members = [frames[index] for index in group]
        energies = [float(frame.labels["energy"]) for frame in members if "energy" in frame.labels]
        spread = max(energies) - min(energies) if energies else None
        groups.append(Duplicates(tuple(frame.where for frame in members), spread))
    return tuple(groups)


def _label_report(label: Label, frames: Sequence[Frame], references: ReferenceEnergies | None) -> LabelReport:
    used = [frame for frame in frames if label.name in frame.labels]
    components = np.concatenate([frame.labels[label.name].ravel() for frame in used])
    compared, values = _compared(label.row, used, references)
    n_outliers, worst = _outliers(used, values)
    asymmetry, asymmetric = _asymmetry(label, used)
    total = getattr(label.row, "total", "")
    total = total if any(total in frame.inputs for frame in used) else ""
    return LabelReport(
        name=label.name,
        key=label.file_key,
        unit=label.row.unit,
        carried=len(used),
        lowest=float(components.min()),
        highest=float(components.max()),
        mean=float(components.mean()),
        rms=float(np.sqrt(np.mean(components**2))),
        compared=compared,
        n_outliers=n_outliers,
        outliers=worst,
        asymmetry=asymmetry,
        asymmetric=asymmetric,
        sums=_sums(label.row, used, total),
        total=total,
    )


def _input_report(label: Label, frames: Sequence[Frame]) -> InputReport:
    found = [frame.inputs[label.name] for frame in frames if label.name in frame.inputs]
    everything = np.concatenate([values.ravel() for values in found])
    row = label.row
    counts: tuple[tuple[str | int, int], ...] = ()
    if isinstance(row, Input) and isinstance(row.embed, Category):
        each = Counter(int(index) for values in found for index in np.unique(values))
        counts = tuple((value, each[index]) for index, value in enumerate(row.embed.values))
    low, high = float(everything.min()), float(everything.max())
    return InputReport(label.name, label.file_key, row.unit, len(found), low, high, counts)


def _compared(row: Any, frames: Sequence[Frame], references: ReferenceEnergies | None) -> tuple[str, Array]:
    """The number per structure of which outliers are sought, in words and values."""
    labels = [frame.labels[row.name] for frame in frames]
    if row.name == "energy" and references is not None:
        return "energy per atom above the reference energies", energies_per_atom(frames, references.values)
    if row.scope == "atom":
        norms = [np.linalg.norm(label.reshape(len(label), -1), axis=1).max() for label in labels]
        return "largest value of an atom" if row.rank == 0 else "largest norm of an atom", np.array(norms)
    sizes = np.array([len(frame) if row.extensive else 1 for frame in frames])
    per_atom = " per atom" if row.extensive else ""
    if row.rank == 0:
        return f"value{per_atom}", np.array([float(label) for label in labels]) / sizes
    return f"norm{per_atom}", np.array([np.linalg.norm(label) for label in labels]) / sizes


def _outliers(frames: Sequence[Frame], values: Array) -> tuple[int, tuple[Outlier, ...]]:
    distance = np.abs(values - np.median(values))
    scale = 1.4826 * float(np.median(distance))
    if scale <= 1e-12 * float(np.abs(values).max(initial=0.0)):  # more than half of all values are equal
        return 0, ()
    scores = distance / scale
    beyond = int(np.count_nonzero(scores > OUTLIER))
    shown = min(beyond, SHOWN) if beyond <= max(1, BROAD * len(values)) else 0
    worst = np.argsort(-scores, kind="stable")[:shown]
    return beyond, tuple(Outlier(frames[i].where, float(values[i]), float(scores[i])) for i in worst)


def _asymmetry(label: Label, frames: Sequence[Frame]) -> tuple[float | None, str]:
    reciprocal = isinstance(label.row, Property) and label.row.reciprocal
    if not reciprocal and (label.row.rank < 2 or "=" not in label.row.indices):
        return None, ""
    largest, where = 0.0, ""
    for frame in frames:
        value = frame.labels[label.name]
        scale = float(np.sqrt(np.mean(value**2)))
        defect = float(np.abs(value - obeying(label.row, value)).max()) / scale if scale > 0.0 else 0.0
        if defect > largest:
            largest, where = defect, frame.where
    return largest, where
