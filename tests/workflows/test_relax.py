"""Relaxation in batches: the same minima as ASE finds, pressure, fixed atoms, what does not converge."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.optimize
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms, FixBondLength, FixSymmetry, Hookean
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.units import GPa

from carten.deploy import deploy
from carten.errors import DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.properties.routes import Readout
from carten.properties.spec import input_table, property_table
from carten.workflows.crowd import Crowd
from carten.workflows.lbfgs import ManyLBFGS
from carten.workflows.relax import Goal, relax
from small import small_model, stiff_model

pytestmark = pytest.mark.needs("cpp")


@pytest.fixture(scope="module")
def model():
    return stiff_model()


@pytest.fixture(scope="module")
def library(model):
    return deploy(model)


class LennardJonesWithout(LennardJones):
    """As if it had no stress."""

    implemented_properties = ("energy", "forces")


def crystals() -> list[Atoms]:
    made = [bulk("C"), bulk("CO", "rocksalt", a=4.2), bulk("C", cubic=True)]
    for number, atoms in enumerate(made):
        atoms.rattle(0.05, seed=number)
    return made


def test_quadratic_problems_are_solved_together():
    """Several quadratic problems: the minimum by numpy, and independent of which others are solved beside."""
    rng = np.random.default_rng(0)
    sizes = (3, 6, 9)
    matrices = [np.linalg.qr(rng.normal(size=(n, n)))[0] for n in sizes]
    matrices = [q @ np.diag(rng.uniform(20, 80, len(q))) @ q.T for q in matrices]
    targets = [rng.normal(size=n) * 0.1 for n in sizes]
    problem = np.repeat(np.arange(3), sizes)

    def values(x):
        parts = np.split(x, np.cumsum(sizes)[:-1])
        gradients = [a @ (part - b) for a, part, b in zip(matrices, parts, targets, strict=True)]
        energies = [0.5 * (part - b) @ g for part, b, g in zip(parts, targets, gradients, strict=True)]
        return np.concatenate(gradients), np.array(energies)

    x, optimizer = np.zeros(sum(sizes)), ManyLBFGS(problem)
    for _ in range(40):
        gradient, energies = values(x)
        x = x + optimizer.step(x, gradient, energies)
    np.testing.assert_allclose(x, np.concatenate(targets), atol=1e-9)


def test_steps_are_limited_and_forgotten_where_the_energy_rises():
    optimizer = ManyLBFGS(np.zeros(6, dtype=int), longest_step=0.2)
    step = optimizer.step(np.zeros(6), np.array([1e4, 0, 0, 0, 1.0, 0]), np.zeros(1))
    assert np.linalg.norm(step[:3]) == pytest.approx(0.2)
    assert step[4] == pytest.approx(-0.2e-4)


def test_rosenbrock_beside_another_problem():
    def rosenbrock(x):
        value = scipy.optimize.rosen(x[:2])
        return value, np.append(scipy.optimize.rosen_der(x[:2]), 0.0)

    x, optimizer = np.array([-0.5, 0.8, 0.0, 0.3, 0.1, 0.2]), ManyLBFGS(np.repeat([0, 1], 3))
    for _ in range(300):
        value, slope = rosenbrock(x[:3])
        x = x + optimizer.step(x, np.concatenate([slope, 50 * x[3:]]), np.array([value, 25 * x[3:] @ x[3:]]))
    np.testing.assert_allclose(x, [1, 1, 0, 0, 0, 0], atol=1e-6)


def test_a_crowd_is_its_structures(model, library):
    structures = [*crystals(), molecule("CH4")]
    values = Crowd(library, structures).evaluate()
    calculator, first = Calculator(model), 0
    for k, atoms in enumerate(structures):
        atoms.calc = calculator
        assert values.energies[k] == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
        np.testing.assert_allclose(values.forces[first : first + len(atoms)], atoms.get_forces(), atol=1e-10)
        first += len(atoms)
        if atoms.pbc.all():
            stress = -values.virials[k] / atoms.get_volume()
            np.testing.assert_allclose(stress, atoms.get_stress(voigt=False), atol=1e-11)


@pytest.mark.parametrize("cell", [False, True])
def test_minima_are_those_of_ase(model, library, cell):
    """A random model has many minima: from a start near one of them both have to end in it."""
    goal, minima = Goal(fmax=1e-4, smax=1e-4, cell=cell), crystals()
    starts = []
    for number, atoms in enumerate(minima):
        atoms.calc = Calculator(model)
        assert BFGS(FrechetCellFilter(atoms) if cell else atoms, logfile=None).run(fmax=1e-5, steps=1000)
        starts.append(atoms.copy())
        starts[-1].rattle(0.01, seed=number)
        if cell:
            starts[-1].set_cell(atoms.cell.array * [1.01, 0.99, 1.0], scale_atoms=True)
    for minimum, result in zip(minima, relax(starts, library, goal), strict=True):
        assert result.converged and result.energy < result.energy_before - 1e-4
        assert result.energy == pytest.approx(minimum.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(result.atoms.cell.cellpar(), minimum.cell.cellpar(), atol=1e-2)
        distances = (atoms.get_all_distances(mic=True) for atoms in (result.atoms, minimum))
        np.testing.assert_allclose(*distances, atol=2e-3)


def test_pressure_is_minus_the_slope_of_the_energy(library):
    """dE/dV = -p along the minima: a central difference in the pressure."""
    results = [relax(bulk("C", "fcc", a=3.6), library, Goal(1e-5, 1e-5, True, p)) for p in (4.0, 5.0, 6.0)]
    assert all(result.converged for (result,) in results)
    energies = [result.energy for (result,) in results]
    volumes = [result.atoms.get_volume() for (result,) in results]
    assert volumes[0] > volumes[1] > volumes[2]
    slope = (energies[2] - energies[0]) / (volumes[2] - volumes[0])
    assert -slope / GPa == pytest.approx(5.0, rel=2e-3)
    assert results[1][0].atoms.get_stress()[0] / GPa == pytest.approx(-5.0, abs=1e-4)


def test_results_do_not_depend_on_what_is_relaxed_beside(library):
    together = relax(crystals(), library, Goal(cell=True))
    for atoms, beside in zip(crystals(), together, strict=True):
        (alone,) = relax(atoms, library, Goal(cell=True))
        assert alone.steps == beside.steps
        np.testing.assert_allclose(alone.atoms.positions, beside.atoms.positions, atol=1e-9)


def test_fixed_atoms_stay_and_the_rest_of_a_structure_is_kept(library):
    atoms = molecule("CH3CH2OH")
    atoms.set_constraint(FixAtoms([0, 3]))
    atoms.info["name"] = "ethanol"
    atoms.set_tags(range(len(atoms)))
    (result,) = relax(atoms, library, Goal(fmax=0.02))
    assert result.converged and result.atoms.info["name"] == "ethanol"
    np.testing.assert_array_equal(result.atoms.positions[[0, 3]], atoms.positions[[0, 3]])
    assert np.abs(result.atoms.positions - atoms.positions).max() > 1e-3
    assert list(result.atoms.get_tags()) == list(range(len(atoms)))
    assert len(result.atoms.constraints) == 1


def test_what_does_not_converge_says_so(library):
    results = relax(crystals(), library, Goal(fmax=1e-6, steps=2))
    assert [result.converged for result in results] == [False] * 3
    assert all(result.steps == 2 and result.largest_force > 1e-6 for result in results)


def test_any_calculator_of_ase():
    atoms = bulk("Cu") * (2, 1, 1)
    atoms.rattle(0.05, seed=1)
    done = []
    (result,) = relax(atoms, EMT(), Goal(fmax=1e-3, smax=1e-3, cell=True), lambda *counts: done.append(counts))
    assert result.converged and done == [(1, 1)]
    # EMT of ASE: lattice constant of copper 3.59 Å
    assert (4 * result.atoms.get_volume() / 2) ** (1 / 3) == pytest.approx(3.59, abs=0.01)


def test_one_at_a_time_as_in_a_batch(model, library):
    """The calculator and the library: the same steps; and again the same to the last digit."""
    together = relax(crystals(), library, Goal(cell=True))
    alone, again = (relax(crystals(), Calculator(model), Goal(cell=True)) for _ in range(2))
    for one, other, repeated in zip(alone, together, again, strict=True):
        assert one.steps == other.steps
        np.testing.assert_allclose(one.atoms.positions, other.atoms.positions, atol=1e-7)
        np.testing.assert_array_equal(one.atoms.positions, repeated.atoms.positions)
        np.testing.assert_array_equal(one.atoms.cell.array, repeated.atoms.cell.array)
        np.testing.assert_allclose(one.atoms.get_stress(), other.atoms.get_stress(), atol=1e-9)


def test_symmetry_is_kept_where_it_is_asked_for():
    """A body-centred cubic cell that is stretched: without its symmetry copper leaves it."""
    atoms = bulk("Cu", "bcc", a=2.8, cubic=True)
    atoms.set_constraint(FixSymmetry(atoms))
    (kept,) = relax(atoms, EMT(), Goal(1e-3, 1e-3, cell=True))
    np.testing.assert_allclose(kept.atoms.cell.cellpar(), [kept.atoms.cell[0, 0]] * 3 + [90.0] * 3, atol=1e-9)
    filtered = bulk("Cu", "bcc", a=2.8, cubic=True)
    filtered.calc = EMT()
    BFGS(FrechetCellFilter(filtered, hydrostatic_strain=True), logfile=None).run(fmax=1e-5)
    assert kept.converged and kept.atoms.cell[0, 0] == pytest.approx(filtered.cell[0, 0], abs=1e-4)


def test_constraints_on_bonds_and_springs():
    """A bond keeps its length; a spring's force balances the model's, and its energy is not the model's."""
    atoms = molecule("H2O")
    atoms.set_constraint(FixBondLength(0, 1))
    (bonded,) = relax(atoms, EMT(), Goal(1e-3))
    assert bonded.converged and bonded.atoms.get_distance(0, 1) == pytest.approx(atoms.get_distance(0, 1), abs=1e-9)
    assert abs(bonded.atoms.get_distance(0, 2) - atoms.get_distance(0, 2)) > 0.01
    pulled = molecule("N2")
    pulled.set_constraint(Hookean(0, 1, rt=0.5, k=20.0))
    (result,) = relax(pulled, EMT(), Goal(1e-4))
    stretch = result.atoms.get_distance(0, 1) - 0.5
    force = result.atoms.get_forces(apply_constraint=False)
    assert result.converged and np.linalg.norm(force[0]) == pytest.approx(20.0 * stretch, abs=1e-3)
    free = result.atoms.copy()
    free.set_constraint()
    free.calc = EMT()
    assert result.energy == pytest.approx(free.get_potential_energy())


def test_cells_need_stresses():
    with pytest.raises(DataError, match="LennardJonesWithout has no stress: cells can't relax"):
        relax(bulk("Cu"), LennardJonesWithout(), Goal(cell=True))
    (result,) = relax(bulk("Cu"), LennardJonesWithout(), Goal())
    assert "stress" not in result.atoms.calc.results


def test_structures_that_collapse_are_given_up():
    """A model without repulsion, whose close atoms fall into each other: others beside them go on as without them."""
    potential = small_model(seed=0)
    potential.heads["energies"].get_buffer("scale").fill_(30.0)
    attracting, goal = deploy(potential), Goal(1e-4, steps=300)
    pairs = [Atoms("C2", [[0, 0, 0], [0, 0, distance]]) for distance in (0.4, 1.6, 0.6, 2.0)]
    results = relax(pairs, attracting, goal)
    assert [bool(result.problem) for result in results] == [True, False, True, False]
    for result in results[::2]:
        assert not result.converged and "coincide" in result.problem and 0 < result.steps < 100
        assert np.isfinite(result.energy) and result.atoms.get_distance(0, 1) > 1e-3
    for pair, result in zip(pairs[1::2], results[1::2], strict=True):
        (alone,) = relax(pair, attracting, goal)
        assert result.converged and result.steps == alone.steps
        np.testing.assert_allclose(result.atoms.positions, alone.atoms.positions, atol=1e-9)
    (single,) = relax(pairs[0], Calculator(potential), goal)
    assert "at one place" in single.problem or "coincide" in single.problem
    same_place = Atoms("C2", np.zeros((2, 3)))
    with pytest.raises(DataError, match=r"structure 1 \(C2\): atoms 0 and 1 coincide"):
        relax([pairs[1], same_place], attracting)


def test_bad_input(library):
    with pytest.raises(DataError, match="no atoms"):
        relax(Atoms(), library)
    with pytest.raises(DataError, match="not periodic"):
        relax(molecule("H2O"), library, Goal(cell=True))
    with pytest.raises(ModelError, match="does not know Cu"):
        relax(bulk("Cu"), library)
    bonded = molecule("H2O")
    bonded.set_constraint(FixBondLength(0, 1))
    with pytest.raises(DataError, match="FixAtoms"):
        relax(bonded, library)
    with pytest.raises(ValueError, match="fmax"):
        Goal(fmax=0.0)
    charged = deploy(small_model(inputs=(input_table()["total_charge"],)))
    with pytest.raises(DataError, match="total_charge"):
        relax(molecule("H2O"), charged)
    assert relax([], library) == []


def test_forces_that_are_read_directly_are_not_replaced_by_derivatives():
    table = property_table()
    direct = replace(table["forces"], routes=(Readout(),))
    with pytest.raises(DataError, match="reads its forces directly"):
        relax(molecule("H2O"), deploy(small_model(properties=("energy", direct))))
