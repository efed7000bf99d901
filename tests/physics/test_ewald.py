"""Electrostatic energies: Madelung constants, limits, derivatives, batches, bad input."""

from __future__ import annotations

import math
from dataclasses import replace

import ase
import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from scipy.special import erf

from carten.data.neighbours import graph
from carten.errors import ModelError
from carten.model.graph import Graph, batch
from carten.physics.constants import COULOMB
from carten.physics.ewald import Ewald, ewald_energies
from carten.physics.pairs import Multipoles, boys, multipole_self_energy

POINTS = Ewald(0.0, accuracy=1e-7, edges=6.0)
SMEARED = Ewald(0.8, accuracy=1e-10)
# value of one formula unit in units of the shortest distance between unlike ions: O. Emersleben; Y. Sakamoto (1958)
CRYSTALS = {
    "NaCl": (bulk("NaCl", "rocksalt", a=5.64), (1, -1), 5.64 / 2, 1.747564594633182),
    "CsCl": (bulk("CsCl", "cesiumchloride", a=4.12), (1, -1), 4.12 * math.sqrt(3) / 2, 1.762674773070988),
    "zincblende": (bulk("ZnS", "zincblende", a=5.41), (2, -2), 5.41 * math.sqrt(3) / 4, 4 * 1.638055053388789),
    "wurtzite": (bulk("ZnS", "wurtzite", a=3.82, c=3.82 * math.sqrt(8 / 3)), (2, -2, 2, -2),
                 3.82 * math.sqrt(3 / 8), 8 * 1.641321627),
    "fluorite": (bulk("CaF2", "fluorite", a=5.46), (2, -1, -1), 5.46 * math.sqrt(3) / 4, 5.038784880),
}  # fmt: skip


def energy(m: Multipoles, one: Graph, vectors: torch.Tensor, how: Ewald) -> torch.Tensor:
    """Of each structure."""
    found = ewald_energies(m, one, vectors, how)
    assert found.shape == (one.n_atoms,)
    return found.new_zeros(one.n_structures).index_add(0, one.structure, found)


def of(atoms: ase.Atoms, charges, how: Ewald, cutoff: float = 6.0) -> float:
    one = graph(atoms, cutoff)
    return float(energy(sources(charges), one, one.edge_vectors(), how)[0])


def sources(charges) -> Multipoles:
    values = torch.as_tensor(np.asarray(charges), dtype=torch.float64)
    return Multipoles(values if values.dim() == 2 else values[:, None])


def ions(n: int = 6, seed: int = 0, length: float = 6.0) -> tuple[ase.Atoms, np.ndarray]:
    """A sheared cell with charges at random places that are not too close, not neutral."""
    rng = np.random.default_rng(seed)
    cell = np.eye(3) * length + rng.normal(size=(3, 3)) * 0.15 * length
    corners = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)[:n]
    positions = (corners + 0.25 + rng.uniform(-0.12, 0.12, (n, 3))) / 2 @ cell
    return ase.Atoms("H" * n, positions, cell=cell, pbc=True), rng.normal(size=n)


def all_multipoles(n: int, kinds: int = 2, seed: int = 0) -> Multipoles:
    generator = torch.Generator().manual_seed(seed)
    second = torch.randn(n, kinds, 3, 3, generator=generator, dtype=torch.float64)
    second = second + second.mT
    traceless = second - torch.eye(3, dtype=torch.float64) * torch.einsum("ncaa->nc", second)[..., None, None] / 3
    charges, dipoles = (torch.randn(n, kinds, *x, generator=generator, dtype=torch.float64) for x in ((), (3,)))
    return Multipoles(charges, dipoles, traceless)


@pytest.mark.parametrize("name", CRYSTALS)
@pytest.mark.parametrize("version", ["primitive", "expanded", "other vectors", "supercell"])
@pytest.mark.parametrize(
    ("how", "tolerance"),
    [
        (POINTS, 1e-6),
        (replace(POINTS, edges=4.5), 1e-6),
        (Ewald(0.25, accuracy=1e-7), 1e-6),
        (replace(POINTS, accuracy=1e-4, method="mesh"), 1e-4),
        (Ewald(0.3, accuracy=1e-5, method="mesh"), 1e-5),
    ],
    ids=["points", "points, narrower", "Gaussians that do not overlap", "points, mesh", "Gaussians, mesh"],
)
def test_madelung(name: str, version: str, how: Ewald, tolerance: float) -> None:
    atoms, charges, distance, constant = CRYSTALS[name]
    atoms, charges = atoms.copy(), np.array(charges, dtype=float)
    if version == "expanded":
        atoms.set_cell(1.1 * atoms.cell.array, scale_atoms=True)
        distance *= 1.1
    if version == "other vectors":
        atoms.set_cell(np.array([[1, 0, 0], [1, 1, 0], [-1, 2, 1]]) @ atoms.cell.array)
    if version == "supercell":
        atoms, charges = atoms.repeat((2, 1, 3)), np.tile(charges, 6)
    expected = -COULOMB * constant / distance * len(charges) / len(CRYSTALS[name][1])
    assert of(atoms, charges, how) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("method", ["explicit", "mesh"])
def test_extensive(method: str) -> None:
    atoms, charges = ions()
    how = replace(SMEARED, method=method, accuracy=1e-6)
    doubled = of(atoms.repeat((2, 1, 1)), np.tile(charges, 2), how)
    assert doubled == pytest.approx(2 * of(atoms, charges, how), rel=1e-6)


@pytest.mark.parametrize("sigma", [0.0, 0.4])
def test_the_splitting_does_not_matter(sigma: float) -> None:
    atoms, charges = ions()
    one = graph(atoms, 9.0)
    for m, tolerance in ((sources(charges), 1e-9), (all_multipoles(len(atoms)), 1e-6)):  # less with k^4
        found = [energy(m, one, one.edge_vectors(), Ewald(sigma, 1e-11, edges)).item() for edges in (6.0, 7.5, 9.0)]
        assert found[1:] == pytest.approx([found[0]] * 2, rel=tolerance)


def test_no_edges_are_needed_for_gaussians() -> None:
    atoms, _ = ions()
    one, m = graph(atoms, 9.0), all_multipoles(6)
    wide = energy(m, one, one.edge_vectors(), Ewald(0.4, 1e-11, edges=9.0))
    charged = -math.pi * (Ewald(0.4, 1e-11, 9.0).gaussians.width ** 2 - 0.4**2)
    assert charged < -1.0  # the background of the wide Gaussians is not nothing
    assert energy(m, one, one.edge_vectors(), Ewald(0.4, 1e-11)).item() == pytest.approx(wide.item(), rel=1e-6)


def test_molecules_are_summed_pair_by_pair() -> None:
    atoms, charges = molecule("CH3CH2OH"), np.linspace(-1.0, 1.0, 9)
    distance = atoms.get_all_distances() + np.eye(9)
    for sigma, kernel in ((0.0, 1 / distance), (0.8, erf(distance / (math.sqrt(2) * 0.8)) / distance)):
        expected = COULOMB * 0.5 * charges @ (kernel * (1 - np.eye(9))) @ charges
        assert of(atoms, charges, Ewald(sigma, edges=1.0)) == pytest.approx(expected, rel=1e-12)


def by_differences(m: Multipoles, positions: np.ndarray, sigma: float, step: float = 0.05) -> float:
    """Multipoles as charges on a small grid: an independent evaluation of their energy."""
    points, values = [], []
    offsets = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij"), -1).reshape(-1, 3)
    first = {-1: -0.5, 0: 0.0, 1: 0.5}
    second = {-1: 1.0, 0: -2.0, 1: 1.0}
    zeroth = {-1: 0.0, 0: 1.0, 1: 0.0}
    for i, r in enumerate(positions):
        for o in offsets:
            weight = float(m.charges[i, 0]) * math.prod(zeroth[x] for x in o)
            for a in range(3):
                rule = [first if b == a else zeroth for b in range(3)]
                weight += float(m.dipoles[i, 0, a]) * math.prod(f[x] for f, x in zip(rule, o, strict=True)) / step
                for b in range(3):
                    rule = [(second if a == b else first) if c in (a, b) else zeroth for c in range(3)]
                    part = float(m.quadrupoles[i, 0, a, b]) / 3 / step**2
                    weight += part * math.prod(f[x] for f, x in zip(rule, o, strict=True))
            points.append(r + step * o)
            values.append((i, weight))
    points, owner, q = np.array(points), np.array([v[0] for v in values]), np.array([v[1] for v in values])
    distance = np.linalg.norm(points[:, None] - points, axis=2)
    kernel = np.where(owner[:, None] != owner, erf(distance / (math.sqrt(2) * sigma)) / np.maximum(distance, 1e-9), 0.0)
    return COULOMB * 0.5 * q @ kernel @ q


def test_multipoles_are_those_of_charges_close_together() -> None:
    m = all_multipoles(3, kinds=1)
    positions = np.array([[0.0, 0, 0], [2.3, 0.4, -0.2], [-0.7, 1.9, 1.1]])
    one = graph(ase.Atoms("H3", positions), 3.0)
    found = energy(m, one, one.edge_vectors(), Ewald(0.9)).item()
    coarse, fine = (by_differences(m, positions, 0.9, step) for step in (0.04, 0.02))
    assert found == pytest.approx((4 * fine - coarse) / 3, rel=1e-6)  # Richardson


@pytest.mark.parametrize("method", ["explicit", "mesh"])
def test_a_large_empty_box_is_a_molecule(method: str) -> None:
    """Neutral, without dipole: what is left falls with the fifth power of the length."""
    positions = np.array([[0.0, 0, 0], [1.4, 0.3, 0], [-1.4, -0.3, 0]])
    quadrupole = ase.Atoms("H3", positions)
    free = of(quadrupole, [2.0, -1.0, -1.0], SMEARED)
    accuracy = 1e-5 if method == "mesh" else 1e-8
    left = []
    for length in (12.0, 18.0):
        box = ase.Atoms("H3", positions, cell=[length] * 3, pbc=True)
        left.append(of(box, [2.0, -1.0, -1.0], replace(SMEARED, method=method, accuracy=accuracy)) - free)
    assert abs(left[1]) < 2e-3
    assert left[0] / left[1] == pytest.approx(1.5**5, rel=0.1)


def test_multipoles_in_a_large_empty_box() -> None:
    m = all_multipoles(3)
    m = replace(m, charges=m.charges - m.charges.mean(0), dipoles=m.dipoles)
    positions = np.array([[0.0, 0, 0], [2.3, 0.4, -0.2], [-0.7, 1.9, 1.1]])
    free = graph(ase.Atoms("H3", positions), 1.0)
    expected = energy(m, free, free.edge_vectors(), SMEARED).item()
    found = []
    for length in (14.0, 28.0):
        box = graph(ase.Atoms("H3", positions, cell=[length] * 3, pbc=True), 1.0)
        total = torch.einsum("nc,nx->cx", m.charges, box.positions) + m.dipoles.sum(0)
        dipole = -COULOMB * 2 * math.pi / 3 * total.square().sum().item() / length**3  # in a medium that conducts
        found.append(energy(m, box, box.edge_vectors(), SMEARED).item() - dipole - expected)
    assert abs(found[1]) < 1e-4 * abs(expected) and abs(found[1]) < 0.05 * abs(found[0])


@pytest.mark.parametrize("method", ["explicit", "mesh"])
def test_an_ion_in_a_cubic_cell(method: str) -> None:
    """The background as literature has it (Makov and Payne, 1995): energies of charged cells can be corrected."""
    for length in (6.0, 12.0):
        cell = ase.Atoms("H", cell=[length] * 3, pbc=True)
        expected = COULOMB * (-2.837297479480620 / (2 * length) + math.pi * 0.8**2 / length**3)
        found = of(cell, [1.0], replace(SMEARED, method=method, accuracy=1e-6))
        assert found == pytest.approx(expected, rel=1e-6)


def charges_on_lines(positions: np.ndarray, q: np.ndarray, length: float, sigma: float, images: int) -> float:
    """Slab of period ``length``: images one by one up to a circle, for cells without charge or dipole in the plane."""
    shift = np.arange(-images, images + 1)
    x, y = np.meshgrid(shift, shift, indexing="ij")
    inside = x**2 + y**2 <= images**2
    shifts = np.stack([x[inside], y[inside], np.zeros(inside.sum())], -1) * length
    total = 0.0
    for i in range(len(q)):
        for j in range(len(q)):
            d = np.linalg.norm(positions[j] - positions[i] + shifts, axis=1)
            d = d[d > 1e-9]
            total += 0.5 * q[i] * q[j] * (erf(d / (math.sqrt(2) * sigma)) / d).sum()
    return COULOMB * total


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slabs(axis: int) -> None:
    """Against images summed one by one, extrapolated; any direction may be the open one, whatever its vector."""
    length = 4.0
    positions = np.array([[0.5, 0.4, 0.0], [2.5, 2.4, 0.3], [0.5, 2.4, 2.9], [2.5, 0.4, 3.4]])
    q = np.array([1.0, -0.7, -0.8, 0.5])
    near, far = (charges_on_lines(positions, q, length, 0.8, n) for n in (60, 120))
    expected = far + (far - near) / 1.0  # what is left falls with 1 / images: dipole along the normal
    cell = np.diag([length, length, 0.3])
    order = np.roll(np.arange(3), axis + 1)
    atoms = ase.Atoms("H4", positions[:, order], cell=cell[order][:, order], pbc=np.array([True, True, False])[order])
    for method, tolerance in (("explicit", 2e-4), ("mesh", 2e-4)):
        assert of(atoms, q, Ewald(0.8, accuracy=1e-6, method=method)) == pytest.approx(expected, rel=tolerance)


def test_thick_slabs_do_not_see_each_other() -> None:
    """Two slabs without charge or net dipole far apart: additive."""
    one = ase.Atoms("H4", [[0, 0, 0], [2, 2, 0], [2, 0, 1.0], [0, 2, 1.0]], cell=[4, 4, 0], pbc=[1, 1, 0])
    q = np.array([1.0, -1.0, 1.0, -1.0])
    other = one.copy()
    other.positions[:, 2] += 40.0
    both = one + other
    assert of(both, np.tile(q, 2), SMEARED) == pytest.approx(2 * of(one, q, SMEARED), rel=1e-8)


def test_charged_sheets_are_a_capacitor() -> None:
    """Two layers of opposite charge: energy rises with their distance, 2 pi q^2 / area."""

    def layers(z: float) -> float:
        atoms = ase.Atoms("H2", [[0, 0, 0], [0.7, 0.9, z]], cell=[3, 3, 0], pbc=[1, 1, 0])
        return of(atoms, [1.0, -1.0], SMEARED)

    assert layers(25.0) - layers(20.0) == pytest.approx(COULOMB * 2 * math.pi / 9.0 * 5.0, rel=1e-6)


def test_boys_functions() -> None:
    t = torch.tensor([0.0, 1e-6, 1e-3, 0.3, 5.0, 60.0], dtype=torch.float64, requires_grad=True)
    u, w = np.polynomial.legendre.leggauss(60)
    u, w = (u + 1) / 2, w / 2
    for n in range(5):
        exact = (w * u ** (2 * n) * np.exp(-t.detach().numpy()[:, None] * u**2)).sum(1)
        assert boys(t, n).detach().numpy() == pytest.approx(exact, rel=1e-12)
    assert torch.autograd.gradgradcheck(lambda x: boys(x, 2), t)


def test_a_gaussian_with_itself_is_the_limit_of_two() -> None:
    m = all_multipoles(1)
    twice = Multipoles(*(x.repeat(2, *[1] * (x.dim() - 1)) for x in (m.charges, m.dipoles, m.quadrupoles)))
    one = graph(ase.Atoms("H2", [[0, 0, 0], [0, 0, 2e-3]]), 1.0)
    two = energy(twice, one, one.edge_vectors(), Ewald(0.8)).item() / COULOMB
    assert two == pytest.approx(2 * multipole_self_energy(m, 0.8).item(), rel=1e-4)


def leaves_of(one: Graph) -> tuple[Graph, torch.Tensor, torch.Tensor]:
    positions = one.positions.clone().requires_grad_()
    strain = torch.zeros_like(one.cell).requires_grad_()
    moved = positions + torch.einsum("na,nab->nb", positions, strain[one.structure])
    return replace(one, positions=moved, cell=one.cell + one.cell @ strain), positions, strain


def varied(how: Ewald, pbc, seed: int = 0) -> None:
    """First and second derivatives in positions, strain and multipoles, against finite differences."""
    atoms, _ = ions(seed=seed)
    atoms.pbc = pbc
    one = graph(atoms, 5.0)
    base = all_multipoles(len(atoms), kinds=1)
    generator = torch.Generator().manual_seed(1)
    along = [torch.randn(x, generator=generator, dtype=torch.float64) for x in ((6, 3), (1, 3, 3), (6, 1))]
    along[0] *= 0.3
    along[1] = (along[1] + along[1].mT) * (0.03 if how.method == "auto" else 0.0)  # meshes change with the cell

    def at(t: torch.Tensor) -> torch.Tensor:
        moved = replace(one, positions=one.positions + t * along[0])
        moved = replace(
            moved,
            positions=moved.positions + t * torch.einsum("na,nab->nb", moved.positions, along[1][one.structure]),
            cell=moved.cell + t * moved.cell @ along[1],
        )
        m = replace(base, charges=base.charges + t * along[2])
        return energy(m, moved, moved.edge_vectors(), how).sum()

    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(at(t), t, create_graph=True)
    (second,) = torch.autograd.grad(first, t)
    step = 4e-3
    values = [float(at(torch.tensor(k * step, dtype=torch.float64))) for k in range(-3, 4)]
    rules = np.array([[-1, 9, -45, 0, 45, -9, 1], [2, -27, 270, -490, 270, -27, 2]])
    numeric = rules @ values / np.array([60 * step, 180 * step**2])
    assert first.item() == pytest.approx(numeric[0], rel=1e-6, abs=1e-8)
    assert second.item() == pytest.approx(numeric[1], rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("pbc", [True, (1, 1, 0), False], ids=["bulk", "slab", "molecule"])
@pytest.mark.parametrize(
    "how", [Ewald(0.8, 1e-12), Ewald(0.3, 1e-12, edges=5.0), replace(SMEARED, method="mesh", accuracy=1e-4)],
    ids=["explicit", "with edges", "mesh"],
)  # fmt: skip
def test_derivatives(how: Ewald, pbc) -> None:
    varied(how, pbc)


def test_forces_and_stress() -> None:
    """The tests of derivatives along one direction, for every component, in float64."""
    atoms, charges = ions()
    one, m = graph(atoms, 5.0), sources(charges)

    def value(positions: torch.Tensor, strain: torch.Tensor) -> torch.Tensor:
        moved, _, _ = leaves_of(one)
        moved = replace(
            moved,
            positions=positions + torch.einsum("na,nab->nb", positions, strain[one.structure]),
            cell=one.cell + one.cell @ strain,
        )
        return energy(m, moved, moved.edge_vectors(), SMEARED)

    inputs = (one.positions.clone().requires_grad_(), torch.zeros_like(one.cell).requires_grad_())
    assert torch.autograd.gradcheck(value, inputs, eps=1e-5, atol=1e-6, rtol=1e-6)


def test_batches_are_their_structures() -> None:
    """Bulk of several sizes, charged and neutral, a slab, molecules and no atoms at all: together as alone."""
    rng = np.random.default_rng(3)
    neutral, q = ions(4, 1)
    slab, _ = ions(6, 2)
    slab.pbc = (1, 0, 1)
    everything = [ions(6, 0)[0], molecule("H2O"), neutral, slab, neutral.repeat((3, 3, 2)), molecule("C6H6")]
    charges = [rng.normal(size=len(atoms)) for atoms in everything]
    charges[2] = q[:4] - q[:4].mean()
    everything.append(ase.Atoms(cell=[4.0, 5.0, 6.0], pbc=True))
    charges.append(np.zeros(0))
    for how in (SMEARED, Ewald(0.0, 1e-8, edges=5.0), replace(SMEARED, accuracy=1e-5, method="mesh")):
        graphs = [graph(atoms, 5.0) for atoms in everything]
        together = batch(graphs)
        found = energy(sources(np.concatenate(charges)), together, together.edge_vectors(), how)
        alone = [energy(sources(c), g, g.edge_vectors(), how).item() for c, g in zip(charges, graphs, strict=True)]
        assert found.tolist() == pytest.approx(alone, rel=1e-7)


def test_atoms_of_a_supercell_have_the_energies_of_those_of_the_cell() -> None:
    atoms, _ = ions()
    m = all_multipoles(6)
    for how in (Ewald(0.8, 1e-8), Ewald(0.3, 1e-8, edges=5.0), Ewald(0.8, 1e-5, method="mesh")):
        one, more = (graph(x, 5.0) for x in (atoms, atoms.repeat((1, 2, 1))))
        twice = Multipoles(*(x.repeat(2, *[1] * (x.dim() - 1)) for x in (m.charges, m.dipoles, m.quadrupoles)))
        small, large = (ewald_energies(x, g, g.edge_vectors(), how) for x, g in ((m, one), (twice, more)))
        assert (large - small.repeat(2)).abs().max() < 2e-4 * small.abs().max()


def test_kinds_do_not_see_each_other() -> None:
    atoms, _ = ions()
    one, m = graph(atoms, 5.0), all_multipoles(6, kinds=3)
    parts = [Multipoles(m.charges[:, [k]], m.dipoles[:, [k]], m.quadrupoles[:, [k]]) for k in range(3)]
    expected = sum(energy(part, one, one.edge_vectors(), SMEARED).item() for part in parts)
    assert energy(m, one, one.edge_vectors(), SMEARED).item() == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("accuracy", [1e-2, 1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("seed", [0, 1])
def test_accuracy_of_the_mesh(accuracy: float, seed: int) -> None:
    atoms, _ = ions(8, seed, length=8.0)
    rng = np.random.default_rng(seed)
    atoms = atoms.repeat(2)
    atoms.positions += rng.normal(size=atoms.positions.shape) * 0.2
    m, one = sources(rng.normal(size=len(atoms))), graph(atoms, 1.0)
    found = {}
    for method, target in (("mesh", accuracy), ("explicit", accuracy), ("explicit", 1e-11)):
        at, positions, strain = leaves_of(one)
        value = energy(m, at, at.edge_vectors(), Ewald(1.0, target, method=method))
        found[method, target] = (value.detach(), *torch.autograd.grad(value.sum(), [positions, strain]))
    exact = found["explicit", 1e-11]
    for method in ("mesh", "explicit"):
        value, forces, virial = found[method, accuracy]
        assert abs(value - exact[0]) <= accuracy * abs(exact[0])
        assert (forces - exact[1]).norm() <= accuracy * exact[1].norm()
        assert (virial - exact[2]).norm() <= 6 * accuracy * exact[2].norm()


@pytest.mark.parametrize("pbc", [True, (1, 1, 0)], ids=["bulk", "slab"])
def test_the_mesh_is_as_accurate_in_very_skew_cells(pbc) -> None:
    """A mesh along vectors of 5, 23 and 36 Å of a lattice of 5, 5 and 6 Å has forces 8 times as wrong."""
    cell = np.array([[5.0, 0, 0], [23.0, 5, 0], [-31.0, 17, 6]])
    rng = np.random.default_rng(1)
    atoms = ase.Atoms("H10", rng.random((10, 3)) @ cell, cell=cell, pbc=pbc)
    one, m = graph(atoms, 1.0), sources(rng.normal(size=10))
    forces = []
    for how in (Ewald(1.0, 1e-11), Ewald(1.0, 1e-4, method="mesh")):
        at, positions, _ = leaves_of(one)
        forces.append(torch.autograd.grad(energy(m, at, at.edge_vectors(), how).sum(), positions)[0])
    assert (forces[1] - forces[0]).norm() <= 1e-4 * forces[0].norm()


def test_float32_structures_are_summed_in_float64() -> None:
    atoms, charges = ions()
    one = graph(atoms, 5.0, dtype=torch.float32)
    found = energy(sources(charges), one, one.edge_vectors(), SMEARED)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(of(atoms, charges, SMEARED), rel=1e-5)


def test_bad_input() -> None:
    wire, charges = ions()
    wire.pbc = (0, 0, 1)
    with pytest.raises(ModelError, match=r"structure 0 of the batch is periodic in one direction only"):
        of(wire, charges, SMEARED)
    large = graph(ase.Atoms("H15000", np.arange(45000.0).reshape(-1, 3)), 1.0)
    with pytest.raises(
        ModelError, match=r"structure 0 .* not periodic and has 15000 atoms; .*: set pbc in all directions"
    ):
        energy(sources(np.ones(15000)), large, large.edge_vectors(), SMEARED)
    one = graph(ions()[0], 5.0)
    for cell in (torch.zeros(1, 3, 3), torch.tensor([[[5.0, 0, 0], [5.0, 1e-6, 0], [0, 0, 5.0]]])):
        flat = replace(one, cell=cell.double())
        with pytest.raises(ModelError, match="span no volume"):
            energy(sources(charges), flat, one.edge_vectors(), SMEARED)
    with pytest.raises(ModelError, match=r"accuracy .* expected 1e-12 to 0.1, found 1e-20"):
        Ewald(1.0, accuracy=1e-20)
    with pytest.raises(ModelError, match="lengths in Å"):
        Ewald(-1.0)
    with pytest.raises(ModelError, match=r"points .* need edges"):
        Ewald(0.0)
    with pytest.raises(ModelError, match=r"takes a mesh of .* less accuracy, or use wider Gaussians"):
        of(ions()[0], charges, Ewald(1e-3, accuracy=1e-6, method="mesh"))
    with pytest.raises(ModelError, match=r"reciprocal vectors for 6 atoms: use a mesh"):
        of(ions()[0], charges, Ewald(1e-3, accuracy=1e-6, method="explicit"))


@pytest.mark.parametrize("accuracy", [1e-3, 1e-4])
def test_energies_do_not_jump(accuracy: float) -> None:
    """When a slab becomes thicker and a cell larger: fourth differences of a smooth function are tiny."""
    rng = np.random.default_rng(0)
    film = ase.Atoms("H8", positions=rng.uniform(0, 5, (8, 3)), cell=[5, 5, 0], pbc=[1, 1, 0])
    top = film.positions[:, 2].argmax()
    cell = 7 * np.eye(3) + rng.normal(0, 0.3, (3, 3))
    crystal = ase.Atoms("H8", positions=rng.uniform(0, 7, (8, 3)), cell=cell, pbc=True)
    charges = rng.normal(size=(8, 1))
    multipoles = Multipoles(torch.tensor(charges - charges.mean()))

    def fourth_differences(structures: list[ase.Atoms]) -> np.ndarray:
        graphs = [graph(atoms, 3.0) for atoms in structures]
        summation = Ewald(1.0, accuracy)
        return abs(np.diff([float(energy(multipoles, x, x.edge_vectors(), summation).sum()) for x in graphs], 4))

    films = [film.copy() for _ in range(301)]
    for atoms, height in zip(films, np.linspace(0, 1.2, len(films)), strict=True):
        atoms.positions[top, 2] += height
    crystals = [crystal.copy() for _ in range(301)]
    for atoms, strain in zip(crystals, np.linspace(0, 0.08, len(crystals)), strict=True):
        atoms.set_cell(crystal.cell.array * (1 + strain), scale_atoms=True)
    for structures in (films, crystals):
        assert fourth_differences(structures).max() < 1e-7
