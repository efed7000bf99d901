"""Point defects of crystals: formation energies in supercells that relax in one batch, and barriers of vacancies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import ase
import numpy as np
from ase.data import atomic_numbers
from matplotlib.figure import Figure

from carten.errors import DataError
from carten.math.arrays import Array
from carten.workflows.ends import steps_between
from carten.workflows.harmonic import energy_of, largest_force, wide_multiples
from carten.workflows.neb import Band, MinimumEnergyPath, neb
from carten.workflows.point_defects import PointDefect, image_distance, interstitials, substitutions, vacancies
from carten.workflows.relax import Goal, Relaxation, choose_evaluator, relax
from carten.workflows.results import (
    JobResult,
    Model,
    Progress,
    Quantity,
    as_calculator,
    require_crystal,
    require_relaxed,
)

NARROW, WIDE = 5.0, 8.0
"""Å between a defect and its image: an error below, a warning up to the second one."""
VACANCY = " vacancy"
IMAGES = 5
"""Between the ends of a barrier."""


@dataclass(frozen=True)
class DefectKinds:
    """Which defects are made.

    Args:
        vacancies: on every distinct site.
        solutes: elements that replace atoms on every distinct site.
        interstitials: whether atoms of the crystal's elements and the solutes are put into voids.
        barriers: whether each vacancy hops to the nearest site of its element.
    """

    vacancies: bool = True
    solutes: tuple[str, ...] = ()
    interstitials: bool = False
    barriers: bool = False


@dataclass(frozen=True)
class DefectEnergy:
    """A relaxed defect.

    Args:
        name: element and site.
        energy: of formation, eV.
        relaxation: of the supercell.
    """

    name: str
    energy: float
    relaxation: Relaxation = field(repr=False)


@dataclass(frozen=True)
class DefectEnergies(JobResult):
    """Formation energies of point defects.

    Args:
        atoms: the crystal.
        multiples: of its cell in the supercell.
        potentials: chemical potentials by element, eV.
        defects: in the order they were made.
        hops: paths of vacancies, by name.
        force: the largest force in the crystal, eV/Å.
    """

    job: ClassVar[str] = "defects"
    atoms: ase.Atoms
    multiples: tuple[int, ...]
    potentials: Mapping[str, float]
    defects: list[DefectEnergy]
    hops: Mapping[str, MinimumEnergyPath]
    force: float

    def quantities(self) -> list[Quantity]:
        numbers = [Quantity(f"formation energy of {defect.name}", defect.energy, "eV") for defect in self.defects]
        numbers += [Quantity(f"barrier of {name}", path.energies.max(), "eV") for name, path in self.hops.items()]
        numbers += [Quantity(f"chemical potential of {name}", mu, "eV") for name, mu in self.potentials.items()]
        cell = self.atoms.cell.array * np.array(self.multiples)[:, None]
        return [
            *numbers,
            Quantity("atoms of the perfect supercell", len(self.atoms) * int(np.prod(self.multiples))),
            Quantity("supercell", self.multiples),
            Quantity("distance of images", image_distance(cell), "Å"),
        ]

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        columns: dict[str, Any] = {
            "defect": [defect.name for defect in self.defects],
            "formation_eV": [defect.energy for defect in self.defects],
            "steps": [defect.relaxation.steps for defect in self.defects],
        }
        return {"energies": {name: np.asarray(column) for name, column in columns.items()}}

    def structures(self) -> list[ase.Atoms]:
        return [*(defect.relaxation.atoms for defect in self.defects), *(path.saddle for path in self.hops.values())]

    def warnings(self) -> list[str]:
        distance = image_distance(self.atoms.cell.array * np.array(self.multiples)[:, None])
        remarks = [f"{name}: {remark}" for name, path in self.hops.items() for remark in path.warnings()]
        if distance < WIDE:
            remarks.append(f"defects are {distance:.1f} Å from their images: compare with a larger supercell")
        return remarks + [
            f"{defect.name} has a negative energy: it would form by itself at these potentials"
            for defect in self.defects
            if defect.energy < 0.0
        ]

    def failures(self) -> list[str]:
        unrelaxed = [f"{defect.name} did not relax" for defect in self.defects if not defect.relaxation.converged]
        paths = [f"{name}: {failure}" for name, path in self.hops.items() for failure in path.failures()]
        return require_relaxed(self.force) + unrelaxed + paths

    def draw(self, figure: Figure) -> None:
        axes, places = figure.subplots(), np.arange(len(self.defects))
        axes.barh(places, [defect.energy for defect in self.defects], 0.6, color="C0")
        axes.set_yticks(places, [defect.name for defect in self.defects])
        axes.invert_yaxis()
        axes.set(xlabel="formation energy (eV)")


def defects(
    atoms: ase.Atoms,
    model: Model,
    kinds: DefectKinds | None = None,
    potentials: Mapping[str, float] | None = None,
    supercell: Sequence[int] | None = None,
    goal: Goal | None = None,
    progress: Progress | None = None,
) -> DefectEnergies:
    """Formation energies of vacancies, solutes and interstitials, ``E - E(crystal) - sum of n mu`` in eV.

    Supercells keep their shape; all relax together, from places that are stirred a little: no symmetry holds them.

    Args:
        atoms: a relaxed crystal.
        model: a model, its file, or any calculator of ASE.
        kinds: which defects; vacancies by default.
        potentials: chemical potentials by element, eV; that of a crystal of one element is its energy by default.
        supercell: multiples of the cell along its vectors; by default as many as keep images 10 Å apart.
        goal: of the relaxation, and of the bands of barriers.
        progress: called with supercells done and all, and with steps of a barrier done and allowed.

    Raises:
        ConfigError: spglib is not installed.
        DataError: the structure is no crystal, an element has no finite chemical potential or is none, or images of
            defects are less than 5 Å apart.
    """
    require_crystal(atoms, "defects")
    kinds, goal, calculator = kinds or DefectKinds(), goal or Goal(), as_calculator(model)
    multiples = tuple(wide_multiples(atoms) if supercell is None else supercell)
    _require_wide(atoms, multiples)
    energy = energy_of(atoms, calculator)
    potentials = _potentials(atoms, energy, kinds, potentials or {})
    point_defects = _point_defects(atoms, kinds, multiples)
    if not point_defects:
        raise DataError("no defects: expected vacancies, solutes or interstitials")
    perfect = energy * int(np.prod(multiples))
    cells = [defect.atoms for defect in point_defects]
    relaxed = relax(cells, choose_evaluator(calculator, cells), goal, progress)
    energies = [
        _formation(defect, relaxation, perfect, potentials)
        for defect, relaxation in zip(point_defects, relaxed, strict=True)
    ]
    band = Band(IMAGES, goal.fmax, goal.steps)
    hops = {
        defect.name: neb(relaxation.atoms, _hopped(defect, relaxation.atoms), calculator, band, progress)
        for defect, relaxation in zip(point_defects, relaxed, strict=True)
        if kinds.barriers and defect.name.endswith(VACANCY)
    }
    return DefectEnergies(atoms.copy(), multiples, potentials, energies, hops, largest_force(atoms, calculator))


def _point_defects(atoms: ase.Atoms, kinds: DefectKinds, multiples: Sequence[int]) -> list[PointDefect]:
    elements = [*dict.fromkeys(atoms.get_chemical_symbols()), *kinds.solutes]
    cells = vacancies(atoms, multiples) if kinds.vacancies else []
    cells += [defect for solute in kinds.solutes for defect in substitutions(atoms, solute, multiples)]
    if kinds.interstitials:
        cells += [defect for element in dict.fromkeys(elements) for defect in interstitials(atoms, element, multiples)]
    return cells


def _formation(
    defect: PointDefect, relaxation: Relaxation, perfect: float, potentials: Mapping[str, float]
) -> DefectEnergy:
    added = sum(count * potentials[element] for element, count in defect.added.items())
    return DefectEnergy(defect.name, relaxation.energy - perfect - added, relaxation)


def _hopped(defect: PointDefect, atoms: ase.Atoms) -> ase.Atoms:
    """The supercell after the nearest atom of the missing element has moved into the vacancy."""
    (element,) = defect.added
    movers = np.flatnonzero(atoms.numbers == atomic_numbers[element])
    if not len(movers):
        raise DataError(f"{defect.name}: no other {element} in the supercell could hop: take a larger one")
    target = atoms[movers]
    target.positions[:] = defect.place
    steps = steps_between(atoms[movers], target)
    nearest = int(np.linalg.norm(steps, axis=1).argmin())
    hopped: ase.Atoms = atoms.copy()
    hopped.positions[movers[nearest]] += steps[nearest]
    return hopped


def _potentials(
    atoms: ase.Atoms, energy: float, kinds: DefectKinds, potentials: Mapping[str, float]
) -> dict[str, float]:
    """Chemical potentials of all elements of the crystal and the solutes."""
    symbols = list(dict.fromkeys(atoms.get_chemical_symbols()))
    needed = list(dict.fromkeys([*symbols, *kinds.solutes]))
    if unknown := [element for element in (*kinds.solutes, *potentials) if element not in atomic_numbers]:
        raise DataError(f"{unknown[0]} is no chemical element")
    if infinite := [element for element, energy in potentials.items() if not np.isfinite(energy)]:
        raise DataError(f"chemical potentials are finite energies in eV, found {infinite[0]}={potentials[infinite[0]]}")
    known = dict(potentials)
    if len(symbols) == 1:
        known.setdefault(symbols[0], energy / len(atoms))
    if missing := [element for element in needed if element not in known]:
        raise DataError(
            f"formation energies need the chemical potential of {', '.join(missing)} in eV, for example the energy of "
            f"an atom in its element: --potential {missing[0]}=-3.2; only that of a crystal of one element is known"
        )
    return {element: known[element] for element in needed}


def _require_wide(atoms: ase.Atoms, multiples: tuple[int, ...]) -> None:
    if len(multiples) != 3 or min(multiples) < 1:
        raise DataError(f"a supercell is three positive numbers of cells, found {multiples}")
    distance = image_distance(atoms.cell.array * np.array(multiples)[:, None])
    if distance < NARROW:
        raise DataError(
            f"defects would be {distance:.1f} Å from their images in the supercell {multiples}; at least {NARROW:g} Å: "
            "make it larger"
        )
