"""Replicas of dynamics: each is the run with its seed; means and errors are those of their numbers."""

import json

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from carten.errors import ConfigError, DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.workflows.limits import Limits
from carten.workflows.md import Settings, run_dynamics
from carten.workflows.radial import radial_distribution
from carten.workflows.replicas import run_replicas
from carten.workflows.run_statistics import RunStatistics
from carten.workflows.trajectory import FrameSeries
from small import diamond, ethanol, stiff_model


@pytest.mark.needs("cpp")
@pytest.mark.parametrize("ensemble", ["langevin", "bussi", "npt"])
def test_replicas_in_one_batch_are_runs_with_their_seeds(tmp_path, ensemble, monkeypatch):
    """In batches of all of them: as many calls of the library as steps."""
    from carten.workflows.crowd import Crowd

    sizes, evaluate = [], Crowd.evaluate
    monkeypatch.setattr(Crowd, "evaluate", lambda crowd: sizes.append(len(crowd.structures)) or evaluate(crowd))
    model, start = stiff_model(), diamond() if ensemble == "npt" else ethanol()
    settings = Settings(6, 0.25, ensemble, interval=3, seed=7)
    result = run_replicas(start, Calculator(model), settings, 3, tmp_path / "md.extxyz")
    assert sizes == [3] * 7 and not result.failures()
    for number in range(3):
        atoms = start.copy()
        atoms.calc = Calculator(model)
        run_dynamics(atoms, Settings(6, 0.25, ensemble, interval=3, seed=7 + number), tmp_path / "one.extxyz")
        for frame, single in zip(
            ase.io.read(tmp_path / f"md-{number}.extxyz", ":"), ase.io.read(tmp_path / "one.extxyz", ":"), strict=True
        ):
            assert frame.positions == pytest.approx(single.positions, abs=1e-6)
            assert frame.get_forces() == pytest.approx(single.get_forces(), abs=1e-5)
            assert frame.cell.array == pytest.approx(single.cell.array, abs=1e-7)
        for path in tmp_path.glob("one.*"):
            path.unlink()


def test_means_and_their_errors(tmp_path):
    copper = bulk("Cu", cubic=True)
    settings = Settings(20, 2.0, "langevin", interval=5)
    result = run_replicas(copper, EMT(), settings, 4, tmp_path / "md.extxyz")
    temperatures = np.array([run.temperature for run in result.results])
    document = result.document()["results"]
    assert document["temperature"]["value"] == pytest.approx(temperatures.mean())
    error = temperatures.std(ddof=1) / 2.0
    assert document["temperature, standard error"] == {"value": pytest.approx(error), "unit": "K"} and error > 1.0
    paths = {path.name for path in result.save(tmp_path, "md")}
    assert paths == {"md.json", "md-runs.csv", "md.svg", "md.png"}
    assert json.loads((tmp_path / "md.json").read_text())["tables"]["runs"]["temperature K"] == list(temperatures)
    longer = Settings(40, 2.0, "langevin", interval=5)
    again = run_replicas(copper, EMT(), longer, 4, tmp_path / "md.extxyz", restart=True)
    assert [run.steps for run in again.results] == [40] * 4


@pytest.mark.needs("cpp")
def test_one_that_explodes_does_not_take_the_others_along(tmp_path):
    """The seeds differ in their first temperature; the limit lies between."""
    model = stiff_model()
    settings = Settings(4, 0.25, temperature=1000.0, interval=1)
    calm = run_replicas(ethanol(), Calculator(model), settings, 4, tmp_path / "calm.extxyz")
    hottest = sorted(run.log["temperature_K"].max() for run in calm.results)
    limits = Limits(temperature=0.5 * (hottest[-1] + hottest[-2]))
    settings = Settings(4, 0.25, temperature=1000.0, interval=1, limits=limits)
    result = run_replicas(ethanol(), Calculator(model), settings, 4, tmp_path / "md.extxyz")
    assert len(result.results) == 3 and len(result.failures()) == 1
    assert "the temperature is" in result.failures()[0]
    survivors = [run.temperature for run in result.results]
    expected = [run.temperature for run in calm.results if run.log["temperature_K"].max() < limits.temperature]
    assert survivors == pytest.approx(expected, rel=1e-6)
    hopeless = Settings(4, 0.25, temperature=1000.0, interval=1, limits=Limits(temperature=1.0))
    with pytest.raises(ModelError, match=r"replica 0: .*replica 3: "):
        run_replicas(ethanol(), Calculator(model), hopeless, 4, tmp_path / "none.extxyz")


@pytest.mark.needs("cpp")
def test_an_error_ends_all(tmp_path):
    """Nobody waits for a run that is not there."""
    (tmp_path / "md-1.csv").write_text("of somebody else")
    with pytest.raises(FileExistsError, match=r"md-1\.csv exists already"):
        run_replicas(ethanol(), Calculator(stiff_model()), Settings(10), 3, tmp_path / "md.extxyz")


def test_tables_of_analyses_are_averaged():
    """The radial distribution of several runs: mean and standard error of every bin."""
    series = []
    for seed in range(3):
        frames = [bulk("Cu", cubic=True) * 2 for _ in range(10)]
        for number, atoms in enumerate(frames):
            atoms.rattle(0.1, seed=100 * seed + number)
        series.append(FrameSeries.of(frames))
    runs = tuple(radial_distribution(each, 3.0, 0.1) for each in series)
    table = RunStatistics(("a", "b", "c"), runs).tables()["distances"]
    values = np.array([run.distributions["Cu-Cu"] for run in runs])
    assert table["g Cu-Cu"] == pytest.approx(values.mean(axis=0))
    assert table["g Cu-Cu, standard error"] == pytest.approx(values.std(axis=0, ddof=1) / np.sqrt(3))


def test_bad_input(tmp_path):
    moving = ethanol()
    moving.set_momenta(np.eye(9)[:, :3])
    path = tmp_path / "md.extxyz"
    with pytest.raises(DataError, match="has velocities, with which all replicas would begin"):
        run_replicas(moving, EMT(), Settings(1), 2, path)
    with pytest.raises(ConfigError, match="expected two or more, found 1"):
        run_replicas(ethanol(), EMT(), Settings(1), 1, path)
    with pytest.raises(ConfigError, match="the same files of PLUMED"):
        run_replicas(ethanol(), EMT(), Settings(1, plumed="x"), 2, path)
