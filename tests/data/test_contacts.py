"""Shortest distances by pair of elements, by hand."""

import pytest
from ase import Atoms
from ase.build import bulk

from carten.data.contacts import pair_name, shortest_contacts
from carten.data.neighbours import graph
from carten.model.graph import batch


def test_shortest_contacts():
    """Over structures and periodic images; pairs beyond the cutoff are not there."""
    molecule = Atoms("HOH", [[0, 0, 0], [0, 0, 1.0], [0, 1.5, 0]])
    longer = Atoms("OHC", [[0, 0, 0], [0, 0, 0.9], [0, 0, 9.0]])
    copper = bulk("Cu", a=3.6)
    expected = {"H-H": 1.5, "H-O": 0.9, "Cu-Cu": 3.6 / 2**0.5}
    graphs = [graph(atoms, 4.0) for atoms in (molecule, longer, copper)]
    assert shortest_contacts(graphs) == pytest.approx(expected, abs=1e-4)
    assert shortest_contacts([batch(graphs)]) == pytest.approx(expected, abs=1e-4)
    assert shortest_contacts([graph(Atoms("H"), 4.0)]) == {}
    assert pair_name(8, 1) == pair_name(1, 8) == "H-O"
