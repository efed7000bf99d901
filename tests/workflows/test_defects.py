"""Point defects against supercells relaxed by ASE, pair potentials whose answers are sums, known voids; bad input."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.geometry import get_distances
from ase.optimize import BFGS

from carten.errors import DataError
from carten.workflows.defects import DefectKinds, defects
from carten.workflows.point_defects import image_distance, voids
from carten.workflows.relax import Goal, relax

SIGMA = 2.3
NEAREST = {"sigma": SIGMA, "epsilon": 0.5, "rc": 1.3 * 2 ** (1 / 6) * SIGMA}
"""Lennard-Jones atoms that feel their twelve neighbours only."""


@pytest.fixture(scope="module")
def copper():
    (relaxed,) = relax(bulk("Cu", cubic=True), EMT(), Goal(1e-4, 1e-3, cell=True))
    return relaxed.atoms


def test_a_vacancy_is_that_of_a_supercell_relaxed_by_ase(copper):
    result = defects(copper, EMT(), supercell=(2, 2, 2), goal=Goal(1e-3))
    supercell = copper * (2, 2, 2)
    perfect = 8 * copper.get_potential_energy()
    del supercell[5]
    supercell.calc = EMT()
    BFGS(supercell, logfile=None).run(fmax=1e-3)
    expected = supercell.get_potential_energy() - 31 / 32 * perfect
    (vacancy,) = result.defects
    assert vacancy.name == "Cu vacancy" and vacancy.energy == pytest.approx(expected, abs=1e-4)
    assert result.quantities()[0].value == vacancy.energy and result.quantities()[0].unit == "eV"
    assert not result.failures() and "7.2 Å from their images" in result.warnings()[0]


def test_a_vacancy_of_nearest_neighbours_costs_half_of_what_it_breaks():
    """Twelve bonds are broken and six are made when the atom joins the crystal again; nothing relaxes."""
    length = 2 ** (1 / 6) * SIGMA
    crystal = bulk("Ar", "fcc", a=np.sqrt(2) * length)
    result = defects(crystal, LennardJones(**NEAREST), supercell=(3, 3, 3), goal=Goal(1e-4))
    crystal.calc = LennardJones(**NEAREST)
    assert result.defects[0].energy == pytest.approx(-crystal.get_potential_energy(), abs=1e-3)


def test_solutes_and_interstitials_take_their_chemical_potentials(copper):
    kinds = DefectKinds(vacancies=False, solutes=("Al",), interstitials=True)
    one, other = (defects(copper, EMT(), kinds, {"Al": mu}, (2, 2, 2), Goal(0.05)) for mu in (0.0, -1.5))
    names = ["Al on Cu", "Cu in void 1", "Cu in void 2", "Al in void 1", "Al in void 2"]
    assert [defect.name for defect in one.defects] == names
    shifts = [b.energy - a.energy for a, b in zip(one.defects, other.defects, strict=True)]
    assert shifts == pytest.approx([1.5, 0.0, 0.0, 1.5, 1.5])
    assert [len(atoms) for atoms in one.structures()] == [32, 33, 33, 33, 33]
    assert one.structures()[0].symbols.count("Al") == 1
    supercell = copper * (2, 2, 2)
    supercell.symbols[3] = "Al"
    supercell.calc = EMT()
    BFGS(supercell, logfile=None).run(fmax=0.01)
    expected = supercell.get_potential_energy() - 31 / 4 * copper.get_potential_energy()
    assert one.defects[0].energy == pytest.approx(expected, abs=2e-3)


@pytest.mark.parametrize(
    ("atoms", "widths"),
    [
        (bulk("Cu", a=4.0), [2.0, np.sqrt(3.0)]),
        (bulk("Cu", a=4.0, cubic=True), [2.0, np.sqrt(3.0)]),
        (bulk("Fe", a=4.0), [np.sqrt(5.0)]),
        (bulk("Si", a=4.0), [np.sqrt(3.0), np.sqrt(11.0) / 2]),
    ],
    ids=["fcc", "fcc, cubic cell", "bcc", "diamond"],
)
def test_voids_of_known_lattices(atoms, widths):
    """Octahedra and tetrahedra of fcc, tetrahedra of bcc, tetrahedra and hexagons of diamond."""
    places = voids(atoms)
    distances = get_distances(np.array(places), atoms.positions, atoms.cell, True)[1].min(axis=1)
    assert distances == pytest.approx(widths)


def test_sites_that_symmetry_distinguishes():
    crystal = bulk("Cu", cubic=True)
    crystal.symbols[0] = "Au"
    result = defects(crystal, EMT(), DefectKinds(), {"Cu": 0.0, "Au": 0.0}, (2, 2, 2), Goal(0.5))
    assert [defect.name for defect in result.defects] == ["Au vacancy", "Cu vacancy"]
    with pytest.raises(DataError, match=r"chemical potential of Au in eV.*--potential Au=-3.2"):
        defects(crystal, EMT(), potentials={"Cu": 0.0})


def test_a_vacancy_hops_over_a_barrier(copper, tmp_path):
    """By symmetry the path ends at the energy where it starts, and its top is half way."""
    result = defects(copper, EMT(), DefectKinds(barriers=True), supercell=(2, 2, 2), goal=Goal(5e-3))
    path = result.hops["Cu vacancy"]
    assert not result.failures(), result.failures()
    assert path.force <= 5e-3  # the goal is that of the band too
    assert path.energies[-1] == pytest.approx(0.0, abs=1e-4)
    assert path.coordinate[path.energies.argmax()] == pytest.approx(path.coordinate[-1] / 2, rel=0.01)
    assert 0.6 < path.energies.max() < 0.9
    names = sorted(file.name for file in result.save(tmp_path))
    assert names == sorted(f"defects{end}" for end in (".json", "-energies.csv", ".extxyz", ".svg", ".png"))


def test_distance_of_images():
    assert image_distance(bulk("Cu", a=4.0).cell.array) == pytest.approx(np.sqrt(8.0))
    assert image_distance(np.array([[3.0, 0, 0], [3.0, 1.0, 0], [0, 0, 9.0]])) == pytest.approx(1.0)


def test_bad_input(copper):
    with pytest.raises(DataError, match="defects needs a crystal"):
        defects(molecule("H2O"), EMT())
    with pytest.raises(DataError, match=r"3.6 Å from their images in the supercell \(1, 1, 1\)"):
        defects(copper, EMT(), supercell=(1, 1, 1))
    with pytest.raises(DataError, match="three positive numbers of cells"):
        defects(copper, EMT(), supercell=(2, 2, 0))
    with pytest.raises(DataError, match="Xx is no chemical element"):
        defects(copper, EMT(), DefectKinds(solutes=("Xx",)))
    with pytest.raises(DataError, match=r"finite energies in eV, found Al=nan"):
        defects(copper, EMT(), DefectKinds(solutes=("Al",)), {"Al": float("nan")})
    with pytest.raises(DataError, match="no defects: expected"):
        defects(copper, EMT(), DefectKinds(vacancies=False))
