"""The example of path integrals and the table of speed."""

import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from carten.model.config import NetworkConfig
from carten.properties.io import save
from carten.properties.potential import Potential
from carten.properties.spec import property_table

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.engines import path_integral, speed


@pytest.mark.needs("ipi")
@pytest.mark.needs("cpp")
def test_the_example_of_path_integrals(tmp_path, monkeypatch, capsys):
    network = NetworkConfig(n_channels=4, cutoff=3.0, l_max_edges=1, l_max_features=0, correlation_order=1)
    save(tmp_path / "m.carten", Potential(network, [1, 8], [property_table()["energy"]], seed=1), provenance={})
    ase.io.write(tmp_path / "start.xyz", molecule("H2O"), format="extxyz")
    arguments = ["m.carten", "start.xyz", "--beads", "1", "3", "--steps", "20", "--output", "bonds.svg"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["path_integral", *arguments])
    path_integral.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["1 beads", "3 beads"]
    assert (tmp_path / "bonds.svg").stat().st_size > 1000


def test_bonds_and_their_lengths():
    water = molecule("H2O")
    pairs = path_integral.bonds(water, ("O", "H"))
    assert pairs == [(0, 1), (0, 2)]
    np.testing.assert_allclose(path_integral.lengths([water], pairs), 0.9690, atol=1e-3)


def test_the_table_of_speed_counts_atoms():
    lines = speed.table({"ASE": 0.2, "LAMMPS, 2 processes, 2 boxes": 0.2}, 100).splitlines()
    assert lines[2] == "| ASE | 200 | 2000.0 | 1.00 |"
    assert lines[3].endswith("| 200 | 1000.0 | 0.50 |")
