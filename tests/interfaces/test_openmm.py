"""Models in OpenMM: the same numbers as the ASE calculator, boxes that change, parts of systems, files."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import molecule

from carten.errors import ModelError
from carten.interfaces.ase import Calculator
from carten.properties.io import save
from carten.properties.spec import Fidelity, input_table
from small import small_model

pytestmark = pytest.mark.needs("openmm")

KJ_PER_MOL = units.mol / units.kJ
REFERENCES = {"H": -13.6, "O": -2041.0}
ROUNDING = 1e-6
"""OpenMM takes positions in nm; relative, for float64 models."""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    potential = small_model(elements=(1, 8), properties=("energy", "forces"))
    for row, energy in enumerate(REFERENCES.values()):
        potential.heads["energies"].reference[row] = energy
    path = tmp_path_factory.mktemp("openmm") / "water.carten"
    save(path, potential, provenance={})
    return path


def waters() -> Atoms:
    """Eight molecules in a triclinic box, one of them across its boundary."""
    rng, atoms = np.random.default_rng(0), Atoms()
    for corner in np.ndindex(2, 2, 2):
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.translate(4.0 * np.array(corner) - 0.2)
        atoms += water
    atoms.set_cell([[8.0, 0, 0], [1.0, 8.1, 0], [-0.9, 0.7, 8.2]])
    atoms.pbc = True
    return atoms


def topology_of(atoms: Atoms):
    from openmm import app, unit

    topology = app.Topology()
    chain = topology.addChain()
    residue = topology.addResidue("ALL", chain)
    for symbol in atoms.symbols:
        topology.addAtom(symbol, app.element.get_by_symbol(symbol), residue)
    if atoms.pbc.all():
        topology.setPeriodicBoxVectors(atoms.cell.array * unit.angstrom)
    return topology


def potential_of(model):
    from openmmml import MLPotential

    from carten.interfaces.openmm import Factory

    MLPotential.registerImplFactory("carten", Factory())
    return MLPotential("carten", model=str(model))


def context_of(system, atoms: Atoms, platform: str = "Reference"):
    import openmm

    context = openmm.Context(system, openmm.VerletIntegrator(0.0005), openmm.Platform.getPlatformByName(platform))
    context.setPositions(atoms.positions / units.nm)
    return context


def evaluated(context) -> tuple[float, np.ndarray]:
    """Energy in eV and forces in eV/Å."""
    state = context.getState(getEnergy=True, getForces=True)
    return (
        state.getPotentialEnergy()._value / KJ_PER_MOL,
        state.getForces(asNumpy=True)._value / (KJ_PER_MOL * units.nm),
    )


def expected(atoms: Atoms, model) -> tuple[float, np.ndarray]:
    atoms = atoms.copy()
    atoms.calc = Calculator(model)
    return atoms.get_potential_energy(), atoms.get_forces()


@pytest.mark.parametrize("platform", ["Reference", "CPU"])
@pytest.mark.parametrize("periodic", [True, False])
def test_energies_and_forces_are_those_of_ase(model, periodic, platform):
    atoms = waters()
    if not periodic:
        atoms.pbc = False
        atoms.cell = None
    system = potential_of(model).createSystem(topology_of(atoms), energy_type="total")
    energy, forces = evaluated(context_of(system, atoms, platform))
    energy_by_ase, forces_by_ase = expected(atoms, model)
    assert energy == pytest.approx(energy_by_ase, rel=ROUNDING)
    np.testing.assert_allclose(forces, forces_by_ase, atol=ROUNDING * np.abs(forces_by_ase).max())


def test_the_interaction_energy_leaves_out_reference_energies(model):
    atoms = waters()
    energy, _ = evaluated(context_of(potential_of(model).createSystem(topology_of(atoms)), atoms))
    references = sum(REFERENCES[symbol] for symbol in atoms.symbols)
    assert energy == pytest.approx(expected(atoms, model)[0] - references, abs=1e-6)
    assert abs(energy) < 100 < abs(references)


def test_the_box_may_change(model):
    atoms = waters()
    context = context_of(potential_of(model).createSystem(topology_of(atoms), energy_type="total"), atoms)
    first = evaluated(context)[0]
    atoms.set_cell(atoms.cell * 1.02, scale_atoms=True)
    context.setPeriodicBoxVectors(*(atoms.cell.array / units.nm))
    context.setPositions(atoms.positions / units.nm)
    energy, _ = evaluated(context)
    assert energy == pytest.approx(expected(atoms, model)[0], rel=ROUNDING)
    assert abs(energy - first) > 1e-4


def test_dynamics_keeps_the_energy(model):
    atoms = waters()
    system = potential_of(model).createSystem(topology_of(atoms), removeCMMotion=False)
    context = context_of(system, atoms)
    context.setVelocitiesToTemperature(300, 1)
    energies = []
    for _ in range(5):
        context.getIntegrator().step(10)
        state = context.getState(getEnergy=True)
        energies.append((state.getPotentialEnergy() + state.getKineticEnergy())._value)
    kinetic = context.getState(getEnergy=True).getKineticEnergy()._value
    assert np.ptp(energies) < 0.05 * kinetic


def test_a_system_survives_a_file(model):
    import openmm

    atoms = waters()
    system = potential_of(model).createSystem(topology_of(atoms))
    again = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    assert evaluated(context_of(again, atoms))[0] == evaluated(context_of(system, atoms))[0]


def test_part_of_a_system_in_any_order(model):
    """Linear in lambda, from the force field to the model for one molecule whose atoms are listed in another order."""
    import openmm
    from openmm import app

    atoms = waters()
    topology = app.Topology()
    chain = topology.addChain()
    for _ in range(8):
        residue = topology.addResidue("HOH", chain)
        oxygen, *hydrogens = [
            topology.addAtom(name, app.element.get_by_symbol(name[0]), residue) for name in ("O", "H1", "H2")
        ]
        for hydrogen in hydrogens:
            topology.addBond(oxygen, hydrogen)
    topology.setPeriodicBoxVectors(atoms.cell.array / units.nm * openmm.unit.nanometer)
    field = app.ForceField("amber14/tip3p.xml")
    options = {"nonbondedMethod": app.CutoffPeriodic, "nonbondedCutoff": 0.35 * openmm.unit.nanometer}
    mm_system = field.createSystem(topology, rigidWater=False, constraints=None, **options)
    mixed = potential_of(model).createMixedSystem(topology, mm_system, [5, 3, 4], interpolate=True)
    context = context_of(mixed, atoms)
    energies = []
    for coupling in (0.0, 0.5, 1.0):
        context.setParameter("lambda_interpolate", coupling)
        energies.append(evaluated(context)[0])
    assert energies[1] == pytest.approx((energies[0] + energies[2]) / 2, rel=1e-9)
    assert energies[0] == pytest.approx(evaluated(context_of(mm_system, atoms))[0], rel=ROUNDING)
    only = potential_of(model).createMixedSystem(topology, mm_system, [3, 4, 5])
    assert evaluated(context_of(only, atoms))[0] == pytest.approx(energies[2], rel=1e-9)


def test_charge_is_an_input(tmp_path):
    charge = input_table()["total_charge"]
    path = tmp_path / "ion.carten"
    save(path, small_model(elements=(1, 8), properties=("energy", "forces"), inputs=(charge,)), provenance={})
    atoms = molecule("H2O")
    energies = []
    for total in (0, 1):
        system = potential_of(path).createSystem(topology_of(atoms), charge=total)
        energies.append(evaluated(context_of(system, atoms))[0])
        told = atoms.copy()
        told.calc = Calculator(path, inputs={"total_charge": total})
        assert energies[-1] == pytest.approx(told.get_potential_energy(), rel=ROUNDING)
    assert energies[0] != energies[1]


def test_the_default_level_of_theory(tmp_path):
    level = replace(input_table()["fidelity"], embed=Fidelity(("pbe", "hse"), "both"), default="hse")
    potential = small_model(elements=(1, 8), properties=("energy", "forces"), inputs=(level,))
    potential.heads["energies"].reference[:, 0] = torch.arange(4.0) * 100
    save(tmp_path / "levels.carten", potential, provenance={})
    atoms = waters()
    energy, _ = evaluated(context_of(potential_of(tmp_path / "levels.carten").createSystem(topology_of(atoms)), atoms))
    references = {"H": 200.0, "O": 300.0}
    total = expected(atoms, tmp_path / "levels.carten")[0]
    assert energy == pytest.approx(total - sum(references[symbol] for symbol in atoms.symbols), abs=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"energy_type": "free"}, "interaction, total"),
        ({"temperature": 3}, "no argument 'temperature'"),
        ({"charge": 1}, "total_charge"),
        ({"inputs": {"fidelity": "pbe"}}, "fidelity"),
        ({"dtype": "half"}, "float32"),
    ],
)
def test_wrong_arguments(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        potential_of(model).createSystem(topology_of(waters()), **arguments)


def test_an_element_that_the_model_does_not_know(model):
    with pytest.raises(ModelError, match="does not know C"):
        potential_of(model).createSystem(topology_of(molecule("CH4")))


def test_a_model_without_energies(tmp_path):
    save(tmp_path / "dipole.carten", small_model(properties=("dipole",)), provenance={})
    with pytest.raises(ModelError, match="no energies"):
        potential_of(tmp_path / "dipole.carten")
