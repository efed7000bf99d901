"""Reference energies, scales and neighbours."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from carten.data.dataset import Dataset
from carten.data.labels import Label, frames_from
from carten.data.statistics import interaction_energies, isolated_atoms, reference_energies, statistics
from carten.errors import DataError
from carten.properties.spec import property_table

TABLE = property_table()
LABELS = [Label(TABLE["energy"], required=False), Label(TABLE["forces"], required=False)]
E0 = {1: -13.6, 6: -1029.4, 8: -2042.0}


def frames(formulas, interaction=0.0, seed=0):
    """Gas of atoms with energy sum of E0 plus noise per atom."""
    rng = np.random.default_rng(seed)
    structures = []
    for number, formula in enumerate(formulas):
        atoms = Atoms(formula, rng.uniform(0, 20, (len(Atoms(formula)), 3)))
        noise = interaction * len(atoms) * rng.normal() if len(atoms) > 1 else 0.0
        atoms.info["energy"] = sum(E0[int(z)] for z in atoms.numbers) + noise
        structures.append((f"frame {number}", atoms))
    return frames_from(structures, LABELS)


def test_fit_recovers_exact_energies():
    found = reference_energies(frames(["H2O", "CH4", "CO2", "C2H6O", "H2"]))
    assert found.undetermined == ()
    assert set(found.origin.values()) == {"fitted"}
    for number, energy in E0.items():
        assert found.values[number] == pytest.approx(energy, abs=1e-6)
    assert found.residual == pytest.approx(0.0, abs=1e-7)


def test_fit_of_noisy_energies_weighs_structures_equally():
    data = frames(["H2O", "CH4", "CO2", "C2H6O", "C6H6", "C12H26"] * 50, interaction=0.1)
    found = reference_energies(data)
    residual = interaction_energies(data, found.values)
    assert found.residual == pytest.approx(np.sqrt(np.mean(residual**2)))
    # normal equations of the stated problem: residuals per atom are orthogonal to the fractions
    fractions = np.array([[np.mean(frame.numbers == number) for number in found.values] for frame in data])
    assert np.abs(fractions.T @ residual).max() < 1e-6


def test_one_composition_is_reported_and_still_explained():
    data = frames(["C5H8O2"] * 10)
    found = reference_energies(data)
    assert found.undetermined == (1, 6, 8)
    assert found.residual == pytest.approx(0.0, abs=1e-7)
    mean = float(data[0].labels["energy"]) / 15
    assert list(found.values.values()) == pytest.approx([mean] * 3)


def test_constant_ratio_of_two_elements():
    found = reference_energies(frames(["H2O", "H4O2", "CH2O", "C3H2O"]))
    assert found.undetermined == (1, 8)
    assert found.values[6] == pytest.approx(E0[6], abs=1e-5)
    assert 2 * found.values[1] + found.values[8] == pytest.approx(2 * E0[1] + E0[8], abs=1e-5)


def test_isolated_atoms_are_taken():
    data = frames(["H", "O", "C", "CH4", "CO2"], interaction=1.0)
    assert isolated_atoms(data) == E0
    found = reference_energies(data)
    assert found.values == E0
    assert set(found.origin.values()) == {"isolated"}
    assert reference_energies(data, "isolated").values == E0
    fitted = reference_energies(data, "fitted")
    assert set(fitted.origin.values()) == {"fitted"}


def test_isolated_atoms_complete_a_fit():
    found = reference_energies(frames(["O", "CH4", "CO2", "H2O", "C2H6O"]))
    assert found.origin == {1: "fitted", 6: "fitted", 8: "isolated"}
    for number, energy in E0.items():
        assert found.values[number] == pytest.approx(energy, abs=1e-5)


def test_one_atom_in_a_periodic_cell_is_not_isolated():
    atoms = bulk("Cu")
    atoms.info["energy"] = -3.5
    assert isolated_atoms(frames_from([("bulk", atoms)], LABELS)) == {}


def test_errors():
    with pytest.raises(DataError, match="no isolated atom with an energy for C, O"):
        reference_energies(frames(["H", "CO2"]), "isolated")
    with pytest.raises(DataError, match="need structures with an energy"):
        reference_energies(frames_from([("x", Atoms("H"))]))
    cation, neutral = Atoms("H"), Atoms("H")
    cation.info["energy"], neutral.info["energy"] = 0.0, -13.6
    with pytest.raises(DataError, match=r"isolated H has 0.0 eV in a but -13.6 eV in b"):
        isolated_atoms(frames_from([("a", cation), ("b", neutral)], LABELS))
    without = frames(["H", "CO2"])
    without[1].labels.pop("energy")
    with pytest.raises(DataError, match="no structure with an energy contains C, O"):
        reference_energies(without)


def test_elements_without_any_energy_are_undetermined():
    data = frames(["H2", "CO2"])
    data[1].labels.pop("energy")
    found = reference_energies(data)
    assert found.undetermined == (6, 8)
    assert found.values[1] == pytest.approx(E0[1], abs=1e-6)


@pytest.mark.parametrize(("edge", "isolated"), [(3.0, False), (4.9, False), (5.1, True), (20.0, True)])
def test_an_atom_in_a_box_is_isolated_if_its_images_are_beyond_the_cutoff(edge, isolated):
    """In a skew cell too, whose nearest image is none of its vectors."""
    skew = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [5.0, -3.0, 1.0]])
    for cell in (np.eye(3), skew):
        atoms = Atoms("Cu", cell=edge * cell, pbc=True, info={"energy": -3.5})
        frame = frames_from([("box", atoms)], LABELS)[0]
        assert frame.image_distance == pytest.approx(edge)
        assert isolated_atoms([frame], 5.0) == ({29: -3.5} if isolated else {})
    slab = Atoms("Cu", cell=[edge, 30, 0], pbc=(True, True, False))
    assert frames_from([("slab", slab)])[0].is_isolated(5.0) == isolated


def test_of_isolated_atoms_in_boxes_the_most_isolated_counts():
    boxes = [Atoms("H", cell=np.eye(3) * edge, pbc=True, info={"energy": -13.6 + 0.01 / edge}) for edge in (12, 30, 16)]
    data = frames_from([(str(k), atoms) for k, atoms in enumerate(boxes)], LABELS)
    assert isolated_atoms(data) == {1: -13.6 + 0.01 / 30}
    alone = frames_from([("alone", Atoms("H", info={"energy": -13.6}))], LABELS)
    assert isolated_atoms([*data, *alone]) == {1: -13.6}
    boxes[2].info["energy"] = -12.0
    with pytest.raises(DataError, match="isolated H has"):
        isolated_atoms(frames_from([("a", boxes[1]), ("b", boxes[2])], LABELS))


def test_statistics():
    data = frames(["H2O", "CH4", "O"])
    for frame in data[:2]:
        frame.labels["forces"] = np.full((len(frame), 3), 2.0)
    found = statistics(Dataset(data, [], 30.0))  # everything is a neighbour
    assert found.elements == (1, 6, 8)
    assert (found.n_structures, found.n_atoms) == (3, 9)
    assert found.neighbours == pytest.approx((3 * 2 + 5 * 4) / 9)
    assert found.force_rms == pytest.approx(2.0)
    bare = statistics(Dataset(frames_from([("x", Atoms("H"))]), [], 3.0))
    assert (bare.force_rms, bare.neighbours) == (None, 0.0)
