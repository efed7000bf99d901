"""Libraries that are damaged, foreign or of another version, and calls that make no sense: a sentence, no crash."""

import copy
import pickle
import shutil
from dataclasses import replace

import numpy as np
import pytest

from carten.deploy import Deployed, Evaluator, PairList, deploy
from carten.deploy.files import export_library, open_library
from carten.deploy.sealed import MARK, SEAL, mark, sealed
from carten.errors import ConfigError, ModelError, ModelFileError
from carten.interfaces.ase import Calculator
from carten.properties.io import load, save
from small import small_model

pytestmark = pytest.mark.needs("cpp")
POSITIONS = np.array([[0.0, 0.0, 0.0], [1.1, 0.0, 0.0], [0.0, 1.3, 0.0]])
ELEMENTS = np.array([0, 1, 2], dtype=np.int32)
PAIRS = PairList(np.array([0, 0, 1, 1, 2, 2]), np.array([1, 2, 0, 2, 0, 1]), np.zeros((6, 3), dtype=np.int32))
CELL = np.zeros((3, 3))


@pytest.fixture(scope="module")
def model() -> Deployed:
    return deploy(small_model())


@pytest.fixture
def evaluator(model) -> Evaluator:
    return model.evaluator()


def step(evaluator, elements=ELEMENTS, positions=POSITIONS, pairs=PAIRS):
    return evaluator.step(elements, positions, CELL, pairs, ["forces"])


def changed(content: bytes, old: bytes, new: bytes) -> bytes:
    body = content[: -32 - len(SEAL)]
    assert old in body
    return sealed(body.replace(old, new))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda c: c[: len(c) // 2], "is cut off or was changed|was not made by carten"),
        (lambda c: c[:-1], "is cut off or was changed"),
        (lambda c: c[:3000] + b"!" + c[3001:], "is cut off or was changed"),
        (lambda c: changed(c, mark(), MARK + b"9"), "has version 9 of the C interface, this carten has version 2"),
        (lambda c: changed(c, b'"machine": "x86_64"', b'"machine": "sparc9"'), "is for sparc9 processors"),
        (lambda _: b"", "is no library"),
        (lambda _: b"not a library", "is no library"),
    ],
)
def test_damaged_files(model, damage, words, tmp_path):
    path = tmp_path / "model.so"
    path.write_bytes(damage(model.content))
    with pytest.raises(ModelFileError, match=words):
        Deployed.read(path)


def test_foreign_libraries(tmp_path):
    from vesin._c_lib import _lib_path

    shutil.copy(_lib_path(), tmp_path / "other.so")
    with pytest.raises(ModelFileError, match="was not made by carten"):
        Deployed.read(tmp_path / "other.so")
    with pytest.raises(ModelFileError, match="can't be read: No such file"):
        Deployed.read(tmp_path / "missing.so")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"elements": np.array([0, 1, 3], dtype=np.int32)}, "atom 2 has the element 3, which is no position"),
        ({"elements": np.array([0, -1, 1], dtype=np.int32)}, "atom 1 has the element -1"),
        ({"positions": np.zeros((3, 3))}, "atoms 0 and 1 are at one place"),
        ({"positions": np.where(POSITIONS == 1.1, np.nan, POSITIONS)}, "between atoms 0 and 1 is not finite"),
        ({"positions": np.where(POSITIONS == 1.1, np.inf, POSITIONS)}, "between atoms 0 and 1 is not finite"),
        ({"positions": POSITIONS[:2]}, r"positions should have the shape \(3, 3\), found \(2, 3\)"),
        ({"pairs": replace(PAIRS, neighbour=PAIRS.neighbour[:5])}, r"pairs.neighbour should have the shape \(6,\)"),
        ({"pairs": replace(PAIRS, shifts=PAIRS.shifts[:1])}, r"pairs.shifts should have the shape \(6, 3\)"),
        ({"pairs": PairList(PAIRS.centre[::-1].copy(), PAIRS.neighbour, PAIRS.shifts)}, "are not sorted by centre"),
        ({"pairs": PairList(PAIRS.centre + 1, PAIRS.neighbour, PAIRS.shifts)}, "has centre 3, which is no own atom"),
        ({"pairs": PairList(PAIRS.centre, PAIRS.neighbour + 1, PAIRS.shifts)}, "has neighbour 3, which is no atom"),
        ({"pairs": PairList(PAIRS.centre, PAIRS.neighbour - 1, PAIRS.shifts)}, "has neighbour -1, which is no atom"),
    ],
)
def test_calls_that_make_no_sense(evaluator, arguments, words):
    good = step(evaluator)["energies"]
    with pytest.raises(ModelError, match=words):
        step(evaluator, **arguments)
    np.testing.assert_array_equal(step(evaluator)["energies"], good)  # usable after an error


@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_pairs_of_any_layout(evaluator, dtype):
    """As ``np.nonzero`` gives them: columns of an array."""
    columns = np.stack([PAIRS.centre, PAIRS.neighbour], axis=1).astype(dtype)
    found = step(evaluator, pairs=PairList(columns[:, 0], columns[:, 1], PAIRS.shifts))
    np.testing.assert_array_equal(found["forces"], step(evaluator)["forces"])


def test_gradients_of_a_model_without_energies():
    evaluator = deploy(small_model(properties=("dipole",), n_layers=2)).evaluator()
    with pytest.raises(ModelError, match="the model has no energies"):
        step(evaluator)


def test_more_threads_than_cores_or_atoms(model):
    expected = step(model.evaluator())
    found = step(model.evaluator(threads=200))
    np.testing.assert_allclose(found["forces"], expected["forces"], atol=1e-13)
    with pytest.raises(ModelError, match="0 threads cannot work"):
        model.evaluator(threads=0)


def test_no_atoms_and_no_pairs(evaluator):
    nothing = PairList(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 3), np.int32))
    assert step(evaluator, ELEMENTS[:0], POSITIONS[:0], nothing)["energies"].shape == (0,)
    lone = step(evaluator, ELEMENTS, POSITIONS, nothing)
    assert np.isfinite(lone["energies"]).all()
    assert not lone["forces"].any()


def test_energies_that_do_not_count_have_no_gradients(evaluator):
    vectors = POSITIONS[PAIRS.neighbour] - POSITIONS[PAIRS.centre]
    every, gradients = evaluator.evaluate(ELEMENTS, PAIRS, vectors)
    shares = [evaluator.evaluate(ELEMENTS, PAIRS, vectors, np.eye(3, dtype=np.int32)[k]) for k in range(3)]
    np.testing.assert_allclose(sum(energies for energies, _ in shares), every, atol=1e-13)
    np.testing.assert_allclose(sum(derivatives for _, derivatives in shares), gradients, atol=1e-13)
    assert not shares[0][0][1:].any()


def test_inputs_that_are_not_there(evaluator):
    with pytest.raises(ModelError, match="the library has no input 'total_charge'"):
        evaluator.tell({"total_charge": [1.0]})


def test_models_are_pickled_by_value(model):
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(step(other.evaluator())["forces"], step(model.evaluator())["forces"])
    assert copy.deepcopy(model) is model


def test_options_that_are_not_there():
    with pytest.raises(ConfigError, match="dtype must be 'float32' or 'float64', found 'half'"):
        deploy(small_model(), "half")
    with pytest.raises(ConfigError, match="--march: expected native or one of"):
        deploy(small_model(), march="z80")


def test_code_is_run_by_name_alone(model, tmp_path):
    """A model file from a stranger that is a library in truth, seal and all, is no model."""
    path = tmp_path / "model.carten"
    path.write_bytes(model.content)
    for read in (open_library, Calculator, load):
        with pytest.raises(ModelFileError, match="not a carten file"):
            read(path)
    save(tmp_path / "good.carten", small_model(), {})
    with pytest.raises(ConfigError, match=r"ends in \.so"):
        export_library(tmp_path / "good.carten", tmp_path / "model.bin")
