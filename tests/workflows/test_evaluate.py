"""Errors are those of their definitions, over exactly the labels that are there."""

import csv
import json

import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator

from carten.data.labels import Label, frames_from
from carten.errors import DataError, ModelError
from carten.properties.spec import property_table
from carten.workflows.comparison import Comparison, ErrorStatistics
from carten.workflows.error_files import write_atoms, write_structures
from carten.workflows.evaluate import evaluate
from carten.workflows.predict import predict
from small import diamond, ethanol, oxide, small_model

MODEL = small_model()
TABLE = property_table()


def labelled(count: int = 6, noise: float = 0.1):
    """Structures of three kinds; labels are predictions plus known errors. The last one has no forces."""
    random = np.random.default_rng(7)
    structures, errors = [], []
    for number in range(count):
        atoms = (ethanol, oxide, diamond)[number % 3]()
        atoms.rattle(0.05, seed=number)
        predicted = next(predict(MODEL, [atoms], ["energy", "forces"]))
        error = random.normal(scale=noise, size=1 + 3 * len(atoms))
        results = {"energy": float(predicted["energy"]) - error[0]}
        if number < count - 1:
            results["forces"] = predicted["forces"] - error[1:].reshape(-1, 3)
        atoms.calc = SinglePointCalculator(atoms, **results)
        structures.append((f"frame {number}", atoms))
        errors.append(error)
    return structures, errors


def frames_of(structures):
    return frames_from(structures, [Label(TABLE[name], required=False) for name in ("energy", "forces", "stress")])


@pytest.mark.parametrize("max_atoms", [1, 20, 1000])
def test_statistics_are_those_of_the_known_errors(max_atoms):
    structures, errors = labelled()
    sizes = np.array([len(atoms) for _, atoms in structures])
    done: list[int] = []
    evaluation = evaluate(MODEL, frames_of(structures), max_atoms=max_atoms, advance=done.append)
    assert done == sorted(set(done))
    assert done[-1] == 6
    assert (evaluation.n_structures, evaluation.n_atoms) == (6, sizes.sum())
    assert set(evaluation.comparisons) == {"energy", "forces"}

    energy = 1000 * np.array([error[0] for error in errors])
    found = evaluation.comparisons["energy"].total()
    assert (found.unit, found.count) == ("meV", 6)
    assert found.rmse == pytest.approx(np.sqrt(np.mean(energy**2)))
    assert found.mae == pytest.approx(np.mean(np.abs(energy)))
    assert found.max == pytest.approx(np.max(np.abs(energy)))
    assert found.bias == pytest.approx(np.mean(energy))
    per_atom = evaluation.comparisons["energy"].per_atom()
    assert per_atom.unit == "meV/atom"
    assert per_atom.rmse == pytest.approx(np.sqrt(np.mean((energy / sizes) ** 2)))

    forces = 1000 * np.concatenate([error[1:] for error in errors[:-1]])
    found = evaluation.comparisons["forces"].total()
    assert (found.unit, found.count) == ("meV/Angstrom", len(forces))
    assert found.rmse == pytest.approx(np.sqrt(np.mean(forces**2)))
    numbers = np.repeat(np.concatenate([atoms.numbers for _, atoms in structures[:-1]]), 3)
    elements = evaluation.comparisons["forces"].elements()
    assert set(elements) == {"H", "C", "O"}
    assert elements["O"].rmse == pytest.approx(np.sqrt(np.mean(forces[numbers == 8] ** 2)))
    assert evaluation.comparisons["energy"].elements() == {}


def test_the_hardest_structure_is_found():
    structures, _ = labelled(noise=0.01)
    structures[4][1].calc.results["forces"][0, 0] += 3.0
    structures[1][1].calc.results["energy"] += 2.0
    hardest = evaluate(MODEL, frames_of(structures)).hardest(2)
    assert set(hardest) == {1, 4}


def test_the_summary_is_json_with_units():
    structures, _ = labelled()
    summary = json.loads(json.dumps(evaluate(MODEL, frames_of(structures)).summary()))
    assert summary["structures"] == 6
    forces = summary["properties"]["forces"]
    assert forces["unit"] == "meV/Angstrom"
    assert forces["elements"]["H"]["rmse"] > 0
    assert summary["properties"]["energy"]["per_atom"]["unit"] == "meV/atom"


def test_errors_by_group_are_those_of_each_group_alone():
    structures, errors = labelled()
    groups = ["crystal" if number % 3 == 2 else "molecule" for number in range(6)]
    evaluation = evaluate(MODEL, frames_of(structures), groups=groups)
    summary = json.loads(json.dumps(evaluation.summary()))["groups"]
    assert list(summary) == ["crystal", "molecule"]
    for group, found in summary.items():
        members = [number for number in range(6) if groups[number] == group]
        assert found["structures"] == len(members)
        alone = evaluate(MODEL, [frames_of(structures)[number] for number in members]).summary()["properties"]
        for name in alone:
            assert found["properties"][name]["rmse"] == pytest.approx(alone[name]["rmse"], rel=1e-9)
        energy = [1000 * errors[number][0] / len(structures[number][1]) for number in members]
        assert found["properties"]["energy"]["per_atom"]["bias"] == pytest.approx(np.mean(energy))
    assert evaluate(MODEL, frames_of(structures)).summary()["groups"] == {}


def test_files_of_errors_have_a_line_for_each_structure_and_for_each_atom(tmp_path):
    structures, errors = labelled()
    frames = frames_of(structures)
    evaluation = evaluate(MODEL, frames, max_atoms=20, groups=["=a", "b"] * 3)
    write_structures(tmp_path / "structures.csv", evaluation, frames)
    write_atoms(tmp_path / "atoms.csv", evaluation, frames)
    lines, atoms = (list(csv.DictReader((tmp_path / f"{name}.csv").open())) for name in ("structures", "atoms"))
    assert [line["structure"] for line in lines] == [f"frame {number}" for number in range(6)]
    assert [line["group"] for line in lines] == ["'=a", "b"] * 3
    for line, error, (_, structure) in zip(lines, errors, structures, strict=True):
        assert (line["formula"], int(line["atoms"])) == (structure.get_chemical_formula(), len(structure))
        assert float(line["energy_error (meV)"]) == pytest.approx(1000 * error[0], rel=1e-5)
        assert float(line["energy_error (meV/atom)"]) == pytest.approx(1000 * error[0] / len(structure), rel=1e-5)
        expected = float(line["energy_predicted (meV)"]) - float(line["energy_reference (meV)"])
        assert expected == pytest.approx(1000 * error[0], rel=1e-3)
        if line["structure"] == "frame 5":
            assert line["forces_rmse (meV/Angstrom)"] == line["forces_max (meV/Angstrom)"] == ""
        else:
            rmse = 1000 * np.sqrt(np.mean(error[1:] ** 2))
            assert float(line["forces_rmse (meV/Angstrom)"]) == pytest.approx(rmse, rel=1e-5)
            largest = 1000 * np.abs(error[1:]).max()
            assert float(line["forces_max (meV/Angstrom)"]) == pytest.approx(largest, rel=1e-5)
    assert [line["element"] for line in atoms] == [symbol for _, one in structures for symbol in one.symbols]
    assert [int(line["atom"]) for line in atoms] == [atom for _, one in structures for atom in range(len(one))]
    found = [[line[f"forces_{axis}_error (meV/Angstrom)"] for axis in "xyz"] for line in atoms]
    unlabelled = len(structures[-1][1])
    assert found[-unlabelled:] == [["", "", ""]] * unlabelled
    expected = 1000 * np.concatenate([error[1:].reshape(-1, 3) for error in errors[:-1]])
    np.testing.assert_allclose(np.array(found[:-unlabelled], dtype=float), expected, rtol=1e-5, atol=1e-6)
    assert "energy_error (meV)" not in atoms[0]


def test_only_the_properties_asked_for_are_compared():
    structures, _ = labelled()
    assert set(evaluate(MODEL, frames_of(structures), ["energy"]).comparisons) == {"energy"}
    with pytest.raises(DataError, match="does not predict charges; it predicts energies, energy, forces, dipole"):
        evaluate(MODEL, frames_of(structures), ["charges"])


def test_data_without_labels_are_an_error():
    with pytest.raises(DataError, match="none of 1 structures carries a label of energies, energy, forces"):
        evaluate(MODEL, frames_of([("frame 0", ethanol())]))


def test_unknown_elements_are_named_with_their_place():
    atoms = ethanol()
    atoms.numbers[2] = 9
    with pytest.raises(ModelError, match=r"frame 3: the model does not know F \(atom 2\), it knows H, C, O"):
        evaluate(MODEL, frames_from([("frame 3", atoms)]))


def test_spread_is_the_error_of_the_mean():
    reference = np.random.default_rng(0).normal(loc=(1.0, 2.0, 3.0), size=(50, 3))
    mean = np.broadcast_to(reference.mean(axis=0), reference.shape)
    found = ErrorStatistics.of(reference, mean, "eV")
    assert found.spread == pytest.approx(found.rmse)


def test_errors_of_irreducible_parts_by_hand():
    """Those of a shielding tensor: a third of the trace, (T_xy - T_yx) / 2, and what is left."""
    rng = np.random.default_rng(0)
    reference, predicted = rng.normal(size=(2, 40, 3, 3))
    rows = np.arange(40)
    row = property_table()["nmr_shielding"]
    of = Comparison(row, reference.reshape(40, 9), predicted.reshape(40, 9), rows, np.ones(40, dtype=int), rows)
    found, error = of.parts(), predicted - reference
    assert list(found) == ["isotropic", "antisymmetric", "traceless"]
    assert [statistics.count for statistics in found.values()] == [40, 120, 200]
    assert found["isotropic"].mae == pytest.approx(np.abs(np.trace(error, axis1=1, axis2=2) / 3).mean())
    twisted = ((error - error.swapaxes(1, 2)) / 2)[:, [0, 0, 1], [1, 2, 2]]
    assert found["antisymmetric"].rmse == pytest.approx(np.sqrt(np.mean(twisted**2)))
    whole = sum(n * s.rmse**2 for n, s in zip((3, 2 * 3), list(found.values())[:2], strict=True))
    left = (error + error.swapaxes(1, 2)) / 2 - np.trace(error, axis1=1, axis2=2)[:, None, None] * np.eye(3) / 3
    assert whole + np.mean(np.sum(left**2, axis=(1, 2))) == pytest.approx(9 * of.total().rmse ** 2)
    assert found["traceless"].max <= np.abs(left).max() * 1.5
    names = [name for name, _ in of.details()]
    assert names == ["isotropic", "antisymmetric", "traceless", "H"]


def test_tensors_of_one_part_have_no_others():
    for name, size in (("quadrupole", 9), ("forces", 3), ("energy", 1)):
        values, one = np.ones((2, size)), np.ones(2, dtype=int)
        assert Comparison(property_table()[name], values, values, one, one, one).parts() == {}


def test_sums_over_atoms_are_compared_with_what_the_rule_says():
    """Born charges with the charge times the unit matrix, a whole number; charges with those of the labels."""
    rows, sizes = np.array([0, 0, 1, 1, 1]), np.array([2, 2, 3, 3, 3])

    def sums(name, reference, predicted):
        numbers = np.ones(5, dtype=int)
        return Comparison(property_table()[name], reference, predicted, rows, numbers, sizes).sums()

    unit = np.eye(3).reshape(1, 9)
    labels = np.array([0.5, 0.45, -0.3, 0.3, 0.02])[:, None] * unit  # an ion of charge 1, and a neutral structure
    born = sums("born_charges", labels, np.full((5, 9), 0.5))
    ion, neutral = np.full((3, 3), 1.0) - np.eye(3), np.full((3, 3), 1.5)
    assert born.rmse == pytest.approx(np.sqrt((np.square(ion).sum() + np.square(neutral).sum()) / 18))
    assert born.count == 18
    charges = sums("charges", np.arange(10.0).reshape(5, 2), np.ones((5, 2)))
    assert charges.max == pytest.approx(18.0)
    assert charges.bias == pytest.approx(np.mean([2 - 2, 2 - 4, 3 - 18, 3 - 21]))
    reference = predicted = np.zeros((5, 3))
    assert sums("dipole", reference, predicted) is None
