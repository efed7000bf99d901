"""Barriers between two minima: nudged elastic bands with a climbing image, all images evaluated in one batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.mep import NEB
from ase.optimize import LBFGS
from ase.utils.forcecurve import fit_raw
from matplotlib.figure import Figure

from carten.data.write import replacing, write_structure
from carten.deploy import Deployed
from carten.errors import DataError, require_positive
from carten.interfaces.ase import Calculator
from carten.math.arrays import Floats
from carten.workflows.crowd import Crowd
from carten.workflows.ends import exchanged_atoms, match_ends, steps_between
from carten.workflows.paths import interpolate, match_path, require_ends
from carten.workflows.relax import Goal, choose_evaluator, relax
from carten.workflows.results import FORCE, JobResult, Model, Progress, Quantity, as_calculator
from carten.workflows.saddle import StationaryModes, stationary_modes

SPRING = 0.1
"""eV/Å^2, between neighbouring images."""
CLIMB = 0.2
"""eV/Å, the largest force on a band from which on its highest image climbs."""
DISTINCT = 0.1
"""Å, up to which the ends are the same structure."""
RIPPLE = 1e-3
"""eV, depth of a minimum between images that is pointed out."""
INTERVAL = 10
"""Steps after which the band is written to its file."""


@dataclass(frozen=True)
class Band:
    """A band of images, and when it has converged.

    Args:
        images: between the ends.
        fmax: largest force on the band, eV/Å.
        steps: at most.
        relax_ends: whether the ends relax first; else they must be relaxed.
    """

    images: int = 7
    fmax: float = 0.05
    steps: int = 500
    relax_ends: bool = True

    def __post_init__(self) -> None:
        require_positive(self, "images", "fmax", "steps")


@dataclass(frozen=True)
class MinimumEnergyPath(JobResult):
    """A path of least energy between two structures.

    Args:
        path: the structures, ends included, with energies and forces.
        converged: whether forces on the band are as small as was asked for.
        steps: of the band.
        force: the largest one on the band, perpendicular to it but for the climbing image, eV/Å.
        end_forces: the largest forces on an atom of the start and of the end, eV/Å.
        modes: of the highest image; ``None`` where the band did not converge or the highest image is an end.
        exchanged: atoms that seem to be numbered otherwise in the end.
    """

    job: ClassVar[str] = "neb"
    path: list[ase.Atoms]
    converged: bool
    steps: int
    force: float
    end_forces: tuple[float, float]
    modes: StationaryModes | None
    exchanged: list[int] = field(default_factory=list)

    @property
    def energies(self) -> Floats:
        """(images,) relative to the start, eV."""
        energies = np.array([image.get_potential_energy() for image in self.path])
        relative: Floats = energies - energies[0]
        return relative

    @property
    def coordinate(self) -> Floats:
        """(images,) length of the path up to each image, Å."""
        steps = [np.linalg.norm(one.positions - other.positions) for one, other in pairwise(self.path)]
        return np.concatenate([[0.0], np.cumsum(steps)])

    @property
    def saddle(self) -> ase.Atoms:
        """The structure of highest energy."""
        return self.path[self._top]

    @property
    def _top(self) -> int:
        return int(self.energies.argmax())

    def quantities(self) -> list[Quantity]:
        energies = self.energies
        numbers = [
            Quantity("barrier forward", float(energies.max()), "eV"),
            Quantity("barrier backward", float(energies.max() - energies[-1]), "eV"),
            Quantity("reaction energy", float(energies[-1]), "eV"),
            Quantity("length of the path", float(self.coordinate[-1]), "Å"),
            Quantity("saddle at", float(self.coordinate[self._top]), "Å"),
        ]
        numbers += [] if self.modes is None else self.modes.quantities()
        return [*numbers, Quantity("largest force on the band", self.force, "eV/Å"), Quantity("steps", self.steps)]

    def tables(self) -> Mapping[str, Mapping[str, Floats]]:
        return {"path": {"path_A": self.coordinate, "energy_eV": self.energies}}

    def structures(self) -> list[ase.Atoms]:
        return self.path

    def warnings(self) -> list[str]:
        remarks = []
        if self.exchanged:
            names = ", ".join(map(str, self.exchanged[:10]))
            remarks.append(f"atoms {names} seem to be numbered otherwise in the end: the path exchanges them")
        if minima := _minima(self.energies):
            names = ", ".join(map(str, minima))
            remarks.append(
                f"there is a minimum between the ends, near image {names}: relax it, and look for the path to it and "
                "the one from it"
            )
        return remarks

    def failures(self) -> list[str]:
        problems = [
            f"the {name} is not relaxed, the largest force is {force:.2g} eV/Å"
            for name, force in zip(("start", "end"), self.end_forces, strict=True)
            if force > FORCE
        ]
        if not self.converged:
            problems.append(
                f"the largest force on the band is {self.force:.2g} eV/Å after {self.steps} steps: allow more steps, "
                "or go on from this path"
            )
        if self._top in (0, len(self.path) - 1):
            problems.append("no image is higher than both ends: there is no barrier, or it needs more images")
        return problems + ([] if self.modes is None else self.modes.failures())

    def draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        forces = [image.get_forces() for image in self.path]
        curve = fit_raw(self.energies, forces, [image.positions for image in self.path])
        axes.plot(curve.fit_path, curve.fit_energies, color="C0", linewidth=1.2)
        axes.plot(self.coordinate, self.energies, "o", color="C0", markersize=4.0)
        top = self._top
        axes.plot(self.coordinate[top], self.energies[top], "o", color="C1", markersize=6.0, label="saddle")
        axes.set(xlabel="path (Å)", ylabel="energy (eV)")
        axes.legend(fontsize=8.0)


def neb(
    start: ase.Atoms,
    end: ase.Atoms,
    model: Model,
    band: Band | None = None,
    progress: Progress | None = None,
    path: Sequence[ase.Atoms] | None = None,
    file: str | Path | None = None,
) -> MinimumEnergyPath:
    """Path of least energy between two minima: a nudged elastic band whose highest image climbs to the saddle.

    The band begins at the interpolation of interatomic distances (IDPP) or at a path. Images are evaluated in one batch
    where the model is a compiled library. The saddle is checked: its Hessian must have one imaginary mode.

    Args:
        start: a minimum.
        end: another one: the same atoms in the same order, the same cell. Atoms held by ``FixAtoms`` stay.
        model: a model, its file, or any calculator of ASE.
        band: images, and when to stop.
        progress: called with steps done and allowed.
        path: images to begin with, ends included, such as those of a band that was interrupted; they, not ``band``,
            say how many images there are.
        file: extended XYZ, to which the band is written at the beginning and every ten steps: a ``path`` to go on from.

    Raises:
        DataError: the ends have other atoms, another order or cell, they are or relax to the same structure, atoms
            pass through each other between them, or the path has no image between its ends, others than these, or other
            atoms.
        ModelError: an element that the model does not know.

    Source: G. Henkelman, B. P. Uberuaga and H. Jónsson, J. Chem. Phys. 113, 9901 (2000); G. Henkelman and H. Jónsson,
    J. Chem. Phys. 113, 9978 (2000), eqs 8 to 12; S. Smidstrup et al., J. Chem. Phys. 140, 214106 (2014).
    """
    band = band or Band()
    end = match_ends(start, end)
    exchanged = exchanged_atoms(start, end)
    calculator = as_calculator(model)
    if isinstance(calculator, Calculator):
        calculator.model  # noqa: B018  # a library has no Hessian: say so before the work
    evaluator = choose_evaluator(calculator, [start])
    images = _first_images(start, end, evaluator, band, path)
    elastic = _ElasticBand(images, evaluator)
    converged, steps = _optimise(elastic, band, progress, None if file is None else Path(file))
    force = float(np.linalg.norm(elastic.get_forces(), axis=1).max())
    top = int(np.argmax([image.get_potential_energy() for image in images]))
    checked = converged and 0 < top < len(images) - 1
    modes = stationary_modes(images[top], calculator) if checked else None
    forces = [float(np.linalg.norm(image.get_forces(), axis=1).max()) for image in (images[0], images[-1])]
    return MinimumEnergyPath(images, converged, steps, force, (forces[0], forces[1]), modes, exchanged)


class _ElasticBand(NEB):
    """ASE's band; its images are evaluated together."""

    def __init__(self, images: Sequence[ase.Atoms], evaluator: Deployed | BaseCalculator) -> None:
        super().__init__(images, k=SPRING, method="improvedtangent")  # type: ignore[no-untyped-call]
        between = images[1:-1]
        self._evaluate = (
            _one_batch(between, evaluator) if isinstance(evaluator, Deployed) else _one_by_one(between, evaluator)
        )

    def get_forces(self) -> Floats:
        if any(image.calc is None or image.calc.check_state(image) for image in self.images[1:-1]):
            self._evaluate()
        forces: Floats = super().get_forces()  # type: ignore[no-untyped-call]
        return forces


def _one_batch(images: Sequence[ase.Atoms], library: Deployed) -> Callable[[], None]:
    crowd = Crowd(library, images)

    def evaluate() -> None:
        values = crowd.evaluate()
        forces = np.split(values.forces, crowd.first[1:-1])
        for image, energy, force in zip(images, values.energies, forces, strict=True):
            image.calc = SinglePointCalculator(image, energy=float(energy), forces=force)

    return evaluate


def _one_by_one(images: Sequence[ase.Atoms], calculator: BaseCalculator) -> Callable[[], None]:
    def evaluate() -> None:
        for image in images:
            image.calc = calculator
            energy, forces = float(image.get_potential_energy()), image.get_forces(apply_constraint=False)
            image.calc = SinglePointCalculator(image, energy=energy, forces=forces)

    return evaluate


def _first_images(
    start: ase.Atoms,
    end: ase.Atoms,
    evaluator: Deployed | BaseCalculator,
    band: Band,
    path: Sequence[ase.Atoms] | None,
) -> list[ase.Atoms]:
    """The band to begin with; its ends have energies and forces, and are relaxed if they are to be."""
    between = [] if path is None else match_path(start, path)
    ends = [(start, end)]
    if band.relax_ends:
        results = relax([start, end], evaluator, Goal(fmax=min(FORCE, band.fmax), steps=band.steps))
        start, end = (result.atoms for result in results)
        end = match_ends(start, end)
        ends.append((start, end))
    distance = float(np.linalg.norm(steps_between(start, end), axis=1).max())
    if distance < DISTINCT:
        state = "relax to" if band.relax_ends else "are"
        raise DataError(f"the ends {state} the same structure, no atom moves more than {distance:.2g} Å between them")
    if path is None:
        between = interpolate(start, end, band.images)
    else:
        require_ends(between, ends, DISTINCT)
        start, *between, end = match_ends(between[0], start), *between[1:-1], match_ends(between[-1], end)
    first, last = relax([start, end], evaluator, Goal(fmax=np.inf))
    return [first.atoms, *between, last.atoms]


def _optimise(elastic: _ElasticBand, band: Band, progress: Progress | None, file: Path | None) -> tuple[bool, int]:
    """Relax the band, then let the highest image climb: whether it converged, and steps."""
    steps, converged = 0, False
    for climb, fmax in ((False, max(CLIMB, band.fmax)), (True, band.fmax)):
        elastic.climb = climb
        optimizer = LBFGS(elastic, logfile=None)  # type: ignore[arg-type]  # ASE takes both
        for reached in optimizer.irun(fmax=fmax, steps=band.steps - steps):
            converged = bool(reached)
            if file is not None and optimizer.nsteps % INTERVAL == 0:
                _write(elastic.images, file)
            if progress is not None:
                progress(steps + optimizer.nsteps, band.steps)
        steps += optimizer.nsteps
    return converged, steps


def _write(images: Sequence[ase.Atoms], path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with replacing(path) as file:
        for image in images:
            write_structure(file, image)


def _minima(energies: Floats) -> list[int]:
    """Images that are lower than the highest ones on both sides of them, and than their neighbours."""
    return [
        k
        for k in range(1, len(energies) - 1)
        if energies[k] <= min(energies[k - 1], energies[k + 1])
        and min(energies[:k].max(), energies[k + 1 :].max()) > energies[k] + RIPPLE
    ]
