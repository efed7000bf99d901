"""A list that is kept gives exactly the graphs that a new search gives."""

import numpy as np
import pytest
import torch
from ase import Atoms

from carten.data.neighbours import graph
from carten.interfaces.skin import SkinList
from small import diamond, ethanol, oxide, slab

CUTOFF = 4.0


def require_equal(atoms: Atoms, skin_list: SkinList) -> None:
    found, expected = skin_list.graph(atoms, {}), graph(atoms, CUTOFF)
    for name in ("positions", "numbers", "cell", "pbc", "structure", "edge_index", "edge_shift"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("make", [ethanol, oxide, slab, diamond])
def test_graphs_of_a_walk_equal_new_ones(make):
    atoms, random, skin_list = make(), np.random.default_rng(0), SkinList(CUTOFF, 0.6)
    for _ in range(60):
        atoms.positions += random.normal(scale=0.04, size=(len(atoms), 3))
        require_equal(atoms, skin_list)
    assert 1 < skin_list.builds < 40


@pytest.mark.parametrize("make", [oxide, slab, diamond])
def test_graphs_in_a_cell_that_deforms_equal_new_ones(make):
    atoms, random, skin_list = make(), np.random.default_rng(1), SkinList(CUTOFF, 0.6)
    for _ in range(60):
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + random.normal(scale=0.008, size=(3, 3))), scale_atoms=True)
        atoms.positions += random.normal(scale=0.02, size=(len(atoms), 3))
        require_equal(atoms, skin_list)
    assert 1 < skin_list.builds < 40


def test_a_squeezed_cell_needs_a_new_list_though_no_atom_leaves_its_fractional_place():
    atoms, skin_list = diamond(), SkinList(CUTOFF, 0.5)
    require_equal(atoms, skin_list)
    atoms.set_cell(atoms.cell.array * 0.8, scale_atoms=True)
    require_equal(atoms, skin_list)
    assert skin_list.builds == 2


def test_a_list_is_kept_until_an_atom_moves_half_the_skin():
    atoms, skin_list = ethanol(), SkinList(CUTOFF, 0.5)
    for shift, builds in ((0.0, 1), (0.24, 1), (0.26, 2), (0.50, 2)):
        moved = ethanol()
        moved.positions[0, 0] += shift
        skin_list.graph(moved, {})
        assert skin_list.builds == builds
    assert len(atoms) == 9


def test_other_atoms_or_directions_make_a_new_list():
    atoms, skin_list = oxide(), SkinList(CUTOFF, 0.5)
    require_equal(atoms, skin_list)
    atoms.pbc = (True, True, False)
    require_equal(atoms, skin_list)
    atoms.numbers = [8, 6, 8]
    require_equal(atoms, skin_list)
    require_equal(atoms[:2], skin_list)
    assert skin_list.builds == 4


def test_without_a_skin_every_change_makes_a_new_list():
    atoms, skin_list = ethanol(), SkinList(CUTOFF, 0.0)
    require_equal(atoms, skin_list)
    require_equal(atoms, skin_list)
    assert skin_list.builds == 1
    atoms.positions[0, 0] += 1e-9
    require_equal(atoms, skin_list)
    assert skin_list.builds == 2


def test_no_atoms_and_one_atom():
    require_equal(Atoms(), SkinList(CUTOFF, 0.5))
    require_equal(Atoms("H"), SkinList(CUTOFF, 0.5))


def test_a_negative_skin_is_refused():
    with pytest.raises(ValueError, match=r"skin must not be negative, found -0\.1"):
        SkinList(CUTOFF, -0.1)
