"""Commands of jobs on crystals: a folder with the results, several structures, what exists, bad input."""

import json
import signal
import subprocess
import sys
import time

import ase.io
import pytest
from ase.build import bulk, fcc111, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms

from carten.deploy import deploy
from carten.properties.io import save
from carten.workflows.relax import Goal, relax
from small import stiff_model

pytestmark = pytest.mark.needs("cpp")


@pytest.fixture(scope="module")
def crystal(tmp_path_factory):
    """A model file and a file with a crystal at its minimum."""
    folder, model = tmp_path_factory.mktemp("crystal"), stiff_model()
    save(folder / "model.carten", model, provenance={})
    (relaxed,) = relax(bulk("C", "fcc", a=3.6), deploy(model), Goal(1e-4, 1e-3, cell=True))
    assert relaxed.converged
    ase.io.write(folder / "fcc.extxyz", relaxed.atoms)
    return folder / "model.carten", folder / "fcc.extxyz"


def test_results_of_one_structure(run, crystal, tmp_path):
    model, structure = crystal
    said = run("eos", model, structure, "-o", tmp_path / "results", "--width", 0.03)
    assert said.code == 0, said.err
    assert "bulk modulus" in said.out and "GPa" in said.out
    names = sorted(path.name for path in (tmp_path / "results").iterdir())
    assert names == ["eos-scan.csv", "eos.extxyz", "eos.json", "eos.png", "eos.svg"]
    volume = json.loads((tmp_path / "results" / "eos.json").read_text())["results"]["volume"]
    assert volume["value"] == pytest.approx(ase.io.read(structure).get_volume(), rel=1e-3)
    again = run("eos", model, structure, "-o", tmp_path / "results")
    assert again.code == 1 and "eos.json exists already" in again.err
    assert run("eos", model, structure, "-o", tmp_path / "results", "--overwrite", "--width", 0.03).code == 0


def test_several_structures_are_numbered(run, crystal, tmp_path):
    model, structure = crystal
    said = run("eos", model, structure, structure, "-o", tmp_path / "results", "--width", 0.03)
    assert said.code == 0, said.err
    one, two = (json.loads((tmp_path / "results" / f"eos-{k}.json").read_text()) for k in (0, 1))
    assert one == two


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (molecule("CH4"), "eos needs a crystal"),
        (bulk("Cu"), "Cu"),
        (bulk("C", "fcc", a=4.2), "relax the cell first"),
    ],
    ids=["no cell", "unknown element", "no minimum"],
)
def test_bad_input(run, crystal, tmp_path, atoms, message):
    ase.io.write(tmp_path / "atoms.extxyz", atoms)
    said = run("eos", crystal[0], tmp_path / "atoms.extxyz", "-o", tmp_path / "results")
    assert said.code == 1 and message in said.err, said.err
    assert not (tmp_path / "results").exists()


def test_what_is_not_relaxed_is_written_and_said(run, crystal, tmp_path):
    atoms = ase.io.read(crystal[1]) * (2, 1, 1)
    atoms.rattle(0.05, seed=1)
    ase.io.write(tmp_path / "rattled.extxyz", atoms)
    said = run("elastic", crystal[0], tmp_path / "rattled.extxyz", "-o", tmp_path / "results")
    assert said.code == 1 and "run carten relax first" in said.err
    assert json.loads((tmp_path / "results" / "elastic.json").read_text())["failures"]


def test_a_barrier_between_two_files(run, crystal, tmp_path):
    """A vacancy that hops; a band that does not converge is written and ends with status 1; bad ends."""
    model, structure = crystal
    vacancy = ase.io.read(structure) * (2, 2, 2)
    start, end = vacancy.copy(), vacancy.copy()
    end.positions[1] = vacancy.positions[0]
    del start[0], end[0]
    for name, atoms in {"start": start, "end": end, "other": end[:-1], "several": [start, end]}.items():
        ase.io.write(tmp_path / f"{name}.extxyz", atoms)
    ends = [tmp_path / "start.extxyz", tmp_path / "end.extxyz"]
    options = ["-o", tmp_path / "hop", "--images", 1, "--steps", 2]
    said = run("neb", model, *ends, *options)
    assert said.code == 1 and "results are written all the same" in said.err
    assert "barrier forward" in said.out
    assert sorted(path.suffix for path in (tmp_path / "hop").iterdir()) == [".csv", ".extxyz", ".json", ".png", ".svg"]
    assert len(ase.io.read(tmp_path / "hop" / "neb.extxyz", ":")) == 3
    band = tmp_path / "hop" / "neb.extxyz"
    on = ["neb", model, *ends, "-o", tmp_path / "hop", "--band", band, "--steps", 1]
    said = run(*on)
    assert said.code == 1 and "--overwrite" in said.err
    (tmp_path / "hop" / "neb.json").unlink()
    said = run("neb", model, *ends, *options)
    assert said.code == 1 and "neb.extxyz" in said.err and "--overwrite" in said.err
    said = run(*on)
    assert "results are written all the same" in said.err and len(ase.io.read(band, ":")) == 3
    said = run(*on, "--images", 3)
    assert said.code == 1 and "those of --band are in its file" in said.err
    said = run("neb", model, *ends, "--band", ends[0], "-o", tmp_path / "no")
    assert said.code == 1 and "3 structures; found 1" in said.err
    said = run("neb", model, ends[0], tmp_path / "other.extxyz", "-o", tmp_path / "no")
    assert said.code == 1 and "must have the same atoms" in said.err
    said = run("neb", model, tmp_path / "several.extxyz", ends[1], "-o", tmp_path / "no")
    assert said.code == 1 and "has 2 structures" in said.err
    assert not (tmp_path / "no").exists()


def test_a_band_that_was_killed_goes_on(run, tmp_path):
    """A process of its own, killed once the band on disk has moved; the barrier is that of one go, in fewer steps."""
    start = molecule("NH3")
    ends = [tmp_path / "start.xyz", tmp_path / "end.xyz"]
    ase.io.write(ends[0], start)
    start.positions[:, 2] *= -1.0  # the umbrella turns inside out
    ase.io.write(ends[1], start)
    band = tmp_path / "killed" / "neb.extxyz"
    command = [sys.executable, "-m", "carten", "neb", "organic", *ends, "-o", band.parent, "--images", 4]
    with subprocess.Popen([*map(str, command), "--fmax", "1e-6", "--steps", "100000"]) as process:
        first = ""
        while process.poll() is None:
            text = band.read_text() if band.exists() else ""
            first = first or text
            if text != first:
                process.kill()
                break
            time.sleep(0.005)
    assert process.returncode == -signal.SIGKILL
    options = ("--fmax", 0.005, "--steps", 200)
    assert run("neb", "organic", *ends, "-o", tmp_path / "whole", "--images", 4, *options).code == 0
    said = run("neb", "organic", *ends, "-o", band.parent, "--band", band, *options)
    assert said.code == 0, said.err
    whole, rest = (
        json.loads((tmp_path / folder / "neb.json").read_text())["results"] for folder in ("whole", "killed")
    )
    assert rest["barrier forward"]["value"] == pytest.approx(whole["barrier forward"]["value"], abs=1e-4)
    assert rest["steps"]["value"] < whole["steps"]["value"]


def test_a_saddle_from_the_top_of_a_path(run, crystal, tmp_path):
    pytest.importorskip("sella")
    model, structure = crystal
    atoms = ase.io.read(structure) * (2, 1, 1)
    atoms.positions[1] += 0.2
    ase.io.write(tmp_path / "guess.extxyz", [atoms, atoms])
    said = run("ts", model, tmp_path / "guess.extxyz", "-o", tmp_path / "saddles", "--steps", 1, "--fmax", 1e-6)
    assert said.code == 1 and "ts-0: the largest force is" in said.err
    assert (tmp_path / "saddles" / "ts-1.json").exists()
    said = run("ts", model, tmp_path / "guess.extxyz", "--highest", "-o", tmp_path / "no")
    assert said.code == 1 and "structures without one" in said.err
    path = [*atoms_with_energies(atoms, (0.0, 2.0, 1.0))]
    ase.io.write(tmp_path / "path.extxyz", path)
    said = run("ts", model, tmp_path / "path.extxyz", "--highest", "-o", tmp_path / "one", "--steps", 1, "--fmax", 1e-6)
    assert "ts: the largest force" in said.err, said.err
    (saddle,) = ase.io.read(tmp_path / "one" / "ts.extxyz", ":")
    assert abs(saddle.positions[1] - path[1].positions[1]).max() < 0.3


def atoms_with_energies(atoms, energies):
    for number, energy in enumerate(energies):
        copy = atoms.copy()
        copy.positions[1] += 0.4 * number
        copy.calc = SinglePointCalculator(copy, energy=energy)
        yield copy


def test_surfaces_of_a_crystal(run, crystal, tmp_path):
    """Two planes by name; a vacuum that the model sees across, and words that are no plane."""
    model, structure = crystal
    planes = ("--plane", "1 0 0", "--plane", "1 1 1", "--thickness", 3, "--fmax", 0.5)
    said = run("surface", model, structure, "-o", tmp_path / "results", *planes)
    assert said.code == 0, said.err
    table = (tmp_path / "results" / "surface-surfaces.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in table] == ["surface", "(1 0 0)", "(1 1 1)"]
    narrow = run("surface", model, structure, "-o", tmp_path / "narrow", "--vacuum", 1.5)
    assert narrow.code == 1 and "smaller than the cutoff of the model" in narrow.err
    wrong = run("surface", model, structure, "-o", tmp_path / "wrong", "--plane", "11-1")
    assert wrong.code == 1 and "three integers, such as '1 1 0', found '11-1'" in wrong.err


def test_defects_of_a_crystal(run, crystal, tmp_path):
    """A vacancy; a supercell that is too small, and a chemical potential that is no number."""
    model, structure = crystal
    said = run("defects", model, structure, "-o", tmp_path / "results", "--supercell", 3, 3, 3, "--fmax", 0.5)
    assert said.code == 0, said.err
    assert "formation energy of C vacancy" in said.out
    small = run("defects", model, structure, "-o", tmp_path / "small", "--supercell", 1, 1, 1)
    assert small.code == 1 and "from their images in the supercell (1, 1, 1)" in small.err
    wrong = run("defects", model, structure, "-o", tmp_path / "wrong", "--potential", "C:-3")
    assert wrong.code == 1 and "--potential: expected ELEMENT=EV" in wrong.err


def test_adsorption_on_a_slab(run, crystal, tmp_path):
    """Carbon on carbon; elements that the model does not know, an adsorbate that is none."""
    model, structure = crystal
    length = ase.io.read(structure).get_volume() ** (1 / 3) * 4 ** (1 / 3)
    slab = fcc111("C", (2, 2, 2), a=length, vacuum=8.0)
    slab.pbc = True
    slab.set_constraint(FixAtoms(mask=slab.positions[:, 2] < 9.0))
    ase.io.write(tmp_path / "slab.extxyz", slab)
    said = run("adsorb", model, tmp_path / "slab.extxyz", "-a", "C", "-o", tmp_path / "results", "--steps", 3)
    assert said.code == 1 and "C from top 0 did not relax" in said.err, said.err
    table = (tmp_path / "results" / "adsorb-energies.csv").read_text().splitlines()
    assert table[0].startswith("adsorbate,site,from,energy_eV") and len(table) == 5
    unknown = run("adsorb", model, tmp_path / "slab.extxyz", "-a", "Pt", "-o", tmp_path / "unknown")
    assert unknown.code == 1 and "the adsorbate Pt: the model does not know Pt" in unknown.err
    none = run("adsorb", model, tmp_path / "slab.extxyz", "-a", "watr", "-o", tmp_path / "none")
    assert none.code == 1 and "watr is no element" in none.err and not (tmp_path / "none").exists()
