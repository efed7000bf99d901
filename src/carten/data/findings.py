"""What :func:`carten.data.check.check` finds in data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from carten.data.consistency import Agreement
from carten.data.geometry import Contact
from carten.data.statistics import ReferenceEnergies
from carten.data.stress import StressCheck


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
        zero: structures of more than one atom in which it is exactly zero.
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
    zero: int


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
        others: by property, further entries that may be its label.
        zero: entries that are zero in all structures, so that they are no labels.
        left_out: by property, structures whose label has no meaning: per volume, without a cell.
        problems: what prevents structures or labels from being used.
        hints: what entries may be meant as.
        sampled: structures whose labels were compared with each other.
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
    others: Mapping[str, tuple[str, ...]]
    zero: tuple[str, ...]
    left_out: Mapping[str, int]
    problems: tuple[str, ...]
    hints: tuple[str, ...]
    sampled: int


def counted_noun(count: int, noun: str) -> str:
    """``"1 structure"``, ``"12 structures"``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")
