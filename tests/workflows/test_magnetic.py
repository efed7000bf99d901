"""Magnetic moments: relaxation, exchange constants and spin dynamics against closed forms, energies and statistics."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, Hookean
from scipy.constants import physical_constants

from carten.errors import ConfigError, DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.model.conditions import Exchange
from carten.physics.constants import BOHR_MAGNETON, GYROMAGNETIC
from carten.physics.zbl import ZblConfig
from carten.properties.spec import input_table
from carten.uncertainty.ensemble import Ensemble
from carten.workflows.exchange import exchange_constants, image_distances
from carten.workflows.magnetic import magnetic
from carten.workflows.moments import MagneticModel, MomentGoal, relax_moments, tilted
from carten.workflows.spins import SpinSettings, semi_implicit_step, spins, thermal_fields
from small import small_model

VECTORS = replace(input_table()["magmoms"], embed=Exchange())
NUMBERS = input_table()["collinear_magmoms"]
TESLA_2000 = 2000.0 * BOHR_MAGNETON


@pytest.fixture(scope="module")
def model():
    """Its magnetic forces are about as strong as those of iron."""
    network = small_model((8, 26), ("energy",), inputs=(VECTORS,))
    network.heads["energies"].scale.fill_(10.0)
    return Calculator(network)


@pytest.fixture(scope="module")
def collinear():
    return Calculator(small_model((8, 26), ("energy",), inputs=(NUMBERS,)))


def dimer(angle: float, size: float = 2.0) -> Atoms:
    atoms = Atoms("Fe2", [[0.0, 0.0, 0.0], [2.3, 0.0, 0.0]])
    atoms.arrays["initial_magmoms"] = size * np.array([[0.0, 0.0, 1.0], [np.sin(angle), 0.0, np.cos(angle)]])
    return atoms


def energy(calculator: Calculator, atoms: Atoms) -> float:
    return float(calculator.get_property("energy", atoms))


def iron(kinds: str = "Fe", seed: int | None = None) -> Atoms:
    atoms = bulk(kinds, "bcc", a=2.87, cubic=True)
    moments = np.tile([0.0, 0.0, 2.2], (len(atoms), 1))
    if seed is not None:
        moments = np.random.default_rng(seed).normal(size=moments.shape)
    atoms.arrays["initial_magmoms"] = moments
    return atoms


def test_constants_are_those_of_codata():
    assert pytest.approx(physical_constants["Bohr magneton in eV/T"][0], rel=1e-7) == BOHR_MAGNETON
    per_tesla = physical_constants["electron gyromag. ratio"][0] * 1e-15
    assert pytest.approx(per_tesla, rel=1e-7) == GYROMAGNETIC * BOHR_MAGNETON


# --- exchange -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0, np.pi])
def test_exchange_is_the_slope_of_the_energy_in_the_cosine(model, angle):
    """E = E0 - J cos(angle) near any angle, by energies at neighbouring angles alone."""
    step = 1e-3
    low, middle, high = (energy(model, dimer(angle + shift)) for shift in (-step, 0.0, step))
    if np.sin(angle) > 0.1:
        reference = (high - low) / (2 * step) / np.sin(angle)
    else:
        reference = np.cos(angle) * (high - 2 * middle + low) / step**2
    system = MagneticModel(dimer(angle), model)
    (shell,) = exchange_constants(system, system.moments).shells
    assert shell.exchange == pytest.approx(reference, rel=1e-3)
    assert (shell.pair, shell.distance, shell.neighbours) == ("Fe-Fe", pytest.approx(2.3), 1.0)
    assert shell.cosine == pytest.approx(np.cos(angle))


def test_shells_are_those_of_the_lattice(model):
    state = magnetic(iron(), model, MomentGoal("none"), (3, 3, 3))
    shells = state.exchange.shells
    assert [shell.neighbours for shell in shells[:5]] == [8, 6, 12, 24, 8]
    np.testing.assert_allclose([shell.distance / 2.87 for shell in shells[:3]], [np.sqrt(0.75), 1, np.sqrt(2)])
    assert max(shell.spread for shell in shells) < 1e-12
    total = sum(shell.neighbours * shell.exchange for shell in shells)
    corners = sum(shell.neighbours * shell.exchange for shell in shells if shell.distance / 2.87 % 1 > 0.1)
    assert state.exchange.critical > max(total, 0.0) / (3 * units.kB) - 1.0 and corners != 0.0
    assert state.exchange.far < 0.1 and not any("farthest" in warning for warning in state.warnings())


def test_the_cell_and_the_images_do_not_matter(model):
    """The same crystal from its primitive cell, where all neighbours are images of the atom."""
    primitive = bulk("Fe", "bcc", a=2.87)
    primitive.arrays["initial_magmoms"] = np.array([[0.0, 0.0, 2.2]])
    one = magnetic(primitive, model, MomentGoal("none"), (4, 4, 4)).exchange
    two = magnetic(iron(), model, MomentGoal("none"), (4, 4, 4)).exchange
    for left, right in zip(one.shells[:4], two.shells[:4], strict=True):
        assert left.exchange == pytest.approx(right.exchange, rel=1e-6)
        assert left.neighbours == right.neighbours
    with pytest.raises(DataError, match="has one magnetic atom"):
        magnetic(primitive, model, MomentGoal("none"), (1, 1, 1))


def test_small_supercells_are_pointed_out(model):
    state = magnetic(iron(), model, MomentGoal("none"), (1, 1, 1))
    assert any("choose a larger supercell" in warning for warning in state.warnings())


def test_image_distances_in_a_skewed_cell():
    atoms = Atoms(
        "He2", cell=[[3.0, 0, 0], [14.5, 3.0, 0], [0, 0, 9.0]], pbc=True, scaled_positions=[[0] * 3, [0.5] * 3]
    )
    distances, counts = image_distances(atoms, np.array([0]), np.array([1]))
    assert distances[0, 0] == pytest.approx(atoms.get_distance(0, 1, mic=True))
    assert counts[0, 0] == 4


def test_collinear_exchange(collinear):
    """J = -|m_i| |m_j| d2E/dm_i dm_j, from four energies."""
    step, energies = 1e-3, {}
    for one in (-1, 1):
        for other in (-1, 1):
            atoms = Atoms("Fe2", [[0.0, 0.0, 0.0], [2.3, 0.0, 0.0]])
            atoms.arrays["initial_magmoms"] = np.array([2.0 + one * step, -1.5 + other * step])
            energies[one, other] = energy(collinear, atoms)
    mixed = (energies[1, 1] - energies[1, -1] - energies[-1, 1] + energies[-1, -1]) / (4 * step**2)
    atoms.arrays["initial_magmoms"] = np.array([2.0, -1.5])
    state = magnetic(atoms, collinear, MomentGoal("none"))
    assert state.exchange.shells[0].exchange == pytest.approx(-2.0 * 1.5 * mixed, rel=1e-3)


# --- relaxation ---------------------------------------------------------------------------------------------------


def test_directions_relax_to_the_lowest_angle(model):
    scan = [energy(model, dimer(angle)) for angle in np.linspace(0.0, np.pi, 181)]
    state = magnetic(dimer(1.0), model, MomentGoal(mmax=1e-6))
    assert not state.failures() and not any("saddle" in warning for warning in state.warnings())
    assert state.relaxation.energies[1] == pytest.approx(min(scan), abs=1e-7)
    np.testing.assert_allclose(np.linalg.norm(state.moments, axis=1), 2.0, rtol=1e-12)
    assert state.relaxation.energies[1] < state.relaxation.energies[0]


def test_a_saddle_is_pointed_out_and_left_by_a_tilt(model):
    """Parallel or antiparallel, whichever is higher: no torque in both."""
    highest = max((0.0, np.pi), key=lambda angle: energy(model, dimer(angle)))
    state = magnetic(dimer(highest), model)
    assert state.relaxation.steps == 0 and any("saddle" in warning for warning in state.warnings())
    tilted_state = magnetic(dimer(highest), model, MomentGoal(mmax=1e-6, tilt=5.0))
    assert tilted_state.relaxation.energies[1] < state.relaxation.energies[1] and not tilted_state.warnings()


def test_sizes_relax(model):
    """Of one atom the minimum is that of a scan."""
    atoms = Atoms("Fe")
    sizes = np.linspace(0.05, 6.0, 240)
    energies = []
    for size in sizes:
        atoms.arrays["initial_magmoms"] = np.array([[0.0, 0.0, size]])
        energies.append(energy(model, atoms))
    best = int(np.argmin(energies))
    atoms.arrays["initial_magmoms"] = np.array([[0.0, 1.0, max(1.0, sizes[best] - 0.7)]])
    relaxed = relax_moments(MagneticModel(atoms, model), MomentGoal("moments", mmax=1e-5))
    assert relaxed.converged
    assert relaxed.energies[1] <= min(energies) + 1e-6


def test_positions_relax_together():
    """With a nuclear repulsion there is a distance; forces and torques vanish, atoms that are held stay."""
    network = small_model((26,), ("energy",), inputs=(VECTORS,), terms=(ZblConfig(),), seed=5)
    network.heads["energies"].scale.fill_(10.0)
    stiff, atoms = Calculator(network), dimer(1.0)
    atoms.set_constraint(FixAtoms([0]))
    state = magnetic(atoms, stiff, MomentGoal(positions=True, mmax=1e-5, fmax=1e-3))
    assert not state.failures() and state.relaxation.energies[1] < state.relaxation.energies[0]
    np.testing.assert_array_equal(state.atoms.positions[0], atoms.positions[0])
    assert np.abs(state.atoms.positions[1] - atoms.positions[1]).max() > 0.01
    values = MagneticModel(state.atoms, stiff).evaluate(state.moments)
    assert np.linalg.norm(values.forces[1]) <= 1e-3
    assert np.linalg.norm(np.cross(values.fields, state.moments), axis=1).max() <= 2e-5


def test_what_does_not_converge_is_a_failure(model):
    state = magnetic(dimer(1.0), model, MomentGoal(mmax=1e-9, steps=1))
    assert state.failures() and "after 1 steps" in state.failures()[0]


def test_atoms_without_a_moment_keep_none(model):
    atoms = Atoms("FeOFe", [[0, 0, 0], [1.9, 0, 0], [3.8, 0, 0]])
    atoms.arrays["initial_magmoms"] = np.array([[0, 0, 2.0], [0, 0, 0], [0, 1.5, 1.0]])
    for goal in (MomentGoal(mmax=1e-4), MomentGoal("moments", steps=3)):
        np.testing.assert_array_equal(magnetic(atoms, model, goal).moments[1], 0.0)


def test_a_tilt_has_its_angle():
    moments = np.random.default_rng(0).normal(size=(5, 3))
    turned = tilted(moments, 30.0, 1)
    cosines = np.sum(moments * turned, axis=1) / np.sum(moments**2, axis=1)
    np.testing.assert_allclose(np.degrees(np.arccos(cosines)), 30.0)


# --- dynamics -----------------------------------------------------------------------------------------------------


def test_a_moment_precesses_at_the_frequency_of_larmor(model):
    """One atom alone feels nothing but the field: a full turn about it in 2 pi / (gamma B).

    A step of the midpoint rule turns by 2 arctan(x / 2) with x = gamma B dt, so that a turn of n steps is
    late by (2 pi)^3 / 12 n^2.
    """
    late = 1.05 * 2.0 * (2 * np.pi) ** 3 / (12 * 40**2)  # μ_B, of the 2 that precess
    atoms = Atoms("Fe")
    atoms.arrays["initial_magmoms"] = np.array([[2.0, 0.0, 1.0]])
    period = 2 * np.pi / (GYROMAGNETIC * TESLA_2000)
    run = spins(atoms, model, SpinSettings(40, period / 40, 0.0, field=(0, 0, 2000.0), interval=10))
    np.testing.assert_allclose(run.moments[-1], run.moments[0], atol=late)
    np.testing.assert_allclose(run.moments[1], [[0.0, 2.0, 1.0]], atol=late)  # a quarter: right-handed about B
    assert run.energies == pytest.approx(run.energies[0], abs=2e-4)


def test_damping_turns_a_moment_into_the_field(model):
    """tan(theta / 2) decays as exp(-a gamma B t / (1 + a^2))."""
    rate, damping = GYROMAGNETIC * TESLA_2000, 0.3
    moments = np.array([[np.sin(1.0), 0.0, np.cos(1.0)]])
    settings = SpinSettings(1, 0.1, damping)
    for _ in range(100):
        moments = semi_implicit_step(
            moments, lambda at: np.tile([0, 0, TESLA_2000], (len(at), 1)), 0.0 * moments, settings
        )
    expected = np.tan(0.5) * np.exp(-damping * rate * 10.0 / (1 + damping**2))
    assert np.tan(np.arccos(moments[0, 2]) / 2) == pytest.approx(expected, rel=1e-3)


def forgetting(damping: float, kelvin: float, size: float) -> float:
    """Time in fs, at most, in which a moment forgets its direction: that of free rotational diffusion, ``1 / 2 D``.

    The coefficient of Brown's equation is ``D = g a k T / ((1 + a^2) m)``; in a field moments forget sooner.
    """
    return size * (1.0 + damping**2) / (2.0 * GYROMAGNETIC * damping * units.kB * kelvin)


def test_moments_in_a_field_have_the_mean_of_langevin():
    """``<cos> = L(x) = coth x - 1/x`` with x = m B / (k T), and the variance ``1 - 2 L / x - L^2``.

    A mean over a time T of N moments that forget in t has N T / 2 t independent samples; four standard errors, 0.011,
    are less than what 5 % of the temperature would make.
    """
    kelvin, size, damping, count, random = 1000.0, 1.5, 0.5, 4000, np.random.default_rng(2)
    settings = SpinSettings(1, 0.25, damping, kelvin)
    moments, means = np.tile([size, 0.0, 0.0], (count, 1)), []
    for step in range(400):
        noise = thermal_fields(moments, settings, random)
        moments = semi_implicit_step(moments, lambda at: np.tile([0, 0, TESLA_2000], (len(at), 1)), noise, settings)
        if step >= 100:
            means.append(moments[:, 2].mean() / size)

    def langevin(x: float) -> float:
        return 1 / np.tanh(x) - 1 / x

    x = size * TESLA_2000 / (units.kB * kelvin)
    samples = count * len(means) * settings.timestep / (2.0 * forgetting(damping, kelvin, size))
    error = np.sqrt((1.0 - 2.0 * langevin(x) / x - langevin(x) ** 2) / samples)
    assert np.mean(means) == pytest.approx(langevin(x), abs=4.0 * error)
    assert 4.0 * error < abs(langevin(x) - langevin(x / 1.05))
    np.testing.assert_allclose(np.linalg.norm(moments, axis=1), size, rtol=1e-12)


def test_coupled_moments_have_the_distribution_of_boltzmann(model):
    """Cosines of dimers far from each other, whose moments begin and stay with the distribution of the model's energy.

    Moments of a pair turn against each other twice as fast as one of them. As above four standard errors are allowed,
    with the variance of the integral; with a thermostat at 1.5 times the temperature the mean would move by more,
    even though it begins where it should be and needs its time.
    """
    kelvin, count, damping, steps, timestep = 8.0, 400, 1.0, 100, 14.0
    cosines = np.linspace(-1, 1, 201)
    energies = np.array([energy(model, dimer(np.arccos(cosine))) for cosine in cosines])

    def weights(temperature: float) -> np.ndarray:
        factors = np.exp(-(energies - energies.min()) / (units.kB * temperature))
        return factors / factors.sum()

    random, atoms = np.random.default_rng(5), Atoms()
    for number, cosine in enumerate(random.choice(cosines, count, p=weights(kelvin))):
        pair = dimer(np.arccos(cosine))
        pair.positions += [0.0, 0.0, 20.0 * number]
        atoms += pair
    run = spins(atoms, model, SpinSettings(steps, timestep, damping, kelvin, interval=5))
    pairs = run.moments.reshape(-1, count, 2, 3) / 2.0
    measured = np.sum(pairs[:, :, 0] * pairs[:, :, 1], axis=-1).mean()
    expected, hotter = (float(cosines @ weights(temperature)) for temperature in (kelvin, 1.5 * kelvin))
    time, memory = steps * timestep, forgetting(damping, kelvin, 2.0) / 2.0
    error = np.sqrt((cosines**2 @ weights(kelvin) - expected**2) * 2.0 * memory / (count * time))
    assert measured == pytest.approx(expected, abs=4.0 * error)
    arrived = 1.0 - memory / time * (1.0 - np.exp(-time / memory))
    assert 4.0 * error < arrived * abs(hotter - expected)


def test_sizes_are_kept_and_the_drift_falls_with_the_step(model):
    atoms = iron(seed=3) * (2, 1, 1)
    deviations = []
    for timestep in (2.0, 1.0):
        run = spins(atoms, model, SpinSettings(int(32 / timestep), timestep, 0.0))
        sizes = np.linalg.norm(run.moments, axis=2)
        np.testing.assert_allclose(sizes, np.broadcast_to(sizes[0], sizes.shape), rtol=1e-12)
        deviations.append(abs(run.energies[-1] - run.energies[0]))
        assert run.turn > 0.01
    assert deviations[1] < deviations[0] / 6


def test_time_runs_backwards(model):
    """All moments reversed, the run goes back to where it came from."""
    atoms, settings = iron(seed=4), SpinSettings(16, 0.5, 0.0, interval=16)
    there_and = spins(atoms, model, settings)
    reversed_atoms = there_and.frames[-1].copy()
    reversed_atoms.arrays["initial_magmoms"] *= -1
    back = spins(reversed_atoms, model, settings)
    assert back.energies[0] == pytest.approx(there_and.energies[-1], abs=1e-10)
    np.testing.assert_allclose(back.moments[-1], -there_and.moments[0], atol=1e-3)
    assert np.abs(there_and.moments[-1] - there_and.moments[0]).max() > 0.05


def test_a_step_that_is_too_long_is_a_failure(model):
    atoms = Atoms("Fe")
    atoms.arrays["initial_magmoms"] = np.array([[2.0, 0.0, 1.0]])
    run = spins(atoms, model, SpinSettings(3, 2.0, 0.0, field=(0, 0, 2000.0)))
    assert "make the time step" in run.failures()[0]


# --- bad input ----------------------------------------------------------------------------------------------------


def test_models_without_moments():
    atoms = dimer(0.0)
    with pytest.raises(ModelError, match="EMT has no derivatives in magnetic moments"):
        magnetic(atoms, EMT())
    with pytest.raises(ModelError, match="it has no inputs besides the atoms"):
        magnetic(atoms, Calculator(small_model((26,))))
    with pytest.raises(ModelError, match="it has the inputs temperature"):
        magnetic(atoms, Calculator(small_model((26,), inputs=(input_table()["temperature"],))))


def test_structures_without_moments(model):
    atoms = dimer(0.0)
    del atoms.arrays["initial_magmoms"]
    with pytest.raises(DataError, match="magmoms"):
        magnetic(atoms, model)
    atoms.arrays["magmoms"] = np.zeros((2, 3))
    with pytest.raises(DataError, match=r"all magnetic moments are zero; set some in atoms.arrays\['magmoms'\]"):
        magnetic(atoms, model)
    with pytest.raises(DataError, match="no atoms"):
        magnetic(Atoms(), model)


def test_what_can_not_be(model, collinear):
    atoms = dimer(0.0)
    with pytest.raises(DataError, match="expected three multiples, 1 where"):
        magnetic(atoms, model, supercell=(2, 2, 2))
    held = dimer(0.0)
    held.set_constraint(Hookean(0, 1, 1.0, 2.0))
    with pytest.raises(DataError, match="only FixAtoms"):
        magnetic(held, model)
    along = Atoms("Fe2", [[0.0, 0.0, 0.0], [2.3, 0.0, 0.0]])
    along.arrays["initial_magmoms"] = np.array([2.0, 1.0])
    with pytest.raises(ModelError, match="have no directions"):
        magnetic(along, collinear)
    with pytest.raises(ModelError, match="do not turn"):
        spins(along, collinear, SpinSettings(1))
    with pytest.raises(ConfigError, match="without it moments do not feel a temperature"):
        SpinSettings(1, damping=0.0, temperature=300.0)
    with pytest.raises(ConfigError, match="timestep: expected a number above 0"):
        SpinSettings(1, timestep=0.0)
    with pytest.raises(ValueError, match="tilt"):
        MomentGoal(tilt=200.0)


def test_committees_have_the_mean(model):
    members = [small_model((8, 26), ("energy",), inputs=(VECTORS,), seed=seed) for seed in (1, 2)]
    several = exchange(Calculator(Ensemble(members)))
    assert several == pytest.approx(np.mean([exchange(Calculator(member)) for member in members]), rel=1e-9)


def exchange(calculator: Calculator) -> float:
    system = MagneticModel(dimer(0.4), calculator)
    return exchange_constants(system, system.moments).shells[0].exchange


def test_relaxation_reports_progress(model):
    steps = []
    relax_moments(MagneticModel(dimer(1.0), model), MomentGoal(mmax=1e-5), progress=lambda *step: steps.append(step))
    assert steps and steps[0] == (1, 500)
