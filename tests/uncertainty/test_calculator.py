"""Uncertainties from the calculator, by predict and evaluate."""

import numpy as np
import pytest
from ase.calculators.calculator import PropertyNotImplementedError

import carten
from carten.data.labels import Frame
from carten.data.neighbours import graph
from carten.uncertainty import load_ensemble, save_ensemble
from carten.workflows.evaluate import evaluate
from carten.workflows.predict import predict, with_values
from small import ethanol, labelled, oxide, small_model
from uncertainty.ensembles import KINDS, ensemble

NAMES = ("energy", "forces", "energy_uncertainty", "forces_uncertainty")


def frames(count: int) -> list[Frame]:
    """Labelled by a model of other weights."""
    return [
        Frame(
            atoms.numbers,
            atoms.positions,
            atoms.cell.array,
            atoms.pbc,
            {"energy": np.array(atoms.get_potential_energy()), "forces": atoms.get_forces()},
        )
        for atoms in labelled(count)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_the_calculator_agrees_with_the_ensemble(kind, tmp_path):
    several, atoms = ensemble(kind, {"energy": 2.0, "forces": 0.5}, backend="auto"), oxide()
    save_ensemble(tmp_path / "model.carten", several, [{}] * len(several.models))
    expected = several(graph(atoms, several.cutoff, {}), NAMES)
    for model in (several, tmp_path / "model.carten"):
        calculator = carten.Calculator(model)
        assert {"energy_uncertainty", "stress_uncertainty"} <= {*calculator.implemented_properties}
        for name in NAMES:
            np.testing.assert_allclose(calculator.get_property(name, atoms), np.squeeze(expected[name]), rtol=3e-5)
    assert calculator.get_property("forces_uncertainty", atoms).shape == (3,)


def test_uncertainties_of_a_committee_come_with_its_forces():
    atoms = oxide()
    atoms.calc = carten.Calculator(ensemble("committee"))
    atoms.get_forces()
    assert {"energy_uncertainty", "forces_uncertainty", "stress_uncertainty"} <= {*atoms.calc.results}


def test_a_plain_model_has_no_uncertainty():
    with pytest.raises(PropertyNotImplementedError, match="does not predict forces_uncertainty"):
        carten.Calculator(small_model()).get_property("forces_uncertainty", oxide())


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_carry_uncertainties(kind):
    several, structures = ensemble(kind), [ethanol(), oxide()]
    expected = several(graph(structures[1], several.cutoff, {}), NAMES)
    values = [*predict(several, structures)][1]
    assert {*values} == {*NAMES}
    for name in NAMES:
        np.testing.assert_allclose(values[name], np.squeeze(expected[name]), rtol=3e-5)
    written = with_values(structures[1], values, several.properties)
    np.testing.assert_allclose(written.arrays["forces_uncertainty"], values["forces_uncertainty"])
    assert written.info["energy_uncertainty"] == pytest.approx(float(values["energy_uncertainty"]))
    assert "energy_uncertainty: eV, forces_uncertainty: eV/Angstrom" in written.info["carten_units"]


@pytest.mark.parametrize("kind", KINDS)
def test_evaluation_compares_uncertainties_with_errors(kind):
    several = ensemble(kind)
    comparison = evaluate(several, frames(4), max_atoms=20).comparisons["forces"]
    graphs = [graph(atoms, several.cutoff, {}) for atoms in labelled(4)]
    expected = np.concatenate([several(one, ["forces_uncertainty"])["forces_uncertainty"] for one in graphs])
    np.testing.assert_allclose(comparison.uncertainty, 1000.0 * expected, rtol=3e-5)
    inside = np.abs(comparison.error) <= 1.6448536 * comparison.uncertainty[:, None]
    assert comparison.quality.coverage == pytest.approx(inside.mean())
    assert evaluate(several.model, frames(2)).comparisons["forces"].quality is None


def test_an_ensemble_in_a_file_is_read_by_name(tmp_path):
    save_ensemble(tmp_path / "committee.carten", ensemble("committee"), [{}] * 4)
    assert load_ensemble(str(tmp_path / "committee.carten")).n_members == 4
