"""What a model says of isolated atoms, where these do not have their reference energies."""

import pytest
import torch
from ase import Atoms

import carten
from carten.cli.model import info_command
from carten.model.conditions import Fidelity, Input
from carten.model.config import NetworkConfig
from carten.properties.io import save
from carten.properties.isolated import isolated_predictions, surprises
from carten.properties.potential import Potential
from carten.properties.spec import input_table, property_table
from contract import results

SMALL = {"n_channels": 4, "l_max_edges": 1, "l_max_features": 1, "correlation_order": 2}


def build(inputs=()):
    config = NetworkConfig.model_validate(SMALL)
    model = Potential(config, [1, 6, 7, 8], [property_table()["energy"]], inputs=inputs)
    model.heads["energies"].reference[:, 0] = -10.0 * torch.arange(1, 1 + len(model.heads["energies"].reference))
    return model


def test_energies_are_those_that_a_calculator_gives():
    model = build()
    (atoms,) = isolated_predictions(model).values()
    assert [atom.number for atom in atoms] == list(model.elements)
    for k, atom in enumerate(atoms):
        assert atom.reference == -10.0 * (k + 1)
        assert atom.predicted == pytest.approx(float(results(model, Atoms(numbers=[atom.number]))["energy"][0]))
        assert atom.predicted != atom.reference
    assert model.training


def test_each_level_of_theory_has_its_own():
    level = Input("fidelity", "structure", "", +1, "", Fidelity(("low", "high"), "heads"))
    model = build([level, input_table()["total_charge"]])
    found = isolated_predictions(model)
    assert list(found) == ["low", "high"]
    assert [atom.reference for atom in found["high"]] == [-10.0 * k for k in range(5, 9)]
    assert found["low"][0].predicted != found["high"][0].predicted
    assert len(surprises(model)) == 2


def test_nothing_is_said_where_the_network_adds_nothing_or_there_are_no_references():
    model = build()
    model.heads["energies"].scale.zero_()
    assert surprises(model) == []
    model.heads["energies"].shift.fill_(2.0)
    assert "H -8.000 (E0 -10.000)" in surprises(model)[0]
    model.heads["energies"].reference.zero_()
    assert surprises(model) == []


def test_info_says_it(tmp_path, capsys):
    save(path := tmp_path / "m.carten", build(), {})
    info_command(path)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("isolated")]
    atoms = Atoms("H")
    atoms.calc = carten.Calculator(path)
    assert f"H {atoms.get_potential_energy():.3f} (E0 -10.000)" in line
