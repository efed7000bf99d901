"""Libraries in C and C++ programs, and on the command line."""

import subprocess
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_numbers
from typer.testing import CliRunner

import carten
from carten.cli import app
from carten.deploy import Deployed
from carten.ops.compiler import compiler
from carten.properties.io import save
from small import small_model

pytestmark = pytest.mark.needs("cpp")
NATIVE = Path(str(files("carten.deploy"))) / "native"
WATER = Atoms("OH2", positions=[[0, 0, 0.12], [0, 0.76, -0.48], [0, -0.76, -0.48]])
CPP = """
#include "carten_model.hpp"
#include <cstdio>
int main() {
  carten::Model model(2);
  const carten::Pairs pairs{{0, 0, 1, 1, 2, 2}, {1, 2, 0, 2, 0, 1}, {}};
  const auto result = model({carten::Model::element(8), carten::Model::element(1), carten::Model::element(1)},
                            {0, 0, 0.12, 0, 0.76, -0.48, 0, -0.76, -0.48}, {}, pairs);
  std::printf("%.12f %.12f\\n", result.energy(), result.forces[2]);
  try {
    carten::Model::element(92);
  } catch (const std::invalid_argument& error) {
    std::printf("%s\\n", error.what());
  }
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    save(folder / "model.carten", small_model(), {"epoch": 7, "step": 70, "minutes": 1.0})
    done = CliRunner().invoke(app, ["export", str(folder / "model.carten"), "-o", str(folder / "model.so")])
    assert done.exit_code == 0, done.output
    assert "float64, native" in done.output
    return folder / "model.so"


def run(library: Path, source: Path) -> str:
    program = library.with_name(source.stem)
    command = [compiler().path, "-x", "c" if source.suffix == ".c" else "c++", str(source), "-x", "none", str(library)]
    subprocess.run([*command, f"-I{NATIVE}", "-o", str(program)], check=True)
    return subprocess.run([str(program)], check=True, capture_output=True, text=True).stdout


def expected(library: Path) -> tuple[float, np.ndarray]:
    atoms = WATER.copy()
    atoms.calc = carten.Calculator(small_model())
    return atoms.get_potential_energy(), atoms.get_forces()


def test_a_program_in_c(library):
    lines = run(library, NATIVE / "example.c").splitlines()
    energy, forces = expected(library)
    assert float(lines[0].split()[1]) == pytest.approx(energy, abs=1e-9)
    np.testing.assert_allclose([[float(x) for x in line.split()[1:4]] for line in lines[1:]], forces, atol=1e-8)


def test_a_program_in_cpp(library, tmp_path):
    source = tmp_path / "program.cpp"
    source.write_text(CPP)
    first, second = run(library, source).splitlines()
    energy, forces = expected(library)
    np.testing.assert_allclose([float(x) for x in first.split()], [energy, forces[0, 2]], atol=1e-10)
    assert second == "the model does not know the element 92"


def test_nothing_else_is_needed_or_seen(library):
    needed = subprocess.run(["readelf", "-d", str(library)], check=True, capture_output=True, text=True).stdout
    names = [line.split("[")[1].rstrip("]\n") for line in needed.splitlines() if "(NEEDED)" in line]
    allowed = {"libm", "libc", "libpthread", "ld-linux-x86-64", "ld-linux-aarch64"}
    assert {name.split(".")[0] for name in names} <= allowed
    symbols = subprocess.run(["nm", "-D", "--defined-only", str(library)], check=True, capture_output=True, text=True)
    assert {line.split()[-1].partition("_")[0] for line in symbols.stdout.splitlines()} == {"carten"}


def test_info_says_what_is_inside(library):
    done = CliRunner().invoke(app, ["info", str(library)])
    assert done.exit_code == 0
    for words in ("H C O", "energy (eV), forces (eV/", "7 epochs, 70 steps", "float64; radial functions: tables of"):
        assert words in " ".join(done.output.split())
    assert CliRunner().invoke(app, ["info", str(library), "--json"]).exit_code == 0


def test_a_library_is_a_calculator(library):
    atoms, (energy, forces) = WATER.copy(), expected(library)
    atoms.calc = carten.Calculator(library)
    assert atoms.calc.path == "library"
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-12)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-12)
    assert set(atoms.calc.elements) == {atomic_numbers[symbol] for symbol in ("H", "C", "O")}


def test_other_processors(library, tmp_path):
    output = tmp_path / "v2.so"
    command = ["export", str(library.with_suffix(".carten")), "-o", str(output), "--march", "x86-64-v2"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert Deployed.read(output).header["march"] == "x86-64-v2"
    atoms, (energy, _) = WATER.copy(), expected(library)
    atoms.calc = carten.Calculator(output)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-12)


def test_what_cannot_be_exported_is_refused_by_name(tmp_path):
    from carten.physics.config import load_terms

    model = small_model(terms=tuple(load_terms([{"kind": "les"}])))
    save(tmp_path / "les.carten", model, {})
    done = CliRunner().invoke(app, ["export", str(tmp_path / "les.carten"), "-o", str(tmp_path / "les.so")])
    assert done.exit_code == 1
    assert "a library cannot have the term les yet" in done.output + str(done.exception or "")
    assert not (tmp_path / "les.so").exists()
    done = CliRunner().invoke(app, ["export", str(tmp_path / "les.carten"), "-o", str(tmp_path / "no" / "les.so")])
    assert done.exit_code == 1
