"""Dielectric constant and infrared absorption of liquids and solids from the polarization along a trajectory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import ase
import numpy as np
from ase import units
from matplotlib.figure import Figure
from scipy import constants
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order

from carten.data.labels import Label
from carten.errors import DataError, ModelError
from carten.math.arrays import Array, Floats
from carten.physics.constants import COULOMB
from carten.properties.potential import Potential
from carten.workflows.bonds import bonded_pairs
from carten.workflows.predict import predict
from carten.workflows.results import JobResult, Quantity
from carten.workflows.spectrum import infrared, segment_length
from carten.workflows.trajectory import BLOCKS, FrameSeries, kinetic_temperature

PER_VOLUME = 1e5 / (constants.N_A * 1e-24)
"""1/cm of a km/mol per cm^-1 in 1 Å^3."""


@dataclass(frozen=True)
class Dielectric(JobResult):
    """What the fluctuations of the polarization of a cell say.

    Args:
        constant: static dielectric constant.
        error: its standard error, from blocks.
        wavenumbers: (n,) cm^-1.
        absorption: (n,) absorption coefficient times refractive index, 1/cm.
        polarization: (T, 3) of the cell about its mean, e Å.
        temperature: K.
    """

    job: ClassVar[str] = "dielectric"
    constant: float
    error: float
    wavenumbers: Floats
    absorption: Floats
    polarization: Floats
    temperature: float

    def quantities(self) -> list[Quantity]:
        return [
            Quantity("static dielectric constant", self.constant),
            Quantity("standard error", self.error),
            Quantity("temperature", self.temperature, "K"),
        ]

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        moments = {f"P_{axis} e*A": self.polarization[:, k] for k, axis in enumerate("xyz")}
        return {
            "infrared": {"wavenumber_1/cm": self.wavenumbers, "absorption_1/cm": self.absorption},
            "polarization": moments,
        }

    def warnings(self) -> list[str]:
        if self.error > 0.2 * (self.constant - 1.0):
            return ["the dielectric constant has not converged: run longer dynamics"]
        return []

    def draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot(self.wavenumbers, self.absorption, linewidth=1.2)
        axes.set(xlabel="wavenumber (cm⁻¹)", ylabel="absorption × index (1/cm)", ylim=(0.0, None))


def dielectric(
    trajectory: FrameSeries,
    model: Potential,
    resolution: float = 10.0,
    temperature: float | None = None,
    electronic: float = 1.0,
    inputs: Mapping[str, Label] | None = None,
) -> Dielectric:
    """``eps = eps_inf + <dP^2> / (3 eps0 V k T)``, without a surface charge, and the infrared absorption.

    Args:
        trajectory: frames that are periodic in three directions.
        model: predicts ``polarization``.
        resolution: of the infrared spectrum, cm^-1.
        temperature: K; from momenta by default.
        electronic: eps_inf, the dielectric constant at fixed nuclei.
        inputs: where else to look for inputs of the model: names and units of the files.

    Raises:
        ModelError: the model has no polarization.
        DataError: there is no cell, time or temperature, or too few frames for the resolution.

    Source: M. Neumann, Mol. Phys. 50, 841 (1983).
    """
    if "polarization" not in model.properties:
        raise ModelError(
            "a dielectric constant needs a model that predicts polarization, as models with terms: les and "
            f"polarization: {{route: latent}} do; this one predicts {', '.join(model.requested)}"
        )
    if not trajectory.has_cells:
        raise DataError("a dielectric constant needs frames that are periodic in three directions")
    kelvin = kinetic_temperature(trajectory.frames) if temperature is None else temperature
    segment_length(len(trajectory.frames), trajectory.fs, resolution)
    frames = _unwrapped(trajectory)
    moments = np.array([values["polarization"] for values in predict(model, frames, ["polarization"], inputs=inputs)])
    moments = moments - moments.mean(axis=0)
    wavenumbers, absorbed = infrared(moments, trajectory.fs, kelvin, resolution)
    volume = float(trajectory.volumes.mean())
    scale = 4.0 * math.pi * COULOMB / (3.0 * volume * units.kB * kelvin)
    blocks = [scale * block.var(axis=0).sum() for block in np.array_split(moments, BLOCKS)]
    return Dielectric(
        electronic + scale * float(moments.var(axis=0).sum()),
        float(np.std(blocks, ddof=1) / math.sqrt(BLOCKS)),
        wavenumbers,
        absorbed * PER_VOLUME / volume,
        moments,
        kelvin,
    )


def _unwrapped(trajectory: FrameSeries) -> Sequence[ase.Atoms]:
    """Frames of whole molecules that do not jump across the cell.

    So the polarization stays on one branch, and charges that flow within a molecule do so along bonds, not across the
    cell.
    """
    frames, shift = [], _images_of_whole_molecules(trajectory.frames[0])
    for atoms, positions in zip(trajectory.frames, trajectory.unwrapped, strict=True):
        copy = atoms.copy()
        copy.positions = positions + shift @ atoms.cell.array
        frames.append(copy)
    return frames


def _images_of_whole_molecules(atoms: ase.Atoms) -> Floats:
    """Multiples of the lattice vectors (N, 3) to add to atoms, so that bonded ones are next to each other."""
    first, second, vectors = bonded_pairs(atoms)
    steps = vectors - (atoms.positions[second] - atoms.positions[first])
    images = np.round(steps @ np.linalg.inv(atoms.cell.array))
    once = np.unique(first * len(atoms) + second, return_index=True)[1]  # one of several images is enough
    neighbours = csr_array((once + 1, (first[once], second[once])), shape=(len(atoms), len(atoms)))
    shift, visited = np.zeros((len(atoms), 3)), np.zeros(len(atoms), dtype=bool)
    for root in range(len(atoms)):
        if visited[root]:
            continue
        order, before = breadth_first_order(neighbours, root)
        visited[order] = True
        for atom in order[1:]:
            bond = int(neighbours[before[atom], atom]) - 1
            shift[atom] = shift[before[atom]] + images[bond]
    return shift
