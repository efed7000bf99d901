"""Molecular dynamics: conservation, temperature, restart, files."""

import csv
import json
import subprocess
import sys

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.constraints import Hookean

from carten.errors import ConfigError, DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.workflows.barostat import Barostat
from carten.workflows.limits import Limits
from carten.workflows.md import Settings, run_dynamics
from carten.workflows.records import COLUMNS
from small import diamond, ethanol, small_model

MODEL = small_model()


def with_calculator(atoms: Atoms) -> Atoms:
    atoms.calc = Calculator(MODEL)
    return atoms


def lines(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_nve_conserves_the_energy(tmp_path):
    atoms = with_calculator(ethanol())
    summary = run_dynamics(atoms, Settings(steps=200, timestep=0.25, interval=10), tmp_path / "md.extxyz")
    energies = [float(row["conserved_eV"]) for row in lines(tmp_path / "md.csv")]
    kinetic = [float(row["kinetic_eV"]) for row in lines(tmp_path / "md.csv")]
    assert np.ptp(energies) < 1e-2 * np.ptp(kinetic)
    assert summary.fluctuation < 1.0
    assert summary.steps == 200
    assert summary.ns_per_day == pytest.approx(summary.steps_per_second * 0.25 * 86400e-6)


def test_the_drift_is_the_slope_of_a_fit(tmp_path):
    atoms = with_calculator(ethanol())
    summary = run_dynamics(atoms, Settings(steps=50, interval=5), tmp_path / "md.extxyz")
    rows = lines(tmp_path / "md.csv")
    time = [float(row["time_ps"]) for row in rows]
    energy = [float(row["conserved_eV"]) * 1000 / len(atoms) for row in rows]
    assert time[-1] == pytest.approx(0.025)
    assert summary.drift == pytest.approx(np.polynomial.Polynomial.fit(time, energy, 1).convert().coef[1], rel=1e-6)


def test_frames_carry_velocities_energies_and_forces(tmp_path):
    atoms = with_calculator(ethanol())
    run_dynamics(atoms, Settings(steps=25, interval=10), tmp_path / "md.extxyz")
    frames = ase.io.read(tmp_path / "md.extxyz", ":")
    assert [frame.info["step"] for frame in frames] == [0, 10, 20, 25]
    last = frames[-1]
    np.testing.assert_allclose(last.positions, atoms.positions, atol=1e-8)
    np.testing.assert_allclose(last.get_velocities(), atoms.get_velocities(), atol=1e-7)
    np.testing.assert_allclose(last.get_forces(), atoms.get_forces(apply_constraint=False), atol=1e-8)
    rows = lines(tmp_path / "md.csv")
    assert tuple(rows[0]) == COLUMNS
    assert float(rows[-1]["potential_eV"]) == pytest.approx(last.get_potential_energy())
    assert float(rows[-1]["temperature_K"]) == pytest.approx(
        last.get_kinetic_energy() / (0.5 * (3 * len(atoms) - 3) * units.kB), rel=1e-5
    )


@pytest.mark.parametrize("ensemble", ["langevin", "bussi"])
def test_thermostats_keep_the_temperature(tmp_path, ensemble):
    """The kinetic energy of f degrees of freedom has the relative variance 2 / f.

    It forgets in at most twice the time tau = 10 fs in which the thermostat acts: half of the energy is potential, and
    the thermostat has to change that as well. A mean over T = 3.8 ps has T / (4 tau) = 95 independent samples. With
    f = 21 it scatters by 300 K sqrt(2 / (21 * 95)) = 9.5 K; four of these let no thermostat at 262 K pass.
    """
    atoms = bulk("Cu", cubic=True) * (2, 1, 1)
    atoms.calc = EMT()
    settings = Settings(steps=2000, timestep=2.0, ensemble=ensemble, damping=10.0, interval=5)
    run_dynamics(atoms, settings, tmp_path / "md.extxyz")
    temperatures = [float(row["temperature_K"]) for row in lines(tmp_path / "md.csv") if int(row["step"]) > 100]
    assert np.mean(temperatures) == pytest.approx(300.0, abs=4 * 300.0 * np.sqrt(2 / (21 * 95)))
    assert np.std(temperatures) == pytest.approx(300.0 * np.sqrt(2 / 21), rel=0.3)


@pytest.mark.parametrize(("ensemble", "conserves"), [("nve", True), ("bussi", True), ("langevin", False)])
def test_drift_is_that_of_what_is_conserved(tmp_path, ensemble, conserves):
    settings = Settings(steps=100, timestep=0.25, ensemble=ensemble, damping=20.0, interval=5)
    summary = run_dynamics(with_calculator(ethanol()), settings, tmp_path / "md.extxyz")
    rows = lines(tmp_path / "md.csv")
    total = [float(row["potential_eV"]) + float(row["kinetic_eV"]) for row in rows]
    conserved = [float(row["conserved_eV"]) for row in rows]
    assert (summary.drift is not None) == conserves
    assert (np.ptp(total) > 0.1) == (ensemble != "nve")
    assert (np.ptp(conserved) < 0.01) == conserves


@pytest.mark.parametrize("ensemble", ["nve", "langevin", "bussi"])
def test_a_continued_run_equals_an_uninterrupted_one(tmp_path, ensemble):
    settings = {"ensemble": ensemble, "interval": 4, "seed": 5}
    whole = with_calculator(diamond())
    run_dynamics(whole, Settings(steps=16, **settings), tmp_path / "whole.extxyz")
    run_dynamics(with_calculator(diamond()), Settings(steps=8, **settings), tmp_path / "parts.extxyz")
    interrupted(tmp_path / "parts.extxyz")
    parts = with_calculator(diamond())
    run_dynamics(parts, Settings(steps=16, **settings), tmp_path / "parts.extxyz", restart=True)
    np.testing.assert_array_equal(parts.positions, whole.positions)
    np.testing.assert_array_equal(parts.get_momenta(), whole.get_momenta())
    for suffix in (".extxyz", ".csv"):
        assert (tmp_path / f"parts{suffix}").read_text() == (tmp_path / f"whole{suffix}").read_text()


def interrupted(trajectory):
    """As after a crash while a frame was being written."""
    with trajectory.open("a") as file:
        file.write("64\nLattice=")
    with trajectory.with_suffix(".csv").open("a") as file:
        file.write("12,0.0")


def test_seeds_choose_velocities(tmp_path):
    runs = [with_calculator(ethanol()) for _ in range(3)]
    for number, (atoms, seed) in enumerate(zip(runs, (1, 1, 2), strict=True)):
        run_dynamics(atoms, Settings(steps=3, seed=seed), tmp_path / f"{number}.extxyz")
    np.testing.assert_array_equal(runs[0].positions, runs[1].positions)
    assert np.abs(runs[0].positions - runs[2].positions).max() > 1e-3


def test_velocities_of_the_structure_are_kept(tmp_path):
    atoms = with_calculator(ethanol())
    momenta = np.zeros((9, 3))
    momenta[0, 0], momenta[1, 0] = 1.0, -1.0
    atoms.set_momenta(momenta)
    run_dynamics(atoms, Settings(steps=1, timestep=1e-6), tmp_path / "md.extxyz")
    np.testing.assert_allclose(atoms.get_momenta(), momenta, atol=1e-4)


def test_nothing_is_overwritten(tmp_path):
    path = tmp_path / "md.extxyz"
    run_dynamics(with_calculator(ethanol()), Settings(steps=1), path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"md\.extxyz exists already: continue that run with --restart"):
        run_dynamics(with_calculator(ethanol()), Settings(steps=1), path)
    path.unlink()
    with pytest.raises(FileExistsError, match=r"md\.csv exists already"):
        run_dynamics(with_calculator(ethanol()), Settings(steps=1), path)
    assert before


def test_what_cannot_be_continued_is_refused(tmp_path):
    path, state = tmp_path / "md.extxyz", tmp_path / "md.restart.json"
    with pytest.raises(DataError, match=r"nothing to continue: there is no .*md\.restart\.json"):
        run_dynamics(with_calculator(ethanol()), Settings(steps=2), path, restart=True)
    run_dynamics(with_calculator(ethanol()), Settings(steps=1), path)
    with pytest.raises(DataError, match="is of another structure"):
        run_dynamics(with_calculator(diamond()), Settings(steps=2), path, restart=True)
    good = state.read_text()
    state.write_text(good[: len(good) // 2])
    with pytest.raises(DataError, match="is damaged"):
        run_dynamics(with_calculator(ethanol()), Settings(steps=2), path, restart=True)
    state.write_text(good)
    path.write_text("")
    with pytest.raises(DataError, match=r"md\.extxyz is missing or shorter"):
        run_dynamics(with_calculator(ethanol()), Settings(steps=2), path, restart=True)
    assert json.loads(good)["step"] == 1


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected a name ending in \.extxyz"):
        run_dynamics(with_calculator(ethanol()), Settings(steps=1), tmp_path / "md.traj")


def test_an_energy_that_is_no_number_stops_the_run(tmp_path):
    atoms = ethanol()
    model = small_model()
    model.heads["energies"].get_buffer("scale").fill_(float("nan"))
    atoms.calc = Calculator(model)
    with pytest.raises(ModelError, match="the energy at step 0 is not finite"):
        run_dynamics(atoms, Settings(steps=1), tmp_path / "md.extxyz")


def test_progress_is_reported(tmp_path):
    seen = []
    run_dynamics(
        with_calculator(ethanol()), Settings(steps=25, interval=10), tmp_path / "md.extxyz", advance=seen.append
    )
    assert [line["step"] for line in seen] == [0, 10, 20, 25]
    assert seen[-1]["temperature_K"] == pytest.approx(float(lines(tmp_path / "md.csv")[-1]["temperature_K"]))


def test_two_runs_do_not_write_the_same_files(tmp_path):
    """Neither a start nor a restart, while another process is at it; a lock of a dead one does not matter."""
    path = tmp_path / "md.extxyz"
    run_dynamics(with_calculator(ethanol()), Settings(steps=1), path)
    program = "import sys, time; from carten.workflows.records import RunFiles; from pathlib import Path\n"
    program += f"with RunFiles(Path({str(path)!r})).locked(): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(DataError, match="is being written by another run"):
            run_dynamics(with_calculator(ethanol()), Settings(steps=2), path, restart=True)
        other.kill()
    run_dynamics(with_calculator(ethanol()), Settings(steps=2), path, restart=True)
    assert sorted(found.name for found in tmp_path.iterdir()) == ["md.csv", "md.extxyz", "md.restart.json"]


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"timestep": 0.0}, "timestep: expected a number above 0"),
        ({"timestep": float("nan")}, "timestep"),
        ({"temperature": -1.0}, "temperature: expected a number at least 0"),
        ({"damping": float("inf")}, "damping"),
        ({"ensemble": "langevin", "damping": 0.1}, "damping: expected at least the time step"),
        ({"ensemble": "bussi", "temperature": 0.0}, "temperature: bussi"),
        ({"ensemble": "nph"}, "ensemble: expected nve, langevin, bussi or npt"),
        ({"barostat": Barostat()}, "nve keeps the volume"),
        ({"final_temperature": 500.0}, "nve has no thermostat"),
        ({"ensemble": "npt", "final_temperature": 0.0}, "temperature: bussi"),
        ({"ensemble": "langevin", "final_temperature": float("nan")}, "final temperature"),
        ({"steps": 0}, "steps"),
        ({"interval": 0}, "interval"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_make_no_sense(settings, word):
    with pytest.raises(ConfigError, match=word):
        Settings(**{"steps": 1, **settings})


@pytest.mark.parametrize("limit", [{"temperature": 0.0}, {"force": -1.0}, {"step": float("nan")}])
def test_limits_that_make_no_sense(limit):
    with pytest.raises(ConfigError, match="must be a positive number"):
        Limits(**limit)


def test_the_energy_of_restraints_is_conserved_with_the_rest(tmp_path):
    """A spring of ASE's between two atoms is part of the conserved energy, not of the model's."""
    atoms = with_calculator(ethanol())
    atoms.set_constraint(Hookean(0, 2, 5.0, 1.5))
    run_dynamics(atoms, Settings(steps=200, timestep=0.25, interval=10), tmp_path / "md.extxyz")
    conserved = [float(row["conserved_eV"]) for row in lines(tmp_path / "md.csv")]
    without = [float(row["potential_eV"]) + float(row["kinetic_eV"]) for row in lines(tmp_path / "md.csv")]
    assert np.ptp(conserved) < 0.1 * np.ptp(without)
    assert atoms.get_potential_energy(apply_constraint=False) == pytest.approx(
        float(lines(tmp_path / "md.csv")[-1]["potential_eV"])
    )
    assert [type(constraint) for constraint in atoms.constraints] == [Hookean]
