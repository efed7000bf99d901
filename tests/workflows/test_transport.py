"""Green and Kubo's integrals against closed forms: a process of known correlation, a gas with friction."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from scipy import constants

from carten.errors import DataError
from carten.interfaces.ase import Calculator
from carten.workflows.heat_flux import heat_flux
from carten.workflows.trajectory import FrameSeries
from carten.workflows.transport import conductivity, integral_of_correlation, viscosity
from small import diamond, small_model


def memory(count: int, components: int, keep: float, seed: int) -> np.ndarray:
    """Of variance 1 and correlation ``keep^n`` over n steps."""
    random = np.random.default_rng(seed)
    series = np.empty((count, components))
    series[0] = random.normal(size=components)
    for step in range(1, count):
        series[step] = keep * series[step - 1] + np.sqrt(1.0 - keep**2) * random.normal(size=components)
    return series


def test_the_integral_of_a_known_correlation_and_its_error():
    """``dt (1/2 + sum keep^n) = dt (1 + keep) / 2 (1 - keep)``. 60 repetitions: errors are those that are said.

    The mean deviation in units of the error has the standard error 1/sqrt(60), their spread 1/sqrt(120). A bias of
    0.3 errors is left for the coefficients that are neglected, ``keep^n / n`` of them.
    """
    step, keep = 0.5, 0.9
    exact = step * 0.5 * (1.0 + keep) / (1.0 - keep)
    results = [integral_of_correlation(memory(1000, 3, keep, seed), step).integral for seed in range(60)]
    deviations = np.array([(result.value - exact) / result.error for result in results])
    assert abs(deviations.mean()) < 4.0 / np.sqrt(60) + 0.3
    assert 1.0 - 4.0 / np.sqrt(120) < deviations.std() < 1.0 + 4.0 / np.sqrt(120) + 0.2
    long = integral_of_correlation(memory(40_000, 3, keep, 1), step).integral
    assert long.error < 0.06 * exact and abs(long.value - exact) < 4.0 * long.error


def gas(count: int, friction: float, kelvin: float, step: float, seed: int) -> list[Atoms]:
    """Atoms without forces whose velocities forget at a rate in 1/fs; the centre of mass rests."""
    keep = np.exp(-friction * step)
    speeds = memory(count, 64 * 3, keep, seed).reshape(count, 64, 3)
    speeds = (speeds - speeds.mean(axis=1, keepdims=True)) * np.sqrt(units.kB * kelvin / Atoms("Ar").get_masses()[0])
    frames = []
    for number, velocities in enumerate(speeds):
        atoms = Atoms("Ar64", positions=np.zeros((64, 3)), cell=np.eye(3) * 20.0, pbc=True)
        atoms.set_velocities(velocities)
        atoms.calc = SinglePointCalculator(atoms, energy=0.0, stress=np.zeros(6))
        atoms.info["time_ps"] = step * number / 1000.0
        frames.append(atoms)
    return frames


def test_the_viscosity_of_a_gas_with_friction():
    """``<P_xy(0) P_xy(t)> = N (k T / V)^2 exp(-2 g t)``, so that ``eta = n k T / 2 g``, in SI units."""
    friction, kelvin, step = 0.02, 300.0, 2.0
    result = viscosity(FrameSeries.of(gas(4000, friction, kelvin, step, 0)))
    density = 63 / (20e-10) ** 3  # three degrees of freedom are those of the centre of mass
    discrete = friction * step / np.tanh(friction * step)  # of a sum instead of an integral
    expected = 1e3 * density * constants.k * kelvin / (2.0 * friction * 1e15) * discrete
    assert result.coefficient.value == pytest.approx(expected, abs=4.0 * result.coefficient.error)
    assert result.coefficient.error < 0.15 * expected and not result.warnings()
    names = [quantity.name for quantity in result.quantities()]
    assert names[:2] == ["viscosity", "viscosity, standard error"]


def test_the_conductivity_is_that_of_the_flux_of_heat():
    """The spectrum at each frequency is that of the flux of each frame, in W/m/K by SciPy's constants."""
    calculator, frames = Calculator(small_model((6,))), []
    random = np.random.default_rng(0)
    crystal = diamond()[:8]
    crystal.set_cell(np.eye(3) * 3.6)
    for number in range(200):
        atoms = crystal.copy()
        momenta = random.normal(size=(8, 3))
        atoms.set_momenta(momenta - momenta.mean(axis=0))
        atoms.info["time_ps"] = 0.001 * number
        frames.append(atoms)
    result = conductivity(FrameSeries.of(frames), calculator)
    flux = np.array([heat_flux(atoms, calculator) for atoms in frames[:200]]) * constants.e * 1e-10 / 1e-15
    power = np.square(np.abs(np.fft.rfft(flux, axis=0))).mean(axis=1) * 1e-15 / len(flux) / 2.0
    expected = power / (3.6e-10**3 * constants.k * result.temperature**2)
    assert result.spectrum[1:] == pytest.approx(expected[1:], rel=1e-6)
    assert np.log(result.smooth).mean() == pytest.approx(np.log(result.spectrum).mean(), abs=0.3)
    assert result.coefficient.value == pytest.approx(result.smooth[0], rel=1e-9)


def test_bad_input(tmp_path):
    frames = gas(300, 0.02, 300.0, 2.0, 0)
    with pytest.raises(DataError, match="at least 200 frames, found 100"):
        viscosity(FrameSeries.of(frames[:100]))
    for atoms in frames:
        atoms.calc = None
    with pytest.raises(DataError, match="needs the stress of every frame"):
        viscosity(FrameSeries.of(frames))
    for number, atoms in enumerate(frames):
        atoms.calc = EMT()
        atoms.set_cell(atoms.cell * (1.0 + 0.001 * number))
    with pytest.raises(DataError, match="at constant volume"):
        viscosity(FrameSeries.of(frames))
    with pytest.raises(DataError, match="does not change from frame to frame"):
        integral_of_correlation(np.ones((300, 3)), 1.0)
