"""carten md from a file to files: nothing is lost on the way, explosions and impossible starts are said."""

import csv
import io
import json
from dataclasses import replace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms, FixBondLength
from rich.console import Console

from carten.cli.live import curves, dynamics_progress
from carten.data.read import read_structures
from carten.data.write import replacing, write_structure
from carten.model.config import NetworkConfig
from carten.properties.io import save
from carten.properties.potential import Potential
from carten.properties.spec import input_table, property_table
from small import NETWORK, ethanol, small_model

INPUTS = input_table()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Models with inputs of each kind."""
    folder = tmp_path_factory.mktemp("models")
    told = [replace(INPUTS["total_charge"], default=0.0)]
    told += [INPUTS[name] for name in ("electric_field", "magmoms", "partial_charges")]
    save(folder / "told.carten", with_inputs(told), {})
    save(folder / "plain.carten", small_model(properties=("energy", "forces")), {})
    save(folder / "other.carten", small_model(properties=("energy", "forces"), seed=4), {})
    save(folder / "stress.carten", small_model(properties=("energy", "stress")), {})
    save(folder / "dipole.carten", small_model(properties=("dipole",)), {})
    named = {"inputs": {"magmoms": {"key": "spins", "unit": None}, "electric_field": {"key": "E", "unit": "V/nm"}}}
    save(folder / "named.carten", with_inputs(told[1:3]), {"config": named})
    return folder


def with_inputs(inputs) -> Potential:
    config = NetworkConfig.model_validate(NETWORK | {"odd_products": True, "radial": {"hidden": (8,)}})
    rows = [property_table()[name] for name in ("energy", "forces", "dipole")]
    return Potential(config, (1, 6, 8), rows, inputs=inputs).double().freeze()


def write(path, *structures):
    with replacing(path) as file:
        for atoms in structures:
            write_structure(file, atoms)
    return path


def log(path):
    with path.with_suffix(".csv").open(newline="") as file:
        return list(csv.DictReader(file))


def rich() -> Atoms:
    """Water that carries all there is."""
    atoms = molecule("H2O")
    atoms.set_masses([15.999, 2.014, 2.014])
    atoms.set_tags([1, 2, 3])
    atoms.set_initial_charges([-0.8, 0.4, 0.4])
    atoms.set_initial_magnetic_moments(np.arange(9.0).reshape(3, 3))
    atoms.set_cell([10.0, 11.0, 12.0])
    atoms.set_celldisp([0.1, 0.2, 0.3])
    atoms.set_array("descriptors", np.arange(27.0).reshape(3, 3, 3))
    atoms.set_array("kinds", np.array(["OW", "H W", ""]))
    atoms.info.update(total_charge=1.0, electric_field=np.array([0.0, 0.1, -0.2]), name="a b", numbers={"a": [1, 2]})
    atoms.set_constraint([FixAtoms([0]), FixBondLength(1, 2)])
    return atoms


def same(found, expected):
    np.testing.assert_array_equal(found.numbers, expected.numbers)
    np.testing.assert_array_equal(found.pbc, expected.pbc)
    np.testing.assert_array_equal(found.cell.array, expected.cell.array)
    np.testing.assert_array_equal(found.get_celldisp().ravel(), expected.get_celldisp().ravel())
    for name in set(expected.arrays) - {"positions", "momenta"}:
        np.testing.assert_array_equal(found.arrays[name], expected.arrays[name], err_msg=name)
    for name, value in expected.info.items():
        np.testing.assert_array_equal(found.info[name], value, err_msg=name)
    assert [str(constraint.todict()) for constraint in found.constraints] == [
        str(constraint.todict()) for constraint in expected.constraints
    ]


@pytest.mark.parametrize("ensemble", ["nve", "langevin"])
def test_frames_carry_all_of_the_structure_and_continue_the_run(run, folder, tmp_path, ensemble):
    """Predict agrees with the log: energies, and temperatures of five degrees of freedom with the right masses."""
    start, output, predicted = write(tmp_path / "start.extxyz", rich()), tmp_path / "md.extxyz", tmp_path / "p.extxyz"
    md = ("md", folder / "told.carten", "--timestep", 0.2, "--interval", 5, "--dtype", "float64")
    md += ("--ensemble", ensemble)
    said = run(*md, start, "--steps", 20, "-o", output)
    assert said.code == 0, said.err
    assert run("predict", folder / "told.carten", output, "-o", predicted, "--dtype", "float64").code == 0
    for path in (output, predicted):
        frames = [atoms for _, atoms in read_structures(path)]
        assert [atoms.info["step"] for atoms in frames] == [0, 5, 10, 15, 20]
        for atoms, row in zip(frames, log(output), strict=True):
            same(atoms, rich())
            assert atoms.get_number_of_degrees_of_freedom() == 5
            assert atoms.get_temperature() == pytest.approx(float(row["temperature_K"]), rel=1e-6)
            assert atoms.info["temperature_K"] == pytest.approx(float(row["temperature_K"]), abs=1e-5)
            assert atoms.get_potential_energy() == pytest.approx(float(row["potential_eV"]), abs=1e-9)
            if path == predicted:
                assert atoms.info["carten_energy"] == pytest.approx(float(row["potential_eV"]), abs=1e-6)
    whole = tmp_path / "whole.extxyz"
    assert run(*md[:-2], "--ensemble", "nve", start, "--steps", 40, "-o", whole).code == 0
    if ensemble == "nve":
        assert run(*md, output, "--steps", 20, "-o", tmp_path / "next.extxyz").code == 0
        after, expected = ase.io.read(tmp_path / "next.extxyz"), ase.io.read(whole)
        np.testing.assert_allclose(after.positions, expected.positions, atol=1e-6)


@pytest.mark.parametrize("key", ["magmoms", "initial_magmoms"])
def test_moments_in_files_reach_md_and_predict(run, folder, tmp_path, key):
    text = '2\nProperties=species:S:1:pos:R:3:KEY:R:3 total_charge=0\nO 0 0 0 0 0 1.5\nH 0 0 1 0.2 0 0\n'
    start = tmp_path / "start.extxyz"
    start.write_text(text.replace("KEY", key).replace("total_charge", 'partial_charges="0 0" total_charge'))
    output, predicted, again = (tmp_path / f"{name}.extxyz" for name in ("md", "p", "pp"))
    told = folder / "told.carten"
    for arguments in (("md", told, start, "--steps", 1, "-o", output), ("predict", told, start, "-o", predicted)):
        said = run(*arguments)
        assert said.code == 0, said.err
    assert run("predict", told, predicted, "-o", again).code == 0
    energies = {ase.io.read(predicted).get_potential_energy(), ase.io.read(again).info["carten_energy"]}
    assert len(energies) == 1
    assert float(log(output)[0]["potential_eV"]) == pytest.approx(energies.pop(), abs=1e-6)
    for path in (output, predicted, again):
        atoms = ase.io.read(path)
        results = atoms.calc.results if atoms.calc else {}
        np.testing.assert_array_equal({**results, **atoms.arrays}[key], [[0, 0, 1.5], [0.2, 0, 0]])


def test_inputs_under_the_names_and_units_of_training_reach_md(run, folder, tmp_path):
    atoms = molecule("H2O")
    atoms.info["E"], atoms.arrays["spins"] = np.array([0.0, 1.0, 2.0]), np.arange(9.0).reshape(3, 3)
    atoms.info["electric_field"] = np.ones(3)  # another one: the name that training knows goes first
    start, model = write(tmp_path / "start.extxyz", atoms), folder / "named.carten"
    assert run("md", model, start, "--steps", 1, "-o", tmp_path / "md.extxyz").code == 0
    assert run("predict", model, tmp_path / "md.extxyz", "-o", tmp_path / "p.extxyz").code == 0
    frame = ase.io.read(tmp_path / "p.extxyz", 0)
    np.testing.assert_allclose(frame.info["electric_field"], [0.0, 0.1, 0.2], rtol=1e-12)
    assert float(log(tmp_path / "md.extxyz")[0]["potential_eV"]) == pytest.approx(frame.info["carten_energy"], abs=1e-6)


def test_structures_of_other_formats_go_through(run, folder, tmp_path):
    """A CIF file brings a space group, a trajectory of ASE velocities and constraints."""
    crystal = Atoms("CO", [[0.1, 0, 0], [1.2, 1.3, 1.4]], cell=[3.0, 3.1, 3.2], pbc=True)
    ase.io.write(tmp_path / "a.cif", crystal)
    moving = ethanol()
    moving.set_constraint([FixAtoms([0]), FixBondLength(1, 2)])
    moving.set_momenta(np.full((9, 3), 0.1))
    ase.io.write(tmp_path / "b.traj", moving)
    for name in ("a.cif", "b.traj"):
        output, predicted = tmp_path / f"{name}-md.extxyz", tmp_path / f"{name}-p.extxyz"
        for arguments in (("md", "--steps", 1, "-o", output), ("predict", "-o", predicted)):
            said = run(arguments[0], folder / "plain.carten", tmp_path / name, *arguments[1:])
            assert said.code == 0, said.err
        for path in (output, predicted):
            (_, first), *_ = read_structures(path)
            same(first, ase.io.read(tmp_path / name) if name == "b.traj" else crystal)
    assert first.get_number_of_degrees_of_freedom() == 23
    np.testing.assert_allclose(first.get_momenta(), moving.get_momenta(), atol=1e-7)
    assert read_structures(tmp_path / "a.cif-p.extxyz")[0][1].info["spacegroup"] == "P 1"


def test_labels_of_the_start_do_not_pass_for_those_of_frames(run, folder, tmp_path):
    atoms = ethanol()
    atoms.info.update(energy=-1.0, carten_energy=-2.0, carten_units="carten_energy: eV", name="x")
    atoms.arrays["carten_forces"] = np.ones((9, 3))
    start = write(tmp_path / "start.extxyz", atoms)
    said = run("md", folder / "plain.carten", start, "--steps", 1, "-o", tmp_path / "md.extxyz")
    assert "not carried along: carten_energy, carten_forces, carten_units" in said.err
    frame = ase.io.read(tmp_path / "md.extxyz", 0)
    assert set(frame.info) == {"name", "step", "time_ps", "temperature_K"}
    assert frame.get_potential_energy() == pytest.approx(float(log(tmp_path / "md.extxyz")[0]["potential_eV"]))


def clean_error(said, *words):
    assert said.code == 1, said.out
    assert said.err.startswith("Error: ") or "\nError: " in said.err, said.err
    for word in words:
        assert word in said.err, said.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--timestep", 40.0), ("in one step", "--max-step")),
        (("--temperature", 200, "--max-temperature", 250), ("temperature is", "limit 250 K", "--max-temperature")),
        (("--max-force", 1e-3), ("the force on atom", "--max-force")),
    ],
)
def test_explosions_stop_the_run_and_keep_the_last_good_frame(run, folder, tmp_path, options, words):
    output = tmp_path / "md.extxyz"
    start = write(tmp_path / "start.extxyz", ethanol())
    clean_error(run("md", folder / "plain.carten", start, "-o", output, "--interval", 1, *options), *words)
    for atoms in ase.io.read(output, ":") if output.exists() else ():
        assert np.isfinite(atoms.positions).all()
        assert atoms.info["temperature_K"] < 10_000


def test_overlapping_atoms_are_said_and_do_not_end_well(run, folder, tmp_path):
    atoms = ethanol()
    atoms.positions[3] = atoms.positions[4] + [0.05, 0.0, 0.0]
    start = write(tmp_path / "start.extxyz", atoms)
    said = run("md", folder / "plain.carten", start, "-o", tmp_path / "md.extxyz", "--steps", 5)
    assert "atoms 3 and 4 (H-H) are 0.050 Å apart, less than half the sum of their covalent radii" in said.err


BAD = {
    "no atoms": lambda atoms: atoms.__delitem__([0, 1, 2]),
    "zero mass": lambda atoms: atoms.set_masses([12.0, 0.0, 16.0]),
    "negative mass": lambda atoms: atoms.set_masses([12.0, -1.0, 16.0]),
    "velocities": lambda atoms: atoms.set_momenta(np.full((3, 3), np.nan)),
    "fast": lambda atoms: atoms.set_momenta(np.eye(3) * 1e4),
    "fixed": lambda atoms: atoms.set_constraint(FixAtoms([0, 1, 2])),
    "same place": lambda atoms: atoms.set_distance(1, 2, 0.0, fix=0),
    "far": lambda atoms: atoms.set_distance(1, 2, 1e12, fix=0),
    "nan": lambda atoms: atoms.positions.__setitem__((2, 0), np.nan),
    "element": lambda atoms: atoms.numbers.__setitem__(2, 79),
    "dummy": lambda atoms: atoms.numbers.__setitem__(2, 0),
    "no cell": lambda atoms: atoms.set_pbc(True),
    "flat cell": lambda atoms: (atoms.set_pbc(True), atoms.set_cell([[3, 0, 0], [0, 3, 0], [3, 3, 0]])),
}


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("no atoms", "no atoms"),
        ("zero mass", "the mass of atom 1 (H) is 0 amu"),
        ("negative mass", "the mass of atom 1 (H) is -1 amu"),
        ("velocities", "velocities that are not finite"),
        ("fast", "the temperature is"),
        ("fixed", "all atoms are fixed"),
        ("same place", "coincide"),
        ("far", "start.extxyz, frame 0: position of atom 2"),
        ("nan", "nan"),
        ("element", "does not know Au"),
        ("dummy", ""),
        ("no cell", "span a volume"),
        ("flat cell", "span a volume"),
    ],
)
def test_bad_starts(run, folder, tmp_path, kind, word):
    """Said in one sentence, and the same name can be used for a good start."""
    atoms = Atoms("CHO", [[0, 0, 0], [0, 0, 1.1], [1.2, 0, 0]])
    BAD[kind](atoms)
    start = write(tmp_path / "start.extxyz", atoms)
    command = ("md", folder / "plain.carten", "-o", tmp_path / "md.extxyz", "--steps", 2)
    clean_error(run(*command, start), word)
    assert [path.name for path in tmp_path.iterdir()] == ["start.extxyz"]
    assert run(*command, write(tmp_path / "good.extxyz", ethanol())).code == 0


def test_models_without_energy_or_forces_are_refused(run, folder, tmp_path):
    start = write(tmp_path / "start.extxyz", ethanol())
    clean_error(run("md", folder / "dipole.carten", start, "-o", tmp_path / "md.extxyz"), "energy and forces", "dipole")


@pytest.mark.parametrize(
    ("option", "word"),
    [
        (("--timestep", 0.5), "timestep was 0.1, now 0.5"),
        (("--ensemble", "bussi"), "ensemble was nve, now bussi"),
        (("--temperature", 400), "temperature was 300.0, now 400.0"),
        (("--seed", 3), "seed was 0, now 3"),
        (("model", "other.carten"), "model was "),
        (("start", "heavy.extxyz"), "masses was [12.01"),
        (("start", "charged.extxyz"), "info['total_charge'] was not set, now 1"),
        (("start", "water.extxyz"), "is of another structure"),
    ],
)
def test_a_restart_with_something_else_is_refused(run, folder, tmp_path, option, word):
    write(tmp_path / "start.extxyz", ethanol())
    write(tmp_path / "water.extxyz", molecule("H2O"))
    heavy, charged = ethanol(), ethanol()
    heavy.set_masses(heavy.get_masses() + heavy.arrays["numbers"] / 10)
    charged.info["total_charge"] = 1
    write(tmp_path / "heavy.extxyz", heavy)
    write(tmp_path / "charged.extxyz", charged)
    arguments = {"model": "plain.carten", "start": "start.extxyz", "--steps": 20, "--timestep": 0.1, "--interval": 5}

    def md(*more):
        changed = arguments | dict([option] if "--restart" in more else [])
        options = [item for name, value in changed.items() if name.startswith("--") for item in (name, value)]
        return run("md", folder / changed["model"], tmp_path / changed["start"], *options, "-o", output, *more)

    output = tmp_path / "md.extxyz"
    assert md().code == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    arguments["--steps"] = 40
    clean_error(md("--restart"), word)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    option = ("--interval", 5)
    assert md("--restart").code == 0
    assert [float(row["time_ps"]) for row in log(output)] == pytest.approx(np.arange(9) * 5e-4)


def test_a_run_killed_before_its_first_frame_continues(run, folder, tmp_path):
    """The state is there before any frame; or nothing is, and the run is started again."""
    start, output = write(tmp_path / "start.extxyz", ethanol()), tmp_path / "md.extxyz"
    md = ("md", folder / "plain.carten", start, "--steps", 20, "-o")
    assert run(*md, tmp_path / "whole.extxyz").code == 0
    assert run(*md, output).code == 0
    state = json.loads(output.with_suffix(".restart.json").read_text())
    whole = json.loads((tmp_path / "whole.restart.json").read_text())
    first = read_structures(output)[0][1]
    state.update(step=0, sizes=[0, 0], positions=ethanol().positions.tolist(), momenta=first.get_momenta().tolist())
    output.with_suffix(".restart.json").write_text(json.dumps(state))
    output.unlink()
    said = run(*md, output, "--restart")
    assert said.code == 0, said.err
    assert [atoms.info["step"] for atoms in ase.io.read(output, ":")] == [0, 10, 20]
    assert [row["step"] for row in log(output)] == ["0", "10", "20"]
    np.testing.assert_allclose(
        json.loads(output.with_suffix(".restart.json").read_text())["positions"], whole["positions"], atol=1e-6
    )


@pytest.mark.parametrize("restart", [(), ("--restart",)])
def test_a_run_that_fails_at_its_first_step_can_be_started_again(run, folder, tmp_path, restart):
    """With other settings, since nothing is lost; one that has got further cannot."""
    start, output = write(tmp_path / "start.extxyz", ethanol()), tmp_path / "md.extxyz"
    md = ("md", folder / "plain.carten", start, "--steps", 20, "-o", output)
    clean_error(run(*md, "--timestep", 40.0), "exploded at step 1", "step 0, is in")
    said = run(*md, *restart, "--seed", 7)
    assert said.code == 0, said.err
    assert [row["step"] for row in log(output)] == ["0", "10", "20"]
    before = output.read_bytes()
    clean_error(run(*md, *restart, "--seed", 8), "seed was 7" if restart else "exists already")
    assert output.read_bytes() == before


@pytest.mark.parametrize("spoil", ["positions", "random", "sizes", "settings", "structure", "all"])
def test_spoilt_states_are_refused(run, folder, tmp_path, spoil):
    start, output = write(tmp_path / "start.extxyz", ethanol()), tmp_path / "md.extxyz"
    md = ("md", folder / "plain.carten", start, "--steps", 5, "-o", output)
    assert run(*md).code == 0
    path = output.with_suffix(".restart.json")
    state = json.loads(path.read_text())
    for value in (None, "x", [[1]], {"a": 1}, 1e400):
        path.write_text(json.dumps(value if spoil == "all" else {**state, spoil: value}))
        word = "another setting" if spoil == "settings" and isinstance(value, dict) else "damaged"
        clean_error(run(*md, "--restart"), "md.restart.json", word)


def test_files_that_are_not_of_a_run_stay(run, folder, tmp_path):
    """Also beside the state of a run that has not begun."""
    start, output = write(tmp_path / "start.extxyz", ethanol()), tmp_path / "md.extxyz"
    md = ("md", folder / "plain.carten", start, "--steps", 20, "-o", output)
    clean_error(run(*md, "--timestep", 40.0), "exploded at step 1")
    write(output, *[ethanol()] * 5)
    before = output.read_bytes()
    clean_error(run(*md), "md.extxyz exists already")
    assert output.read_bytes() == before


def test_lines_where_there_is_no_terminal(run, folder, tmp_path):
    start = write(tmp_path / "start.extxyz", ethanol())
    said = run("md", folder / "plain.carten", start, "--steps", 40, "--interval", 1, "-o", tmp_path / "md.extxyz")
    steps = [line for line in said.out.splitlines() if line.startswith("step ")]
    assert steps == [f"step {n} of 40, {n * 0.0005:g} ps" for n in range(4, 41, 4)]


def test_drift_is_said_where_it_means_something(run, folder, tmp_path):
    start = write(tmp_path / "start.extxyz", ethanol())
    for ensemble, expected in (("nve", True), ("bussi", True), ("langevin", False)):
        output = tmp_path / f"{ensemble}.extxyz"
        said = run("md", folder / "plain.carten", start, "--steps", 30, "--ensemble", ensemble, "-o", output)
        assert ("energy drift" in said.out) == expected
        assert ("heat of the thermostat" in said.out) == (ensemble == "bussi")


def test_stress_is_written_only_where_there_is_one(run, folder, tmp_path):
    """Molecules and crystals in one file, and it is read again."""
    slab = Atoms("CO", [[0, 0, 0], [0, 0, 1.2]], cell=[3, 3, 9], pbc=[True, True, False])
    box = Atoms("CO", [[0, 0, 0], [0, 0, 1.2]], cell=[9, 9, 9])
    data = write(tmp_path / "data.extxyz", bulk("C"), molecule("H2O"), slab, box)
    output = tmp_path / "out.extxyz"
    said = run("predict", folder / "stress.carten", data, "-o", output)
    assert said.code == 0
    assert "stress is per volume: left out for 2 structures that are not periodic" in said.err
    assert "nan" not in output.read_text()
    assert ["stress" in atoms.calc.results for atoms in ase.io.read(output, ":")] == [True, False, True, False]
    said = run("evaluate", folder / "stress.carten", output, "--json", tmp_path / "e.json")
    assert said.code == 0, said.err
    errors = json.loads((tmp_path / "e.json").read_text())["properties"]
    assert errors["energy"]["max"] < 1e-6
    assert (errors["stress"]["max"] < 1e-6, errors["stress"]["count"]) == (True, 18)
    only = ("predict", folder / "stress.carten", write(tmp_path / "w.extxyz", box), "--properties", "stress")
    clean_error(run(*only, "-o", tmp_path / "none.extxyz"), "no meaning")
    assert not (tmp_path / "none.extxyz").exists()


def test_predictions_stand_beside_labels_with_their_units(run, folder, tmp_path):
    atoms = ethanol()
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((9, 3)), magmoms=np.ones((9, 3)))
    atoms.info.update(REF_energy=-3.0, name="x")
    data, output = write(tmp_path / "data.extxyz", atoms, atoms), tmp_path / "out.extxyz"
    predict = ("predict", folder / "plain.carten", data, "-o", output)
    said = run(*predict)
    assert (said.code, said.err) == (0, "")
    frame = ase.io.read(output)
    assert frame.get_potential_energy() == -1.0
    np.testing.assert_array_equal(frame.get_forces(), np.ones((9, 3)))
    np.testing.assert_array_equal(frame.calc.results["magmoms"], np.ones((9, 3)))
    assert (frame.info["REF_energy"], frame.info["name"]) == (-3.0, "x")
    labels = ("--label", "energy=carten_energy", "--label", "forces=carten_forces")
    assert run("evaluate", folder / "plain.carten", output, *labels, "--json", tmp_path / "e.json").code == 0
    errors = json.loads((tmp_path / "e.json").read_text())["properties"]
    assert max(errors[name]["max"] for name in ("energy", "forces")) < 1e-4  # meV, of eight decimals
    assert frame.info["carten_units"] == "carten_energy: eV, carten_forces: eV/Angstrom"
    said = run(*predict, "--overwrite", "--prefix", "")
    assert "energy of 2 structures was there already: replaced" in said.err
    replaced = ase.io.read(output)
    assert replaced.get_potential_energy() == pytest.approx(frame.info["carten_energy"], rel=1e-7)
    assert replaced.info["carten_units"] == "energy: eV, forces: eV/Angstrom"
    clean_error(run(*predict, "--overwrite", "--prefix", "a b"), "--prefix")
    clean_error(run(*predict, "--overwrite", "--properties", ","), "--properties")


def test_predictions_that_are_no_numbers_are_errors_and_nothing_is_lost(run, folder, tmp_path):
    model = small_model(properties=("energy", "forces"))
    model.heads["energies"].get_buffer("shift").fill_(1e308)  # for nine atoms: infinite
    save(tmp_path / "large.carten", model, {})
    data, output = write(tmp_path / "data.extxyz", ethanol()), tmp_path / "out.extxyz"
    output.write_text("before")
    clean_error(run("predict", tmp_path / "large.carten", data, "-o", output, "--overwrite"), "frame 0", "not finite")
    assert output.read_text() == "before"
    assert {path.name for path in tmp_path.iterdir()} == {"large.carten", "data.extxyz", "out.extxyz"}


def test_results_lie_beside_the_trajectory(run, folder, tmp_path):
    start, output = write(tmp_path / "start.extxyz", ethanol()), tmp_path / "md.extxyz"
    md = ("md", folder / "plain.carten", start, "-o", output, "--steps")
    assert run(*md, 20).code == 0
    assert json.loads((tmp_path / "md.json").read_text())["results"]["steps"]["value"] == 20
    assert run(*md, 40, "--restart").code == 0
    assert json.loads((tmp_path / "md.json").read_text())["results"]["steps"]["value"] == 40
    assert (tmp_path / "md.svg").stat().st_size > 1000 and (tmp_path / "md.png").stat().st_size > 1000
    (tmp_path / "new.json").write_text("{}")
    clean_error(run(*md[:3], "-o", tmp_path / "new.extxyz", "--steps", 2), "new.json exists already")
    assert (tmp_path / "new.json").read_text() == "{}" and not (tmp_path / "new.extxyz").exists()


def test_replicas_and_what_goes_wrong_with_them(run, folder, tmp_path):
    start, output = write(tmp_path / "start.extxyz", ethanol()), tmp_path / "md.extxyz"
    md = ("md", folder / "plain.carten", start, "-o", output, "--steps", 20, "--replicas", 2)
    said = run(*md, "--restrain-centre", 1.0)
    assert said.code == 0, said.err
    assert "temperature, standard error" in said.out and "replica 1, step 20 of 20" in said.out
    names = {"md-0.extxyz", "md-1.extxyz", "md.json", "md-runs.csv", "md-0.csv", "md-0.restart.json"}
    assert names < {path.name for path in tmp_path.iterdir()}
    assert float(log(tmp_path / "md-0.extxyz")[-1]["restraint_eV"]) > 0.0
    clean_error(run(*md), "md.json exists already")
    clean_error(run(*md, "--restart"), "centre_spring was 1.0, now not set")
    said = run(*md[:-5], tmp_path / "hot.extxyz", "--steps", 20, "--replicas", 2, "--max-temperature", 1)
    clean_error(said, "replica 0", "replica 1", "--max-temperature")


def test_plumed_is_asked_for_where_it_is_missing(run, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("carten.workflows.restraints.find_spec", lambda name: None)
    start, text = write(tmp_path / "start.extxyz", ethanol()), tmp_path / "plumed.dat"
    md = ("md", folder / "plain.carten", start, "-o", tmp_path / "md.extxyz", "--plumed", text)
    clean_error(run(*md), "plumed.dat")
    text.write_text("d: DISTANCE ATOMS=1,2\n")
    clean_error(run(*md), "PLUMED is not installed", "pip install plumed")
    assert {path.name for path in tmp_path.iterdir()} == {"start.extxyz", "plumed.dat"}


def test_curves_in_a_terminal():
    """As the numbers go up, so does the line: dots in the lower left and the upper right corner."""
    lines = [{"step": k, "time_ps": 0.1 * k, "temperature_K": 100.0 + k, "potential_eV": -k} for k in range(500)]
    text = curves(lines, 60).plain.split("\n")
    assert max(map(len, text)) <= 60 and len(text) == 18
    assert "temperature (K)" in text[0] and "potential energy (eV)" in text[9]
    assert text[2].partition("┤")[2].rstrip(" │")[-1] >= "\u2801" and text[2].partition("┤")[2][:20].isspace()
    assert not text[11].partition("┤")[2][:3].isspace()
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=40)
    with dynamics_progress(console, "nve", 500) as show:
        for line in lines:
            show(line)
    assert "temperature (K)" in console.file.getvalue()
