"""carten check: what it finds in data that is right, and in data made wrong on purpose."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.spatial.transform import Rotation

from carten.data import geometry
from carten.data.check import check
from carten.data.geometry import Closest, add_contacts, closest_contacts, duplicates, kinds_of, surroundings
from carten.data.labels import Label, frames_from, read_frames
from carten.data.layouts import matrix as as_matrix
from carten.data.neighbours import edges
from carten.data.stress import check_stress
from carten.data.summary import report_lines
from carten.errors import ConfigError
from carten.properties.routes import Property
from carten.properties.spec import input_table, property_table

TABLE = property_table()
LABELS = [Label(TABLE[name], required=False) for name in ("energy", "forces", "stress")]


def labelled(atoms):
    """The structure with EMT's energy, forces and stress."""
    atoms = atoms.copy()
    atoms.calc = EMT()
    names = ("energy", "forces", "stress") if atoms.pbc.all() else ("energy", "forces")
    results = {name: atoms.calc.get_property(name, atoms) for name in names}
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def crystals(n_frames=8, strain=0.04, rattle=0.0, alloy=False, seed=0):
    """Copper (with gold) under random strains."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n_frames):
        atoms = bulk("Cu", cubic=True) * (2, 1, 1)
        if alloy:
            atoms.symbols[3] = "Au"
        deformation = np.eye(3) + rng.uniform(-strain, strain, (3, 3))
        atoms.set_cell(atoms.cell[:] @ deformation, scale_atoms=True)
        atoms.positions += rng.normal(scale=rattle, size=atoms.positions.shape)
        found.append(labelled(atoms))
    return found


def as_frames(structures, labels=LABELS):
    return frames_from([(f"frame {number}", atoms) for number, atoms in enumerate(structures)], labels)


def with_stress(frames, factor):
    return [replace(frame, labels={**frame.labels, "stress": factor * frame.labels["stress"]}) for frame in frames]


# --- stress ---


@pytest.mark.parametrize("rattle", [0.0, 0.008])
def test_stress_as_expected(rattle):
    found = check_stress(as_frames(crystals(rattle=rattle, alloy=True)))
    assert found.verdict == "as expected"
    assert found.pairs >= 5
    assert found.ratio == pytest.approx(1.0, abs=0.1)  # the trapezoidal rule under strains of 4 %


@pytest.mark.parametrize(
    ("factor", "verdict", "words"),
    [
        (-1.0, "opposite sign", "median -"),
        (160.21766, "other unit", "probably in GPa"),
        (-1602.1766, "other unit", "probably in kbar and of opposite sign"),
        (7.3, "other unit", "not the one given"),
    ],
)
def test_stress_of_wrong_sign_or_unit(factor, verdict, words):
    found = check_stress(with_stress(as_frames(crystals()), factor))
    assert found.verdict == verdict
    assert words in found.reason


def test_stress_is_undecided_where_labels_say_nothing():
    assert "too few" in check_stress(as_frames(crystals(2))).reason
    fixed_cell = as_frames(crystals(12, strain=0.0, rattle=0.1))
    found = check_stress(fixed_cell)
    assert found.verdict == "undecided"
    assert "within 3 %" in found.reason
    rng = np.random.default_rng(0)
    frames = as_frames(crystals(9))
    noise = [replace(frame, labels={**frame.labels, "energy": np.array(rng.normal())}) for frame in frames]
    assert check_stress(noise).verdict == "undecided"
    assert check_stress([]).verdict == "undecided"


@pytest.mark.parametrize(("sign", "verdict"), [(1.0, "as expected"), (-1.0, "opposite sign")])
def test_stress_by_compression_without_related_frames(sign, verdict):
    """Strongly rattled frames are not related pairs; pressure against volume still tells the sign."""
    frames = with_stress(as_frames(crystals(15, strain=0.08, rattle=0.1)), sign)
    found = check_stress(frames)
    assert (found.verdict, found.pairs) == (verdict, 0)
    assert "not the unit" in found.reason


# --- geometry ---


def group_of(structures):
    frames = as_frames(structures, [])
    return duplicates(frames, kinds_of(frames), np.array([surroundings(frame, 5.0).signature for frame in frames]))


def test_duplicates_whatever_the_pose():
    rng = np.random.default_rng(1)
    ethanol = molecule("CH3CH2OH")
    moved = ethanol[rng.permutation(9)]
    moved.positions = moved.positions @ Rotation.random(random_state=2).as_matrix().T * (-1, 1, 1) + 3.0
    near = ethanol.copy()
    near.positions[4, 0] += 0.02
    assert group_of([ethanol, near, moved, molecule("CH3OCH3"), ethanol]) == ((0, 2, 4),)


def test_duplicates_of_crystals():
    rng = np.random.default_rng(1)
    crystal = crystals(1, rattle=0.1, alloy=True)[0]
    wrapped = crystal.copy()
    wrapped.positions += np.array([1.3, -2.2, 0.4])
    wrapped.wrap()
    exchanged = crystal[rng.permutation(8)]
    exchanged.set_cell(crystal.cell[[2, 0, 1]] * [[1], [-1], [1]])
    exchanged.rotate(40, (1, 2, 3), rotate_cell=True)
    strained = crystal.copy()
    strained.set_cell(crystal.cell[:] * 1.003, scale_atoms=True)
    assert group_of([crystal, strained, wrapped, exchanged]) == ((0, 2, 3),)


def test_arrangements_on_a_lattice_are_told_apart():
    """Different arrangements of an alloy may have the same pair distances; they are no duplicates."""
    lattice = bulk("W", cubic=True) * (2, 2, 2)
    rng = np.random.default_rng(0)
    structures = [lattice.copy() for _ in range(60)]
    for atoms in structures:
        atoms.symbols[rng.permutation(16)[:8]] = "Ta"
    by_pairs, by_triplets = zip(*map(_pairs_and_triplets, structures), strict=True)
    misleading = [
        (one, other)
        for one, other in combinations(range(60), 2)
        if by_pairs[one] == by_pairs[other] and by_triplets[one] != pytest.approx(by_triplets[other], rel=1e-6)
    ]
    assert len(misleading) > 10, "there are such arrangements in this test"
    groups = group_of(structures)
    assert groups, "and there are true duplicates"
    for group in groups:
        assert [by_triplets[index] for index in group] == pytest.approx([by_triplets[group[0]]] * len(group), rel=1e-6)


def _pairs_and_triplets(atoms):
    """Pairs of elements by distance, and a sum over triplets that depends on angles and elements."""
    (centre, neighbour), shift = edges(atoms.positions, atoms.cell[:], atoms.pbc, 4.8)
    vectors = atoms.positions[neighbour] - atoms.positions[centre] + shift @ atoms.cell[:]
    distances = np.linalg.norm(vectors, axis=1).round(3)
    pairs = Counter(zip((atoms.numbers[centre] + atoms.numbers[neighbour]).tolist(), distances.tolist(), strict=True))
    triplets = 0.0
    for atom in range(len(atoms)):
        mine = centre == atom
        weights = (atoms.numbers[neighbour[mine]] - 72.0) * np.exp(-distances[mine])
        angles = np.exp(-(vectors[mine] @ vectors[mine].T) / 9)
        triplets += (atoms.numbers[atom] - 72.0) * float(weights @ angles @ weights)
    return pairs, triplets


def posed(rng, atoms, mirrored):
    """The same geometry: rotated, mirrored, moved, its atoms in another order, in another setting of the cell."""
    atoms = atoms[rng.permutation(len(atoms))]
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation = rotation if (np.linalg.det(rotation) < 0) == mirrored else -rotation
    atoms.set_cell(atoms.cell.array @ rotation.T)
    atoms.positions = atoms.positions @ rotation.T + rng.normal(scale=3.0, size=3)
    if atoms.pbc.all():
        atoms.wrap()
        atoms.set_cell((atoms.cell.array * rng.choice([-1, 1], size=(3, 1)))[rng.permutation(3)])
    return atoms


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_duplicates_are_those_that_were_made(periodic, seed):
    """Within the tolerance the same, beyond it not; each structure has between no and four twins."""
    rng = np.random.default_rng(seed)
    structures, origin = [], []
    for number in range(60):
        base = bulk("NaCl", "rocksalt", a=5.6, cubic=True) if periodic else molecule("CH3CH2OH")
        base.positions += rng.normal(scale=0.05, size=base.positions.shape)
        for twin in range(int(rng.integers(1, 6))):
            copy = posed(rng, base, mirrored=bool(twin % 2))
            copy.positions += rng.uniform(-1e-4, 1e-4, size=copy.positions.shape)
            structures.append(copy)
            origin.append(number)
        near = posed(rng, base, mirrored=False)
        near.positions[int(rng.integers(len(near)))] += 0.006 * rng.permutation([1.0, 0.0, 0.0])
        structures.append(near)
        origin.append(-number - 1)
    order = rng.permutation(len(structures))
    expected = [np.flatnonzero(np.array(origin)[order] == number) for number in range(60)]
    groups = group_of([structures[k] for k in order])
    assert [list(group) for group in groups] == sorted(group.tolist() for group in expected if len(group) > 1)


def test_few_structures_of_many_are_compared_atom_by_atom(monkeypatch):
    """What made the search quadratic: structures of one composition."""
    rng = np.random.default_rng(0)
    structures = [molecule("CH3CH2OH") for _ in range(400)]
    for atoms in structures[1:]:
        atoms.positions += rng.normal(scale=0.03, size=(9, 3))
    compared = []
    same = geometry._same
    monkeypatch.setattr(geometry, "_same", lambda one, other: compared.append(1) or same(one, other))
    assert group_of([*structures, structures[7]]) == ((7, 400),)
    assert len(compared) < 50
    compared.clear()
    assert group_of([structures[0]] * 300) == (tuple(range(300)),)
    assert len(compared) < 300


def test_rigid_parts_at_different_distances_are_no_duplicates():
    pair = [molecule("H2O") + Atoms("He", [[0, 0, distance]]) for distance in (8.0, 9.0, 9.0)]
    assert group_of(pair) == ((1, 2),)


def test_closest_contacts():
    first, second = Atoms("H2O", [[0, 0, 0], [0, 0, 0.9], [0, 0.8, 0]]), Atoms("H2", [[0, 0, 0], [0, 0, 0.5]])
    frames = as_frames([first, second], [])
    closest: Closest = {}
    for number, frame in enumerate(frames):
        add_contacts(closest, number, surroundings(frame, 5.0).closest)
    found = closest_contacts(closest, lambda number: frames[number].where)
    by_pair = {contact.elements: contact for contact in found}
    assert by_pair[(1, 1)].distance == pytest.approx(0.5)
    assert by_pair[(1, 1)].where == "frame 1"
    assert by_pair[(1, 8)].distance == pytest.approx(0.8)
    assert sorted(by_pair[(1, 8)].atoms) == [0, 2]
    assert by_pair[(1, 1)].ratio == pytest.approx(0.5 / 0.62)
    assert [contact.ratio for contact in found] == sorted(contact.ratio for contact in found)


# --- the report ---


def test_report_of_sound_data(tmp_path):
    structures = [*crystals(10, rattle=0.05, alloy=True), *(labelled(Atoms(symbol)) for symbol in ("Cu", "Au"))]
    structures[0].info["note"] = 1.0
    ase.io.write(tmp_path / "a.extxyz", structures)
    report = check(tmp_path / "a.extxyz")
    assert (report.n_structures, report.periodic, report.problems) == (12, {0: 2, 3: 10}, ())
    assert report.atoms == (1, pytest.approx(82 / 12), 8)
    assert report.elements == {29: 11, 79: 11}
    rows = {label.name: label for label in report.labels}
    assert [rows[name].carried for name in ("energy", "forces", "stress")] == [12, 12, 10]
    energies = [atoms.get_potential_energy() for atoms in structures]
    assert rows["energy"].lowest == pytest.approx(min(energies), abs=1e-7)
    assert rows["energy"].highest == pytest.approx(max(energies), abs=1e-7)
    assert rows["energy"].unit == "eV"
    assert rows["stress"].asymmetry == pytest.approx(0.0, abs=1e-12)
    assert report.references is not None
    assert set(report.references.origin.values()) == {"isolated"}
    assert report.unused == (("note", (), 1),)
    assert report.duplicates == ()
    assert rows["forces"].sums is not None
    assert rows["forces"].sums[1] < 1e-6
    assert rows["energy"].sums is None
    text = "\n".join(report_lines(report))
    for words in ("energy: 12 of 12", "stress: 10 of 12", "(isolated)", "closest Cu-Au", "Problems: none", "note"):
        assert words in text


def test_report_of_everything_that_is_wrong(tmp_path):
    structures = crystals(12, rattle=0.05, seed=3)
    structures[2].calc.results["energy"] += 50.0
    structures[4].calc.results["forces"][1, 2] = np.nan
    structures[5] = structures[6].copy()
    structures[5].calc = SinglePointCalculator(structures[5], energy=structures[6].get_potential_energy() + 0.5)
    structures[7].positions[1] = structures[7].positions[0] + 1e-4
    structures[9].info["alpha"] = [[1.0, 0.2, 0], [0.1, 1, 0], [0, 0, 1]]
    ase.io.write(tmp_path / "a.extxyz", structures)
    alpha = Property("alpha", "structure", "ij=ji", +1, "Angstrom^3")
    labels = [*LABELS, Label(alpha), Label(TABLE["dipole"])]
    report = check(tmp_path / "a.extxyz", labels)
    rows = {label.name: label for label in report.labels}
    assert [outlier.where.split()[-1] for outlier in rows["energy"].outliers] == ["2"]
    assert rows["energy"].outliers[0].score > 8
    assert rows["alpha"].carried == 1
    assert rows["alpha"].asymmetry == pytest.approx(0.05 / np.sqrt(3.05 / 9))
    assert [[place.split()[-1] for place in group.where] for group in report.duplicates] == [["5", "6"]]
    assert report.duplicates[0].spread == pytest.approx(0.5, abs=1e-6)
    problems = " | ".join(report.problems)
    for words in ("frame 4", "forces is nan (atom 1)", "frame 7: atoms 0 and 1", '"dipole" of dipole is carried by no'):
        assert words in problems
    assert rows["forces"].carried == 9, "not in frames 4 (NaN), 5 (none), 7 (impossible)"
    text = "\n".join(report_lines(report))
    for words in ("violates its index symmetry", "1 duplicate in 1 group", "differ in energy", "Problems: 3"):
        assert words in text


def test_inputs_are_reported_and_charges_compared_with_them(tmp_path):
    """Of every kind; what does not have the shape of an input is no input."""
    structures = [molecule("H2O") for _ in range(4)]
    for k, atoms in enumerate(structures):
        atoms.info.update(total_charge=float(k % 2), fidelity="pbe" if k else "cc", charges=np.full(3, (k % 2) / 3))
        atoms.arrays["magmoms"] = np.zeros(3)
        if k < 2:
            atoms.info["electric_field"] = [0.0, 0.1 * k, 0.0]
    structures[3].info["charges"] = np.zeros(3)
    ase.io.write(tmp_path / "ions.extxyz", structures)
    report = check(tmp_path / "ions.extxyz")
    told = {found.name: (found.carried, found.lowest, found.highest, found.values) for found in report.inputs}
    assert told == {
        "fidelity": (4, 0.0, 1.0, (("cc", 1), ("pbe", 3))),
        "total_charge": (4, 0.0, 1.0, ()),
        "electric_field": (2, 0.0, 0.1, ()),
    }
    assert [name for name, *_ in report.unused] == ["magmoms"]
    assert not report.problems
    (charges,) = report.labels
    assert charges.total == "total_charge"
    assert charges.sums[1] == pytest.approx(1.0, abs=1e-6)
    assert charges.sums[2].endswith("frame 3")
    text = "\n".join(report_lines(report))
    assert "fidelity: 4 of 4 structures; cc 1, pbe 3" in text
    assert "electric_field: 2 of 4 structures; 0 to 0.1 V/Angstrom" in text
    assert "sum over the atoms of a structure less total_charge: rms 0.5, largest 1 e" in text
    field = replace(input_table()["electric_field"], unit="V/Angstrom")
    assert check(tmp_path / "ions.extxyz", inputs=[Label(field, unit="-V/Angstrom")]).inputs[0].lowest == -0.1


def test_hessians_are_the_same_in_either_order_of_atoms(tmp_path):
    matrix = np.arange(81.0).reshape(9, 9)
    for name, value in (("right", matrix + matrix.T), ("wrong", matrix)):
        atoms = molecule("H2O")
        atoms.info["hessian"] = value.ravel()
        ase.io.write(tmp_path / f"{name}.extxyz", atoms)
        (found,) = check(tmp_path / f"{name}.extxyz").labels
        expected = 0.0 if name == "right" else 32.0 / np.sqrt(np.mean(matrix**2))
        assert found.asymmetry == pytest.approx(expected, abs=1e-6)
    label = Label(TABLE["hessian"], project=True)
    (frame,) = read_frames(tmp_path / "wrong.extxyz", [label])
    np.testing.assert_allclose(as_matrix(frame.labels["hessian"]), (matrix + matrix.T) / 2, atol=1e-12)


def test_outliers_are_not_sought_where_most_values_are_equal_or_broad(tmp_path):
    structures = [Atoms("He", [[0, 0, number]]) for number in range(20)]
    for number, atoms in enumerate(structures):
        atoms.info |= {"dipole": [0, 0, float(number == 7)], "polarizability": np.eye(3) * 10.0 ** (number - 4)}
    ase.io.write(tmp_path / "a.extxyz", structures)
    rows = {label.name: label for label in check(tmp_path / "a.extxyz").labels}
    assert (rows["dipole"].n_outliers, rows["dipole"].outliers) == (0, ())
    assert rows["polarizability"].n_outliers > 1
    assert rows["polarizability"].outliers == ()


def test_wrong_unit_stops_the_check(tmp_path):
    ase.io.write(tmp_path / "a.extxyz", crystals(1))
    with pytest.raises(ConfigError, match="same quantity"):
        check(tmp_path / "a.extxyz", [Label(TABLE["energy"], unit="GPa")])
