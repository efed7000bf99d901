"""Surface energies of crystals: slabs of several thicknesses along each plane, relaxed in one batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import ase
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import constants

from carten.drawing import HEIGHT, WIDTH
from carten.errors import DataError
from carten.math.arrays import Array, Floats
from carten.workflows.harmonic import energy_of, largest_force
from carten.workflows.relax import Goal, Relaxation, choose_evaluator, relax
from carten.workflows.results import (
    JobResult,
    Model,
    Progress,
    Quantity,
    as_calculator,
    cutoff_of,
    require_crystal,
    require_relaxed,
)
from carten.workflows.slabs import Miller, OrientedCrystal, distinct_planes, oriented
from carten.workflows.wulff import WulffShape, wulff

J_PER_M2 = constants.e * 1e20
"""J/m^2 in one eV/Å^2."""
THICKNESSES = 3
"""Slabs of a surface: a line through their energies gives it."""
DISAGREE = 0.02
"""eV/Å^2 between the surface energies of the line and of the thickest slab, above which they are doubted."""
LARGEST_INDEX = 6
EYE = np.array([0.85, 0.36, 0.39])
"""Direction from which the picture shows a shape."""


@dataclass(frozen=True)
class Facet:
    """A surface of a crystal, the mean of the two sides of its slabs.

    Args:
        miller: indices in the conventional cell.
        termination: number of the cut, 0 between the planes of atoms that are farthest apart.
        area: of the cell of the surface, Å^2.
        n_atoms: (t,) of the slabs.
        energies: (t,) of the relaxed slabs, eV.
        rigid: (t,) of the slabs as they are cut, eV.
        bulk: energy of an atom of the crystal, eV.
        slabs: relaxed.
        unrelaxed: slabs that did not relax.
    """

    miller: Miller
    termination: int
    area: float
    n_atoms: Floats
    energies: Floats
    rigid: Floats
    bulk: float
    slabs: list[ase.Atoms] = field(repr=False)
    unrelaxed: int

    @property
    def name(self) -> str:
        indices = " ".join(map(str, self.miller))
        return f"({indices})" + (f" cut {self.termination}" if self.termination else "")

    @property
    def energy(self) -> float:
        """Surface energy in eV/Å^2: half of what slabs of no atoms would have, by a straight line in their number."""
        return _intercept(self.n_atoms, self.energies) / (2.0 * self.area)

    @property
    def rigid_energy(self) -> float:
        """As :attr:`energy`, of slabs as they are cut."""
        return _intercept(self.n_atoms, self.rigid) / (2.0 * self.area)

    @property
    def thickest(self) -> float:
        """Surface energy by the thickest slab and the energy of the crystal, eV/Å^2."""
        return float(self.energies[-1] - self.n_atoms[-1] * self.bulk) / (2.0 * self.area)


@dataclass(frozen=True)
class SurfaceEnergies(JobResult):
    """Energies of the surfaces of a crystal.

    Args:
        atoms: the crystal.
        facets: its surfaces, all terminations of a plane after each other.
        force: the largest force in the crystal, eV/Å.
        shape: of the crystal in equilibrium, made of the lowest terminations; None if the planes enclose no volume.
    """

    job: ClassVar[str] = "surface"
    size: ClassVar[tuple[float, float]] = (HEIGHT, 1.5 * WIDTH)
    atoms: ase.Atoms
    facets: list[Facet]
    force: float
    shape: WulffShape | None

    def quantities(self) -> list[Quantity]:
        numbers = [Quantity(f"surface energy {facet.name}", facet.energy * J_PER_M2, "J/m²") for facet in self.facets]
        if self.shape is not None:
            numbers.append(Quantity("mean over the Wulff shape", self.shape.mean * J_PER_M2, "J/m²"))
        return numbers

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        facets, shares = self.facets, self._shares()
        columns: dict[str, Any] = {
            "surface": [facet.name for facet in facets],
            "energy_J/m^2": [facet.energy * J_PER_M2 for facet in facets],
            "energy_eV/A^2": [facet.energy for facet in facets],
            "rigid_J/m^2": [facet.rigid_energy * J_PER_M2 for facet in facets],
            "thickest_slab_J/m^2": [facet.thickest * J_PER_M2 for facet in facets],
            "atoms_of_thickest_slab": [int(facet.n_atoms[-1]) for facet in facets],
            "share_of_wulff_shape": [shares.get(facet.name, 0.0) for facet in facets],
        }
        return {"surfaces": {name: np.asarray(column) for name, column in columns.items()}}

    def structures(self) -> list[ase.Atoms]:
        return [facet.slabs[-1] for facet in self.facets]

    def warnings(self) -> list[str]:
        doubts = [
            f"{facet.name}: {facet.energy * J_PER_M2:.3f} J/m² by the line and {facet.thickest * J_PER_M2:.3f} by the "
            "thickest slab: make slabs thicker; polar surfaces do not converge at all"
            for facet in self.facets
            if abs(facet.energy - facet.thickest) > DISAGREE
        ]
        negative = [
            f"{facet.name} has a negative energy: the crystal is not stable in this model, or a surface it never saw"
            for facet in self.facets
            if facet.energy < 0.0
        ]
        return doubts + negative

    def failures(self) -> list[str]:
        return require_relaxed(self.force) + [
            f"{facet.unrelaxed} of {len(facet.slabs)} slabs of {facet.name} did not relax"
            for facet in self.facets
            if facet.unrelaxed
        ]

    def draw(self, figure: Figure) -> None:
        bars, *rest = figure.subplots(1, 1 if self.shape is None else 2, squeeze=False)[0]
        places = np.arange(len(self.facets))
        relaxed = [facet.energy * J_PER_M2 for facet in self.facets]
        rigid = [facet.rigid_energy * J_PER_M2 for facet in self.facets]
        bars.barh(places - 0.2, relaxed, 0.4, color="C0", label="relaxed")
        bars.barh(places + 0.2, rigid, 0.4, color="C1", label="as cut")
        bars.set_yticks(places, [facet.name for facet in self.facets])
        bars.invert_yaxis()
        bars.set(xlabel="surface energy (J/m²)")
        bars.legend(fontsize=8.0, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
        if self.shape is not None:
            _draw_shape(rest[0], self.shape, [facet.name for facet in _lowest(self.facets)])

    def _shares(self) -> dict[str, float]:
        if self.shape is None:
            return {}
        names = [facet.name for facet in _lowest(self.facets)]
        return dict(zip(names, self.shape.shares.tolist(), strict=True))


@dataclass(frozen=True)
class SlabSizes:
    """How slabs are made.

    Args:
        thickness: of the thinnest of three slabs at least, Å; the others are up to twice as thick.
        vacuum: between a slab and its image, Å.
    """

    thickness: float = 10.0
    vacuum: float = 12.0

    def __post_init__(self) -> None:
        for name in ("thickness", "vacuum"):
            if not (getattr(self, name) > 0.0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name} must be a positive number of Å, found {getattr(self, name)}")

    def layers(self, crystal: OrientedCrystal) -> list[int]:
        """Lattice planes of the slabs."""
        thinnest = max(2, math.ceil(self.thickness / crystal.spacing - 1e-6))
        return [thinnest + number * max(1, thinnest // 2) for number in range(THICKNESSES)]


def surface(
    atoms: ase.Atoms,
    model: Model,
    planes: Sequence[Miller] | int = 1,
    sizes: SlabSizes | None = None,
    goal: Goal | None = None,
    progress: Progress | None = None,
) -> SurfaceEnergies:
    """Surface energies of a crystal, and its shape in equilibrium.

    Slabs of each plane and termination are cut in three thicknesses and relaxed together. Their energies are a straight
    line in the number of atoms, whose intercept is twice the surface energy: an energy of the crystal from elsewhere,
    whose error would grow with the thickness, is not needed (V. Fiorentini, M. Methfessel, J. Phys. Condens. Matter 8,
    6525, 1996). Slabs hold whole formula units, so that the energy is the mean of both sides where these differ.

    Args:
        atoms: a relaxed crystal; any cell of it.
        model: a model, its file, or any calculator of ASE.
        planes: Miller indices in the conventional cell that spglib finds, or the largest index of all distinct planes.
        sizes: thickness and vacuum.
        goal: of the relaxation of the slabs, whose cells are kept.
        progress: called with slabs done and all.

    Raises:
        ConfigError: spglib is not installed.
        DataError: the structure is no crystal, an index is not one, or the vacuum is smaller than the cutoff.
    """
    require_crystal(atoms, "surface")
    calculator, sizes = as_calculator(model), sizes or SlabSizes()
    _require_vacuum(cutoff_of(calculator), sizes.vacuum)
    if isinstance(planes, int):
        if not 1 <= planes <= LARGEST_INDEX:
            raise DataError(f"the largest Miller index is 1 to {LARGEST_INDEX}, found {planes}")
        planes = distinct_planes(atoms, planes)
    elif not planes:
        raise DataError("no Miller indices: expected triples of integers, such as (1, 1, 1)")
    bulk = energy_of(atoms, calculator) / len(atoms)
    cuts = [
        (turned, number, cut)
        for turned in (oriented(atoms, plane) for plane in planes)
        for number, cut in enumerate(turned.cuts)
    ]
    slabs = [turned.slab(cut, layers, sizes.vacuum) for turned, _, cut in cuts for layers in sizes.layers(turned)]
    relaxed = relax(slabs, choose_evaluator(calculator, slabs), goal or Goal(), progress)
    facets = [
        _facet(turned, number, relaxed[first : first + THICKNESSES], bulk)
        for first, (turned, number, _) in zip(range(0, len(slabs), THICKNESSES), cuts, strict=True)
    ]
    lowest = _lowest(facets)
    shape = wulff(atoms, [facet.miller for facet in lowest], [facet.energy for facet in lowest])
    return SurfaceEnergies(atoms.copy(), facets, largest_force(atoms, calculator), shape)


def _facet(crystal: OrientedCrystal, number: int, slabs: Sequence[Relaxation], bulk: float) -> Facet:
    return Facet(
        crystal.miller,
        number,
        crystal.area,
        np.array([float(len(slab.atoms)) for slab in slabs]),
        np.array([slab.energy for slab in slabs]),
        np.array([slab.energy_before for slab in slabs]),
        bulk,
        [slab.atoms for slab in slabs],
        sum(not slab.converged for slab in slabs),
    )


def _draw_shape(axes: Axes, shape: WulffShape, names: Sequence[str]) -> None:
    """The facets that are seen from one direction, in parallel projection."""
    right = np.cross([0.0, 0.0, 1.0], EYE)
    plane = np.stack([right, np.cross(EYE, right)]) / np.linalg.norm(right)
    for corners, number in shape.polygons:
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        facing = float(normal @ EYE) * np.sign(normal @ corners[0])
        if facing > 0.0:
            axes.fill(*(plane @ corners.T), facecolor=f"C{number}", edgecolor="0.2", linewidth=0.5)
    for number in np.flatnonzero(shape.shares).tolist():
        axes.plot([], [], "s", color=f"C{number}", label=f"{names[number]}  {100 * shape.shares[number]:.0f} %")
    axes.set_aspect("equal")
    axes.set_axis_off()
    axes.legend(fontsize=8.0, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _lowest(facets: Sequence[Facet]) -> list[Facet]:
    """Of each plane the termination of lowest energy."""
    planes: dict[Miller, Facet] = {}
    for facet in sorted(facets, key=lambda facet: facet.energy):
        planes.setdefault(facet.miller, facet)
    return [planes[miller] for miller in dict.fromkeys(facet.miller for facet in facets)]


def _intercept(numbers: Floats, energies: Floats) -> float:
    return float(np.polynomial.Polynomial.fit(numbers, energies, 1).convert().coef[0])


def _require_vacuum(cutoff: float, vacuum: float) -> None:
    if vacuum < cutoff:
        raise DataError(
            f"a vacuum of {vacuum:g} Å is smaller than the cutoff of the model, {cutoff:g} Å: slabs would feel their "
            "images; make it larger"
        )
