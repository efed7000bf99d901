"""Whatever a structure carries is there when its file is read again."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import (
    FixAtoms,
    FixBondLength,
    FixCartesian,
    FixCom,
    FixedPlane,
    FixScaledParametricRelations,
    Hookean,
)

from carten.data.extra import EXTRA
from carten.data.read import read_structures
from carten.data.write import replacing, write_structure
from carten.errors import DataError

RANDOM = np.random.default_rng(0)
INFO = {
    "text": "a b",
    "digits": "123",
    "truth": "T",
    "escaped": "a\\b\"c'd=e",
    "empty": "",
    "lines": "a\nb",
    "none": None,
    "nested": {"x": [1, 2], "y": {"z": "q", "empty": ""}},
    "integers": [1, 2, 3],
    "words": ["a", "b c"],
    "matrix": np.arange(9.0).reshape(3, 3),
    "nine": np.arange(9.0),
    "single": np.array([1.5]),
    "small": 1.25e-20,
    "flag": True,
    "flags": np.array([True, False]),
    "virial": np.arange(6.0),
    "pbc": "a name that the format uses itself",
    "a key": 1,
    "a=b": 2,
    "json": "_JSON [1]",
    "comma": "1,2",
}
ARRAYS = {
    "tensors": RANDOM.normal(size=(3, 3, 3)),
    "column": RANDOM.normal(size=(3, 1)),
    "large": np.array([2**40, -1, 0]),
    "unsigned": np.array([1, 2, 250], dtype=np.uint8),
    "names": np.array(["a b", "", "c"]),
    "kinds": np.array(["CA", "N", "O1"]),
    "chosen": np.array([True, False, True]),
    "descriptors": RANDOM.normal(size=(3, 5)),
    "pos": np.ones(3),
    "masses": np.array([15.999, 2.014, 2.014]),
    "initial_charges": np.array([0.5, 0.25, -0.75]),
    "initial_magmoms": RANDOM.normal(size=(3, 3)),
    "momenta": RANDOM.normal(size=(3, 3)),
    "tags": np.array([1, 2, 3]),
}


def again(atoms: Atoms, tmp_path) -> Atoms:
    """Read from a file in which it is the second of three."""
    path = tmp_path / "a.extxyz"
    with replacing(path) as file:
        for structure in (molecule("H2O"), atoms, molecule("CH4")):
            write_structure(file, structure)
    return read_structures(path)[1][1]


@pytest.mark.parametrize("key", INFO)
def test_info(tmp_path, key):
    atoms = molecule("H2O")
    atoms.info.update({"before": 1.0, key: INFO[key], "after": "x"})
    found = again(atoms, tmp_path)
    assert (found.info["before"], found.info["after"]) == (1.0, "x")
    value = {**found.info, **(found.calc.results if found.calc else {})}[key]
    if isinstance(INFO[key], str | dict | None):
        assert value == INFO[key]
    else:
        np.testing.assert_array_equal(value, INFO[key])
        assert np.asarray(value).dtype.kind == np.asarray(INFO[key]).dtype.kind


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(tmp_path, name):
    """Numbers in columns have eight decimals."""
    atoms = molecule("H2O")
    atoms.set_array(name, ARRAYS[name])
    found = again(atoms, tmp_path).arrays[name]
    assert found.shape == ARRAYS[name].shape
    if ARRAYS[name].dtype.kind == "f":
        np.testing.assert_allclose(found, ARRAYS[name], rtol=0, atol=5.1e-9)
    else:
        np.testing.assert_array_equal(found, ARRAYS[name])


@pytest.mark.parametrize("pbc", [(False, False, False), (True, False, True), (True, True, True)])
@pytest.mark.parametrize("cell", [np.zeros((3, 3)), [[3.0, 0.1, 0.2], [0.0, 4.0, 0.3], [0.1, 0.0, 5.123456789012345]]])
def test_cell_and_displacement(tmp_path, cell, pbc):
    atoms = Atoms("HO", [[0, 0, 0], [0, 0, 1]], cell=cell, pbc=pbc, celldisp=[0.1, 0.2, 0.3])
    found = again(atoms, tmp_path)
    np.testing.assert_array_equal(found.cell.array, atoms.cell.array)
    np.testing.assert_array_equal(found.pbc, pbc)
    np.testing.assert_array_equal(found.get_celldisp().ravel(), [0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    "constraints",
    [
        [FixAtoms([0, 2])],
        [FixAtoms([0]), FixBondLength(1, 2)],
        [FixCartesian([1, 2], [True, False, True])],
        [FixCom()],
        [Hookean(0, 1, 5.0, 1.0), FixedPlane([2], [0, 0, 1])],
    ],
)
def test_constraints(tmp_path, constraints):
    atoms = molecule("H2O")
    atoms.set_constraint(constraints)
    found = again(atoms, tmp_path)
    assert [type(constraint) for constraint in found.constraints] == [type(constraint) for constraint in constraints]
    assert found.get_number_of_degrees_of_freedom() == atoms.get_number_of_degrees_of_freedom()
    for structure in (atoms, found):
        structure.set_momenta(np.arange(9.0).reshape(3, 3))
    np.testing.assert_allclose(found.get_momenta(), atoms.get_momenta(), atol=1e-7)
    assert EXTRA not in found.info


def test_results_and_labels_stay_apart(tmp_path):
    """Labels in ``info`` and ``arrays`` go before results of the same name, as they do when labels are read."""
    atoms = molecule("H2O")
    results = {"energy": -1.5, "forces": RANDOM.normal(size=(3, 3)), "magmoms": RANDOM.normal(size=(3, 3))}
    atoms.calc = SinglePointCalculator(atoms, **results)
    atoms.calc.results.update(band_gap=0.5, site_energies=np.arange(3.0))
    atoms.info["energy"] = -2.0
    found = again(atoms, tmp_path)
    assert {**found.info, **found.calc.results}["energy"] == -2.0
    np.testing.assert_allclose(found.calc.results["forces"], results["forces"], atol=5.1e-9)
    np.testing.assert_allclose(found.calc.results["magmoms"], results["magmoms"], atol=5.1e-9)
    assert found.info["band_gap"] == 0.5
    np.testing.assert_array_equal(found.arrays["site_energies"], np.arange(3.0))
    assert "band_gap" not in atoms.info


def test_other_programs_read_what_has_a_place_in_the_format(tmp_path):
    atoms = molecule("H2O")
    atoms.info.update(group="a", charge="1")
    atoms.set_constraint([FixAtoms([1]), FixCom()])
    again(atoms, tmp_path)
    found = ase.io.read(tmp_path / "a.extxyz", 1)
    assert (found.info["group"], found.info["charge"]) == ("a", "1")
    assert found.constraints[0].index.tolist() == [1]


def test_what_no_file_can_hold_is_named(tmp_path):
    atoms = molecule("H2O")
    atoms.info["thing"] = object()
    with pytest.raises(DataError, match="'thing' of the structure cannot be written"):
        again(atoms, tmp_path)
    assert list(tmp_path.iterdir()) == []
    atoms = Atoms("HO", [[0, 0, 0], [0, 0, 1]], cell=[3, 3, 3], pbc=True)
    atoms.set_constraint(FixScaledParametricRelations.from_expressions([0], [], ["0"] * 3))
    with pytest.raises(DataError, match="the constraint FixScaledParametricRelations cannot be written"):
        again(atoms, tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        '"_JSON {\\"constraints\\": [{\\"name\\": \\"FixParametricRelations\\", \\"kwargs\\": {}}]}"',
        '"_JSON {\\"constraints\\": [{\\"name\\": \\"FixAtoms\\", \\"kwargs\\": {\\"no\\": 1}}]}"',
        '"_JSON {\\"arrays\\": {\\"x\\": {\\"value\\": [1], \\"dtype\\": \\"<f8\\", \\"shape\\": [1]}}}"',
        '"_JSON {\\"arrays\\": {\\"x\\": {\\"value\\": [1], \\"dtype\\": \\"V9z\\", \\"shape\\": [3]}}}"',
        '"_JSON {\\"arrays\\": {\\"x\\": {\\"value\\": [1, 2], \\"dtype\\": \\"V8\\", \\"shape\\": [2]}}}"',
        '"_JSON {\\"constraints\\": [{\\"name\\": \\"Hookean\\", '
        '\\"kwargs\\": {\\"a1\\": 0, \\"a2\\": \\"\\", \\"k\\": 1}}]}"',
        '"_JSON {\\"celldisp\\": [1, 2]}"',
        '"_JSON [1, 2]"',
        "5",
    ],
)
def test_what_was_tampered_with_is_refused(tmp_path, text):
    path = tmp_path / "a.extxyz"
    path.write_text(f"2\nProperties=species:S:1:pos:R:3 {EXTRA}={text}\nH 0 0 0\nO 0 0 1\n")
    with pytest.raises(DataError, match=rf'frame 0: "{EXTRA}" is not as carten writes it'):
        read_structures(path)


@pytest.mark.parametrize(
    "constraint",
    ['"name": "FixAtoms", "kwargs": {"indices": [7]}', '"name": "FixBondLengths", "kwargs": {"pairs": [[0, 9]]}'],
)
def test_constraints_of_other_structures_are_refused(tmp_path, constraint):
    path = tmp_path / "a.extxyz"
    extra = ('_JSON {"constraints": [{' + constraint + "}]}").replace('"', '\\"')
    path.write_text(f'2\nProperties=species:S:1:pos:R:3 {EXTRA}="{extra}"\nH 0 0 0\nO 0 0 1\n')
    with pytest.raises(DataError, match="frame 0: its constraints do not fit the structure"):
        read_structures(path)


def test_a_file_is_replaced_when_all_is_written(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail():
        with replacing(path) as file:
            file.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "before"
    with replacing(path) as file:
        file.write("all")
        assert path.read_text() == "before"
    assert path.read_text() == "all"
    assert list(tmp_path.iterdir()) == [path]
