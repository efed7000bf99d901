"""Spin-orbit coupling: what becomes of properties when all magnetic moments and fields are reversed."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms

import contract
from carten.errors import ModelError
from carten.interfaces.ase import Calculator
from carten.model.conditions import Input, Scalar, Tensor
from carten.model.config import NetworkConfig
from carten.ops.space import Part
from carten.properties import io
from carten.properties.potential import Potential
from carten.properties.routes import Property, Readout
from carten.properties.spec import input_table, property_table
from carten.properties.upgrades import UPGRADES
from small import NETWORK, ethanol

TABLE, INPUTS = property_table(), input_table()
BOTH = (INPUTS["magmoms"], INPUTS["magnetic_field"])


def model(inputs=BOTH, rows=(TABLE["energy"], TABLE["moments"]), **changes) -> Potential:
    config = NetworkConfig.model_validate(NETWORK | {"odd_products": True, "n_layers": 2} | changes)
    return Potential(config, [1, 6, 8], list(rows), inputs=inputs, seed=2).double().freeze()


def magnetic(sign: float = 1.0, scale: float = 1.0) -> Atoms:
    atoms = ethanol()
    atoms.rattle(0.05, seed=1)
    moments = np.random.default_rng(5).normal(size=(len(atoms), 3))
    atoms.arrays["magmoms"] = sign * scale * moments
    atoms.info["magnetic_field"] = sign * scale * np.array([3.0, -8.0, 5.0])
    return atoms


@pytest.mark.parametrize("preset", ["carten", "tace", "ictp"])
def test_energies_stay_and_moments_turn_when_time_is_reversed(preset: str):
    potential = model(preset=preset)
    names = ["energy", "forces", "magnetic_forces", "magnetic_dipole", "moments"]
    ahead, back, none = (contract.results(potential, magnetic(*x), names=names) for x in ((1,), (-1,), (1, 0)))
    for name, sign in zip(names, (1, 1, -1, -1, -1), strict=True):
        scale = abs(ahead[name]).max()
        assert back[name] == pytest.approx(sign * ahead[name], abs=1e-12 * scale) and scale > 1e-4
        assert sign > 0 or abs(none[name]).max() == 0.0
    assert abs(ahead["energy"] - none["energy"]).max() > 1e-3


def test_moments_alone_do_not_tell_what_a_field_does_with_them():
    """Energies know m . B: reversing only the field is no symmetry."""
    potential, atoms = model(), magnetic()
    atoms.info["magnetic_field"] *= -1
    energies = [contract.results(potential, x, names=["energy"])["energy"][0] for x in (magnetic(), atoms)]
    assert abs(energies[0] - energies[1]) > 1e-6


def test_it_is_of_full_o3_and_conservative():
    potential = model()
    contract.check_derivatives(potential, magnetic())
    turned, matrix = magnetic(), np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turned.positions = turned.positions @ matrix.T
    for values in (turned.arrays["magmoms"], turned.info["magnetic_field"]):
        values[...] = np.linalg.det(matrix) * values @ matrix.T
    results = [contract.results(potential, x, names=["energy", "moments"]) for x in (magnetic(), turned)]
    assert results[1]["energy"] == pytest.approx(results[0]["energy"], abs=1e-10)
    expected = np.linalg.det(matrix) * results[0]["moments"] @ matrix.T
    assert results[1]["moments"] == pytest.approx(expected, abs=1e-10)


def test_without_an_input_that_turns_nothing_changes():
    """The same weights, and moments that are read from positions."""
    exact, learned = (model(inputs=(), time_reversal=value) for value in (True, False))
    assert not exact.design.reverses
    state, other = exact.state_dict(), learned.state_dict()
    assert state.keys() == other.keys() and all(torch.equal(state[name], other[name]) for name in state)


def test_it_can_be_left_to_be_learned_as_in_older_files(tmp_path):
    potential = model(time_reversal=False)
    energies = [contract.results(potential, magnetic(x), names=["energy"])["energy"][0] for x in (1, -1)]
    assert abs(energies[0] - energies[1]) > 1e-4
    io.save(tmp_path / "old.carten", potential, {})
    header = io.header(tmp_path / "old.carten")
    del header["network"]["time_reversal"]
    assert UPGRADES[6]({**header, "format": 6})["network"]["time_reversal"] is False
    again = contract.results(io.load(tmp_path / "old.carten"), magnetic(), names=["energy"])["energy"][0]
    assert again == energies[0]


@pytest.mark.needs("cpp")
def test_compiled_models_have_the_symmetry_too():
    atoms, back = magnetic(), magnetic(-1)
    for x in (atoms, back):
        x.calc = Calculator(model(rows=(TABLE["energy"],)))
    assert atoms.calc.path == back.calc.path
    energies = [x.get_potential_energy() for x in (atoms, back)]
    forces = [x.get_forces() for x in (atoms, back)]
    exact = contract.results(model(rows=(TABLE["energy"],)), magnetic(), names=["energy"])["energy"][0]
    assert energies == pytest.approx([exact, exact], abs=1e-6)
    assert forces[1] == pytest.approx(forces[0], abs=1e-10)


def test_rows_of_ones_own():
    torque = Property("torque", "atom", "i", -1, "eV", (Readout(),), time_parity=-1)
    current = Input("current", "structure", "i", -1, "", Tensor(), default=0.0, time_parity=-1)
    potential = model(inputs=(current,), rows=(TABLE["energy"], torque))
    results = []
    for sign in (1, -1):
        atoms = ethanol()
        atoms.info["current"] = sign * np.array([0.3, -0.5, 0.8])
        results.append(contract.results(potential, atoms, names=["energy", "torque"]))
    assert results[0]["energy"] == pytest.approx(results[1]["energy"], abs=1e-12)
    assert results[0]["torque"] == pytest.approx(-results[1]["torque"], abs=1e-12)
    assert abs(results[0]["torque"]).max() > 1e-6


def test_bad_input():
    with pytest.raises(ModelError, match="changes sign when time is reversed, energies do not: embed it as tensor"):
        model(inputs=(replace(INPUTS["collinear_magmoms"], embed=Scalar()),))
    current = Input("current", "structure", "i", -1, "", Tensor(), time_parity=-1)
    with pytest.raises(ModelError, match=r"needs pseudotensors 1-t.*set model.odd_products: true"):
        model(inputs=(current,), rows=(TABLE["energy"],), odd_products=False)


def test_names_of_parts():
    parts = [Part(2, -1, -1), Part(0, 1, -1), Part(3, 1), Part(1, -1)]
    assert [part.name for part in parts] == ["2-t", "0+t", "3+", "1-"]
    assert [Part.named(part.name) for part in parts] == parts
