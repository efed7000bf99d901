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

CUTOFF = 5.0  # Å, where a model has no other
_SAME = 1e-6  # eV, between isolated atoms in one state
_IMAGES = 0.1  # eV, the same, where images at different distances add something
_DISTANT = 10.0  # Å; images beyond it add next to nothing
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
        force_rms: rms of force components in eV/Å; ``None`` without forces.
    """

    elements: tuple[int, ...]
    n_structures: int
    n_atoms: int
    neighbours: float
    force_rms: float | None


def elements(frames: Sequence[Frame]) -> tuple[int, ...]:
    """Atomic numbers that occur, ascending."""
    return tuple(sorted({int(number) for frame in frames for number in np.unique(frame.numbers)}))


def isolated_atoms(frames: Sequence[Frame], cutoff: float = CUTOFF) -> dict[int, float]:
    """Energies in eV of the structures that are one atom, by atomic number.

    Periodic images may be there if they are beyond the cutoff, as in the box of a plane-wave code; of several such
    structures the one whose images are farthest away counts.

    Args:
        frames: the structures.
        cutoff: in Å.

    Raises:
        DataError: one element has two different energies (another charge or spin): which one is meant is not known.
    """
    best: dict[int, Frame] = {}
    for frame in frames:
        if not frame.is_isolated(cutoff) or "energy" not in frame.labels:
            continue
        number = int(frame.numbers[0])
        other = best.setdefault(number, frame)
        _require_one_state(other, frame)
        if frame.image_distance > other.image_distance:
            best[number] = frame
    return {number: float(frame.labels["energy"]) for number, frame in sorted(best.items())}


def _require_one_state(one: Frame, other: Frame) -> None:
    energies = [float(frame.labels["energy"]) for frame in (one, other)]
    distances = [frame.image_distance for frame in (one, other)]
    tolerance = _SAME
    if distances[0] != distances[1]:  # the images add something
        tolerance = _IMAGES if min(distances) > _DISTANT else np.inf
    if abs(energies[0] - energies[1]) > tolerance:
        raise DataError(
            f"isolated {chemical_symbols[int(one.numbers[0])]} has {energies[0]} eV in {one.where} but "
            f"{energies[1]} eV in {other.where}; remove one, or give reference_energies in the configuration"
        )


def reference_energies(
    frames: Sequence[Frame], source: Literal["auto", "isolated", "fitted"] = "auto", cutoff: float = CUTOFF
) -> ReferenceEnergies:
    """Reference energies of all elements in the data.

    Args:
        frames: the structures; those with an energy are used.
        source: ``isolated`` takes those of isolated atoms, ``fitted`` fits all, ``auto`` takes isolated atoms where
            there are any and fits the rest.
        cutoff: beyond which periodic images of an atom do not matter, in Å.

    Fit: least squares of ``E_s / n_s = sum_z (n_sz / n_s) E0_z`` (every structure counts once, whatever its size),
    about the mean energy per atom. Combinations of elements that the compositions do not determine (one composition
    only, or elements that always occur in one ratio) get the solution of minimum norm about that mean, by a ridge.

    Raises:
        DataError: no structure has an energy, or an isolated atom is asked for and missing.
    """
    used = [frame for frame in frames if "energy" in frame.labels]
    if not used:
        raise DataError("reference energies need structures with an energy, found none; set reference_energies to none")
    fixed = isolated_atoms(used, cutoff) if source != "fitted" else {}
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
    residual = interaction_energies(used, values, cutoff)
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


def interaction_energies(frames: Sequence[Frame], references: Mapping[int, float], cutoff: float = CUTOFF) -> Array:
    """``(E - sum_i E0[z_i]) / N`` in eV/atom of the frames with an energy that are not isolated atoms."""
    used = [frame for frame in frames if "energy" in frame.labels and not frame.is_isolated(cutoff)]
    return energies_per_atom(used, references)


def statistics(dataset: Dataset) -> Statistics:
    """Statistics of a (training) set; finds the neighbour lists once if they are not prepared."""
    frames = dataset.frames
    forces = [frame.labels["forces"].ravel() for frame in frames if "forces" in frame.labels]
    n_atoms = int(dataset.n_atoms().sum())
    return Statistics(
        elements=elements(frames),
        n_structures=len(frames),
        n_atoms=n_atoms,
        neighbours=int(dataset.n_edges().sum()) / max(n_atoms, 1),
        force_rms=float(np.sqrt(np.mean(np.concatenate(forces) ** 2))) if forces else None,
    )
