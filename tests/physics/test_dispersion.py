"""D3 and D4 against what their own libraries and papers give, and what they refuse."""

import copy
import sys

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.units import Hartree, kcal, mol

import contract
from carten.data.neighbours import graph
from carten.errors import ModelError, ModelFileError
from carten.physics.dispersion import D3Config, D4Config, Dispersion
from carten.physics.term import View
from carten.properties.io import load, save
from carten.properties.spec import input_table
from small import ethanol, small_model

EXACT = {"cutoff": 40.0, "three_body_cutoff": 40.0}


def energy(config, atoms, charge=0.0):
    host = small_model(tuple(sorted(set(atoms.numbers.tolist()))), ("energy",), terms=(config,))
    seen = graph(atoms, 4.0, {"total_charge": np.array([charge])})
    return float(host.terms[0](View(seen, seen.edge_vectors())).sum())


@pytest.mark.parametrize(("kind", "package"), [("d3", "dftd3"), ("d4", "dftd4")])
def test_molecules_have_the_energy_of_the_calculator_that_the_library_ships(kind, package):
    """Another way into the library, by its authors."""
    import importlib

    atoms = ethanol()
    arguments = {"method": "PBE", "damping": "d3bj"} if kind == "d3" else {"method": "PBE"}
    calculator = getattr(importlib.import_module(f"{package}.ase"), f"DFT{kind.upper()}")(**arguments)
    config = D3Config(functional="PBE") if kind == "d3" else D4Config(functional="PBE")
    with_term, without = (small_model(terms=terms) for terms in ((config,), ()))
    found, expected = (contract.results(m, atoms, names=["energy", "forces"]) for m in (with_term, without))
    atoms.calc = calculator
    assert found["energy"][0] - expected["energy"][0] == pytest.approx(atoms.get_potential_energy(), abs=1e-8)
    assert np.allclose(found["forces"] - expected["forces"], atoms.get_forces(), atol=1e-8)


def test_far_atoms_attract_as_the_inverse_sixth_power():
    """D3: two atoms whose coordination number is 0 have one C6; s6 is 1."""
    energies = [energy(D3Config(functional="pbe", **EXACT), Atoms("Ar2", [[0, 0, 0], [0, 0, r]])) for r in (12.0, 24.0)]
    assert energies[0] / energies[1] == pytest.approx(64.0, rel=0.06)
    c6 = -energies[1] / Hartree * (24.0 / 0.529177) ** 6
    assert c6 == pytest.approx(64.6, rel=0.02), "C6 of two argon atoms in atomic units: Grimme et al. 2010"


def test_the_benzene_dimer_is_bound_by_dispersion():
    """Parallel at 3.6 Å: PBE lacks some 4 kcal/mol, which D3 and D4 give."""
    pair = molecule("C6H6")
    other = pair.copy()
    other.positions += [1.6, 0.0, 3.6]
    both = pair + other
    for config in (D3Config(functional="pbe"), D4Config(functional="pbe")):
        bound = energy(config, both) - 2 * energy(config, pair)
        assert -6.0 < bound / (kcal / mol) < -3.0


def test_d4_depends_on_the_total_charge_and_d3_does_not():
    atoms = molecule("CH3OH")
    assert energy(D4Config(functional="pbe"), atoms, 1.0) > energy(D4Config(functional="pbe"), atoms) + 1e-4
    assert energy(D3Config(functional="pbe"), atoms, 1.0) == energy(D3Config(functional="pbe"), atoms)


def test_a_slab_is_a_crystal_with_a_wide_vacuum():
    """What the cell is along a direction that is not periodic does not matter."""
    atoms = bulk("C", cubic=True)
    slab, wide, other = atoms.copy(), atoms.copy(), atoms.copy()
    slab.pbc = other.pbc = (True, True, False)
    wide.cell[2, 2] = 80.0
    other.cell[2] = 0.0
    expected = energy(D3Config(functional="pbe"), wide)
    assert energy(D3Config(functional="pbe"), slab) == pytest.approx(expected, abs=1e-10)
    assert energy(D3Config(functional="pbe"), other) == pytest.approx(expected, abs=1e-10)
    assert energy(D3Config(functional="pbe"), atoms) < expected - 0.1


def test_atoms_share_the_energy_by_pairs():
    """An atom far from everything has none of it."""
    atoms = ethanol() + Atoms("O", [[90.0, 0.0, 0.0]])
    seen = graph(atoms, 4.0)
    energies = small_model(terms=(D3Config(functional="pbe"),)).terms[0](View(seen, seen.edge_vectors()))
    assert energies[-1] == 0.0
    assert bool((energies[:-1] < 0.0).all())


@pytest.mark.parametrize(
    ("config", "elements", "expected"),
    [
        (D3Config(functional="pbf"), (1,), "d3: no parameters for the functional 'pbf'; did you mean .*pbe"),
        (D4Config(functional="qqqqqqq"), (1,), "d4: no parameters for the functional 'qqqqqqq'; there are .*pbe0"),
        (D3Config(functional="pbe"), (1, 104), "d3: there are no dispersion parameters of Rf"),
        (D4Config(functional="pbe"), (1, 118), "d4: there are no dispersion parameters of Og"),
    ],
)
def test_what_is_not_known(config, elements, expected):
    with pytest.raises(ModelError, match=expected):
        small_model(elements, ("energy",), terms=(config,))


def test_the_last_element_with_parameters():
    for config in (D3Config(functional="pbe"), D4Config(functional="pbe")):
        assert energy(config, Atoms("Lr2", [[0, 0, 0], [0, 0, 4.0]])) < 0.0


def test_only_energies_ask_how_atoms_share_them():
    """Not the differences that second derivatives are made of; a copy of a model shares the program."""
    asked = []

    class Counted(Dispersion):
        def __call__(self, structure, shares):
            asked.append(shares)
            return super().__call__(structure, shares)

    model = small_model(properties=("energy",), terms=(D3Config(functional="pbe", cutoff=8.0),))
    model.terms[0].program = Counted("d3", "pbe", False, (8.0, 8.0))
    assert copy.deepcopy(model).terms[0].program is model.terms[0].program
    contract.results(model, molecule("H2O"), names=["hessian"])
    assert asked == [True] + [False] * 18


def test_virials_of_atoms_are_refused():
    """The energy does not come from the edges of the graph."""
    with pytest.raises(ModelError, match="'virials': the energy of d3 does not divide into virials of atoms"):
        small_model(properties=("energy", "virials"), terms=(D3Config(functional="pbe"),))
    assert "virials" not in small_model(properties=("energy",), terms=(D3Config(functional="pbe"),)).properties


def test_there_is_no_derivative_in_the_total_charge():
    config = D4Config(functional="pbe")
    model = small_model(inputs=(input_table()["total_charge"],), terms=(config,))
    seen = graph(ethanol(), 4.0, {"total_charge": np.array([1.0])})
    charge = seen.inputs["total_charge"].requires_grad_()
    assert charge.dtype == torch.float64
    with pytest.raises(ModelError, match="no derivative with respect to total_charge"):
        model.terms[0](View(seen, seen.edge_vectors()))


@pytest.mark.parametrize(
    ("config", "package"), [(D3Config(functional="pbe"), "dftd3"), (D4Config(functional="pbe"), "dftd4")]
)
def test_the_library_is_not_installed(config, package, tmp_path, monkeypatch):
    save(tmp_path / "model.carten", small_model(terms=(config,)), {})
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match=rf"needs the package {package}: pip install 'carten\[dispersion\]'$"):
        small_model(terms=(config,))
    with pytest.raises(ModelFileError, match=f"can't be evaluated here: {config.kind} needs the package {package}"):
        load(tmp_path / "model.carten")
