"""Constant pressure and ramps of the temperature against closed forms; restarts."""

from typing import ClassVar

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from carten.errors import ConfigError, DataError
from carten.workflows.barostat import Barostat
from carten.workflows.limits import Limits
from carten.workflows.md import Settings, run_dynamics


class Nothing(Calculator):
    """An ideal gas."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": np.zeros(6)}


def test_volumes_of_an_ideal_gas(tmp_path):
    """``p(V) ~ V^(N - 1) exp(-P V / k T)`` with the centre of mass at rest: mean N kT/P, variance N (kT/P)^2.

    With the compressibility 1/P of the gas the volume forgets in the time t of the barostat: a run of length T has
    T / 2 t independent volumes. The standard error of the spread is that of the Gamma distribution, whose excess of the
    kurtosis is 6/N. Four standard errors tell N = 4 atoms from exponents N - 2 and N, and the spread from one without
    the 2 in the noise.
    """
    count, temperature, pressure, steps, memory = 4, 300.0, 0.1, 12_000, 20.0
    mean = count * units.kB * temperature / (pressure * units.GPa)
    rng = np.random.default_rng(1)
    gas = Atoms(f"Ar{count}", positions=rng.uniform(0, 5, (count, 3)), cell=np.eye(3) * mean ** (1 / 3), pbc=True)
    gas.calc = Nothing()
    barostat = Barostat(pressure, damping=memory, compressibility=1.0 / pressure)
    settings = Settings(steps, 1.0, "npt", temperature, 10.0, 20, barostat=barostat, limits=Limits(step=100.0))
    run_dynamics(gas, settings, tmp_path / "gas.extxyz")
    volumes = np.array([atoms.get_volume() for atoms in ase.io.read(tmp_path / "gas.extxyz", "10:")])
    samples = steps / (2.0 * memory)
    error, of_spread = 1.0 / np.sqrt(count * samples), 0.5 * np.sqrt((2.0 + 6.0 / count) / samples)
    assert volumes.mean() == pytest.approx(mean, rel=4.0 * error) and 4.0 * error < 1.0 / count
    spread = mean / np.sqrt(count)
    assert volumes.std() == pytest.approx(spread, rel=4.0 * of_spread) and 4.0 * of_spread < 1.0 - np.sqrt(0.5)


def test_copper_expands_and_yields_to_pressure(tmp_path):
    """Volumes at 0 and 5 GPa differ as EMT's bulk modulus of 134 GPa at rest, softer when warm, says."""
    volumes = {}
    for pressure in (0.0, 5.0):
        atoms = bulk("Cu", cubic=True) * 2
        atoms.calc = EMT()
        barostat = Barostat(pressure, damping=200.0, compressibility=0.0075)
        settings = Settings(600, 4.0, "npt", 300.0, 50.0, 10, barostat=barostat)
        run_dynamics(atoms, settings, tmp_path / f"{pressure:g}.extxyz")
        frames = ase.io.read(tmp_path / f"{pressure:g}.extxyz", "20:")
        volumes[pressure] = np.mean([frame.get_volume() for frame in frames]) / 32
    static = 11.56  # Å^3/atom of EMT's minimum
    assert static < volumes[0.0] < 1.03 * static
    modulus = 5.0 / np.log(volumes[0.0] / volumes[5.0])
    assert 100.0 < modulus < 190.0


def settings(**changes) -> Settings:
    options = {"timestep": 2.0, "ensemble": "npt", "temperature": 500.0, "damping": 50.0, "interval": 4}
    return Settings(**{"steps": 16, "barostat": Barostat(1.0, 100.0, 0.01), **options, **changes})


def test_a_run_in_parts_is_the_whole_run(tmp_path):
    def copper() -> Atoms:
        atoms = bulk("Cu", cubic=True)
        atoms.calc = EMT()
        return atoms

    run_dynamics(copper(), settings(), tmp_path / "whole.extxyz")
    run_dynamics(copper(), settings(steps=8), tmp_path / "parts.extxyz")
    run_dynamics(copper(), settings(), tmp_path / "parts.extxyz", restart=True)
    assert (tmp_path / "parts.extxyz").read_bytes() == (tmp_path / "whole.extxyz").read_bytes()
    with pytest.raises(DataError, match="barostat was"):
        run_dynamics(copper(), settings(barostat=Barostat(2.0)), tmp_path / "parts.extxyz", restart=True)


@pytest.mark.parametrize("ensemble", ["langevin", "bussi"])
def test_the_temperature_follows_the_ramp(tmp_path, ensemble):
    atoms = bulk("Cu", cubic=True) * 2
    atoms.calc = EMT()
    ramp = Settings(600, 4.0, ensemble, 200.0, 20.0, 10, final_temperature=1000.0)
    run_dynamics(atoms, ramp, tmp_path / "md.extxyz")
    temperatures = np.array([frame.info["temperature_K"] for frame in ase.io.read(tmp_path / "md.extxyz", ":")])
    expected = np.linspace(200.0, 1000.0, len(temperatures))
    assert abs((temperatures - expected)[10:].mean()) < 0.1 * expected.mean()
    assert np.polyfit(expected, temperatures, 1)[0] == pytest.approx(1.0, abs=0.2)
    longer = Settings(700, 4.0, ensemble, 200.0, 20.0, 10, final_temperature=1000.0)
    with pytest.raises(DataError, match="steps was 600, now 700"):
        run_dynamics(bulk("Cu", cubic=True) * 2, longer, tmp_path / "md.extxyz", restart=True)


def test_bad_input(tmp_path):
    gas = molecule("H2O")
    gas.calc = EMT()
    with pytest.raises(DataError, match="periodic in three directions"):
        run_dynamics(gas, settings(), tmp_path / "md.extxyz")
    held = bulk("Cu", cubic=True)
    held.calc = EMT()
    held.set_constraint(FixAtoms([0]))
    with pytest.raises(DataError, match="moves all atoms with the cell, but the structure has FixAtoms"):
        run_dynamics(held, settings(), tmp_path / "md.extxyz")
    with pytest.raises(ConfigError, match="barostat, damping: expected a finite number above 0"):
        Barostat(damping=0.0)
    assert not (tmp_path / "md.extxyz").exists()
