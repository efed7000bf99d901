"""Adsorption: sites of a slab, adsorbates on each of them, all relaxed in one batch, and what is bound where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import ase
import numpy as np
from matplotlib.figure import Figure

from carten.data.structures import require_known
from carten.drawing import HEIGHT, WIDTH
from carten.errors import DataError
from carten.interfaces.ase import Calculator
from carten.math.arrays import Array
from carten.workflows.adsorbates import (
    Adsorbate,
    dissociated,
    place_on,
    read_adsorbate,
    require_room,
    same_places,
    shift_of_slab,
    shortest_contact,
)
from carten.workflows.relax import Goal, Relaxation, choose_evaluator, relax
from carten.workflows.results import JobResult, Model, Progress, Quantity, as_calculator, cutoff_of
from carten.workflows.sites import Site, SlabSymmetry, adsorption_sites, slab_symmetry

SAME_ENERGY = 5e-3
"""eV, up to which relaxed structures may be the same."""
SAME_SHAPE = 0.3
"""Å, up to which places of atoms of relaxed structures are the same."""
DESORBED = 1.6
"""Of the sum of covalent radii: adsorbates that are farther from the slab are not bound."""
REBUILT = 1.0
"""Å, by which atoms of a slab move more than in the clean one where an adsorbate rebuilds it."""

State = Literal["adsorbed", "desorbed", "dissociated"]


@dataclass(frozen=True)
class Adsorbed:
    """An adsorbate on a slab, relaxed.

    Args:
        adsorbate: its name.
        starts: the sites from which it came here; the first one gave the structure.
        site: the nearest one after relaxation.
        energy: of adsorption, eV; negative where it is bound.
        height: of the lowest atom of the adsorbate above the highest of the slab, Å.
        contact: shortest distance between adsorbate and slab, Å.
        state: what became of it.
        rebuilt: how far atoms of the slab moved more than in the clean one, Å.
        relaxation: structure, with the atoms of the slab first.
    """

    adsorbate: str
    starts: tuple[str, ...]
    site: str
    energy: float
    height: float
    contact: float
    state: State
    rebuilt: float
    relaxation: Relaxation = field(repr=False)

    @property
    def name(self) -> str:
        return f"{self.adsorbate} from {', '.join(self.starts)}"


@dataclass(frozen=True)
class Adsorption(JobResult):
    """Adsorption energies on a slab.

    Args:
        slab: relaxed, clean.
        sites: of the slab that was given.
        references: what energies refer to, by adsorbate, such as ``"1/2 H2"``.
        adsorbed: lowest energy first within each adsorbate; what relaxed to the same structure is there once.
        unrelaxed: names of the slab and of references that did not relax.
    """

    job: ClassVar[str] = "adsorb"
    size: ClassVar[tuple[float, float]] = (HEIGHT, 1.5 * WIDTH)
    slab: ase.Atoms
    sites: list[Site]
    references: Mapping[str, str]
    adsorbed: list[Adsorbed]
    unrelaxed: list[str] = field(default_factory=list)

    def best(self, adsorbate: str) -> Adsorbed | None:
        """Of lowest energy, among those that are still whole and bound; None if there is none."""
        bound = (each for each in self.adsorbed if each.adsorbate == adsorbate and each.state == "adsorbed")
        return next(bound, None)

    def quantities(self) -> list[Quantity]:
        numbers = []
        for adsorbate, reference in self.references.items():
            if (best := self.best(adsorbate)) is not None:
                name = f"adsorption energy of {adsorbate}, from {reference}"
                numbers += [Quantity(name, best.energy, "eV"), Quantity(f"site of {adsorbate}", best.site)]
        return [*numbers, Quantity("distinct sites", len(self.sites))]

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        rows = self.adsorbed
        energies: dict[str, Any] = {
            "adsorbate": [row.adsorbate for row in rows],
            "site": [row.site for row in rows],
            "from": [", ".join(row.starts) for row in rows],
            "energy_eV": [row.energy for row in rows],
            "height_A": [row.height for row in rows],
            "shortest_contact_A": [row.contact for row in rows],
            "state": [row.state for row in rows],
            "converged": [row.relaxation.converged for row in rows],
        }
        sites: dict[str, Any] = {
            "site": [site.name for site in self.sites],
            "corners": [site.corners for site in self.sites],
            "x_A": [site.place[0] for site in self.sites],
            "y_A": [site.place[1] for site in self.sites],
            "first_atom_beneath_A": [site.beneath for site in self.sites],
            "equivalent": [site.multiplicity for site in self.sites],
        }
        named = {"energies": energies, "sites": sites}
        return {name: {heading: np.asarray(column) for heading, column in each.items()} for name, each in named.items()}

    def structures(self) -> list[ase.Atoms]:
        return [self.slab, *(each.relaxation.atoms for each in self.adsorbed)]

    def warnings(self) -> list[str]:
        remarks = [
            f"{each.name} is {each.state}: its energy is not one of adsorption"
            for each in self.adsorbed
            if each.state != "adsorbed"
        ]
        remarks += [
            f"{each.name} rebuilds the surface: atoms move {each.rebuilt:.1f} Å more than in the clean slab"
            for each in self.adsorbed
            if each.rebuilt > REBUILT
        ]
        if not self.slab.constraints:
            remarks.append("no atom of the slab is held: hold its lower layers (FixAtoms) for the surface of a crystal")
        return remarks

    def failures(self) -> list[str]:
        names = [*self.unrelaxed, *(each.name for each in self.adsorbed if not each.relaxation.converged)]
        return [f"{name} did not relax: allow more steps" for name in names]

    def draw(self, figure: Figure) -> None:
        bars, view = figure.subplots(1, 2)
        names = list(self.references)
        places = np.arange(len(self.adsorbed))
        for number, adsorbate in enumerate(names):
            chosen = np.array([each.adsorbate == adsorbate for each in self.adsorbed])
            energies = [each.energy for each in self.adsorbed if each.adsorbate == adsorbate]
            bars.barh(places[chosen], energies, 0.7, color=f"C{number}", label=adsorbate)
        labels = [each.site if each.state == "adsorbed" else each.state for each in self.adsorbed]
        bars.set_yticks(places, labels, fontsize=8.0 if len(labels) > 12 else None)
        bars.invert_yaxis()
        bars.axvline(0.0, color="0.5", linewidth=0.8)
        bars.set(xlabel="adsorption energy (eV)")
        bars.legend(fontsize=8.0, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=max(1, len(names)))
        heights = self.slab.positions[:, 2]
        view.scatter(*self.slab.positions[:, :2].T, s=60.0 * np.exp(heights - heights.max()), color="0.7")
        for kind, colour in (("top", "C0"), ("bridge", "C1"), ("hollow", "C2")):
            for site in self.sites:
                if site.kind == kind:
                    view.plot(*site.place[:2], "x", color=colour)
                    view.annotate(site.name, site.place[:2], xytext=(4, 4), textcoords="offset points", fontsize=8.0)
        view.set_aspect("equal")
        view.set(xlabel="x (Å)", ylabel="y (Å)")


def adsorb(
    slab: ase.Atoms,
    model: Model,
    adsorbates: Sequence[str | ase.Atoms],
    goal: Goal | None = None,
    progress: Progress | None = None,
) -> Adsorption:
    """Adsorption energies of atoms and molecules on all distinct sites of a slab.

    The clean slab, the references and each adsorbate on each site relax in one batch. Energies are those of the
    covered slab less the clean one and the reference: the adsorbate far away, or half a molecule where it is an atom
    of H, N, O, F, Cl, Br or I.

    Args:
        slab: its surface looks along z. Atoms of ``FixAtoms`` stay where they are.
        model: a model, its file, or any calculator of ASE.
        adsorbates: elements, names of molecules (:func:`ase.build.molecule`), files or structures. They are put on
            sites as they are turned, their lowest atom above the site.
        goal: of the relaxation; cells are kept.
        progress: called with structures done and all.

    Raises:
        ConfigError: spglib is not installed.
        DataError: no slab, no adsorbates, two of one name, an adsorbate that is unknown, or larger than the cell, or a
            vacuum that is too small.
        ModelError: an element that the model does not know.
    """
    goal, calculator = goal or Goal(), as_calculator(model)
    if goal.cell:
        raise DataError("cells of slabs are kept, so that the vacuum stays: relax the crystal before it is cut")
    sites, symmetry = adsorption_sites(slab), slab_symmetry(slab)
    species = _distinct([read_adsorbate(each) for each in adsorbates])
    _require_elements(calculator, slab, species)
    starts = [
        (each, site.name + turn, place_on(slab, atoms, site))
        for each in species
        for site in sites
        for turn, atoms in each.orientations()
    ]
    for each, _, covered in starts:
        require_room(covered, len(slab), each.name, cutoff_of(calculator))
    structures = [slab, *(each.reference for each in species), *(covered for _, _, covered in starts)]
    results = relax(structures, choose_evaluator(calculator, structures), goal, progress)
    clean, references, covered_slabs = results[0], results[1 : 1 + len(species)], results[1 + len(species) :]
    names = ["the clean slab", *(each.reference_name for each in species)]
    unrelaxed = [name for name, result in zip(names, results, strict=False) if not result.converged]
    rows: list[Adsorbed] = []
    for each, reference in zip(species, references, strict=True):
        zero = clean.energy + each.share * reference.energy
        judged = [
            _judge(result, clean.atoms, (each, start, _nearest(result, len(slab), sites, symmetry)), zero)
            for (owner, start, _), result in zip(starts, covered_slabs, strict=True)
            if owner is each
        ]
        rows += _merge(judged, len(slab), symmetry)
    return Adsorption(clean.atoms, sites, {each.name: each.reference_name for each in species}, rows, unrelaxed)


def _distinct(species: list[Adsorbate]) -> list[Adsorbate]:
    names = [each.name for each in species]
    if not names:
        raise DataError("no adsorbates: expected elements, names of molecules or files, such as H, CO, guess.xyz")
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"two adsorbates are called {name}: rename a file, or set atoms.info['name']")
    return species


def _require_elements(calculator: Any, slab: ase.Atoms, species: Sequence[Adsorbate]) -> None:
    if isinstance(calculator, Calculator):
        require_known(slab.numbers, calculator.elements, "the slab")
        for each in species:
            require_known(each.atoms.numbers, calculator.elements, f"the adsorbate {each.name}")


def _judge(result: Relaxation, clean: ase.Atoms, labels: tuple[Adsorbate, str, str], zero: float) -> Adsorbed:
    (adsorbate, start, site), atoms, n_slab = labels, result.atoms, len(clean)
    contact, share = shortest_contact(atoms, n_slab)
    state: State = "adsorbed" if share <= DESORBED else "desorbed"
    if dissociated(adsorbate.atoms, atoms[n_slab:]):
        state = "dissociated"
    height = float(atoms.positions[n_slab:, 2].min() - atoms.positions[:n_slab, 2].max())
    rebuilt = shift_of_slab(atoms[:n_slab], clean)
    return Adsorbed(adsorbate.name, (start,), site, result.energy - zero, height, contact, state, rebuilt, result)


def _nearest(result: Relaxation, n_slab: int, sites: Sequence[Site], symmetry: SlabSymmetry) -> str:
    """The site next to the lowest atom of the adsorbate."""
    added = result.atoms.positions[n_slab:]
    images = symmetry.images(added[[added[:, 2].argmin()], :2])[:, 0]
    distances = [symmetry.distances(images, site.place[:2]).min() for site in sites]
    return sites[int(np.argmin(distances))].name


def _merge(rows: Sequence[Adsorbed], n_slab: int, symmetry: SlabSymmetry) -> list[Adsorbed]:
    """Rows of one adsorbate by energy; what is the same structure by symmetry, or as far away, once."""
    merged: list[Adsorbed] = []
    for row in sorted(rows, key=lambda row: row.energy):
        for number, other in enumerate(merged):
            if _same(row, other, n_slab, symmetry):
                merged[number] = replace(other, starts=(*other.starts, *row.starts))
                break
        else:
            merged.append(row)
    return merged


def _same(one: Adsorbed, other: Adsorbed, n_slab: int, symmetry: SlabSymmetry) -> bool:
    if one.state != other.state or abs(one.energy - other.energy) > SAME_ENERGY:
        return False
    first, second = one.relaxation, other.relaxation
    if first.converged != second.converged:
        return False
    return one.state == "desorbed" or same_places(first.atoms[n_slab:], second.atoms[n_slab:], symmetry, SAME_SHAPE)
