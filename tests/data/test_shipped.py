"""The data sets that ship with carten: complete, readable, in the units and signs that their README states."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from carten import datasets

ETHANOL = tuple(name for name in datasets.NAMES if name.startswith("ethanol"))
COUNTS = {
    "ethanol_xtb_train": 1200,
    "ethanol_xtb_test": 300,
    "ethanol_dft_train": 240,
    "ethanol_dft_test": 60,
    "bn_xtb_train": 80,
    "bn_xtb_test": 20,
}
LABELS = {
    "ethanol_xtb": {"energy", "forces", "charges", "dipole"},
    "ethanol_dft": {"energy", "forces", "dipole", "polarizability"},
    "bn_xtb": {"energy", "forces", "charges", "stress"},
}
ROUNDING = 0.5e-6  # last decimal of positions, forces, charges and dipoles in the files


@functools.cache
def load(name: str) -> tuple[Atoms, ...]:
    return tuple(read(datasets.path(name), ":"))


def frames(name: str) -> list[Atoms]:
    return [atoms for atoms in load(name) if atoms.info["config_type"] != "isolated_atom"]


def isolated(name: str) -> dict[str, float]:
    atoms = [atom for atom in load(name) if atom.info["config_type"] == "isolated_atom"]
    return {atom.get_chemical_formula(): atom.get_potential_energy() for atom in atoms}


def origin(atoms: Atoms) -> tuple[str, float]:
    """Trajectory and time of a frame of molecular dynamics; a displaced crystal has a seed of its own."""
    return atoms.info.get("trajectory", atoms.info.get("seed")), atoms.info.get("time_fs", 0.0)


def labels(atoms: Atoms) -> set[str]:
    found = {"polarizability"} & set(atoms.info)
    return found | (set(atoms.calc.results) - {"free_energy"})


def test_sets_are_small_and_all_there() -> None:
    assert set(datasets.NAMES) == set(COUNTS)
    assert sum(datasets.path(name).stat().st_size for name in datasets.NAMES) <= 2_000_000
    with pytest.raises(ValueError, match="ethanol_xtb_train"):
        datasets.path("ethanol")


@pytest.mark.parametrize("name", datasets.NAMES)
def test_every_frame_carries_every_label(name: str) -> None:
    expected = LABELS[name.rsplit("_", 1)[0]]
    assert len(frames(name)) == len({origin(atoms) for atoms in frames(name)}) == COUNTS[name]
    for atoms in frames(name):
        assert labels(atoms) == expected
        assert np.isfinite(atoms.get_forces()).all()
        assert len(atoms) == (8 if atoms.pbc.all() else 9)


@pytest.mark.parametrize("level", list(LABELS))
def test_train_and_test_come_from_different_trajectories_or_seeds(level: str) -> None:
    train, test = ({origin(atoms)[0] for atoms in frames(f"{level}_{split}")} for split in ("train", "test"))
    assert train
    assert test
    assert not train & test


@pytest.mark.parametrize("name", datasets.NAMES)
def test_forces_and_charges_of_a_neutral_system_add_to_zero(name: str) -> None:
    for atoms in frames(name):
        assert np.abs(atoms.get_forces().sum(0)).max() <= 2 * len(atoms) * ROUNDING
        if "charges" in atoms.calc.results:
            assert abs(atoms.get_charges().sum()) <= 2 * len(atoms) * ROUNDING


@pytest.mark.parametrize("name", ETHANOL)
def test_molecules_are_whole_and_centred(name: str) -> None:
    for atoms in frames(name):
        assert not atoms.pbc.any()
        assert np.abs(atoms.get_center_of_mass()).max() <= 2 * ROUNDING
        distances = atoms.get_all_distances()
        hydrogen = atoms.numbers == 1
        heavy = distances[np.ix_(~hydrogen, ~hydrogen)]
        assert np.all(distances[np.ix_(hydrogen, ~hydrogen)].min(1) < 1.6)
        assert np.sum((heavy > 0) & (heavy < 2.1)) == 4  # C-C and C-O, both ways


@pytest.mark.parametrize(("level", "per_bond"), [("ethanol_xtb", 8), ("ethanol_dft", 8), ("bn_xtb", 16)])
def test_isolated_atoms_give_bond_energies(level: str, per_bond: int) -> None:
    """Measured: 33 eV for the 8 bonds of ethanol, 13 eV for the 4 of a BN pair. GFN-xTB binds a third too strongly."""
    atomic = isolated(f"{level}_train")
    for split in ("train", "test"):
        for atoms in frames(f"{level}_{split}"):
            energy = sum(atomic[symbol] for symbol in atoms.symbols) - atoms.get_potential_energy()
            assert 2.5 < energy / per_bond < 6.0


@pytest.mark.parametrize("split", ["train", "test"])
def test_dft_repeats_geometries_of_xtb(split: str) -> None:
    """The same molecules at both levels: forces and dipoles agree in sign and size, geometries to the last decimal."""
    cheap = {origin(atoms): atoms for atoms in frames(f"ethanol_xtb_{split}")}
    pairs = [(atoms, cheap[origin(atoms)]) for atoms in frames(f"ethanol_dft_{split}")]
    assert all(np.array_equal(a.positions, b.positions) and np.array_equal(a.numbers, b.numbers) for a, b in pairs)
    for label in (Atoms.get_forces, Atoms.get_dipole_moment):
        values = np.array([[label(atoms).ravel() for atoms in pair] for pair in pairs])
        assert np.corrcoef(values[:, 0].ravel(), values[:, 1].ravel())[0, 1] > 0.95


@pytest.mark.parametrize("split", ["train", "test"])
def test_polarizability_is_that_of_ethanol(split: str) -> None:
    """Symmetric, positive, up to a fifth below the measured mean of 5.1 to 5.4 A^3: no diffuse d functions."""
    tensors = np.array([atoms.info["polarizability"] for atoms in frames(f"ethanol_dft_{split}")]).reshape(-1, 3, 3)
    assert np.array_equal(tensors, tensors.transpose(0, 2, 1))
    assert np.linalg.eigvalsh(tensors).min() > 3.5
    assert 0.8 * 5.1 < np.trace(tensors, axis1=1, axis2=2).mean() / 3 < 5.4


@pytest.mark.parametrize("split", ["train", "test"])
def test_stress_is_positive_under_tension(split: str) -> None:
    """ASE's sign: a third of the trace rises with ln V by the bulk modulus (400 GPa, measured)."""
    crystals = frames(f"bn_xtb_{split}")
    volumes = np.array([atoms.get_volume() for atoms in crystals])
    traces = np.array([np.trace(atoms.get_stress(voigt=False)) for atoms in crystals])
    slope = np.polyfit(np.log(volumes), traces / 3, 1)[0]
    assert 200 < slope * 160.21766 < 700  # GPa
