"""What a benchmark of a model asks: criteria with their bounds, and how a model does by them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Light(StrEnum):
    """Of a check: three verdicts; what does not apply; what could not be run."""

    GREEN = "green"
    AMBER = "amber"
    RED = "red"
    SKIPPED = "skipped"
    FAILED = "not run"


@dataclass(frozen=True)
class Criterion:
    """A number that is better the smaller it is.

    Args:
        section: of the report.
        name: what is measured.
        unit: of the number.
        green: up to here all is well.
        amber: up to here it may be; above, it is not.
        meaning: what the number is.
        advice: what to do where it is too large.
    """

    section: str
    name: str
    unit: str
    green: float
    amber: float
    meaning: str
    advice: str

    def light(self, value: float) -> Light:
        """Of a number; what is not a number is red."""
        if math.isnan(value) or value > self.amber:
            return Light.RED
        return Light.GREEN if value <= self.green else Light.AMBER

    @property
    def bounds(self) -> str:
        """In words."""
        unit = f" {self.unit}" if self.unit else ""
        return f"≤ {self.green:g}{unit}" if self.green == self.amber else f"≤ {self.green:g}, {self.amber:g}{unit}"


@dataclass(frozen=True)
class Check:
    """How a model does by a criterion.

    Args:
        criterion: that it is judged by.
        subject: pair of elements or structure.
        value: in the unit of the criterion; NaN where it is skipped or could not be run.
        light: the verdict.
        remark: numbers beside it, or why there is no verdict.
    """

    criterion: Criterion
    subject: str
    value: float
    light: Light
    remark: str = ""


def judged(key: str, subject: str, value: float, remark: str = "") -> Check:
    """A check whose number was measured."""
    criterion = CRITERIA[key]
    return Check(criterion, subject, float(value), criterion.light(float(value)), remark)


def skipped(key: str, subject: str, reason: str) -> Check:
    """A check that does not apply."""
    return Check(CRITERIA[key], subject, math.nan, Light.SKIPPED, reason)


def not_run(key: str, subject: str, reason: str) -> Check:
    """A check that could not be run."""
    return Check(CRITERIA[key], subject, math.nan, Light.FAILED, reason)


PAIRS, CONSISTENCY, CRYSTALS = "Pairs of atoms", "Consistency", "Crystals"
MOLECULES, DYNAMICS = "Molecules", "Dynamics"
SECTIONS = {
    PAIRS: "Two atoms alone, from far apart to nearly on top of each other: what a model does where it has no data.",
    CONSISTENCY: "What holds for every potential exactly, on distorted structures.",
    CRYSTALS: "Minima, stiffness and vibrations of crystals.",
    MOLECULES: "Minima and vibrations of molecules.",
    DYNAMICS: "Whether molecular dynamics conserves energy, and survives heat.",
}
"""Of the report, in order, with a sentence each."""

CRITERIA = {
    "wall": Criterion(
        PAIRS,
        "distance of collapse",
        "radii",
        0.45,
        0.6,
        "Distance below which the two atoms attract each other instead of repelling, in sums of covalent radii.",
        "Add a nuclear repulsion (terms: zbl), or short distances to the training data.",
    ),
    "wells": Criterion(
        PAIRS,
        "depth of further minima",
        "eV",
        0.05,
        0.5,
        "A pair has one minimum as a rule; further ones are where structures get stuck that do not exist.",
        "Add pairs and gas-like structures to the training data, or regularise; real pairs rarely have two minima.",
    ),
    "smooth": Criterion(
        PAIRS,
        "jump of the energy",
        "meV",
        0.01,
        1.0,
        "Largest jump of the energy at one distance: dynamics gains or loses as much whenever atoms pass it.",
        "Look for tables, switches or cutoffs that are not smooth.",
    ),
    "end_energy": Criterion(
        PAIRS,
        "energy at the cutoff",
        "meV",
        0.01,
        1.0,
        "Energy just inside of the distance where interaction ends, relative to atoms far apart.",
        "Use an envelope that takes the energy to zero at the cutoff.",
    ),
    "end_force": Criterion(
        PAIRS,
        "force at the cutoff",
        "meV/Å",
        1.0,
        50.0,
        "Force just inside of the distance where interaction ends.",
        "Use an envelope whose derivative is zero at the cutoff, too.",
    ),
    "gradient": Criterion(
        CONSISTENCY,
        "forces against differences of the energy",
        "eV/Å",
        1e-4,
        1e-2,
        "Error of the force along random directions, against differences of the energy of fourth order.",
        "Forces that are not the derivative of an energy heat or cool dynamics: derive them from the energy.",
    ),
    "stress": Criterion(
        CONSISTENCY,
        "stress against differences of the energy",
        "GPa",
        1e-3,
        0.1,
        "Error of the stress along random strains, against differences of the energy of fourth order.",
        "Cells relax to the wrong size: derive the stress from the energy.",
    ),
    "symmetry": Criterion(
        CONSISTENCY,
        "rotation, reflection, exchange of atoms",
        "eV/Å",
        1e-5,
        1e-2,
        "Largest change of a force, or of the energy per atom, when the structure is turned, reflected and renumbered.",
        "Use an equivariant model, or more augmentation by rotations.",
    ),
    "extensive": Criterion(
        CONSISTENCY,
        "twice the structure, twice the energy",
        "eV/atom",
        1e-5,
        1e-3,
        "Energy of two cells, or of two molecules 50 Å apart, against twice that of one.",
        "Look for terms that depend on the size of the system, such as averages over all atoms.",
    ),
    "volume": Criterion(
        CRYSTALS,
        "change of volume on relaxation",
        "%",
        3.0,
        8.0,
        "Volume of the relaxed cell against that of the structure as it was given (elements: measured lattices; "
        "PBE is one to two percent off them).",
        "Add stresses, and strained cells, to the training data.",
    ),
    "eos": Criterion(
        CRYSTALS,
        "disagreement of equations of state",
        "%",
        5.0,
        15.0,
        "Scatter of the bulk modulus among four equations: large where the energy-volume curve is not smooth.",
        "Look at the curve; add compressed and expanded cells to the training data.",
    ),
    "elastic": Criterion(
        CRYSTALS,
        "elastic instability",
        "GPa",
        0.0,
        1.0,
        "Minus the stiffness of the softest strain, where it is negative: the crystal shears by itself.",
        "Add strained cells to the training data, unless the structure is known to be unstable.",
    ),
    "phonons": Criterion(
        CRYSTALS,
        "imaginary phonons",
        "THz",
        0.05,
        0.5,
        "Largest imaginary frequency along the bands: the crystal distorts by itself.",
        "Add displaced supercells to the training data, unless the structure is known to be unstable.",
    ),
    "vacancy": Criterion(
        CRYSTALS,
        "energy gained by a vacancy",
        "eV",
        0.0,
        0.0,
        "Energy that the crystal gains when an atom is moved from its place to the bulk, atoms relaxed.",
        "Add cells with vacancies to the training data.",
    ),
    "surface": Criterion(
        CRYSTALS,
        "energy gained by a surface",
        "J/m²",
        0.0,
        0.0,
        "Energy that the crystal gains when it is cut along a plane of low indices, atoms relaxed.",
        "Add slabs to the training data.",
    ),
    "minimum": Criterion(
        MOLECULES,
        "force that remains",
        "eV/Å",
        0.01,
        0.1,
        "Largest force after 500 steps of relaxation.",
        "The surface is rough or has no minimum here: add distorted molecules to the training data.",
    ),
    "modes": Criterion(
        MOLECULES,
        "imaginary vibrations",
        "cm⁻¹",
        10.0,
        100.0,
        "Largest imaginary wavenumber in the relaxed structure.",
        "Add distorted molecules to the training data.",
    ),
    "drift": Criterion(
        DYNAMICS,
        "drift of the energy, NVE at 300 K",
        "meV/atom/ps",
        1.0,
        10.0,
        "Slope of the conserved energy without a thermostat.",
        "Check forces against the energy above; a shorter time step helps where they agree.",
    ),
    "heat": Criterion(
        DYNAMICS,
        "part of heating that was lost",
        "%",
        0.0,
        0.0,
        "Share of a run of heating that was not reached because the dynamics exploded or atoms overlapped.",
        "Add hot structures to the training data (carten learn), and a nuclear repulsion (terms: zbl).",
    ),
}
"""All criteria by their keys."""
