"""Dipoles that charges induce: the minimum of their energy, points by hand, and models that have them."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.optimize import minimize

import contract
from carten.data.neighbours import graph
from carten.errors import ModelError
from carten.model.graph import Graph, batch
from carten.physics import coulomb, ewald
from carten.physics.charges import LesConfig
from carten.physics.constants import COULOMB
from carten.physics.equilibration import ChargeInteraction
from carten.physics.ewald import Ewald
from carten.physics.induction import induced_dipoles
from carten.physics.pairs import Multipoles
from carten.physics.term import View
from carten.properties.io import load, save
from carten.properties.spec import property_table
from model.models import crystal, molecule, slab, wire
from physics.test_charges import ROWS, charged, model

EXACT = Ewald(0.7, accuracy=1e-11)
TERMS = {
    "induced alone": LesConfig(induced=True, accuracy=1e-11),
    "and permanent": LesConfig(
        induced=True, dipoles=True, quadrupoles=True, sigma=0.8, permittivity=1.5, accuracy=1e-11
    ),
}


@pytest.fixture(scope="module", params=TERMS)
def polarizable(request):
    return of(TERMS[request.param])


def of(term: LesConfig, rows=ROWS):
    one = model(term, rows=rows)
    one.heads["latent_polarizabilities"].get_buffer("scale").fill_(0.5)
    return one


def given(*structures: Atoms, seed: int = 0, every: bool = True) -> tuple[Multipoles, torch.Tensor, View]:
    """Charges, dipoles, quadrupoles and polarizabilities at random."""
    merged = batch([graph(atoms, 3.0) for atoms in structures])
    generator = torch.Generator().manual_seed(seed)
    n = merged.n_atoms
    q, d, t = (torch.randn(n, 1, *x, generator=generator, dtype=torch.float64) for x in ((), (3,), (3, 3)))
    t = t + t.mT - 2 / 3 * torch.eye(3, dtype=torch.float64) * torch.einsum("ncaa->nc", t)[..., None, None]
    alpha = 0.05 + 0.3 * torch.rand(n, generator=generator, dtype=torch.float64)
    sources = Multipoles(q, 0.2 * d, 0.1 * t) if every else Multipoles(q)
    return sources, alpha, View(merged, merged.edge_vectors())


def energy(m: np.ndarray, sources: Multipoles, alpha: torch.Tensor, view: View, by: ChargeInteraction) -> float:
    """Of induced dipoles, with the interaction of :mod:`carten.physics.ewald`, their own and what they cost."""
    induced = torch.from_numpy(m.reshape(-1, 3))
    moved = replace(sources, dipoles=sources.dipoles + induced[:, None])
    between = ewald.ewald_energies(moved, view.graph, view.vectors, by.summation).sum() / by.permittivity
    gaussian = COULOMB * math.sqrt(2 / math.pi) / (3 * by.summation.sigma**3 * by.permittivity)
    return float(between) + float((0.5 * (1 / alpha + gaussian) * induced.square().sum(1)).sum())


@pytest.mark.parametrize("structure", [molecule, slab, crystal, lambda: crystal().repeat((2, 1, 1))])
def test_the_matrix_is_the_quadratic_form_of_ewald(structure):
    _, _, view = given(structure())
    n = view.graph.n_atoms
    (matrix,) = coulomb.dipole_matrices(view.graph, torch.tensor([0]), torch.arange(n)[None], EXACT)
    assert float((matrix - matrix.T).abs().max()) <= 1e-13 * float(matrix.abs().max())
    own = 0.5 * COULOMB * math.sqrt(2 / math.pi) / (3 * 0.7**3)
    for seed in range(3):
        d = torch.randn(n, 1, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        among = ewald.ewald_energies(Multipoles(d.new_zeros(n, 1), d), view.graph, view.vectors, EXACT).sum()
        expected = among + own * d.square().sum()
        assert float(0.5 * d.flatten() @ matrix @ d.flatten()) == pytest.approx(float(expected), rel=1e-8)


@pytest.mark.parametrize("pbc", [[False] * 3, [True] * 3, [True, True, False]])
def test_there_is_no_catastrophe(pbc):
    """The interaction is positive however close atoms come."""
    positions = np.random.default_rng(2).uniform(0.0, 2.5, (8, 3))
    atoms = Atoms("H8", positions=positions, cell=np.eye(3) * 3.0 + 0.1, pbc=pbc)
    atoms.positions[1] = atoms.positions[0] + 0.01
    _, _, view = given(atoms)
    (matrix,) = coulomb.dipole_matrices(view.graph, torch.tensor([0]), torch.arange(8)[None], EXACT)
    values = torch.linalg.eigvalsh(matrix)
    assert values[0] > -1e-12 * values[-1] and values[-1] > 1.0


def test_an_ion_and_an_atom_far_apart_by_hand():
    """The field of a point, k q / r^2, times a polarizability less what a Gaussian answers to itself."""
    distance, alpha = 9.0, torch.tensor([1e-9, 0.2], dtype=torch.float64)
    one = graph(Atoms("LiAr", positions=[[0, 0, 0], [0, 0, distance]]), 3.0)
    view, by = View(one, one.edge_vectors()), ChargeInteraction(EXACT)
    found = induced_dipoles(Multipoles(torch.tensor([[1.0], [0.0]])), alpha, view, by, False)
    answers = 1 / (1 / 0.2 + COULOMB * math.sqrt(2 / math.pi) / (3 * 0.7**3))
    field = COULOMB / distance**2
    assert found[1].tolist() == pytest.approx([0.0, 0.0, answers * field], rel=1e-7, abs=1e-15)


@pytest.mark.parametrize(("structure", "permittivity"), [(molecule, 1.0), (slab, 2.5), (crystal, 1.6)])
def test_dipoles_are_those_of_least_energy(structure, permittivity):
    by = ChargeInteraction(EXACT, permittivity)
    sources, alpha, view = given(structure())
    found = induced_dipoles(sources, alpha, view, by, False).detach().numpy()
    best = minimize(energy, np.zeros(found.size), (sources, alpha, view, by), options={"gtol": 1e-8})
    assert np.abs(found).max() > 0.01
    assert found.ravel() == pytest.approx(best.x, abs=1e-5)
    assert energy(found, sources, alpha, view, by) == pytest.approx(best.fun, abs=1e-9)


def test_dipoles_of_a_batch_are_those_alone():
    structures = [molecule(), crystal(), molecule()[:3], slab(), Atoms("N")]
    sources, alpha, view = given(*structures)
    together, start = induced_dipoles(sources, alpha, view, ChargeInteraction(EXACT), False), 0
    for atoms in structures:
        stop = start + len(atoms)
        one = graph(atoms, 3.0)
        some = torch.arange(start, stop)
        alone = View(one, one.edge_vectors())
        expected = induced_dipoles(sources.select(some), alpha[some], alone, ChargeInteraction(EXACT), False)
        assert together[start:stop].tolist() == [pytest.approx(row, abs=1e-12) for row in expected.tolist()]
        start = stop


def test_derivatives_of_any_order_are_differences():
    for structure in (molecule()[:3], crystal()):
        sources, alpha, view = given(structure, every=False)
        one: Graph = view.graph

        def dipoles(q, alpha, positions, one=one):
            moved = replace(one, positions=positions)
            seen = View(moved, moved.edge_vectors())
            return induced_dipoles(Multipoles(q), alpha, seen, ChargeInteraction(EXACT), False)

        at = tuple(x.clone().requires_grad_() for x in (sources.charges, alpha, one.positions))
        assert torch.autograd.gradcheck(dipoles, at, eps=1e-5, atol=1e-7)
        assert torch.autograd.gradgradcheck(dipoles, at, eps=1e-5, atol=1e-6)


# --- models -----------------------------------------------------------------------------------------------------------


def test_a_model_satisfies_the_contract(polarizable):
    structures = charged(molecule(), crystal(), slab(), Atoms("N"), crystal().repeat(2))
    contract.check_batch(polarizable, structures)
    for atoms in structures[:3]:
        contract.check_rotations(polarizable, atoms)
        contract.check_translation(polarizable, atoms)
        contract.check_derivatives(polarizable, atoms)
    contract.check_permutation(polarizable, structures[0])


def test_an_atom_no_feature_reaches_is_polarized(polarizable):
    far = molecule() + Atoms("O", [[30.0, 0.0, 0.0]])
    dipoles = contract.results(polarizable, *charged(far), names=["latent_dipoles"])["latent_dipoles"]
    alone = contract.results(polarizable, *charged(Atoms("O")), names=["latent_dipoles"])["latent_dipoles"]
    assert 1e-6 < np.abs(dipoles[5] - alone[0]).max() < 1e-2


def test_in_a_field_molecules_and_cells_polarize():
    """Forces are differences in any field, dipoles those of the energy, and Born charges how forces change with it."""
    one = of(TERMS["and permanent"], rows=(*ROWS, latent("polarization"), latent("born_charges")))
    for atoms in charged(molecule(), crystal().repeat((2, 2, 2))):
        atoms.info["total_charge"], atoms.info["electric_field"] = 0.0, np.array([0.2, -0.1, 0.15])
        if not atoms.pbc.any():
            contract.check_derivatives(one, atoms)
        names = ["polarization", "forces", "born_charges"]
        response, ends = 1e-3, []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.info["electric_field"] = atoms.info["electric_field"] + sign * response * np.array([0, 0, 1.0])
            ends.append(contract.results(one, moved, names=["energy", *names]))
        here = contract.results(one, atoms, names=names)
        energies, forces = ((ends[0][x] - ends[1][x]) / (2 * response) for x in ("energy", "forces"))
        assert here["polarization"][0, 2] == pytest.approx(-energies[0], rel=1e-6)
        assert forces == pytest.approx(here["born_charges"][:, 2], abs=1e-6)
        polarizes = ends[0]["polarization"][0, 2] - ends[1]["polarization"][0, 2]
        assert polarizes / (2 * response) > 0.05
        assert here["born_charges"].sum(axis=0) == pytest.approx(np.zeros((3, 3)), abs=1e-6)


def latent(name: str):
    row = property_table()[name]
    return replace(row, routes=tuple(route for route in row.routes if route.name == "latent_multipoles"))


def test_hessians_and_losses_of_forces(polarizable):
    atoms, step = charged(molecule()[:3])[0], 1e-4
    names = ["forces"]
    columns = []
    for place in np.ndindex(3, 3):
        ends = [atoms.copy(), atoms.copy()]
        for sign, copy in zip((1, -1), ends, strict=True):
            copy.positions[place] += sign * step
        first, second = (contract.results(polarizable, copy, names=names)["forces"] for copy in ends)
        columns.append((second - first) / (2 * step))
    expected = np.array(columns).reshape(3, 3, 3, 3).transpose(0, 2, 1, 3)
    hessian = contract.results(polarizable, atoms, names=["hessian"])["hessian"].reshape(3, 3, 3, 3)
    assert hessian == pytest.approx(expected, rel=1e-6, abs=1e-6)

    weight = next(p for p in polarizable.heads["latent_polarizabilities"].parameters() if p.dim() > 1)
    polarizable.train().requires_grad_()
    loss = polarizable(contract.graphs(polarizable, [atoms]), ["forces"])["forces"].square().sum()
    (gradient,) = torch.autograd.grad(loss, weight)
    polarizable.freeze()
    values = []
    for sign in (1, -1):
        weight.add_(sign * step)
        values.append((contract.results(polarizable, atoms, names=names)["forces"] ** 2).sum())
        weight.sub_(sign * step)
    assert float(gradient.sum()) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_a_file_keeps_them(polarizable, tmp_path):
    save(tmp_path / "model.carten", polarizable, {})
    loaded = load(tmp_path / "model.carten")
    assert loaded.properties["latent_dipoles"] == polarizable.properties["latent_dipoles"]
    structures = charged(molecule(), crystal())
    contract.require_equal("file", *(contract.results(m, *structures) for m in (loaded, polarizable)))


def test_bad_input(polarizable, monkeypatch):
    with pytest.raises(ValueError, match="dipoles are induced by charges that see each other: leave out channels"):
        LesConfig(induced=True, channels=2)
    with pytest.raises(ModelError, match="periodic in one direction only"):
        contract.results(polarizable, *charged(wire()), names=["energy"])
    monkeypatch.setattr(coulomb, "LARGEST_MATRIX", 100)
    with pytest.raises(ModelError, match=r"interaction of 15 .*dipoles that are induced.*les without induced"):
        contract.results(polarizable, *charged(molecule()), names=["energy"])
