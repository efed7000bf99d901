"""Cheap labels beside expensive ones: geometries from every source, files of both levels, a configuration."""

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.harmonic import HarmonicCalculator, HarmonicForceField
from typer.testing import CliRunner

from carten import datasets
from carten.cli import app
from carten.data.read import read_structures
from carten.errors import ConfigError, DataError
from carten.learning.augment import SOURCES, Around, around_structures, augment
from carten.learning.geometries import NormalModes, bonds, pair, rotors, strained, turned_bonds
from carten.learning.labellers import Labeller
from carten.train.config import Config
from carten.workflows.limits import overlapping

ETHANOL = molecule("CH3CH2OH")


def test_normal_modes_have_the_energy_of_their_temperature():
    water = molecule("H2O")
    rng = np.random.default_rng(0)
    root = rng.normal(size=(9, 9)) + 4.0 * np.eye(9)
    field = HarmonicForceField(water, root @ root.T)
    modes = NormalModes(water, HarmonicCalculator(field))
    assert len(modes.wavenumbers) == 3 and modes.wavenumbers.min() > 200.0
    energies = []
    for _ in range(2000):
        sample = modes.sample(300.0, rng)
        sample.calc = HarmonicCalculator(field)
        energies.append(sample.get_potential_energy())
    assert np.mean(energies) == pytest.approx(1.5 * units.kB * 300.0, rel=0.08)


def test_rotatable_bonds_of_ethanol_turn_and_nothing_else_changes():
    turning = rotors(ETHANOL)
    assert [{ETHANOL.symbols[origin], ETHANOL.symbols[end]} for origin, end, _ in turning] == [{"C"}, {"C", "O"}]
    turned = turned_bonds(ETHANOL, np.random.default_rng(1))
    assert bonds(turned) == bonds(ETHANOL)
    for i, j in bonds(ETHANOL):
        assert turned.get_distance(i, j) == pytest.approx(ETHANOL.get_distance(i, j))
    hydroxyl = next(k for k in range(9) if ETHANOL.symbols[k] == "H" and ETHANOL.get_distance(k, 2) < 1.1)
    assert abs(turned.get_distance(hydroxyl, 0) - ETHANOL.get_distance(hydroxyl, 0)) > 0.1
    assert turned_bonds(molecule("C6H6"), np.random.default_rng(0)) is None


def test_strained_cells_have_the_volumes_asked_for():
    rng = np.random.default_rng(0)
    volumes = [
        strained(bulk("Cu"), rng, (0.8, 1.3), 0.05, 0.05).get_volume() / bulk("Cu").get_volume() for _ in range(50)
    ]
    assert 0.8 <= min(volumes) < 0.9 and 1.2 < max(volumes) <= 1.3


def test_pairs_have_the_contact_asked_for():
    both = pair(ETHANOL, molecule("H2O"), 2.0, np.random.default_rng(0))
    assert both.get_all_distances()[:9, 9:].min() == pytest.approx(2.0, abs=1e-6)
    with pytest.raises(DataError, match="these structures are periodic"):
        pair(bulk("Cu"), ETHANOL, 2.0, np.random.default_rng(0))


def test_overlapping_atoms_are_seen():
    close = ETHANOL.copy()
    close.positions[1] = close.positions[0] + (0.4, 0, 0)
    assert overlapping(close) and not overlapping(ETHANOL) and not overlapping(bulk("Cu"))


def test_every_source_gives_geometries_and_a_seed_the_same_ones():
    pytest.importorskip("tblite", reason="xTB labels need the extra xtb")
    frames = [ETHANOL.copy() for _ in range(4)]
    for seed, atoms in enumerate(frames):
        atoms.rattle(0.02, seed=seed)
    around = Around(number=12, interval=2)
    made_twice = [around_structures(frames, Labeller("tblite"), around) for _ in range(2)]
    assert sorted({atoms.info["source"] for atoms in made_twice[0]}) == sorted(SOURCES)
    for one, other in zip(*made_twice, strict=True):
        assert np.array_equal(one.positions, other.positions)
    assert not any(overlapping(atoms) for atoms in made_twice[0])


def crystals(number: int) -> list[Atoms]:
    frames = []
    for seed in range(number):
        atoms = bulk("Cu", cubic=True)
        atoms.rattle(0.05, seed=seed)
        atoms.calc = EMT()
        atoms.get_forces()
        frames.append(atoms)
    return frames


def test_both_levels_are_written_with_a_configuration(tmp_path):
    output = tmp_path / "cheap.extxyz"
    result = augment(crystals(12), Labeller("emt", {"asap_cutoff": True}), output, Around(8, interval=2), "exact")
    assert result.counts == {"labelled": 4, "md": 4, "modes": 0, "bonds": 0}
    assert {atoms.info["fidelity"] for _, atoms in read_structures(output)} == {"emt"}
    parts = [read_structures(tmp_path / f"cheap.{part}.extxyz") for part in ("train", "validation")]
    assert [len(part) for part in parts] == [11, 1]
    assert {atoms.info["fidelity"] for part in parts for _, atoms in part} == {"exact"}
    config = Config.load(result.config)
    assert [path.name for path in config.data.train] == ["cheap.train.extxyz", "cheap.extxyz"]
    assert config.inputs["fidelity"].default == "exact"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "cheap.extxyz",
        "cheap.train.extxyz",
        "cheap.validation.extxyz",
        "cheap.yaml",
    ]


def test_bad_requests(tmp_path):
    with pytest.raises(DataError, match=r"at least two labelled structures"):
        augment(crystals(1), Labeller("emt"), tmp_path / "o.extxyz", Around())
    with pytest.raises(ConfigError, match=r"of the level emt already: give another --level"):
        augment(crystals(2), Labeller("emt"), tmp_path / "o.extxyz", Around(), "emt")
    with pytest.raises(ConfigError, match=r"temperatures: expected numbers above 0 K, found \[-1"):
        Around(temperatures=(-1.0,))
    with pytest.raises(ConfigError, match=r"sources: expected some of labelled, md, modes, bonds, found \['x'\]"):
        Around(sources=("x",))
    assert list(tmp_path.iterdir()) == []


def test_the_command(tmp_path):
    pytest.importorskip("tblite", reason="xTB labels need the extra xtb")
    source, output = tmp_path / "in.extxyz", tmp_path / "cheap.extxyz"
    ase.io.write(source, ase.io.read(datasets.path("ethanol_dft_test"), index="3:23"))
    arguments = ["augment", str(source), "--with", "tblite", "-o", str(output), "-n", "6", "--level", "PBE0"]
    done = CliRunner().invoke(app, [*arguments, "--source", "bonds", "--source", "labelled"])
    assert done.exit_code == 0, done.output
    assert "6 structures with cheap labels" in done.output and "3 bonds, 3 labelled" in done.output
    assert {atoms.info["fidelity"] for atoms in ase.io.read(output, ":")} == {"GFN2-xTB"}
