"""Screened nuclear repulsion against published numbers, and where it ends."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import covalent_radii

import contract
from carten.errors import ModelError
from carten.physics.zbl import ZblConfig, repulsion
from small import small_model


def screening(x: float) -> float:
    """The universal function, term by term as printed by Ziegler, Biersack and Littmark (1985)."""
    return (
        0.1818 * np.exp(-3.2 * x) + 0.5099 * np.exp(-0.9423 * x)
        + 0.2802 * np.exp(-0.4029 * x) + 0.02817 * np.exp(-0.2016 * x)
    )  # fmt: skip


@pytest.mark.parametrize(("one", "other"), [(1, 1), (1, 6), (8, 8), (14, 79), (92, 92)])
@pytest.mark.parametrize("r", [0.05, 0.3, 1.0])
def test_universal_potential(one, other, r):
    """Four digits are printed; the screening length is 0.8854 bohr / (Z1^0.23 + Z2^0.23)."""
    numbers = torch.tensor([one]), torch.tensor([other])
    found = float(repulsion(torch.tensor([r], dtype=torch.float64), *numbers))
    length = 0.8854 * 0.529177 / (one**0.23 + other**0.23)
    assert found == pytest.approx(14.39965 * one * other / r * screening(r / length), rel=2e-3)


def test_bare_nuclei_at_no_distance():
    """The screening function is 1 at 0."""
    r = torch.tensor([1e-6], dtype=torch.float64)
    found = float(repulsion(r, torch.tensor([6]), torch.tensor([8]))) * 1e-6
    assert found == pytest.approx(14.39965 * 48, rel=1e-4)


def added(term: ZblConfig, symbols: str, distance: float) -> float:
    atoms = Atoms(symbols, positions=[[0, 0, 0], [0, 0, distance]])
    energies = [contract.results(small_model(terms=t), atoms, names=["energy"])["energy"] for t in ((term,), ())]
    return float(energies[0][0] - energies[1][0])


@pytest.mark.parametrize("symbols", ["HH", "CH", "CO"])
@pytest.mark.parametrize("cutoff", [None, 1.9])
def test_it_ends_where_it_should(symbols, cutoff):
    end = cutoff or sum(covalent_radii[Atoms(symbols).numbers])
    term = ZblConfig(cutoff=cutoff)
    assert added(term, symbols, end + 1e-6) == 0.0
    assert added(term, symbols, 0.9 * end) > 1e-3
    numbers = [torch.tensor([z]) for z in Atoms(symbols).numbers]
    whole = float(repulsion(torch.tensor([0.2 * end], dtype=torch.float64), *numbers))
    assert added(term, symbols, 0.2 * end) == pytest.approx(whole, rel=2e-3), "hardly switched off far inside"


@pytest.mark.parametrize(
    ("term", "elements", "expected"),
    [
        (ZblConfig(cutoff=4.5), (1, 8), "up to 4.50 Å, the model sees pairs up to 4 Å.*smaller cutoff"),
        (ZblConfig(), (1, 118), "no covalent radius of Og is known: give zbl a cutoff"),
        (ZblConfig(), (55, 87), "up to 5.20 Å"),
    ],
)
def test_what_it_cannot_do(term, elements, expected):
    with pytest.raises(ModelError, match=expected):
        small_model(elements, ("energy",), terms=(term,))


def test_terms_need_an_energy():
    with pytest.raises(ModelError, match=r"terms \(zbl\) add to the energy, which the model does not have"):
        small_model(properties=("charges",), terms=(ZblConfig(),))
