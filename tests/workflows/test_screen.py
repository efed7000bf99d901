"""Screenings against relaxation one by one and ASE's phase diagrams; killed, in processes, on a cluster."""

import signal
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import ase.db
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import LBFGS
from ase.phasediagram import PhaseDiagram
from scipy.spatial import ConvexHull

from carten.errors import ConfigError, DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.properties.io import save
from carten.workflows.executors import open_executor
from carten.workflows.hull import above_hull, composition_of, formation_energies
from carten.workflows.relax import Goal
from carten.workflows.screen import ScreenSettings, screen
from carten.workflows.screening import STABLE
from small import small_model, stiff_model

RELAX = ScreenSettings(Goal(cell=True))


def alloys(size: int = 4):
    """Ordered Cu-Au cells of four atoms, all of them."""
    structures = []
    for count in range(size + 1):
        for gold in combinations(range(size), count):
            atoms = bulk("Cu", cubic=True)
            atoms.symbols[list(gold)] = "Au"
            atoms.set_cell(atoms.cell * (1.0 + 0.13 * count / size), scale_atoms=True)
            structures.append(atoms)
    return structures


@pytest.fixture(scope="module")
def screening(tmp_path_factory):
    path = tmp_path_factory.mktemp("screen") / "alloys.db"
    return path, screen(alloys(), EMT(), path, RELAX)


def test_energies_are_those_of_relaxations_one_by_one(screening):
    _, result = screening
    ranking = {row.name: row for row in result.ranking}
    for number in (0, 1, 7, 15):
        atoms = alloys()[number]
        atoms.calc = EMT()
        LBFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=500)
        row = ranking[f"structure {number}"]
        assert row.energy == pytest.approx(atoms.get_potential_energy() / 4, abs=1e-5)
        assert row.volume == pytest.approx(atoms.get_volume() / 4, rel=2e-3)
        assert row.converged


def test_the_hull_is_that_of_ase(screening):
    """EMT: Cu3Au and CuAu and CuAu3 in fcc; ASE finds the hull by simplices."""
    _, result = screening
    diagram = PhaseDiagram([(row.formula, 4 * row.energy) for row in result.ranking], verbose=False)
    for row, distance in zip(result.ranking, result.hull, strict=True):
        energy, _, _ = diagram.decompose(row.formula)
        assert distance == pytest.approx(row.energy - energy / 4, abs=1e-9)
    on_hull = {row.formula for row, distance in zip(result.ranking, result.hull, strict=True) if distance <= STABLE}
    assert {"Cu4", "Au4"} < on_hull
    assert result.formation.min() < 0.0
    assert list(result.hull) == sorted(result.hull)


def test_the_hull_of_four_elements_is_that_of_qhull():
    random = np.random.default_rng(0)
    counts = random.integers(0, 5, (60, 4)) + np.eye(4, dtype=int)[random.integers(0, 4, 60)]
    counts[:4] = np.eye(4, dtype=int)
    energies = random.normal(size=60) - 2.0
    energies[:4] = 0.0
    phases = [
        (composition_of([s for s, n in zip("BCNO", row, strict=True) for _ in range(n)]), energy)
        for row, energy in zip(counts, energies, strict=True)
    ]
    distances = above_hull(phases, {})
    shares = counts / counts.sum(axis=1, keepdims=True)
    hull = ConvexHull(np.column_stack([shares[:, 1:], energies]))
    lower = hull.equations[hull.equations[:, -2] < -1e-12]
    heights = -(shares[:, 1:] @ lower[:, :-2].T + lower[:, -1]) / lower[:, -2]
    assert distances == pytest.approx(energies - heights.max(axis=1), abs=1e-9)
    assert formation_energies(phases, {}) == pytest.approx(energies, abs=1e-12)


def test_references_take_part(screening):
    path, result = screening
    given = screen(alloys(), EMT(), path, ScreenSettings(RELAX.goal, {"Au": -1.0}))
    assert given.formation.max() > result.formation.max() + 0.2
    assert given.hull.max() > 0.2


def test_formation_energies_and_the_hull_have_the_same_corners(screening):
    """Elements that lie below their reference are the corners; one mixture has the lowest formation energy there is."""
    path, result = screening
    references = {"Au": min(row.energy for row in result.ranking if row.formula == "Au4") + 0.3}
    given = screen(alloys(), EMT(), path, ScreenSettings(RELAX.goal, references))
    assert given.formation == pytest.approx(result.formation, abs=1e-12)
    assert given.hull == pytest.approx(result.hull, abs=1e-12)
    assert "(Au4) is lower than the reference of Au" in given.warnings()[0]
    for each in (result, given, screen(alloys(), EMT(), path, ScreenSettings(RELAX.goal, {"Au": -1.0}))):
        elements = [k for k, row in enumerate(each.ranking) if len(row.composition) == 1]
        assert each.formation[elements] == pytest.approx(each.hull[elements], abs=1e-9)


def test_compounds_without_elements_are_said(tmp_path):
    result = screen(alloys()[1:5], EMT(), tmp_path / "x.db")
    assert np.isnan(result.formation).all()
    assert (result.hull == 0.0).any()
    assert "no structure of the element Au, Cu" in result.warnings()[0]
    result.save(tmp_path)


def test_nothing_is_computed_twice(screening, tmp_path):
    path, result = screening
    steps = []
    again = screen(alloys(), EMT(), path, RELAX, progress=lambda *step: steps.append(step))
    assert steps == [(16, 16)]
    assert again.ranking == result.ranking
    twice = screen([*alloys()[:3], *alloys()[:3]], EMT(), tmp_path / "x.db")
    assert twice.repeated == 3
    assert len(ase.db.connect(tmp_path / "x.db")) == 3


@pytest.mark.parametrize("executor", ["processes", "cluster"])
def test_workers_find_what_this_process_finds(screening, tmp_path, executor):
    _, result = screening
    if executor == "processes":
        with open_executor("2") as pool:
            other = screen(alloys(), EMT(), tmp_path / "x.db", RELAX, pool)
    else:
        distributed = pytest.importorskip("distributed")
        options = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
        with distributed.LocalCluster(**options) as cluster, open_executor(cluster.scheduler_address) as pool:
            other = screen(alloys(), EMT(), tmp_path / "x.db", RELAX, pool)
    assert [row.name for row in other.ranking] == [row.name for row in result.ranking]
    assert other.hull == pytest.approx(result.hull, abs=1e-12)


KILLED = """
import os, signal, sys
from ase.calculators.emt import EMT
import carten.workflows.screen as module
from test_screen import RELAX, alloys

module.MAX_ATOMS = 16

def progress(done, total):
    if done >= 8:
        os.kill(os.getpid(), signal.SIGKILL)

module.screen(alloys(), EMT(), sys.argv[1], RELAX, progress=progress)
"""


def test_a_killed_screening_goes_on(screening, tmp_path):
    path, result = tmp_path / "x.db", screening[1]
    program = f"import sys; sys.path[:0] = {[*sys.path, str(Path(__file__).parent)]!r}\n{KILLED}"
    done = subprocess.run([sys.executable, "-c", program, path], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    kept = {row.fingerprint: row.mtime for row in ase.db.connect(path).select()}
    assert len(kept) == 8
    steps = []
    again = screen(alloys(), EMT(), path, RELAX, progress=lambda *step: steps.append(step))
    assert steps[0] == (8, 16)
    assert [(row.name, row.energy) for row in again.ranking] == [(row.name, row.energy) for row in result.ranking]
    after = {row.fingerprint: row.mtime for row in ase.db.connect(path).select()}
    assert len(after) == 16
    assert all(after[key] == time for key, time in kept.items())


def test_failures_are_kept_and_the_rest_goes_on(tmp_path):
    structures = alloys()[:4]
    structures[1].symbols[0] = "Fe"
    structures[2].positions[0] = structures[2].positions[1]
    result = screen(structures, EMT(), tmp_path / "x.db")
    reasons = result.failures()
    assert len(result.ranking) == 2
    assert "structure 1 (Cu3Fe" in reasons[0] or "structure 1 (FeCu3" in reasons[0]
    assert "No EMT-potential for Fe" in reasons[0]
    assert "structure 2" in reasons[1]
    assert screen(structures, EMT(), tmp_path / "x.db").failures() == reasons
    rows = list(ase.db.connect(tmp_path / "x.db").select(failed=True))
    assert [row.natoms for row in rows] == [4, 4]


def test_a_model_in_a_file(tmp_path):
    """Through one graph; the energies are those of the calculator; another model or goal is refused."""
    model, other = tmp_path / "model.carten", tmp_path / "other.carten"
    save(model, stiff_model(), {})
    save(other, small_model(properties=("energy", "forces", "stress")), {})
    structures = []
    for seed in range(6):
        atoms = molecule("CH3CH2OH")
        atoms.rattle(0.05, seed=seed)
        atoms.info["label"] = f"copy {seed}"
        structures.append(atoms)
    result = screen(structures, model, tmp_path / "x.db")
    calculator = Calculator(model, dtype="float64")
    for row in result.ranking:
        atoms = structures[int(row.name[-1])]
        assert row.energy == pytest.approx(calculator.get_potential_energy(atoms) / 9, abs=1e-10)
    assert result.structures()[0].info["label"].startswith("copy")
    with pytest.raises(DataError, match=r"another screening \(model was .*, now"):
        screen(structures, other, tmp_path / "x.db")
    with pytest.raises(DataError, match="relax was False, now True"):
        screen(structures, model, tmp_path / "x.db", RELAX)


def test_a_model_that_is_shipped(tmp_path):
    result = screen([molecule("H2O")], "organic", tmp_path / "x.db")
    expected = Calculator("organic", dtype="float64").get_potential_energy(molecule("H2O")) / 3
    assert result.ranking[0].energy == pytest.approx(expected, abs=1e-9)


def test_a_model_whose_file_is_replaced_is_read_again(tmp_path):
    model = tmp_path / "model.carten"
    energies = []
    for number, potential in enumerate((stiff_model(), small_model(properties=("energy", "forces", "stress")))):
        model.unlink(missing_ok=True)
        save(model, potential, {})
        result = screen([molecule("H2O")], model, tmp_path / f"{number}.db")
        calculator = Calculator(model, dtype="float64")
        energies.append(calculator.get_potential_energy(molecule("H2O")) / 3)
        assert result.ranking[0].energy == pytest.approx(energies[-1], abs=1e-10)
    assert energies[0] != pytest.approx(energies[1], abs=1e-3)


def test_workers_refuse_another_model_under_the_path(tmp_path):
    """The file is replaced after the screening has looked at it."""
    model, other = tmp_path / "model.carten", tmp_path / "other.carten"
    save(model, stiff_model(), {})
    save(other, small_model(properties=("energy", "forces", "stress")), {})

    def replace(done: int, total: int) -> None:
        if not done:
            other.replace(model)

    with pytest.raises(ModelError, match=r"model\.carten is not the model that this screening began with"):
        screen([molecule("H2O")], model, tmp_path / "x.db", progress=replace)


def test_unrelaxed_structures_are_said(tmp_path):
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.2, seed=0)
    result = screen([atoms], EMT(), tmp_path / "x.db", ScreenSettings(Goal(steps=1)))
    assert "1 structures did not relax" in result.failures()[0]
    assert result.ranking[0].energy < result.ranking[0].energy_before


def test_bad_input(tmp_path):
    with pytest.raises(DataError, match=r"expected a name in \.db"):
        screen(alloys()[:1], EMT(), tmp_path / "x.json")
    (tmp_path / "x.db").write_text("no database at all, but a text that somebody needs\n" * 100)
    with pytest.raises(DataError, match="no SQLite database"):
        screen(alloys()[:1], EMT(), tmp_path / "x.db")
    ase.db.connect(tmp_path / "y.db").write(bulk("Cu"))
    with pytest.raises(DataError, match="not of a screening"):
        screen(alloys()[:1], EMT(), tmp_path / "y.db")
    with pytest.raises(ConfigError, match="finite energy of an element"):
        ScreenSettings(references={"Xx": 1.0})
    with pytest.raises(ConfigError, match="number of processes"), open_executor("many"):
        pass
    with pytest.raises(ConfigError, match="no such file"), open_executor(str(tmp_path / "scheduler.json")):
        pass
