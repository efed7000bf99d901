"""Screened nuclear repulsion against published numbers, and where it ends."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.data import covalent_radii

import contract
from carten.data.neighbours import graph
from carten.errors import ModelError
from carten.physics.term import View
from carten.physics.zbl import CORE, ZblConfig, held, repulsion
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
    seen = graph(Atoms(symbols, positions=[[0, 0, 0], [0, 0, distance]]), 4.0)
    return float(small_model(terms=(term,)).terms[0](View(seen, seen.edge_vectors())).sum())


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


def test_the_network_sees_no_shorter_pairs_than_cores_allow():
    """The map is the distance itself outside, constant inside, smooth and increasing between."""
    x = torch.linspace(0.3, 1.2, 9001, dtype=torch.float64)
    low, high = CORE
    y = held(x, low, high)
    assert torch.equal(y[x > high], x[x > high])
    assert (y[x < low] == (low + high) / 2).all()
    slopes = [y]
    for _ in range(3):
        slopes.append((slopes[-1][1:] - slopes[-1][:-1]) / 1e-4)
    assert float(slopes[1].min()) > -1e-9 and float(slopes[1].max()) < 1 + 1e-9
    jumps = (slopes[2][1:] - slopes[2][:-1]).abs().max()
    assert float(jumps) < 100 * 1e-4 * 10, "the curvature is continuous"


PAIRS = [(1, 1), (1, 6), (6, 8), (8, 8), (14, 79), (74, 74), (3, 55)]


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("seed", range(3))
def test_cores_repel_whatever_the_weights(pair, seed):
    """Random weights, scaled up until the network alone is hundreds of eV: the shape of the curve is that of nuclei."""
    model = small_model(tuple(sorted(set(pair))), ("energy", "forces"), terms=(ZblConfig(cutoff=1.5),), seed=seed)
    model.heads["energies"].scale.fill_(1000.0)
    end = CORE[0] * min(1.5, float(sum(covalent_radii[list(pair)].clip(max=1.0))))
    dimers = [Atoms(pair, positions=[[0, 0, 0], [0, 0, r]]) for r in np.arange(0.3, end, 0.02)]
    found = contract.results(model, *dimers, names=["energy", "forces"])
    assert (np.diff(found["energy"]) < 0).all(), "the energy falls as the atoms part"
    assert (found["forces"][1::2, 2] > 0).all(), "the second atom is pushed up"
