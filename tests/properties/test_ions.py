"""Charged structures in an electric field that the network is told: what a translation costs, and what dipoles mean."""

from dataclasses import replace

import numpy as np
import pytest
from ase import Atoms

import contract
from carten.deploy.bind import beyond, require_local
from carten.errors import ModelError
from carten.model.conditions import Scalar
from carten.model.config import NetworkConfig
from carten.properties import io
from carten.properties.potential import Potential
from carten.properties.routes import Balanced
from carten.properties.spec import input_table, property_table
from carten.properties.upgrades import UPGRADES
from small import NETWORK, ethanol, oxide, slab, small_model

FIELD = np.array([0.11, -0.07, 0.23])
CHARGE = -2.0


INPUTS = (replace(input_table()["total_charge"], embed=Scalar()), input_table()["electric_field"])


def model(rows=("energy",)):
    return small_model(properties=rows, inputs=INPUTS)


def molecule() -> Atoms:
    atoms = ethanol()
    atoms.rattle(0.05, seed=4)
    return atoms


def ion(structure, field=FIELD) -> Atoms:
    atoms = structure()
    atoms.info.update(total_charge=CHARGE, electric_field=np.asarray(field, dtype=float))
    return atoms


@pytest.mark.parametrize("structure", [molecule, oxide, slab])
def test_the_field_pulls_by_the_total_charge(structure):
    results = contract.results(model(), ion(structure), names=["forces", "born_charges"])
    assert results["forces"].sum(0) == pytest.approx(CHARGE * FIELD, abs=1e-10)
    assert results["born_charges"].sum(0) == pytest.approx(CHARGE * np.eye(3), abs=1e-10)


def test_forces_are_differences_of_the_energy():
    for name, wrt in (("forces", "positions"), ("virial", "strain")):
        expected = -contract.central_differences(model(), ion(molecule), "energy", wrt)
        results = contract.results(model(), ion(molecule), names=[name])[name]
        assert results.reshape(expected.shape) == pytest.approx(expected, abs=1e-7)


def test_virials_of_atoms_are_refused_where_a_field_pulls():
    with pytest.raises(ModelError, match=r"virials of structure 0 .* does not divide into virials of atoms"):
        contract.results(model(), ion(molecule), names=["virials"])
    contract.results(model(), ion(molecule, [0.0, 0.0, 0.0]), names=["virials"])


def test_the_energy_falls_when_the_ion_follows_the_field():
    moved = ion(molecule)
    moved.positions += FIELD
    energies = [contract.results(model(), atoms, names=["energy"])["energy"][0] for atoms in (ion(molecule), moved)]
    assert energies[1] - energies[0] == pytest.approx(-CHARGE * FIELD @ FIELD, abs=1e-10)


def test_dipoles_of_ions_are_about_the_centre_of_mass():
    """They do not change with a translation; about the origin they would be larger by Q times the centre of mass."""
    potential, here, moved = model(("energy", "dipole")), ion(molecule), ion(molecule)
    moved.positions += [3.0, -1.0, 2.0]
    dipoles = [contract.results(potential, atoms, names=["dipole"])["dipole"][0] for atoms in (here, moved)]
    assert abs(dipoles[0]).max() > 1e-3 and dipoles[1] == pytest.approx(dipoles[0], abs=1e-10)
    derivative = property_table()["dipole"]
    derivative = replace(derivative, routes=tuple(r for r in derivative.routes if r.name == "derivative"))
    potential = model(("energy", derivative))
    dipole = contract.results(potential, here, names=["dipole"])["dipole"][0]
    slope = -contract.central_differences(potential, here, "energy", "electric_field").reshape(3)
    assert slope - dipole == pytest.approx(CHARGE * here.get_center_of_mass(), abs=1e-8)


def test_without_charge_or_field_nothing_is_added():
    potential = model()
    neutral, alone = ion(molecule), ion(molecule, [0.0, 0.0, 0.0])
    neutral.info["total_charge"] = 0.0
    for atoms in (neutral, alone):
        results = contract.results(potential, atoms, names=["energy", "forces"])
        potential.design = replace(potential.design, pulls_ions=False)
        contract.require_equal("alone", contract.results(potential, atoms, names=["energy", "forces"]), results, 1e-12)
        potential.design = replace(potential.design, pulls_ions=True)


def test_forces_do_not_depend_on_the_images_that_are_given():
    atoms = ion(oxide)
    moved = atoms.copy()
    moved.positions += (np.arange(len(atoms))[:, None] % [2, 3, 4]) @ atoms.cell.array
    names = ["forces", "virial"]
    results = [contract.results(model(), x, names=names) for x in (atoms, moved)]
    contract.require_equal("images", *results, 1e-9)


def test_files_keep_whether_there_is_a_pull(tmp_path):
    potential = model()
    io.save(tmp_path / "new.carten", potential, {})
    assert io.load(tmp_path / "new.carten").design.has_pull
    header = io.header(tmp_path / "new.carten")
    del header["pulls_ions"]
    assert UPGRADES[6]({**header, "format": 6})["pulls_ions"] is False
    potential.design = replace(potential.design, pulls_ions=False)
    io.save(tmp_path / "old.carten", potential, {})
    loaded = io.load(tmp_path / "old.carten")
    assert not loaded.design.has_pull
    assert contract.results(loaded, ion(molecule), names=["forces"])["forces"].sum(0) == pytest.approx(0, abs=1e-10)


def test_balanced_born_charges_add_up_to_the_total_charge():
    born = replace(property_table()["born_charges"], routes=(Balanced(),))
    for inputs, total in ((INPUTS[:1], CHARGE), ((), 0.0)):
        config = NetworkConfig.model_validate(NETWORK | {"odd_products": True, "n_layers": 2})
        potential = Potential(config, [1, 6, 8], [born], inputs=inputs).double().freeze()
        charges = contract.results(potential, ion(molecule), names=["born_charges"])["born_charges"]
        assert charges.sum(0) == pytest.approx(total * np.eye(3), abs=1e-10)


def test_a_library_can_not_pull_and_says_so():
    potential = model()
    assert beyond(potential) == ["electric_field on total_charge"]
    with pytest.raises(ModelError, match=r"cannot have .*electric_field on total_charge"):
        require_local(potential)
