"""Reading files, labels and units; every way a file can be wrong."""

import gzip

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import voigt_6_to_full_3x3_stress

from carten.data.categories import categories
from carten.data.labels import Label, carried, frame_from, frames_from, read_frames, weighted
from carten.data.layouts import matrix
from carten.data.lookup import label_names
from carten.data.read import read_structures
from carten.errors import ConfigError, DataError
from carten.model.conditions import Category, Input, Scalar, Tensor
from carten.properties.routes import Property
from carten.properties.spec import property_table

TABLE = property_table()
ENERGY, FORCES, STRESS = (Label(TABLE[name]) for name in ("energy", "forces", "stress"))


def copper(n_frames=3, seed=0):
    """Rattled copper with EMT's energy, forces and stress."""
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(n_frames):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
        atoms.calc = EMT()
        results = {
            "energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress()
        }  # fmt: skip
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "train.extxyz"
    ase.io.write(file, copper())
    return file


def fails(words, call, *args, error=DataError):
    with pytest.raises(error) as found:
        call(*args)
    for word in words:
        assert word in str(found.value), f"{word!r} not in {found.value}"


# --- files ---


@pytest.mark.parametrize("suffix", ["extxyz", "xyz", "extxyz.gz", "traj", "db", "aselmdb"])
def test_formats_carry_the_same_labels(tmp_path, suffix):
    frames = copper()
    file = tmp_path / f"train.{suffix}"
    if file.suffix in (".db", ".aselmdb"):
        with ase.db.connect(file) as database:
            for atoms in frames:
                database.write(atoms, temperature=300.0, data={"dipole": np.array([1.0, 2.0, 3.0])})
    else:
        ase.io.write(file, frames)
    read = read_frames(file, [ENERGY, FORCES, STRESS])
    assert len(read) == len(frames)
    # text formats keep 8 decimals
    for found, atoms in zip(read, frames, strict=True):
        assert found.labels["energy"] == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
        assert np.allclose(found.labels["forces"], atoms.get_forces(), atol=1e-8)
        assert np.allclose(found.labels["stress"], voigt_6_to_full_3x3_stress(atoms.get_stress()), atol=1e-8)
        assert np.allclose(found.positions, atoms.positions, atol=1e-8)
        assert found.pbc.all()
    if file.suffix in (".db", ".aselmdb"):
        dipole = read_frames(file, [Label(TABLE["dipole"])])[1].labels["dipole"]
        assert dipole.tolist() == [1.0, 2.0, 3.0]
        assert "temperature" in label_names(read_structures(file)[0][1])


@pytest.mark.parametrize(
    ("name", "indices", "scope", "shape", "letters"),
    [
        ("mine", "ab=ba", "structure", (6,), "A"),
        ("stresses", "ij", "atom", (6,), "A"),
        ("elastic", "ijkl=jikl=ijlk=klij", "structure", (6, 6), "AB"),
        ("piezoelectric", "ijk=ikj", "structure", (3, 6), "iA"),
        ("raman", "ijk=jik", "atom", (6, 3), "Ai"),
        ("fifth", "ijklm=jiklm=ijlkm", "structure", (6, 6, 3), "ABi"),
    ],
)
@pytest.mark.parametrize("flat", [False, True])
def test_pairs_of_symmetric_indices_may_be_in_voigt_order(name, indices, scope, shape, letters, flat):
    """Each component is where ASE's order says, for as many atoms as there are components too."""
    row, atoms = Property(name, scope, indices, +1, ""), Atoms("H6", positions=np.arange(18.0).reshape(6, 3))
    lead = (6,) if scope == "atom" else ()
    value = np.random.default_rng(0).normal(size=(*lead, *shape))
    (atoms.arrays if lead else atoms.info)[name] = value.reshape(*lead, -1) if flat else value
    found = frame_from(atoms, [Label(row)]).labels[name]
    assert found.shape == (*lead, *row.shape)
    places = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    for index in np.ndindex(*shape):
        axes = [(k,) if letter == "i" else places[k] for k, letter in zip(index, letters, strict=True)]
        full = [axis for pair in axes for axis in pair]
        np.testing.assert_array_equal(found[(..., *full)], value[(..., *index)])


def test_inputs_have_the_symmetry_of_their_indices():
    """The energy would depend on the trace of a field gradient; a file's round-off is no violation."""
    row = Input("gradient", "structure", "ij=ji; ii=0", +1, "V/Angstrom^2", Tensor())
    for value, problem in (
        (np.diag([1.0, 1.0, -2.0]), None),
        (np.diag([1.0, 1.0, -2.0 + 1e-6]), None),
        (np.diag([2.0, 2.0, -1.0]), "violates its index symmetry 'ij=ji; ii=0' by 1 V/Angstrom^2; correct it"),
        (np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]), "by 0.5 V/Angstrom^2"),
    ):
        atoms = Atoms("H", info={"gradient": value})
        if problem is None:
            np.testing.assert_array_equal(frame_from(atoms, (), [Label(row)]).inputs["gradient"], value[None])
        else:
            fails(["structure: input gradient", problem], frame_from, atoms, (), [Label(row)])


def test_an_input_that_is_missing_says_where_it_belongs():
    charge = Input("total_charge", "structure", "", +1, "e", Scalar())
    polar = Atoms("H", info={"dipole": [0.0, 0.0, 1.0]})
    fails(['set atoms.info["q"] in e; names in it: dipole'], frame_from, polar, (), [Label(charge, "q")])
    moments = Input("magmoms", "atom", "i", +1, "mu_B", Tensor())
    fails(['set atoms.arrays["magmoms"] in mu_B;'], frame_from, Atoms("H"), (), [Label(moments)])


def test_directory_of_lmdb_and_several_files(tmp_path):
    for number in range(2):
        with ase.db.connect(tmp_path / f"part{number}.aselmdb") as database:
            for atoms in copper(2, seed=number):
                database.write(atoms)
    assert len(read_structures(tmp_path)) == 4
    places = [where for where, _ in read_structures([tmp_path / "part0.aselmdb", tmp_path / "part1.aselmdb"])]
    assert places[3].endswith("part1.aselmdb, frame 1")


def test_missing_and_empty_files(tmp_path, path):
    fails(["trian.extxyz", "no such file", "did you mean", "train.extxyz"], read_structures, tmp_path / "trian.extxyz")
    (tmp_path / "empty.extxyz").touch()
    fails(["empty.extxyz", "is empty"], read_structures, tmp_path / "empty.extxyz")
    (tmp_path / "directory").mkdir()
    fails(["without .aselmdb files"], read_structures, tmp_path / "directory")
    fails(["no data file"], read_structures, [])
    (tmp_path / "blank.xyz").write_text("\n\n")
    fails(["blank.xyz", "no structure"], read_structures, tmp_path / "blank.xyz")
    with ase.db.connect(tmp_path / "none.db") as database:
        del database[database.write(Atoms("H"))]
    fails(["no structure"], read_structures, tmp_path / "none.db")


def test_every_truncation_is_noticed(path):
    """Cut after any byte: an error, unless the cut removed whole frames (or only the last line break)."""
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    ends = np.cumsum([sum(map(len, lines[start : start + 6])) for start in range(0, 18, 6)])
    harmless = {*ends.tolist(), *(ends - 1).tolist()}
    for length in (*range(1, ends[1] - 1, 13), *range(ends[1] - 1, len(whole))):
        path.write_bytes(whole[:length])
        if length in harmless:
            assert len(read_structures(path)) == np.searchsorted(ends - 1, length, side="right")
        else:
            fails(["train.extxyz"], read_structures, path)


def test_what_the_message_about_a_cut_file_says(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:10]))
    fails(["frame 1 (line 7)", "announces 4 atoms, found 2", "cut off"], read_structures, path)


def test_lines_between_frames_are_not_the_end(path):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:6], "\n", *lines[6:]]))
    fails(["line 7 is blank but more follows"], read_structures, path)
    path.write_text("".join([*lines[:6], "something\n", *lines[6:]]))
    fails(["line 7 should be the number of atoms", "something"], read_structures, path)
    path.write_text("".join([*lines, "\n\n"]))
    assert len(read_structures(path)) == 3


@pytest.mark.parametrize("suffix", ["extxyz", "db", "aselmdb", "traj", "dat", "extxyz.gz"])
def test_unreadable_files(tmp_path, suffix):
    file = tmp_path / f"noise.{suffix}"
    file.write_bytes(np.random.default_rng(0).bytes(5000))
    fails([file.name], read_structures, file)


@pytest.mark.parametrize("name", ["cut.db", "cut.aselmdb", "cut.traj", "cut.extxyz.gz"])
def test_binary_files_cut_off(tmp_path, name):
    file = tmp_path / name
    frames = copper(40)
    if file.suffix in (".db", ".aselmdb"):
        with ase.db.connect(file) as database:
            for atoms in frames:
                database.write(atoms)
    elif file.suffix == ".gz":
        file.write_bytes(gzip.compress(b"".join(b"1\n\nH 0 0 %d\n" % i for i in range(9000))))
    else:
        ase.io.write(file, frames)
    file.write_bytes(file.read_bytes()[: int(0.6 * file.stat().st_size)])
    fails([name], read_structures, file)


def test_empty_values_do_not_swallow_the_next_label(tmp_path):
    file = tmp_path / "a.extxyz"
    file.write_text('1\ngroup= energy=-1.5 note="" Properties=species:S:1:pos:R:3 pbc="F F F" tag = 3\nH 0 0 0\n')
    atoms = read_structures(file)[0][1]
    assert atoms.get_potential_energy() == -1.5
    assert (atoms.info["group"], atoms.info["note"], atoms.info["tag"]) == ("", "", 3)
    assert not atoms.pbc.any()


# --- labels ---


def test_key_and_unit(path):
    frames = copper(2)
    for atoms in frames:
        atoms.info["REF_energy"] = atoms.get_potential_energy() * 23.060547830619026  # kcal/mol
        atoms.arrays["f"] = atoms.get_forces() / 51.422067476
    ase.io.write(path, frames)
    labels = [Label(TABLE["energy"], "REF_energy", "kcal/mol"), Label(TABLE["forces"], "f", "Hartree/Bohr")]
    for found, atoms in zip(read_frames(path, labels), frames, strict=True):
        assert found.labels["energy"] == pytest.approx(atoms.get_potential_energy(), rel=1e-7)
        assert np.allclose(found.labels["forces"], atoms.get_forces(), atol=1e-6)  # 8 decimals in Hartree/Bohr
    fails(['"eV/A"', '"eV"'], read_frames, path, [Label(TABLE["energy"], unit="eV/A")], error=ConfigError)


RANK2 = np.arange(9.0).reshape(3, 3)
RANK3 = np.arange(27.0).reshape(3, 3, 3)
VOIGT = np.arange(24.0).reshape(4, 6)
ATOM2 = np.arange(36.0).reshape(4, 3, 3)


@pytest.mark.parametrize(
    ("scope", "indices", "stored", "expected"),
    [
        ("structure", "", 2, 2.0),
        ("structure", "", np.array([2.5]), 2.5),
        ("structure", "i", [1, 2, 3], np.array([1.0, 2, 3])),
        ("structure", "ij", RANK2, RANK2),
        ("structure", "ij", RANK2.ravel(), RANK2),
        ("structure", "ij", RANK2[None], RANK2),
        ("structure", "ij=ji", np.arange(6.0), np.array([[0.0, 5, 4], [5, 1, 3], [4, 3, 2]])),
        ("structure", "ijk", RANK3.ravel(), RANK3),
        ("atom", "", np.arange(4.0)[:, None], np.arange(4.0)),
        ("atom", "i", np.arange(12.0), np.arange(12.0).reshape(4, 3)),
        ("atom", "ij", ATOM2.reshape(4, 9), ATOM2),
        ("atom", "ij", ATOM2, ATOM2),
        ("atom", "ij=ji", VOIGT, VOIGT[:, [[0, 5, 4], [5, 1, 3], [4, 3, 2]]]),
    ],
)
def test_layouts(scope, indices, stored, expected):
    row = Property("x", scope, indices, +1, "eV")
    atoms = bulk("Cu", cubic=True)
    atoms.info["x"] = stored
    found = frame_from(atoms, [Label(row)]).labels["x"]
    assert found.dtype == np.float64
    assert found.shape == np.shape(expected)
    assert np.array_equal(found, expected)


def test_tensors_through_a_file(tmp_path):
    """What ASE writes into extended XYZ comes back in the same order, tensors that are not symmetric included."""
    atoms = bulk("Cu", cubic=True)
    atoms.info |= {"a": RANK2, "b": RANK3, "c": RANK3.ravel()}
    atoms.arrays["d"] = ATOM2.reshape(4, 9)
    ase.io.write(tmp_path / "t.extxyz", atoms)
    rows = [("a", "structure", "ij"), ("b", "structure", "ijk"), ("c", "structure", "ijk"), ("d", "atom", "ij")]
    labels = [Label(Property(name, scope, indices, +1, "eV")) for name, scope, indices in rows]
    found = read_frames(tmp_path / "t.extxyz", labels)[0].labels
    for name, expected in zip("abcd", (RANK2, RANK3, RANK3, ATOM2), strict=True):
        assert np.array_equal(found[name], expected), name


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.zeros((5, 3)), ["(5, 3)", "expected (4, 3)", "(atoms, 3)"]),
        (np.zeros((3, 4)), ["(3, 4)", "expected (4, 3)"]),
        (np.zeros((4, 6)), ["(4, 6)"]),
        (np.full((4, 3), np.nan), ["is nan (atom 0)"]),
        (np.array([[0, 0, 0], [0, 0, 0], [0, np.inf, 0], [0, 0, 0]]), ["is inf (atom 2)"]),
        ("forces.npy", ["should be numbers", "forces.npy"]),
        (True, ["should be numbers"]),
    ],
)
def test_wrong_labels_name_frame_and_property(value, words):
    good, bad = bulk("Cu", cubic=True), bulk("Cu", cubic=True)
    good.info["f"], bad.info["f"] = np.zeros((4, 3)), value
    frames = [("train.extxyz, frame 0", good), ("train.extxyz, frame 1", bad)]
    fails(["train.extxyz, frame 1", '"f" of forces', *words], frames_from, frames, [Label(TABLE["forces"], "f")])


def test_force_columns_of_wrong_number_in_a_file(path):
    path.write_text(path.read_text().replace("forces:R:3", "forces:R:2"))
    fails(["frame 0", "forces:R:2", "7 columns", "declare 6"], read_frames, path, [FORCES])


def test_nan_in_a_file(path):
    text = path.read_text().splitlines(keepends=True)
    text[7] = text[7].replace("energy=", "energy=nan ignored=")
    path.write_text("".join(text))
    fails(["frame 1", "energy", "nan"], read_frames, path, [ENERGY])


def test_label_that_is_nowhere(path):
    fails(
        ['label "energi" of energy', "none of the 3 structures", "energy, forces, stress", 'did you mean "energy"?'],
        read_frames, path, [Label(TABLE["energy"], "energi")],
    )  # fmt: skip
    assert read_frames(path, [Label(TABLE["charges"], required=False)])[0].labels == {}


def test_label_that_some_structures_lack(path):
    frames = copper(4)
    for atoms in frames[1:3]:
        del atoms.calc.results["stress"]
    ase.io.write(path, frames)
    read = read_frames(path, [ENERGY, STRESS])
    assert (carried(read, "energy"), carried(read, "stress")) == (4, 2)
    assert "stress" not in read[1].labels


def test_inputs():
    charge = Input("total_charge", "structure", "", +1, "e", Scalar())
    field = Input("field", "structure", "i", -1, "V/Angstrom", Scalar(), default=0.0)
    level = Input("level", "atom", "", +1, "", Category((1, 7, "dft")), default=7)
    cation, neutral = molecule("CH4"), molecule("CH4")
    cation.info |= {"q": 1, "field": [0.0, 0.0, 0.1]}
    neutral.info["q"] = 0
    inputs = [Label(charge, "q"), Label(field), Label(level)]
    frames = frames_from([("a", cation), ("b", neutral)], (), inputs)
    assert [frame.inputs["total_charge"].tolist() for frame in frames] == [[1.0], [0.0]]
    assert frames[0].inputs["field"].tolist() == [[0.0, 0.0, 0.1]]
    assert frames[1].inputs["field"].tolist() == [[0.0, 0.0, 0.0]]
    assert frames[1].inputs["level"].tolist() == [1] * 5, "the position of 7"
    assert frames[1].inputs["level"].dtype == np.int64
    cation.info["level"] = "dft"
    neutral.arrays["level"] = np.array([1, 7, 1, 1, 7])
    frames = frames_from([("a", cation), ("b", neutral)], (), inputs)
    assert [frame.inputs["level"].tolist() for frame in frames] == [[2] * 5, [0, 1, 0, 0, 1]]
    assert categories([("a", cation), ("b", neutral)], "level") == (1, 7, "dft")
    cation.info["level"] = 2
    fails(["a: input level", "is 2, expected one of 1, 7, 'dft'"], frames_from, [("a", cation)], (), inputs)
    del cation.info["level"]
    del neutral.info["q"]
    fails(["b: input total_charge", '"q"', "no default"], frames_from, [("a", cation), ("b", neutral)], (), inputs)


def test_matrices_of_pairs_of_atoms():
    row = Property("hessian", "pair", "ij", +1, "eV/Angstrom^2", ())
    water, matrix_ = molecule("H2O"), np.random.default_rng(0).normal(size=(9, 9))
    expected = [matrix_[3 * a : 3 * a + 3, 3 * b : 3 * b + 3] for a in range(3) for b in range(3)]
    for stored in (matrix_, matrix_.ravel(), np.stack(expected)):
        water.info["hessian"] = stored
        found = frame_from(water, [Label(row)]).labels["hessian"]
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(matrix(found), matrix_)
    for wrong in (matrix_.reshape(3, 3, 3, 3), matrix_[:3]):
        water.info["hessian"] = wrong
        fails(["hessian has shape", "expected (9, 3, 3) or a matrix (9, 9)"], frame_from, water, [Label(row)])


def test_projection_only_where_asked_for():
    atoms, skew = molecule("H2O"), np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    atoms.info["polarizability"] = skew
    row = property_table()["polarizability"]
    np.testing.assert_array_equal(frame_from(atoms, [Label(row)]).labels["polarizability"], skew)
    found = frame_from(atoms, [Label(row, project=True)]).labels["polarizability"]
    np.testing.assert_allclose(found, (skew + skew.T) / 2, atol=1e-15)


def test_weights_of_structures():
    heavy, plain = molecule("H2O"), molecule("H2O")
    heavy.info["w"] = 3
    structures = [("a", heavy), ("b", plain)]
    frames = frames_from(structures)
    assert [frame.weight for frame in weighted(frames, structures, "w")] == [3.0, 1.0]
    missing = ['label "weights" of weight is carried by none of the 2 structures of a, b', 'did you mean "weight"?']
    heavy.info["weight"] = heavy.info.pop("w")
    fails(missing, weighted, frames, structures, "weights")
    for wrong, said in (
        (-1.0, "should be at least 0, found -1"),
        (np.nan, "is nan, not a finite number"),
        (np.inf, "is inf, not a finite number"),
        ([1.0, 2.0], "has shape (2,), expected (), one value per structure"),
        ("much", "should be numbers, found 'much'"),
    ):
        heavy.info["weight"] = wrong
        fails(['a: label "weight" of weight', said], weighted, frames, structures, "weight")


def test_structures_that_cannot_be():
    fails(["x: has no atoms"], frames_from, [("x", Atoms())])
    fails(["x: has an atom that is no element"], frames_from, [("x", Atoms("XH", [[0, 0, 0], [1, 0, 0]]))])
