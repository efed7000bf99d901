"""What a data file holds and what is suspicious about it: the report behind ``carten check``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from carten.data.consistency import Agreement, agreements
from carten.data.geometry import Contact, Surroundings, closest_contacts, duplicates, surroundings
from carten.data.labels import Frame, Label, carried, frame_from, label_names
from carten.data.read import Paths, read_structures
from carten.data.response import responses
from carten.data.statistics import ReferenceEnergies, energies_per_atom, reference_energies
from carten.data.stress import StressCheck, check_stress
from carten.errors import DataError
from carten.math.symmetry import decompose
from carten.physics.constants import FIELD
from carten.properties.spec import Input, Property, input_table, property_table

if TYPE_CHECKING:
    from ase import Atoms

Array = npt.NDArray[Any]

OUTLIER = 8.0  # robust standard deviations
BROAD = 0.05  # with more outliers than this fraction, the distribution is broad and no structure stands out
SHOWN = 5
ASYMMETRY = 1e-3  # relative


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
        sums: rms and largest norm of the sum over the atoms of a structure, and the structure of the latter, for
            properties that obey a sum rule; ``None`` for others.
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
        unused: numeric entries of the file that are no property here, with their shape and number of structures.
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
    unused: tuple[tuple[str, tuple[int, ...], int], ...]
    references: ReferenceEnergies | None
    duplicates: tuple[Duplicates, ...]
    contacts: tuple[Contact, ...]
    stress: StressCheck | None
    agreements: tuple[Agreement, ...]
    problems: tuple[str, ...]


def known_labels(structures: Sequence[tuple[str, Atoms]]) -> list[Label]:
    """A label for every built-in property that some structure carries under its own name."""
    return _named(structures, property_table())


def _named(structures: Sequence[tuple[str, Atoms]], rows: Mapping[str, Property | Input]) -> list[Label]:
    names = {name for _, atoms in structures for name in label_names(atoms)}
    return [Label(row, required=False) for name, row in rows.items() if name in names]


def check(paths: Paths, labels: Sequence[Label] | None = None, cutoff: float = 5.0) -> Report:
    """Report on the structures and labels of one or more files.

    Args:
        paths: as :func:`carten.data.read.read_structures`.
        labels: the properties and where they are; ``None``: every built-in property found under its own name.
        cutoff: for neighbours and contacts, in Å.

    Raises:
        DataError: a file cannot be read. What is wrong with single structures and labels is in ``Report.problems``.
        ConfigError: a unit is unknown or does not fit.
    """
    structures = read_structures(paths)
    labels = [
        *(known_labels(structures) if labels is None else labels),
        *_named(structures, {FIELD: input_table()[FIELD]}),
    ]
    frames, problems = _sound_labels(structures, labels)
    sound, found, more = _sound_geometries(frames, cutoff)
    problems += more
    problems += [
        f'label "{label.file_key}" of {label.name} is carried by no structure'
        for label in labels
        if label.required and not carried(frames, label.name)
    ]
    n_atoms = [len(atoms) for _, atoms in structures]
    references, more = _references(sound)
    there = [label for label in labels if carried(sound, label.name) and isinstance(label.row, Property)]
    rows = {label.name: label.row for label in there if isinstance(label.row, Property)}
    return Report(
        n_structures=len(structures),
        atoms=(min(n_atoms), float(np.mean(n_atoms)), max(n_atoms)),
        periodic=dict(sorted(Counter(int(atoms.pbc.sum()) for _, atoms in structures).items())),
        elements=dict(sorted(Counter(int(z) for _, atoms in structures for z in np.unique(atoms.numbers)).items())),
        cutoff=cutoff,
        neighbours=sum(around.n_edges for around in found) / max(sum(len(frame) for frame in sound), 1),
        labels=tuple(_label_report(label, sound, references) for label in there),
        unused=_unused(structures, {label.file_key for label in labels if isinstance(label.row, Property)}),
        references=references,
        duplicates=_duplicates(sound, found),
        contacts=closest_contacts(sound, found),
        stress=check_stress(sound) if carried(sound, "stress") else None,
        agreements=agreements(sound, rows) + responses(sound),
        problems=tuple(problems + more),
    )


def _sound_labels(structures: Sequence[tuple[str, Atoms]], labels: Sequence[Label]) -> tuple[list[Frame], list[str]]:
    """Frames with the labels that can be used, and what is wrong with the others."""
    _ = [label.factor for label in labels]  # a unit that does not fit is an error of the whole check
    frames: list[Frame] = []
    problems: list[str] = []
    for where, atoms in structures:
        wrong = _problems(atoms, labels, where)
        problems += [message for message in wrong.values() if message not in problems]
        if "" not in wrong:
            frames.append(frame_from(atoms, [label for label in labels if label.name not in wrong], (), where))
    return frames, problems


def _problems(atoms: Atoms, labels: Sequence[Label], where: str) -> dict[str, str]:
    """What is wrong with a structure, under ``""``, and with its labels, under their names."""
    wrong = {}
    for name, wanted in {"": [], **{label.name: [label] for label in labels}}.items():
        try:
            frame_from(atoms, wanted, (), where)
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


def _sums(row: Any, frames: Sequence[Frame]) -> tuple[float, float, str] | None:
    if not row.total:
        return None
    lengths = np.array([np.linalg.norm(frame.labels[row.name].sum(axis=0)) for frame in frames])
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
        sums=_sums(label.row, used),
    )


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
    if label.row.rank < 2 or "=" not in label.row.indices:
        return None, ""
    decomposition = decompose(label.row.indices)
    largest, where = 0.0, ""
    for frame in frames:
        value = frame.labels[label.name]
        scale = float(np.sqrt(np.mean(value**2)))
        defect = float(np.abs(value - decomposition.project(value)).max()) / scale if scale > 0.0 else 0.0
        if defect > largest:
            largest, where = defect, frame.where
    return largest, where
