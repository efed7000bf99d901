"""Exchange constants of magnetic moments from second derivatives of the energy, by shells of neighbours."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import ase
import numpy as np
from ase import units
from ase.geometry.minkowski_reduction import minkowski_reduce

from carten.errors import DataError
from carten.math.arrays import Array, Floats
from carten.workflows.moments import MagneticModel
from carten.workflows.results import Progress

SHELL = 0.1
"""Å, between the distances of two shells at least; images of an atom nearer to each other are in one."""
ACROSS = 1e-6
"""Sine of the angle between two moments below which they are parallel."""


@dataclass(frozen=True)
class Shell:
    """Pairs of magnetic atoms of two elements at nearly the same distance.

    Args:
        pair: elements, ``"Ni-Ni"``.
        distance: mean, Å.
        neighbours: of an atom in it, on average over all magnetic atoms of the first element.
        exchange: mean J of a pair, eV.
        spread: standard deviation of J within the shell, eV.
        cosine: mean cosine of the angle between two moments.
    """

    pair: str
    distance: float
    neighbours: float
    exchange: float
    spread: float
    cosine: float


@dataclass(frozen=True)
class ExchangeConstants:
    """Exchange constants J of the energy ``E = E0 - sum_(i<j) J_ij e_i . e_j``, each pair counted once.

    e are unit vectors along the moments; J above 0 makes two moments parallel (ferromagnetic).

    Args:
        shells: pairs by elements and distance.
        critical: temperature of the mean field, K, for classical moments.
        lowest: curvature of the energy in directions (or numbers) of the moments, eV/μ_B^2: of the softest motion of
            the cell's moments; negative where they are at no minimum.
        highest: of the stiffest motion, eV/μ_B^2.
        far: J of the farthest shell as a share of the largest, which tells whether the supercell was large enough; 0
            where nothing is periodic.
    """

    shells: tuple[Shell, ...] = field(repr=False)
    critical: float
    lowest: float
    highest: float
    far: float


def exchange_constants(
    system: MagneticModel,
    moments: Floats,
    repeats: tuple[int, int, int] = (1, 1, 1),
    progress: Progress | None = None,
) -> ExchangeConstants:
    """Exchange constants where moments are ``moments`` (N, 3) or (N, 1) μ_B.

    ``J_ij = -|m_i| |m_j| d2E / dm_i dm_j``, of components across both moments (their mean, where the two are parallel):
    what small turns of the moments feel (A. I. Liechtenstein et al., J. Magn. Magn. Mater. 67, 65 (1987), of whose J
    these are twice, as each pair counts once). Numbers along a common axis have no turns: there J is the derivative in
    sizes and signs.

    The temperature is ``k T = lambda / 3`` with the largest eigenvalue lambda of ``J_ab``, the sum of J of an atom a
    and all images of an atom b of the cell (P. W. Anderson, Solid State Phys. 14, 99 (1963)).

    Args:
        system: a structure and a model.
        moments: of the structure.
        repeats: of the cell. Images of an atom in the supercell are told apart, its own in others are not.
        progress: called with rows of second derivatives done and all.

    Raises:
        DataError: there is no pair of moments in the supercell.
    """
    atoms, rows = system.rows(moments, repeats)
    chosen = np.flatnonzero(system.magnetic)
    partners = np.flatnonzero(np.tile(system.magnetic, np.prod(repeats)))
    if len(partners) < 2:
        raise DataError(f"{atoms.get_chemical_formula()} has one magnetic atom: exchange needs two; choose a supercell")
    blocks = []
    for first in range(0, len(chosen), rows.together):
        blocks.append(rows.of(chosen[first : first + rows.together])[:, partners])
        if progress is not None:
            progress(min(first + rows.together, len(chosen)), len(chosen))
    return _constants(system, moments, atoms, np.concatenate(blocks))


def _constants(system: MagneticModel, moments: Floats, atoms: ase.Atoms, blocks: Floats) -> ExchangeConstants:
    chosen = np.flatnonzero(system.magnetic)
    sizes = np.linalg.norm(moments[chosen], axis=1)
    directions = moments[chosen] / sizes[:, None]
    n_cell, copies = len(chosen), blocks.shape[1] // len(chosen)
    partners = (np.arange(copies)[:, None] * len(system.atoms) + chosen).ravel()
    coupling = -sizes[:, None] * np.tile(sizes, copies) * _across(blocks, directions, np.tile(directions, (copies, 1)))
    coupling[np.arange(n_cell), np.arange(n_cell)] = 0.0
    folded = coupling.reshape(n_cell, copies, n_cell).sum(axis=1)
    critical = float(np.linalg.eigvalsh((folded + folded.T) / 2.0)[-1]) / (3.0 * units.kB)
    curvatures = _curvatures(system, moments, blocks.reshape(n_cell, copies, n_cell, *blocks.shape[2:]).sum(axis=1))
    shells = _shells(atoms, chosen, partners, coupling, directions @ np.tile(directions, (copies, 1)).T)
    sizes_of_shells = [abs(shell.exchange) for shell in shells]
    outermost = max(shells, key=lambda shell: shell.distance)
    far = abs(outermost.exchange) / max(*sizes_of_shells, 1e-12) if atoms.pbc.any() else 0.0
    return ExchangeConstants(shells, critical, float(curvatures[0]), float(curvatures[-1]), far)


def _across(blocks: Floats, rows: Floats, columns: Floats) -> Floats:
    """Mean of blocks (n, m, k, k) over directions across the unit vectors (n, k) of rows and (m, k) of columns."""
    if blocks.shape[-1] == 1:
        numbers: Floats = blocks[..., 0, 0]
        return numbers
    products = np.cross(rows[:, None], columns[None])
    sine = np.linalg.norm(products, axis=-1, keepdims=True)
    normal = products / np.maximum(sine, ACROSS)
    one = np.einsum("ija,ijab,ijb->ij", normal, blocks, normal)
    two = (np.trace(blocks, axis1=-2, axis2=-1) - np.einsum("ia,ijab,ib->ij", rows, blocks, rows)) / 2.0
    means: Floats = np.where(sine[..., 0] > ACROSS, one, two)
    return means


def _curvatures(system: MagneticModel, moments: Floats, folded: Floats) -> Floats:
    """Eigenvalues of the second derivative in the moments of the cell, at fixed sizes where these are vectors."""
    n_moments, width = len(folded), folded.shape[-1]
    matrix: Array = folded.swapaxes(1, 2).reshape(n_moments * width, -1)
    if width == 3:
        chosen = moments[system.magnetic]
        sizes: Floats = np.linalg.norm(chosen, axis=1, keepdims=True).astype(np.float64)
        basis = np.zeros((n_moments, 3, n_moments, 2))
        for atom, direction in enumerate(chosen / sizes):
            basis[atom, :, atom] = np.linalg.svd(direction[None])[2][1:].T
        fields = system.fields(moments)[system.magnetic]
        along = np.repeat(np.sum(fields * chosen, axis=1) / sizes[:, 0] ** 2, 2)
        flat = basis.reshape(3 * n_moments, -1)
        matrix = np.asarray(flat.T @ matrix @ flat + np.diag(along))
    return np.asarray(np.linalg.eigvalsh((matrix + matrix.T) / 2.0), dtype=np.float64)


def _shells(atoms: ase.Atoms, chosen: Array, partners: Array, coupling: Floats, cosines: Floats) -> tuple[Shell, ...]:
    """Pairs of atoms of the first cell and of all, nearest images, by elements and distance."""
    distances, counts = image_distances(atoms, chosen, partners)
    bonds: dict[str, list[tuple[Any, ...]]] = {}
    for (row, column), distance in np.ndenumerate(distances):
        if chosen[row] == partners[column]:
            continue
        pair = f"{atoms.symbols[chosen[row]]}-{atoms.symbols[partners[column]]}"
        count = counts[row, column]
        bonds.setdefault(pair, []).append((distance, coupling[row, column] / count, cosines[row, column], count))
    shells = []
    for pair, values in bonds.items():
        first, _, second = pair.partition("-")
        if first > second:  # each pair of elements once
            continue
        ordered = np.array(sorted(values))
        n_first = int(np.sum(atoms.symbols[chosen] == first))
        for part in np.split(ordered, np.flatnonzero(np.diff(ordered[:, 0]) > SHELL) + 1):
            distance, exchange, cosine = np.average(part[:, :3], axis=0, weights=part[:, 3])
            spread = np.sqrt(np.average((part[:, 1] - exchange) ** 2, weights=part[:, 3]))
            neighbours = part[:, 3].sum() / n_first
            shells.append(
                Shell(pair, float(distance), float(neighbours), float(exchange), float(spread), float(cosine))
            )
    return tuple(sorted(shells, key=lambda shell: (shell.pair, shell.distance)))


def image_distances(atoms: ase.Atoms, chosen: Array, partners: Array) -> tuple[Floats, Array]:
    """Distance to the nearest image of each partner, (chosen, partners) Å, and how many images are that near."""
    vectors = atoms.positions[partners][None] - atoms.positions[chosen][:, None]
    shifts = np.zeros((1, 3))
    if atoms.pbc.any():
        cell, _ = minkowski_reduce(atoms.cell.complete(), pbc=atoms.pbc)
        places = np.linalg.solve(cell.T, vectors.reshape(-1, 3).T).T
        places[:, atoms.pbc] -= np.round(places[:, atoms.pbc])
        vectors = (places @ cell).reshape(vectors.shape)
        shifts = np.array(list(product(*[(-1, 0, 1) if periodic else (0,) for periodic in atoms.pbc]))) @ cell
    lengths = np.linalg.norm(vectors[:, :, None] + shifts, axis=-1)
    nearest: Floats = lengths.min(axis=-1)
    return nearest, (lengths < nearest[..., None] + SHELL).sum(axis=-1)
