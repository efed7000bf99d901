"""A model stays repulsive: trained briefly on the ethanol molecules that carten ships, then asked for dimers."""

import itertools

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii

from carten import datasets
from carten.interfaces.ase import Calculator
from carten.train.config import Config
from carten.train.run import train

SMALL = {
    "n_channels": 8,
    "n_layers": 1,
    "l_max_edges": 2,
    "l_max_features": 1,
    "cutoff": 4.0,
    "radial": {"hidden": [16]},
}
ELEMENTS = {"H", "C", "O"}
BELOW = 0.85
"""Of the sum of covalent radii: closer pairs repel, down to 0.3 Å. Below 0.55 this holds for any weights (test_zbl)."""


def trained(folder, terms):
    frames = ase.io.read(datasets.path("ethanol_xtb_train"), index="::20")
    isolated = [atoms for atoms in ase.io.read(datasets.path("ethanol_xtb_train"), index=":") if len(atoms) == 1]
    ase.io.write(folder / "train.extxyz", [*(atoms for atoms in frames if len(atoms) > 1), *isolated])
    document = {
        "data": {"train": str(folder / "train.extxyz"), "validation": 5},
        "model": SMALL,
        "training": {"epochs": 3, "ema": 0.9, "accelerator": "cpu"},
        "terms": terms,
        "output": str(folder / "run"),
    }
    return train(Config.parse(document)).model


@pytest.fixture(scope="module")
def calculator(tmp_path_factory):
    return Calculator(trained(tmp_path_factory.mktemp("zbl"), [{"kind": "zbl"}]), dtype="float64")


@pytest.mark.parametrize(
    "pair", ["".join(pair) for pair in itertools.combinations_with_replacement(sorted(ELEMENTS), 2)]
)
def test_pairs_repel_down_to_a_third_of_an_angstrom(calculator, pair):
    one, other = pair
    end = BELOW * float(sum(covalent_radii[atomic_numbers[symbol]] for symbol in pair))
    energies, pushes = [], []
    for distance in np.linspace(0.3, end, 15):
        atoms = Atoms([one, other], positions=[[0, 0, 0], [0, 0, distance]])
        atoms.calc = calculator
        energies.append(atoms.get_potential_energy())
        pushes.append(atoms.get_forces()[1, 2])
    assert (np.diff(energies) < 0).all(), "the energy rises on compression"
    assert min(pushes) > 1.0, "eV/Å, apart"
    assert energies[0] - energies[-1] > 10.0


def test_atoms_of_a_molecule_do_not_fuse(calculator):
    """Hydrogen pushed into the oxygen and into carbon, carbon into carbon: it gets harder all the way."""
    for pushed, into in ((3, 2), (8, 0), (1, 0)):
        energies = []
        for fraction in np.linspace(0.75, 0.3, 8):
            atoms = next(frame for frame in ase.io.iread(datasets.path("ethanol_xtb_test")) if len(frame) == 9)
            atoms.calc = calculator
            atoms.positions[pushed] = atoms.positions[into] + fraction * (
                atoms.positions[pushed] - atoms.positions[into]
            )
            energies.append(atoms.get_potential_energy())
        assert (np.diff(energies) > 0.0).all()
