"""Adsorption against ASE alone, sites that are known, and bad input."""

import ase
import numpy as np
import pytest
from ase.build import add_adsorbate, bcc110, fcc100, fcc110, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.constraints import FixAtoms
from ase.optimize import BFGS

from carten.errors import DataError
from carten.workflows.adsorb import adsorb
from carten.workflows.adsorbates import place_on, read_adsorbate, same_places
from carten.workflows.relax import Goal
from carten.workflows.sites import adsorption_sites, slab_symmetry


def held(slab, below):
    slab.pbc = True
    slab.set_constraint(FixAtoms(mask=slab.positions[:, 2] < below))
    return slab


@pytest.fixture
def copper():
    """(111), one of three layers moves."""
    return held(fcc111("Cu", (2, 2, 3), vacuum=8.0), 11.0)


@pytest.mark.parametrize(
    ("build", "element", "sites"),
    [
        (fcc111, "Cu", {"top": (1, 1), "bridge": (1, 3), "hollow": (2, 2)}),
        (fcc100, "Cu", {"top": (1, 1), "bridge": (1, 2), "hollow": (1, 1)}),
        (fcc110, "Cu", {"top": (1, 1), "bridge": (2, 2), "hollow": (1, 1)}),
        (bcc110, "Fe", {"top": (1, 1), "bridge": (2, 3), "hollow": (1, 2)}),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 3])
def test_distinct_sites_and_how_many_there_are(build, element, sites, size):
    """Kinds that symmetry distinguishes, and places in a cell of one atom; in any supercell."""
    for kind, (distinct, places) in sites.items():
        chosen = [site for site in adsorption_sites(build(element, (size, size, 4), vacuum=6.0)) if site.kind == kind]
        assert len(chosen) == distinct
        assert sum(site.multiplicity for site in chosen) == places * size**2


def test_sites_are_those_of_ase():
    """Places of ASE's ontop, bridge, fcc and hcp; the hollow without an atom in the second layer comes first."""
    slab = fcc111("Cu", (3, 3, 4), vacuum=6.0)
    distances = {}
    for position, name in (("ontop", "top 0"), ("bridge", "bridge 0"), ("fcc", "hollow 0"), ("hcp", "hollow 1")):
        covered = slab.copy()
        add_adsorbate(covered, "H", 1.0, position)
        (site,) = (site for site in adsorption_sites(slab) if site.name == name)
        surface = slab.positions[slab.positions[:, 2] > slab.positions[:, 2].max() - 0.1]
        around = [
            np.sort(
                [
                    ase.Atoms("HCu", [place, atom], cell=slab.cell, pbc=slab.pbc).get_distance(0, 1, mic=True)
                    for atom in surface
                ]
            )
            for place in (covered.positions[-1] - [0, 0, 1.0], site.place)
        ]
        assert around[0] == pytest.approx(around[1], abs=1e-6)
        distances[name] = site.beneath
    spacing = 3.61 / np.sqrt(3)
    assert distances["hollow 1"] == pytest.approx(spacing, abs=0.01)
    assert distances["hollow 0"] == pytest.approx(2 * spacing, abs=0.02)


def test_energies_are_those_of_ase(copper):
    """Hydrogen in the fcc hollow: slab, molecule and covered slab relaxed by hand."""
    result = adsorb(copper, EMT(), ["H"], Goal(1e-3))
    energies = {}
    covered = copper.copy()
    add_adsorbate(covered, "H", 1.0, "fcc")
    for name, atoms in (("slab", copper.copy()), ("gas", molecule("H2")), ("covered", covered)):
        atoms.calc = EMT()
        BFGS(atoms, logfile=None).run(fmax=1e-3)
        energies[name] = atoms.get_potential_energy()
    (row,) = (row for row in result.adsorbed if "hollow 0" in row.starts)
    assert row.energy == pytest.approx(energies["covered"] - energies["slab"] - energies["gas"] / 2, abs=1e-4)
    assert row.site == "hollow 0" and row.state == "adsorbed"
    assert result.best("H") is result.adsorbed[0]
    assert result.quantities()[0].name == "adsorption energy of H, from 1/2 H2"
    assert not result.failures()


def test_places_that_are_the_same_by_symmetry():
    """Hydroxyl in two fcc hollows, turned by 120 degrees; in an hcp hollow it is another structure."""
    slab = fcc111("Cu", (2, 2, 4), vacuum=8.0)
    symmetry, (top, _, fcc, hcp) = slab_symmetry(slab), adsorption_sites(slab)
    assert fcc.beneath > hcp.beneath
    leaning = ase.Atoms("OH", [[0, 0, 0], [0.5, 0.2, 0.8]])
    placed = place_on(slab, leaning, fcc)[-2:]
    turned = placed.copy()
    turned.rotate(120, "z", center=top.place)
    turned.positions += slab.cell[0] / 2 - slab.cell[1]
    assert same_places(placed, turned, symmetry, 0.01)
    assert not same_places(placed, place_on(slab, leaning, hcp)[-2:], symmetry, 0.3)
    turned.rotate(60, "z", center=turned.positions[0])
    assert not same_places(placed, turned, symmetry, 0.3)


def test_what_flies_off_or_falls_apart_is_said(copper):
    """Water is not stable on EMT copper; helium does not stick to a repulsive surface."""
    result = adsorb(copper, EMT(), ["H2O"], Goal(0.05))
    broken = [row for row in result.adsorbed if row.state == "dissociated"]
    assert broken and result.best("H2O") not in broken
    for row in broken:
        water = row.relaxation.atoms[-3:]
        assert water.get_distances(0, [1, 2], mic=True).max() > 1.3 * 0.97
    assert any("H2O from" in warning and "is dissociated" in warning for warning in result.warnings())
    slab = fcc111("Cu", (2, 2, 2), vacuum=12.0)
    slab.set_constraint(FixAtoms(range(len(slab))))
    repulsive = LennardJones(sigma=4.0, epsilon=1e-3, rc=4.5)
    (flown,) = adsorb(slab, repulsive, ["He"], Goal(1e-4)).adsorbed
    assert flown.state == "desorbed" and flown.energy == pytest.approx(0.0, abs=1e-3) and len(flown.starts) == 4


def test_files_and_pictures(copper, tmp_path):
    result = adsorb(copper, EMT(), ["H"], Goal(0.1))
    names = sorted(path.name for path in result.save(tmp_path))
    suffixes = ("-energies.csv", "-sites.csv", ".extxyz", ".json", ".png", ".svg")
    assert names == sorted(f"adsorb{suffix}" for suffix in suffixes)
    assert len(result.structures()) == 1 + len(result.adsorbed)
    copper.set_constraint()
    hasty = adsorb(copper, EMT(), ["H"], Goal(1e-6, steps=1))
    assert any("no atom of the slab is held" in warning for warning in hasty.warnings())
    assert "the clean slab did not relax: allow more steps" in hasty.failures()


def test_references_are_named_after_molecules():
    """Not after what a structure or a file of one atom is called."""
    assert read_adsorbate("H").reference_name == "1/2 H2" and read_adsorbate("CO").reference_name == "CO"
    assert read_adsorbate(ase.Atoms("O", info={"name": "guess"})).reference_name == "1/2 O2"


def test_bad_input(copper, tmp_path):
    with pytest.raises(DataError, match="H2O is no slab: expected a cell"):
        adsorb(molecule("H2O"), EMT(), ["H"])
    with pytest.raises(DataError, match="no adsorbates: expected"):
        adsorb(copper, EMT(), [])
    with pytest.raises(DataError, match="two adsorbates are called CO"):
        adsorb(copper, EMT(), ["CO", "CO"])
    with pytest.raises(DataError, match="watr is no element, no molecule that ASE knows"):
        adsorb(copper, EMT(), ["watr"])
    ase.io.write(tmp_path / "two.xyz", [molecule("CO"), molecule("H2")])
    with pytest.raises(DataError, match="has 2 structures: an adsorbate is one"):
        adsorb(copper, EMT(), [str(tmp_path / "two.xyz")])
    with pytest.raises(DataError, match="C6H6 is larger than the cell"):
        adsorb(copper, EMT(), ["C6H6"])
    with pytest.raises(DataError, match=r"vacuum is too small: .* between CO and the slab above"):
        adsorb(held(fcc111("Cu", (2, 2, 3), vacuum=3.0), 6.0), EMT(), ["CO"])
    with pytest.raises(DataError, match="cells of slabs are kept"):
        adsorb(copper, EMT(), ["H"], Goal(cell=True))
    with pytest.raises(DataError, match="the slab has no atoms"):
        adsorb(ase.Atoms(cell=[5, 5, 20], pbc=True), EMT(), ["H"])
