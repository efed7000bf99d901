"""Analyses of trajectories against closed forms: random walks, ideal gases, lattices, harmonic motion, dipoles."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator

from carten.errors import DataError, ModelError
from carten.physics.charges import LesConfig
from carten.workflows.averages import trajectory_averages
from carten.workflows.dielectric import dielectric
from carten.workflows.motion import diffusion, vibrational_states
from carten.workflows.radial import bond_angles, radial_distribution
from carten.workflows.trajectory import FrameSeries, estimate
from physics.test_field import polarized
from small import ethanol, small_model

CM = 100.0 * 299792458.0 / units.second  # cm per ASE's unit of time


def walk(count: int, coefficient: float, seed: int = 0) -> list[Atoms]:
    """Atoms that walk at random, wrapped into their cell; two elements, the second three times as fast."""
    rng = np.random.default_rng(seed)
    speed = np.where(np.arange(120) < 60, coefficient, 3.0 * coefficient)
    steps = rng.normal(size=(count, 120, 3)) * np.sqrt(2.0 * speed * 0.01)[:, None]  # 10 fs apart
    path = rng.uniform(0, 9, (120, 3)) + np.cumsum(steps, axis=0)
    frames = [Atoms("C60O60", positions=r, cell=[[9, 0, 0], [2, 8, 0], [1, -1, 10]], pbc=True) for r in path]
    for number, atoms in enumerate(frames):
        atoms.wrap()
        atoms.info["time_ps"] = 0.01 * number
    return frames


def test_diffusion_of_random_walks():
    """``<r^2> = 6 D t``; the error bars are those of repetitions.

    A mean square displacement over n of K steps has the relative variance ``(4 n^2 k + 2 k + n - n^3) / (9 n k^2)``
    with k = K - n + 1 for one atom in three dimensions (H. Qian et al., Biophys. J. 60, 910, 1991), here with the
    middle of the lags: 0.8 % with 60 atoms, five blocks and twelve walks. Of the ratio of a spread of twelve values
    and the mean of twelve errors, each from five blocks, the standard error is sqrt(1/22 + 1/96).
    """
    repetitions, length, lag = 12, 80, 32
    results = [diffusion(FrameSeries.of(walk(5 * length, 0.2, seed))).coefficients for seed in range(repetitions)]
    origins = length - lag + 1
    variance = (4 * lag**2 * origins + 2 * origins + lag - lag**3) / (9 * lag * origins**2)
    error = np.sqrt(variance / (60 * 5 * repetitions))
    for symbol, expected in (("C", 0.2), ("O", 0.6)):
        values = np.array([result[symbol].value for result in results])
        errors = np.array([result[symbol].error for result in results])
        assert values.mean() == pytest.approx(expected, rel=4.0 * error)
        assert abs(np.log(values.std(ddof=1) / errors.mean())) < 4.0 * np.sqrt(1 / 22 + 1 / 96)


def test_displacements_are_those_of_all_origins():
    frames = walk(60, 0.2)
    trajectory = FrameSeries.of(frames)
    result = diffusion(trajectory)
    block = trajectory.unwrapped[:12, :60]
    lag = 5
    direct = np.square(block[lag:] - block[:-lag]).sum(2).mean()
    blocks = trajectory.unwrapped.reshape(5, 12, 120, 3)[:, :, :60]
    expected = np.mean([np.square(b[lag:] - b[:-lag]).sum(2).mean() for b in blocks])
    assert result.displacements["C"][lag] == pytest.approx(expected, rel=1e-10) and direct > 0
    assert result.displacements["C"][0] == 0.0 and not result.warnings()


def test_what_does_not_diffuse_is_said():
    """Free flight grows with the square of the time."""
    rng = np.random.default_rng(1)
    start, velocities = rng.uniform(0, 5, (20, 3)), rng.normal(size=(20, 3))
    frames = [Atoms("H20", positions=start + 0.01 * k * velocities) for k in range(100)]
    result = diffusion(FrameSeries.of(frames, timestep=10.0))
    assert result.exponents["H"] == pytest.approx(2.0, abs=1e-6)
    assert "does not diffuse" in result.warnings()[0]


def test_an_ideal_gas_has_no_structure():
    rng = np.random.default_rng(3)
    cell = [[9, 0, 0], [2, 8, 0], [1, -1, 10]]
    frames = [Atoms("C40O20", scaled_positions=rng.uniform(size=(60, 3)), cell=cell, pbc=True) for _ in range(400)]
    result = radial_distribution(FrameSeries.of(frames), width=0.5)
    assert set(result.distributions) == {"C-C", "C-O", "O-O"}
    for values in result.distributions.values():
        assert values[2:] == pytest.approx(1.0, abs=0.1) and values[2:].mean() == pytest.approx(1.0, abs=0.02)


def test_coordination_in_a_crystal():
    """Twelve neighbours in fcc, at a / sqrt(2); then six."""
    frames = [bulk("Cu", "fcc", a=3.6, cubic=True) * (3, 3, 3) for _ in range(10)]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=number)
    result = radial_distribution(FrameSeries.of(frames))
    numbers = {quantity.name: quantity.value for quantity in result.quantities()}
    assert numbers["Cu-Cu first peak"] == pytest.approx(3.6 / np.sqrt(2), abs=0.05)
    assert numbers["Cu-Cu coordination number"] == pytest.approx(12.0, abs=0.05)


def test_angles_of_water():
    atoms = molecule("H2O")
    frames = [atoms.copy() for _ in range(10)]
    result = bond_angles(FrameSeries.of(frames), width=0.5)
    assert list(result.distributions) == ["H-O-H"] and result.counts["H-O-H"] == 1.0
    mean = {quantity.name: quantity.value for quantity in result.quantities()}["H-O-H mean"]
    assert mean == pytest.approx(atoms.get_angle(1, 0, 2), abs=0.25)
    methane = bond_angles(FrameSeries.of([molecule("CH4")] * 10))
    assert methane.counts["H-C-H"] == 6.0
    with pytest.raises(DataError, match="no atom has two bonds"):
        bond_angles(FrameSeries.of([molecule("N2")] * 10))


def test_states_of_harmonic_motion():
    """Two frequencies with the energy kT each: a peak of area one at either."""
    masses, step = Atoms("CO").get_masses(), 2.0 * units.fs
    frames = []
    for number in range(4000):
        atoms = Atoms("CO", [[0, 0, 0], [0, 0, 1.1]])
        phases = [2 * np.pi * wave * CM * number * step for wave in (300.0, 900.0)]
        speeds = np.sqrt(2.0 * units.kB * 300.0 / masses)
        atoms.set_velocities([[speeds[0] * np.cos(phases[0]), 0, 0], [0, speeds[1] * np.cos(phases[1]), 0]])
        frames.append(atoms)
    result = vibrational_states(FrameSeries.of(frames, timestep=2.0), resolution=20.0)
    width = result.wavenumbers[1] - result.wavenumbers[0]
    total = sum(values.sum() * width for values in result.states.values())
    for symbol, wave in (("C", 300.0), ("O", 900.0)):
        values = result.states[symbol]
        assert result.wavenumbers[values.argmax()] == pytest.approx(wave, abs=10.0)
        assert values.sum() * width == pytest.approx(total / 2, rel=0.02)
    assert total == pytest.approx(3.0, rel=0.01)
    for symbol, wave in (("C", 300.0), ("O", 900.0)):
        expected = np.cos(2 * np.pi * wave * CM * result.times * 1000.0 * units.fs)
        assert result.autocorrelation[symbol] == pytest.approx(expected, abs=0.01)


def test_averages_with_errors():
    rng = np.random.default_rng(5)
    frames = []
    for number in range(500):
        atoms = bulk("Cu", cubic=True) * 2
        atoms.set_cell(atoms.cell * (1.0 + 0.01 * rng.normal()), scale_atoms=True)
        atoms.set_momenta(rng.normal(size=(32, 3)) * np.sqrt(atoms.get_masses() * units.kB * 400.0)[:, None])
        atoms.calc = SinglePointCalculator(atoms, energy=-3.0 * 32 + rng.normal())
        atoms.info["time_ps"] = 0.1 * number
        frames.append(atoms)
    result = trajectory_averages(FrameSeries.of(frames))
    means = {name: mean for (name, _), mean in result.means.items()}
    freedom = 32 / 31  # the centre of mass moves here
    assert abs(means["temperature"].value - 400.0 * freedom) < 4 * means["temperature"].error
    assert abs(means["potential energy"].value + 3.0) < 4 * means["potential energy"].error
    assert means["potential energy"].error == pytest.approx(1.0 / 32 / np.sqrt(500), rel=0.7)
    copper = bulk("Cu", cubic=True)
    expected = copper.get_masses().sum() * 1.66053907 / copper.cell.volume
    assert means["density"].value == pytest.approx(expected, rel=0.005)
    volumes = np.array([atoms.cell.volume for atoms in frames])
    kt = units.kB * means["temperature"].value
    assert result.compressibility == pytest.approx(volumes.var() / volumes.mean() / kt * units.GPa, rel=1e-9)


def test_errors_of_averages_know_correlation():
    rng = np.random.default_rng(2)
    slow = np.repeat(rng.normal(size=50), 100)
    assert estimate(slow).error > 4 * estimate(rng.permutation(slow)).error


def test_polarization_without_jumps_and_its_fluctuations():
    """Charges on a line: the dielectric constant is that of the positions, wrapped or not."""
    model = polarized(LesConfig(neutral=True))
    rng = np.random.default_rng(0)
    frames = []
    for number in range(200):
        atoms = ethanol()
        atoms.set_cell(np.eye(3) * 9.0)
        atoms.pbc = True
        atoms.positions += [0.05 * number, 0.0, 0.0]
        atoms.rattle(0.05, seed=number)
        atoms.info.update(time_ps=0.002 * number)
        atoms.info["total_charge"] = 0.0
        atoms.set_momenta(rng.normal(size=(9, 3)))
        frames.append(atoms)
    wrapped = [atoms.copy() for atoms in frames]
    for atoms in wrapped:
        atoms.wrap()
    results = [dielectric(FrameSeries.of(x), model, 200.0, temperature=300.0) for x in (frames, wrapped)]
    assert results[0].constant > 1.0 and results[1].constant == pytest.approx(results[0].constant, rel=1e-6)
    moments, volume = results[0].polarization, 9.0**3
    expected = 1 + 4 * np.pi * 14.399645 * moments.var(axis=0).sum() / (3 * volume * units.kB * 300.0)
    assert results[0].constant == pytest.approx(expected, rel=1e-6)
    assert results[1].absorption == pytest.approx(results[0].absorption, rel=1e-6)


def test_bad_input():
    frames = walk(30, 0.2)
    with pytest.raises(DataError, match="needs at least 50 frames, found 30"):
        diffusion(FrameSeries.of(frames))
    with pytest.raises(DataError, match="at least 10 frames, found 3"):
        FrameSeries.of(frames, skip=0.9)
    with pytest.raises(DataError, match="frame 29 has other atoms"):
        FrameSeries.of([*frames[:-1], molecule("H2O")])
    with pytest.raises(DataError, match="no momenta"):
        vibrational_states(FrameSeries.of(frames), 300.0)
    with pytest.raises(DataError, match="needs a density"):
        radial_distribution(FrameSeries.of([molecule("H2O")] * 10))
    assert radial_distribution(FrameSeries.of([*frames[:10], *frames[:10]])).distributions  # times do not matter
    with pytest.raises(DataError, match=r"give the time between frames \(--timestep\)"):
        diffusion(FrameSeries.of([*frames, *frames]))
    with pytest.raises(DataError, match=r"give the time between frames \(--timestep\)"):
        diffusion(FrameSeries.of([Atoms("H2", [[0, 0, 0], [0, 0, 1]])] * 100))
    with pytest.raises(ModelError, match="needs a model that predicts polarization"):
        dielectric(FrameSeries.of(frames), small_model())
    with pytest.raises(ValueError, match="expected a share"):
        FrameSeries.of(frames, skip=1.0)
