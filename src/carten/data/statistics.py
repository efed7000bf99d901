"""What a model needs to know about its data: elements, reference energies, scales, average number of neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase.data import chemical_symbols

from carten.data.dataset import Dataset
from carten.data.labels import MAX_NUMBER, Frame
from carten.errors import DataError
from carten.math.arrays import Array

_RANK = 1e-5  # singular values of the composition matrix below this fraction of the largest are not determined


@dataclass(frozen=True)
class ReferenceEnergies:
    """Energy E0 of each element, such that ``E - sum_i E0[z_i]`` is the interaction energy.

    Args:
        values: E0 by atomic number, in eV.
        origin: for each, whether it comes from an isolated atom in the data or from a fit to compositions.
        undetermined: elements whose E0 the compositions do not fix individually; the fit chose the values closest to
            the mean energy per atom.
        residual: rms of the interaction energy per atom in eV/atom; ``None`` without structures.
    """

    values: Mapping[int, float]
    origin: Mapping[int, Literal["isolated", "fitted"]]
    undetermined: tuple[int, ...] = ()
    residual: float | None = None


@dataclass(frozen=True)
class Statistics:
    """Numbers that set scales of a model.

    Args:
        elements: atomic numbers in the data, ascending.
        n_structures: number of structures.
        n_atoms: number of atoms in all of them.
        neighbours: average number of neighbours of an atom.
        energy_mean: mean interaction energy per atom in eV; ``None`` without energies.
        energy_rms: rms deviation from it over structures, in eV/atom.
        force_rms: rms of force components in eV/Å; ``None`` without forces.
    """

    elements: tuple[int, ...]
    n_structures: int
    n_atoms: int
    neighbours: float
    energy_mean: float | None
    energy_rms: float | None
    force_rms: float | None


def elements(frames: Sequence[Frame]) -> tuple[int, ...]:
    """Atomic numbers that occur, ascending."""
    return tuple(sorted({int(number) for frame in frames for number in np.unique(frame.numbers)}))


def isolated_atoms(frames: Sequence[Frame]) -> dict[int, float]:
    """Energies in eV of the structures that are one atom without periodic images, by atomic number.

    Raises:
        DataError: one element has two different energies (another charge or spin): which one is meant is not known.
    """
    found: dict[int, tuple[float, str]] = {}
    for frame in frames:
        if not frame.is_isolated_atom or "energy" not in frame.labels:
            continue
        number, energy = int(frame.numbers[0]), float(frame.labels["energy"])
        if number in found and abs(found[number][0] - energy) > 1e-6:
            raise DataError(
                f"isolated {chemical_symbols[number]} has {found[number][0]} eV in {found[number][1]} "
                f"but {energy} eV in {frame.where}; remove one, or give reference_energies in the configuration"
            )
        found.setdefault(number, (energy, frame.where))
    return {number: energy for number, (energy, _) in sorted(found.items())}


def reference_energies(
    frames: Sequence[Frame], source: Literal["auto", "isolated", "fitted"] = "auto"
) -> ReferenceEnergies:
    """Reference energies of all elements in the data.

    Args:
        frames: the structures; those with an energy are used.
        source: ``isolated`` takes those of isolated atoms, ``fitted`` fits all, ``auto`` takes isolated atoms where
            there are any and fits the rest.

    Fit: least squares of ``E_s / n_s = sum_z (n_sz / n_s) E0_z`` (every structure counts once, whatever its size),
    about the mean energy per atom. Combinations of elements that the compositions do not determine (one composition
    only, or elements that always occur in one ratio) get the solution of minimum norm about that mean, by a ridge.

    Raises:
        DataError: no structure has an energy, or an isolated atom is asked for and missing.
    """
    used = [frame for frame in frames if "energy" in frame.labels]
    if not used:
        raise DataError("reference energies need structures with an energy, found none; set reference_energies to none")
    fixed = isolated_atoms(used) if source != "fitted" else {}
    present = elements(frames)
    missing = tuple(number for number in present if number not in fixed)
    if source == "isolated" and missing:
        names = ", ".join(chemical_symbols[number] for number in missing)
        raise DataError(f"no isolated atom with an energy for {names}; add one, or set reference_energies to auto")
    fitted, undetermined = _fit(used, missing, fixed)
    values = {number: (fixed | fitted)[number] for number in present}
    origin: dict[int, Literal["isolated", "fitted"]] = {
        number: "isolated" if number in fixed else "fitted" for number in present
    }
    residual = interaction_energies(used, values)
    rms = float(np.sqrt(np.mean(residual**2))) if len(residual) else None
    return ReferenceEnergies(values=values, origin=origin, undetermined=undetermined, residual=rms)


def _fit(
    frames: Sequence[Frame], unknown: tuple[int, ...], fixed: Mapping[int, float]
) -> tuple[dict[int, float], tuple[int, ...]]:
    """E0 of the unknown elements and those of them that are not determined individually."""
    if not unknown:
        return {}, ()
    everything = compositions(frames)
    counts = everything[:, unknown]
    sizes = everything.sum(axis=1)
    known = everything[:, list(fixed)] @ np.array(list(fixed.values()), dtype=np.float64)
    energies = np.array([float(frame.labels["energy"]) for frame in frames])
    fitted = counts.sum(axis=1)
    concerned = fitted > 0
    if not concerned.any():
        raise DataError(f"no structure with an energy contains {', '.join(chemical_symbols[z] for z in unknown)}")
    padding = len(unknown)  # rows of zeros: the null space is wanted too
    matrix = np.pad((counts / sizes[:, None])[concerned], ((0, padding), (0, 0)))
    target = np.pad(((energies - known) / sizes)[concerned], (0, padding))
    mean = float(np.sum(target) / np.sum(matrix))
    u, singular, vh = np.linalg.svd(matrix, full_matrices=False)
    ridge = 1e-3 * _RANK * singular[0]
    inverse = np.where(singular > _RANK * singular[0], singular / (singular**2 + ridge**2), 0.0)
    solution = mean + vh.T @ (inverse * (u.T @ (target - mean * matrix.sum(axis=1))))
    rank = int(np.count_nonzero(inverse))
    loose = np.linalg.norm(vh[rank:], axis=0) > 1e-3
    undetermined = tuple(number for number, free in zip(unknown, loose, strict=True) if free)
    return dict(zip(unknown, solution.tolist(), strict=True)), undetermined


def compositions(frames: Sequence[Frame]) -> Array:
    """Number of atoms of each element in each structure, (structures, 119), by atomic number."""
    rows = [np.bincount(frame.numbers, minlength=MAX_NUMBER + 1) for frame in frames]
    return np.array(rows, dtype=np.float64).reshape(len(rows), MAX_NUMBER + 1)


def energies_per_atom(frames: Sequence[Frame], references: Mapping[int, float]) -> Array:
    """``(E - sum_i E0[z_i]) / N`` in eV/atom of structures that all have an energy."""
    counts = compositions(frames)
    table = np.full(MAX_NUMBER + 1, np.nan)
    table[list(references)] = list(references.values())
    present = counts.any(axis=0)
    energies = np.array([float(frame.labels["energy"]) for frame in frames])
    per_atom: Array = (energies - counts[:, present] @ table[present]) / counts.sum(axis=1)
    return per_atom


def interaction_energies(frames: Sequence[Frame], references: Mapping[int, float]) -> Array:
    """``(E - sum_i E0[z_i]) / N`` in eV/atom of the frames with an energy that are not isolated atoms."""
    used = [frame for frame in frames if "energy" in frame.labels and not frame.is_isolated_atom]
    return energies_per_atom(used, references)


def statistics(dataset: Dataset, references: Mapping[int, float]) -> Statistics:
    """Statistics of a (training) set.

    Args:
        dataset: the structures; finds the neighbour lists once if they are not prepared.
        references: E0 by atomic number in eV; an element that is not listed counts zero.
    """
    frames = dataset.frames
    complete = {number: references.get(number, 0.0) for number in elements(frames)}
    energies = interaction_energies(frames, complete)
    forces = [frame.labels["forces"].ravel() for frame in frames if "forces" in frame.labels]
    n_atoms = sum(dataset.n_atoms())
    return Statistics(
        elements=tuple(complete),
        n_structures=len(frames),
        n_atoms=n_atoms,
        neighbours=sum(dataset.n_edges()) / max(n_atoms, 1),
        energy_mean=float(energies.mean()) if len(energies) else None,
        energy_rms=float(energies.std()) if len(energies) else None,
        force_rms=float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else None,
    )
