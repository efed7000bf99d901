"""Phonons of a crystal: bands, density of states and thermal properties from exact force constants, by phonopy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import ase
import numpy as np
from matplotlib.figure import Figure

from carten.errors import ConfigError
from carten.math.arrays import Array, Floats
from carten.workflows.harmonic import ase_atoms, harmonic_crystal, largest_force, run_thermal, thermal_table
from carten.workflows.results import (
    JobResult,
    Model,
    Progress,
    Quantity,
    as_calculator,
    require_crystal,
    require_relaxed,
)

IMAGINARY = 0.05
"""THz; modes below minus this are imaginary."""


@dataclass(frozen=True)
class Segment:
    """A straight path between two points of high symmetry.

    Args:
        ends: names of the points.
        q: (n, 3) fractional.
        distances: (n,) along the whole path, 1/Å.
        frequencies: (n, 3N) THz, imaginary ones negative.
    """

    ends: tuple[str, str]
    q: Floats
    distances: Floats
    frequencies: Floats


@dataclass(frozen=True)
class Phonons(JobResult):
    """Phonons of a crystal.

    Args:
        atoms: primitive cell.
        supercell: multiples of the given cell along its vectors.
        path: bands.
        dos: (n, 2) THz, and states per THz and primitive cell.
        thermal: (t, 4) K, free energy in eV/atom, entropy and heat capacity in J/(K mol) of atoms.
        largest_force: eV/Å.
        polar: whether the splitting of longitudinal modes by Born charges is included.
        phonopy: object that all this comes from.
    """

    job: ClassVar[str] = "phonons"
    size: ClassVar[tuple[float, float]] = (3.4, 7.0)
    atoms: ase.Atoms
    supercell: tuple[int, ...]
    path: tuple[Segment, ...] = field(repr=False)
    dos: Floats = field(repr=False)
    thermal: Floats = field(repr=False)
    largest_force: float
    polar: bool
    phonopy: Any = field(repr=False)

    @property
    def points(self) -> dict[str, Floats]:
        """Frequencies (3N,) in THz at the points of high symmetry by name."""
        points: dict[str, Floats] = {}
        for segment in self.path:
            for name, frequencies in zip(segment.ends, (segment.frequencies[0], segment.frequencies[-1]), strict=True):
                points.setdefault(name, frequencies)
        return points

    def at(self, temperature: float) -> Floats:
        """(3,) free energy in eV/atom, entropy and heat capacity in J/(K mol) of atoms at a temperature in K."""
        return np.array([np.interp(temperature, self.thermal[:, 0], column) for column in self.thermal.T[1:]])

    def quantities(self) -> list[Quantity]:
        free_energy, entropy, capacity = self.at(300.0)
        return [
            Quantity("supercell", self.supercell),
            *(Quantity(f"frequencies at {name}", values, "THz") for name, values in self.points.items()),
            Quantity("lowest frequency", self._lowest()[0], "THz"),
            Quantity("zero-point energy", self.thermal[0, 1], "eV/atom"),
            Quantity("vibrational free energy at 300 K", free_energy, "eV/atom"),
            Quantity("entropy at 300 K", entropy, "J/(K mol)"),
            Quantity("heat capacity at 300 K", capacity, "J/(K mol)"),
            Quantity("splitting of longitudinal modes included", self.polar),
            Quantity("largest force", self.largest_force, "eV/Å"),
        ]

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        names = [f"branch_{k + 1}_THz" for k in range(3 * len(self.atoms))]
        label = [[x.ends[0], *[""] * (len(x.q) - 2), x.ends[1]] for x in self.path]
        q, frequencies = (np.concatenate([getattr(x, name) for x in self.path]) for name in ("q", "frequencies"))
        bands = {"point": np.concatenate(label), "distance_1/A": np.concatenate([x.distances for x in self.path])}
        bands |= dict(zip(("q1", "q2", "q3"), q.T, strict=True)) | dict(zip(names, frequencies.T, strict=True))
        headings = ("temperature_K", "free_energy_eV/atom", "entropy_J/K/mol", "heat_capacity_J/K/mol")
        return {
            "bands": bands,
            "dos": dict(zip(("frequency_THz", "states_1/THz"), self.dos.T, strict=True)),
            "thermal": dict(zip(headings, self.thermal.T, strict=True)),
        }

    def structures(self) -> list[ase.Atoms]:
        return [self.atoms]

    def warnings(self) -> list[str]:
        lowest, place = self._lowest()
        if lowest >= -IMAGINARY:
            return []
        names = [name for name, values in self.points.items() if values[0] < -IMAGINARY]
        points = f"imaginary modes at {', '.join(names)}; " if names else ""
        return [
            f"the crystal is no minimum: {points}the lowest frequency is {lowest:.2f} THz (imaginary) at q = {place}. "
            "Thermal properties leave imaginary modes out. Relax it, take a larger supercell, or follow the mode"
        ]

    def failures(self) -> list[str]:
        return require_relaxed(self.largest_force)

    def save(self, folder: str | Path, name: str | None = None) -> list[Path]:
        """As :meth:`JobResult.save`, and force constants for phonopy: ``phonopy-load NAME.yaml``."""
        paths = super().save(folder, name)
        paths.append(Path(folder) / f"{name or self.job}.yaml")
        self.phonopy.save(str(paths[-1]), settings={"force_constants": True})
        return paths

    def draw(self, figure: Figure) -> None:
        left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
        ticks: dict[float, str] = {}
        for segment in self.path:
            left.plot(segment.distances, segment.frequencies, color="C0", linewidth=1.1)
            for place, name in zip(segment.distances[[0, -1]].tolist(), segment.ends, strict=True):
                known = ticks.get(round(place, 6), name)
                ticks[round(place, 6)] = known if known == name else f"{known}|{name}"
        left.set_xticks(list(ticks), list(ticks.values()))
        left.set(xlim=(min(ticks), max(ticks)), ylabel="frequency (THz)")
        right.fill_betweenx(self.dos[:, 0], self.dos[:, 1], color="C0", alpha=0.25)
        right.plot(self.dos[:, 1], self.dos[:, 0], color="C0", linewidth=1.1)
        right.set(xlabel="states per THz", xlim=(0.0, None))
        highest = float(max(segment.frequencies.max() for segment in self.path))
        left.set_ylim(min(0.0, 1.1 * self._lowest()[0]), 1.05 * highest)
        if self._lowest()[0] < -IMAGINARY:
            for axes in (left, right):
                axes.axhline(0.0, color="C1", linewidth=0.8)

    def _lowest(self) -> tuple[float, str]:
        """The lowest frequency of the bands, THz, and where it is."""
        segment = min(self.path, key=lambda x: x.frequencies.min())
        number = int(segment.frequencies.min(axis=1).argmin())
        q = ", ".join(f"{x + 0.0:.3f}" for x in segment.q[number])
        return float(segment.frequencies.min()), f"({q}), between {segment.ends[0]} and {segment.ends[1]}"


def phonons(
    atoms: ase.Atoms, model: Model, supercell: Sequence[int] | None = None, progress: Progress | None = None
) -> Phonons:
    """Phonons from the second derivatives of a supercell's energy, rows of inequivalent atoms only.

    Of a model these are exact; forces of other calculators are differenced. Models of electric fields also have Born
    charges and a dielectric tensor, which split longitudinal modes at small wave vectors.

    Args:
        atoms: a crystal, relaxed.
        model: a model, its file, or any calculator of ASE.
        supercell: multiples of the cell along its vectors; by default as many as keep images of an atom
            :data:`carten.workflows.harmonic.LENGTH` apart.
        progress: called with rows done and all.

    Raises:
        DataError: the structure is no crystal.
        ConfigError: phonopy or seekpath is not installed.
        ModelError: an element that the model does not know.

    Source: A. Togo, L. Chaput, T. Tadano and I. Tanaka, J. Phys. Condens. Matter 35, 353001 (2023).
    """
    require_crystal(atoms, "phonons")
    calculator = as_calculator(model)
    phonopy = harmonic_crystal(atoms, calculator, supercell, progress)
    _require_seekpath()
    phonopy.auto_band_structure(npoints=101)
    run_thermal(phonopy)
    phonopy.run_total_dos()
    dos = np.stack([phonopy.total_dos.frequency_points, phonopy.total_dos.dos], axis=1)
    return Phonons(
        ase_atoms(phonopy.primitive),
        tuple(np.diag(phonopy.supercell_matrix).tolist()),
        _segments(phonopy),
        dos,
        thermal_table(phonopy),
        largest_force(atoms, calculator),
        phonopy.nac_params is not None,
        phonopy,
    )


def _require_seekpath() -> None:
    if find_spec("seekpath") is None:
        raise ConfigError("bands need seekpath: pip install 'carten[workflows]'")


def _segments(phonopy: Any) -> tuple[Segment, ...]:
    """The bands; consecutive segments share a name where they are connected."""
    bands, segments, k = phonopy.band_structure, [], 0
    names = [_plain(label) for label in bands.labels]
    parts = zip(bands.qpoints, bands.distances, bands.frequencies, bands.path_connections, strict=True)
    for q, distances, frequencies, connected in parts:
        arrays = [np.asarray(values, dtype=np.float64) for values in (q, distances, frequencies)]
        segments.append(Segment((names[k], names[k + 1]), *arrays))
        k += 1 if connected else 2
    return tuple(segments)


def _plain(label: str) -> str:
    """A label without the markup of TeX."""
    for markup, text in (("$", ""), ("\\Gamma", "Γ"), ("\\mathrm", ""), ("{", ""), ("}", "")):
        label = label.replace(markup, text)
    return label
