"""Charges that equilibrate: the minimum of their energy, and models that have them satisfy the contract."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.optimize import minimize
from scipy.special import erf

import contract
from carten.data.neighbours import graph
from carten.errors import ModelError
from carten.interfaces.ase import Calculator
from carten.model.graph import Graph, batch
from carten.physics import coulomb, equilibration, ewald
from carten.physics.charges import ChargesConfig, LesConfig
from carten.physics.constants import COULOMB
from carten.physics.equilibration import ChargeInteraction
from carten.physics.ewald import Ewald
from carten.physics.pairs import Multipoles
from carten.physics.term import EnergyTerm, View
from carten.properties.io import load, save
from carten.properties.potential import Potential
from carten.properties.routes import Property
from carten.properties.spec import property_table
from model.models import crystal, molecule, slab, wire
from physics.test_charges import ELEMENTS, ROWS, charged, model
from small import small_model

EXACT = Ewald(0.7, accuracy=1e-11)
TERM = ChargesConfig(sigma=0.7, accuracy=1e-11)


def equilibrated(name: str = "charges") -> Property:
    row = property_table()[name]
    wanted = {"charges": "equilibrated", "dipole": "charges"}[name]
    return replace(row, routes=tuple(route for route in row.routes if route.name == wanted))


@pytest.fixture(scope="module")
def interacting():
    return model(TERM, rows=(*ROWS, equilibrated()))


def given(*structures: Atoms, totals=None, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, Graph]:
    """Electronegativities and hardnesses at random, of structures with total charges."""
    totals = [0.0] * len(structures) if totals is None else totals
    graphs = [
        graph(atoms, 3.0, {"total_charge": np.array([total])}) for atoms, total in zip(structures, totals, strict=True)
    ]
    generator = torch.Generator().manual_seed(seed)
    merged = batch(graphs)
    chi, eta = (torch.rand(merged.n_atoms, generator=generator, dtype=torch.float64) for _ in range(2))
    return 6.0 * chi, 1.0 + 4.0 * eta, merged


def energy(q: np.ndarray, chi: torch.Tensor, eta: torch.Tensor, one: Graph, by: ChargeInteraction) -> float:
    """Of charges of one structure, with the interaction of :mod:`carten.physics.ewald` and their own."""
    m = Multipoles(torch.from_numpy(q)[:, None])
    between = float(ewald.ewald_energies(m, one, one.edge_vectors(), by.summation).sum()) / by.permittivity
    stiff = eta.numpy() + COULOMB * math.sqrt(2 / math.pi) / by.summation.sigma / by.permittivity
    return between + float(chi.numpy() @ q + 0.5 * (stiff * q**2).sum())


# --- the interaction --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", [molecule, slab, crystal, lambda: crystal().repeat((2, 1, 1))])
def test_the_matrix_is_the_quadratic_form_of_ewald(structure):
    """Of charges that add up to something too."""
    _, _, one = given(structure())
    atoms = torch.arange(one.n_atoms)[None]
    (found,) = coulomb.matrices(one, torch.tensor([0]), atoms, EXACT)
    assert float((found - found.T).abs().max()) <= 1e-14 * float(found.abs().max())
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        q = torch.randn(one.n_atoms, generator=generator, dtype=torch.float64)
        expected = ewald.ewald_energies(Multipoles(q[:, None]), one, one.edge_vectors(), EXACT).sum()
        expected = expected + 0.5 * coulomb.self_interaction(EXACT.sigma) * q.square().sum()
        assert float(0.5 * q @ found @ q) == pytest.approx(float(expected), rel=1e-9)


def test_interactions_of_molecules_by_hand():
    atoms = molecule()
    _, _, one = given(atoms)
    (found,) = coulomb.matrices(one, torch.tensor([0]), torch.arange(5)[None], EXACT)
    distance = atoms.get_all_distances() + np.eye(5)
    expected = COULOMB * erf(distance / (math.sqrt(2) * 0.7)) / distance
    np.fill_diagonal(expected, COULOMB * math.sqrt(2 / math.pi) / 0.7)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-13)


@pytest.mark.parametrize("accuracy", [1e-11, 1e-4, 1e-2])
@pytest.mark.parametrize("pbc", [[False] * 3, [True] * 3, [True, True, False]])
def test_the_interaction_is_positive(pbc, accuracy):
    """However close atoms come, so that hardnesses above zero are enough for a minimum."""
    rng = np.random.default_rng(2)
    atoms = Atoms("H12", positions=rng.uniform(0.0, 2.5, (12, 3)), cell=np.eye(3) * 3.0 + 0.1, pbc=pbc)
    atoms.positions[1] = atoms.positions[0] + 0.01
    _, _, one = given(atoms)
    (found,) = coulomb.matrices(one, torch.tensor([0]), torch.arange(12)[None], replace(EXACT, accuracy=accuracy))
    neutral = torch.eye(12, dtype=torch.float64) - 1 / 12
    projected = neutral @ found @ neutral
    values = torch.linalg.eigvalsh(projected if any(pbc) else found)
    assert values[0] > -1e-12 * values[-1] and values[-1] > 1.0


# --- the minimum ------------------------------------------------------------------------------------------------------


def test_two_atoms_by_hand():
    """``q = (chi_2 - chi_1 + Q (eta_2 + J_22 - J_12)) / (eta_1 + eta_2 + J_11 + J_22 - 2 J_12)``."""
    for distance, total in ((1.1, 0.0), (2.0, 1.0), (50.0, -0.5)):
        chi, eta, one = given(Atoms("OH", positions=[[0, 0, 0], [0, 0, distance]]), totals=[total])
        own = COULOMB * math.sqrt(2 / math.pi) / 0.7
        other = COULOMB * erf(distance / (math.sqrt(2) * 0.7)) / distance
        first = float(chi[1] - chi[0] + total * (eta[1] + own - other)) / float(eta.sum() + 2 * own - 2 * other)
        found = equilibration.equilibrated_charges(chi, eta, one, ChargeInteraction(EXACT))
        assert found.tolist() == pytest.approx([first, total - first], abs=1e-14)


@pytest.mark.parametrize("permittivity", [1.0, 2.5])
@pytest.mark.parametrize("structure", [molecule, slab, crystal])
def test_charges_are_those_of_least_energy(structure, permittivity):
    """As a general minimiser finds them, without derivatives of ours."""
    total, by = 0.7, ChargeInteraction(EXACT, permittivity)
    chi, eta, one = given(structure(), totals=[total])
    n = one.n_atoms

    def whole(free: np.ndarray) -> np.ndarray:
        return np.append(free, total - free.sum())

    best = minimize(lambda free: energy(whole(free), chi, eta, one, by), np.zeros(n - 1), options={"gtol": 1e-8})
    found = equilibration.equilibrated_charges(chi, eta, one, by).numpy()
    assert found == pytest.approx(whole(best.x), abs=1e-5)  # differences of energies of 10 eV, to 1e-15
    least = energy(found, chi, eta, one, by)
    for moved in np.random.default_rng(3).normal(scale=0.01, size=(5, n)):
        assert energy(found + moved - moved.mean(), chi, eta, one, by) > least
    assert least == pytest.approx(best.fun, abs=1e-9)


def test_charges_of_a_batch_are_those_alone_and_add_up():
    """Molecules and cells of the same and of different sizes, charged and neutral ones."""
    structures = [molecule(), crystal(), molecule()[:3], slab(), crystal(), Atoms("N"), crystal().repeat(2)]
    totals = [1.0, 0.0, -2.0, 0.0, 1.0, 1.0, 0.0]
    chi, eta, merged = given(*structures, totals=totals)
    found = equilibration.equilibrated_charges(chi, eta, merged, ChargeInteraction(EXACT))
    starts = np.cumsum([0, *(len(atoms) for atoms in structures)])
    for (a, b), atoms, total in zip(pairwise(starts), structures, totals, strict=True):
        _, _, one = given(atoms, totals=[total])
        alone = equilibration.equilibrated_charges(chi[a:b], eta[a:b], one, ChargeInteraction(EXACT))
        assert found[a:b].tolist() == pytest.approx(alone.tolist(), abs=1e-12)
        assert float(found[a:b].sum()) == pytest.approx(total, abs=1e-14)


def test_derivatives_of_any_order_are_differences():
    """Of charges with respect to electronegativities, hardnesses and positions: the first and the second."""
    for structure in (molecule()[:3], slab(), crystal()):
        chi, eta, one = given(structure, totals=[0.5])

        def charges(chi, eta, positions, one=one):
            return equilibration.equilibrated_charges(
                chi, eta, replace(one, positions=positions), ChargeInteraction(EXACT)
            )

        at = tuple(x.clone().requires_grad_() for x in (chi, eta, one.positions))
        assert torch.autograd.gradcheck(charges, at, eps=1e-5, atol=1e-7)
        assert torch.autograd.gradgradcheck(charges, at, eps=1e-5, atol=1e-6)


# --- models -----------------------------------------------------------------------------------------------------------


def test_the_energy_is_the_least_that_charges_can_have(interacting):
    names = ["charges", "electronegativities", "hardnesses", "energy"]
    for atoms in charged(molecule(), crystal(), slab()):
        found = contract.results(interacting, atoms, names=names)
        chi, eta = (torch.from_numpy(found[name]) for name in names[1:3])
        one = contract.graphs(interacting, [atoms])
        least = energy(found["charges"], chi, eta, one, ChargeInteraction(interacting.terms[0].summation))
        assert found["energy"][0] - of_the_network(interacting, atoms) == pytest.approx(least, rel=1e-9)


class Nothing(EnergyTerm):
    """Adds no energy."""

    def forward(self, view: View) -> torch.Tensor:
        return torch.zeros(view.graph.n_atoms, dtype=torch.float64)


def of_the_network(one: Potential, atoms: Atoms) -> float:
    """Energy without the term."""
    kept, one.terms[0] = one.terms[0], Nothing()
    try:
        return float(contract.results(one, atoms, names=["energy"])["energy"][0])
    finally:
        one.terms[0] = kept


def test_a_model_satisfies_the_contract(interacting):
    structures = charged(molecule(), crystal(), slab(), Atoms("N"), crystal().repeat(2))
    contract.check_batch(interacting, structures)
    for atoms in structures[:3]:
        contract.check_rotations(interacting, atoms)
        contract.check_translation(interacting, atoms)
        contract.check_derivatives(interacting, atoms)
    contract.check_permutation(interacting, structures[0])
    found = contract.results(interacting, *structures, names=["charges"])["charges"]
    starts = np.cumsum([0, *(len(atoms) for atoms in structures)])
    sums = [found[a:b].sum() for a, b in pairwise(starts)]
    assert sums == pytest.approx([atoms.info["total_charge"] for atoms in structures], abs=1e-14)


def far_apart(distance: float) -> Atoms:
    """Two molecules, one of which has an atom more than the other."""
    other = molecule()[:3]
    other.positions += [distance, 0.0, 0.0]
    return charged(molecule() + other)[0]


def test_charge_goes_where_no_feature_reaches(interacting):
    """An atom far beyond the cutoff changes charges; those of other routes do not notice."""
    other = model(TERM, rows=ROWS)
    for one, sees in ((interacting, True), (other, False)):
        found = []
        for distance in (20.0, 21.0):
            atoms = far_apart(distance)
            atoms.positions[:5] += [0.0, 0.0, 3.0]
            found.append(contract.results(one, atoms, names=["charges"])["charges"])
        moved = np.abs(found[1] - found[0])[:5].max()
        assert moved > 1e-4 if sees else moved < 1e-12
    without = contract.results(interacting, far_apart(20.0), names=["charges"])["charges"][:5].sum()
    assert abs(without) > 1e-3, "charge is transferred between molecules"


def test_hessians_and_losses_of_forces(interacting):
    """Second derivatives of the energy, and derivatives of forces with respect to weights, as differences of forces."""
    atoms, step = charged(molecule()[:3])[0], 1e-4

    def forces(at: Atoms) -> np.ndarray:
        return contract.results(interacting, at, names=["forces"])["forces"]

    columns = []
    for place in np.ndindex(3, 3):
        ends = [atoms.copy(), atoms.copy()]
        for sign, copy in zip((1, -1), ends, strict=True):
            copy.positions[place] += sign * step
        columns.append((forces(ends[1]) - forces(ends[0])) / (2 * step))
    expected = np.array(columns).reshape(3, 3, 3, 3).transpose(0, 2, 1, 3)  # [moved, felt] to pairs of atoms
    found = contract.results(interacting, atoms, names=["hessian"])["hessian"].reshape(3, 3, 3, 3)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6)  # truncation: the square of the step

    for name in ("electronegativities", "hardnesses"):
        weight = next(p for p in interacting.heads[name].parameters() if p.dim() > 1)
        interacting.train().requires_grad_()
        loss = interacting(contract.graphs(interacting, [atoms]), ["forces"])["forces"].square().sum()
        (gradient,) = torch.autograd.grad(loss, weight)
        interacting.freeze()
        along = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0), dtype=weight.dtype)
        values = []
        for sign in (1, -1):
            weight.add_(sign * step * along)
            values.append((forces(atoms) ** 2).sum())
            weight.sub_(sign * step * along)
        assert float((gradient * along).sum()) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_a_file_keeps_them(interacting, tmp_path):
    save(tmp_path / "model.carten", interacting, {})
    loaded = load(tmp_path / "model.carten")
    assert loaded.properties["charges"] == interacting.properties["charges"]
    assert loaded.properties["charges"].routes[0].sigma == 0.7, "that of the term"
    structures = charged(molecule(), crystal())
    contract.require_equal("file", *(contract.results(m, *structures) for m in (loaded, interacting)))


@pytest.mark.needs("cpp")
def test_back_ends(interacting, tmp_path):
    save(tmp_path / "model.carten", interacting, {})
    structures = charged(molecule(), crystal())
    names = ["charges", *ROWS[:2], "virial"]
    expected = contract.results(interacting, *structures, names=names)
    compiled = contract.results(load(tmp_path / "model.carten", backend="cpp"), *structures, names=names)
    contract.require_equal("cpp", compiled, expected, 1e-10)


def test_the_calculator_in_either_precision(interacting, tmp_path):
    save(tmp_path / "model.carten", interacting, {})
    found = {}
    for dtype in ("float64", "float32"):
        atoms = charged(crystal())[0]
        atoms.calc = Calculator(tmp_path / "model.carten", dtype=dtype)
        found[dtype] = [atoms.get_potential_energy(), atoms.get_forces(), atoms.get_charges()]
        assert atoms.get_charges().sum() == pytest.approx(-1.0, abs=1e-14)
    for single, double in zip(found["float32"], found["float64"], strict=True):
        assert single == pytest.approx(double, abs=1e-4)


def test_they_can_be_learned_without_an_energy():
    """From charges or from dipoles."""
    one = small_model(ELEMENTS, (equilibrated(), equilibrated("dipole"))).train().requires_grad_()
    assert "energy" not in one.properties and set(one.heads) == {"electronegativities", "hardnesses"}
    merged = contract.graphs(one, charged(molecule(), molecule()[:3]))
    for name in ("charges", "dipole"):
        one.zero_grad()
        one(merged, [name])[name].square().sum().backward()
        assert all(bool(p.grad.abs().max() > 0) for head in one.heads.values() for p in head.parameters())


# --- fields -----------------------------------------------------------------------------------------------------------


def test_molecules_polarize_in_a_field(interacting):
    """The energy falls with the dipole, which grows with the field; forces are differences."""
    one = model(TERM, rows=(*ROWS[:2], equilibrated(), equilibrated("dipole")))
    atoms = charged(molecule())[0]
    atoms.info["total_charge"], dipoles = 0.0, []
    for field in ([0.0, 0.0, 0.0], [0.3, -0.2, 0.1]):
        atoms.info["electric_field"] = np.array(field)
        contract.check_derivatives(one, atoms)
        dipoles.append(contract.results(one, atoms, names=["dipole"])["dipole"][0])
        slope = contract.central_differences(one, atoms, "energy", "electric_field")[0]
        assert slope == pytest.approx(-dipoles[-1], abs=1e-8)
    assert (dipoles[1] - dipoles[0]) @ field > 0.01
    for ion in charged(molecule()):
        ion.info["electric_field"] = np.array(field)
        pulled = contract.results(one, ion, names=["forces"])["forces"].sum(0)
        assert pulled == pytest.approx(-1.0 * np.array(field), abs=1e-10)
    contract.check_rotations(one, atoms)


def test_cells_have_no_field(interacting):
    structures = charged(molecule(), crystal())
    for atoms in structures:
        atoms.info["electric_field"] = np.zeros(3)
    contract.results(interacting, *structures)
    structures[0].info["electric_field"] = np.array([0.0, 0.1, 0.0])
    contract.results(interacting, *structures, names=["energy"])
    structures[1].info["electric_field"] = np.array([0.0, 0.1, 0.0])
    with pytest.raises(ModelError, match=r"structure 1 of the batch is periodic and in an electric field.*equalised"):
        contract.results(interacting, *structures, names=["energy"])


# --- bad input --------------------------------------------------------------------------------------------------------


def test_bad_input(interacting, monkeypatch):
    with pytest.raises(ModelError, match=r"do not carry the input 'total_charge'.*set it for each structure"):
        contract.results(interacting, molecule(), names=["charges"])
    with pytest.raises(ModelError, match="periodic in one direction only"):
        contract.results(interacting, *charged(wire()), names=["charges"])
    monkeypatch.setattr(coulomb, "LARGEST_MATRIX", 20)
    with pytest.raises(ModelError, match=r"interaction of 5 atoms as a matrix takes 5 x 5 numbers.*route equalised"):
        contract.results(interacting, *charged(molecule()), names=["charges"])
    with pytest.raises(ModelError, match=r"interaction of 2 atoms as a matrix takes 2 x \d+ numbers"):
        contract.results(interacting, *charged(crystal()), names=["charges"])


def test_terms_that_take_other_charges_do_not_change():
    """Latent charges beside charges that equilibrate."""
    one = model(TERM, LesConfig(accuracy=1e-11), rows=(*ROWS[:2], equilibrated()))
    contract.check_derivatives(one, charged(molecule())[0])
    assert [type(term).__name__ for term in one.terms] == ["EquilibratedCharges", "Electrostatics"]
