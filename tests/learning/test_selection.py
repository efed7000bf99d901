"""Selection: diverse, deterministic, without duplicates; each method does what its definition says."""

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from typer.testing import CliRunner

from carten import datasets
from carten.cli import app
from carten.errors import ConfigError
from carten.learning.choice import choose_structures
from carten.learning.diversity import farthest_points, leading_rows, medoids
from carten.learning.selection import select, structure_features, untrained_network
from carten.model.config import NetworkConfig
from carten.properties.io import save
from carten.properties.potential import Potential
from carten.properties.spec import property_table
from carten.uncertainty import load_ensemble
from carten.workflows.predict import predict
from small import NETWORK

NONE = np.empty((0, 2))


def ethanol(n_frames: int) -> list[Atoms]:
    frames = ase.io.read(datasets.path("ethanol_xtb_test"), index=":")
    return frames[:: len(frames) // n_frames][:n_frames]


def test_farthest_points_of_a_line():
    line = np.stack([np.array([0.0, 1.0, 4.0, 5.0, 10.0]), np.zeros(5)], axis=1)
    assert farthest_points(line, 3, NONE) == [2, 4, 0]  # the mean is 4
    assert farthest_points(line, 1, line[:1]) == [4]
    assert farthest_points(line, 2, line[4:]) == [0, 3]
    assert farthest_points(line, 2, NONE, weights=np.array([1.0, 1.0, 1.0, 9.0, 1.0])) == [3, 0]


def test_medoids_are_the_centres_of_clusters():
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
    points = np.concatenate([centres, *(centre + rng.normal(scale=0.5, size=(30, 2)) for centre in centres)])
    chosen = medoids(points, 3, NONE)
    assert np.linalg.norm(points[sorted(chosen)][:, None] - centres, axis=2).min(axis=0).max() < 0.3
    (last,) = medoids(points, 1, centres[:2])
    assert np.linalg.norm(points[last] - centres[2]) < 0.5


def test_cur_takes_rows_that_span_the_others():
    basis = np.array([[3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    rows = np.concatenate([basis * 0.1, basis, basis[:1] * 0.5 + basis[1:2] * 0.1])
    assert leading_rows(rows, 3, np.empty((0, 3))) == [3, 4, 5]
    assert leading_rows(rows, 2, basis[:1]) == [4, 5]
    with pytest.raises(ConfigError, match=r"cur can tell 3 of these structures apart, 4 are asked for"):
        leading_rows(rows, 4, np.empty((0, 3)))


def test_features_do_not_depend_on_orientation_and_order_of_atoms():
    atoms = ethanol(1)[0]
    turned = atoms.copy()
    turned.rotate(50, (1, 2, 3))
    turned = turned[[3, 1, 0, 2, 8, 7, 6, 5, 4]]
    other = ethanol(2)[1]
    features = structure_features([atoms, turned, other], untrained_network([atoms]))
    assert features[1] == pytest.approx(features[0], abs=1e-4)
    assert np.abs(features[2] - features[0]).max() > 0.1


@pytest.mark.parametrize("method", ["farthest", "kmedoids", "cur"])
def test_a_pool_of_two_molecules_gives_some_of_each(method):
    pool = [*ethanol(15), molecule("CH3OCH3"), molecule("C6H6")]
    selection = select(pool, 4, method=method)
    assert selection.indices == select(pool, 4, method=method).indices
    assert {15, 16} <= set(selection.indices)
    assert len(set(selection.indices)) == 4


def test_duplicates_and_overlapping_atoms_are_left_out():
    atoms, other = ethanol(2)
    turned = atoms.copy()
    turned.rotate(30, "z")
    overlapping = other.copy()
    overlapping.positions[1] = overlapping.positions[0] + 0.1
    broken = other.copy()
    broken.positions[0] = np.nan
    selection = select([turned, overlapping, atoms, broken, other], 1, known=[atoms])
    assert selection.indices == [4]
    assert selection.left_out == {"duplicates": 2, "with atoms that overlap": 2}


def test_uncertain_structures_come_first():
    pool = ethanol(10)
    uncertainties = np.full(10, 0.01)
    uncertainties[[2, 7]] = 1.0
    selection = select(pool, 2, method="uncertainty", uncertainties=uncertainties)
    assert sorted(selection.indices) == [2, 7] and selection.uncertainties == [1.0, 1.0]


def test_bad_requests():
    pool = ethanol(3)
    with pytest.raises(ConfigError, match=r"3 structures are asked for, the pool has 2 candidates among 3, 1 dupl"):
        select([pool[0], *pool[:2]], 3)
    with pytest.raises(ConfigError, match=r"this model gives no uncertainties"):
        select(pool, 1, method="uncertainty")


def test_the_command(tmp_path):
    pool, output = tmp_path / "pool.extxyz", tmp_path / "out.extxyz"
    ase.io.write(pool, [*ethanol(8), *ethanol(8)[:2]])
    arguments = ["select", str(pool), "-n", "4", "-o", str(output)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "4 of 10 structures" in done.output and "left out: 2 duplicates" in done.output
    frames = ase.io.read(output, ":")
    assert len(frames) == 4 and frames[0].info["selected_from"].startswith(f"{pool}, frame")
    assert "energy" in frames[0].calc.results
    refused = CliRunner().invoke(app, [*arguments, "--overwrite", "-n", "40"])
    assert refused.exit_code == 1 and "40 structures are asked for" in refused.output
    periodic = tmp_path / "known.extxyz"
    ase.io.write(periodic, bulk("Cu"))
    done = CliRunner().invoke(app, [*arguments, "--overwrite", "--known", str(periodic), "--method", "cur"])
    assert done.exit_code == 0, done.output


def test_a_model_that_knows_its_errors_says_what_it_is_uncertain_of(tmp_path):
    path = tmp_path / "readouts.carten"
    network = NetworkConfig.model_validate(NETWORK | {"n_members": 4})
    save(path, Potential(network, (1, 6, 8), [property_table()["energy"]]), {})
    pool = ethanol(6)
    selection = choose_structures(pool, 2, path)
    values = list(predict(load_ensemble(path), pool, ["forces_uncertainty"]))
    largest = [float(value["forces_uncertainty"].max()) for value in values]
    assert selection.method == "uncertainty"
    assert selection.indices[0] == int(np.argmax(largest))
    assert selection.uncertainties == pytest.approx([largest[k] for k in selection.indices], rel=1e-4)
    assert choose_structures(pool, 2, path, "farthest").method == "farthest"
