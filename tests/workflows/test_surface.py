"""Surface energies against slabs of ASE, sums over broken bonds and shapes that are known; bad input."""

import numpy as np
import pytest
from ase.build import bulk, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.optimize import BFGS
from ase.spacegroup import crystal

from carten.errors import DataError
from carten.workflows.relax import Goal, relax
from carten.workflows.slabs import distinct_planes, oriented
from carten.workflows.surface import SlabSizes, surface
from carten.workflows.symmetry import standard_cell
from carten.workflows.wulff import wulff

SIGMA = 2.3
NEAREST = {"sigma": SIGMA, "epsilon": 0.5, "rc": 1.3 * 2 ** (1 / 6) * SIGMA}
"""Lennard-Jones atoms that feel their twelve neighbours only."""


@pytest.fixture(scope="module")
def copper():
    (relaxed,) = relax(bulk("Cu"), EMT(), Goal(1e-4, 1e-3, cell=True))
    return relaxed.atoms


def test_a_surface_is_that_of_a_slab_of_ase(copper):
    """EMT copper (111): seven layers of ASE's fcc111 relaxed by ASE, and the energy of the crystal."""
    result = surface(copper, EMT(), [(1, 1, 1)], SlabSizes(12.0), Goal(1e-3))
    slab = fcc111("Cu", (1, 1, 7), a=np.sqrt(2.0) * np.linalg.norm(copper.cell[0]), vacuum=6.0)
    slab.calc = EMT()
    BFGS(slab, logfile=None).run(fmax=1e-3)
    excess = slab.get_potential_energy() - len(slab) * copper.get_potential_energy()
    expected = excess / (2 * np.linalg.norm(np.cross(*slab.cell[:2])))
    assert result.facets[0].energy == pytest.approx(expected, rel=2e-4)
    assert result.facets[0].thickest == pytest.approx(expected, rel=2e-4)
    assert {each.name: each.unit for each in result.quantities()}["surface energy (1 1 1)"] == "J/m²"
    assert result.quantities()[0].value == pytest.approx(16.02177 * result.facets[0].energy, rel=1e-6)
    assert not result.warnings() and not result.failures()


@pytest.mark.parametrize(
    ("plane", "broken", "area"),
    [((1, 1, 1), 3, np.sqrt(3) / 2), ((1, 0, 0), 4, 1.0), ((1, 1, 0), 6, np.sqrt(2)), ((2, 1, 0), 10, np.sqrt(5))],
)
def test_rigid_surfaces_cost_the_bonds_they_break(plane, broken, area):
    """Of nearest neighbours alone, half a bond energy for each bond of a lattice plane that is cut.

    For fcc, bonds per cell of the surface: the sum of |h u + k v + l w| over bonds (u v w) that cross it. Areas are in
    squares of the distance of neighbours: 1/2 |(h k l)| a^2 or, of odd indices, 1/4, of a^2 = 2.
    """
    length = 2 ** (1 / 6) * SIGMA
    result = surface(bulk("Ar", "fcc", a=np.sqrt(2) * length), LennardJones(**NEAREST), [plane], SlabSizes(8.0))
    (facet,) = result.facets
    energy = broken * abs(_bond_energy()) / 2 / (area * length**2)
    assert facet.rigid_energy == pytest.approx(energy, rel=1e-6)
    assert facet.area == pytest.approx(area * length**2)


def _bond_energy():
    pair = molecule("N2")
    pair.set_distance(0, 1, 2 ** (1 / 6) * SIGMA)
    pair.calc = LennardJones(**NEAREST)
    return float(pair.get_potential_energy())


def test_the_crystal_may_be_in_any_cell(copper):
    turned = copper * (2, 1, 1)
    turned.rotate(40, (1, 2, 3), rotate_cell=True)
    one, other = (surface(atoms, EMT(), [(1, 1, 0)], SlabSizes(5.0)) for atoms in (copper, turned))
    assert one.facets[0].energy == pytest.approx(other.facets[0].energy, abs=1e-6)
    assert one.facets[0].area == pytest.approx(other.facets[0].area)


@pytest.mark.parametrize(
    ("atoms", "planes"),
    [
        (bulk("Cu"), [(1, 0, 0), (1, 1, 0), (1, 1, 1)]),
        (bulk("Ti"), [(0, 0, 1), (1, 0, 0), (1, 0, 1), (1, 1, 0), (1, 1, 1)]),
    ],
    ids=["cubic", "hexagonal"],
)
def test_planes_that_symmetry_distinguishes(atoms, planes):
    assert sorted(distinct_planes(atoms, 1)) == planes


@pytest.mark.parametrize(
    "atoms",
    [bulk("Cu", cubic=True), bulk("Fe", cubic=True), bulk("Bi", "bct", a=4.5, c=7.0), bulk("Ti")],
    ids=["face", "body", "tetragonal", "hexagonal"],
)
def test_planes_are_those_of_the_conventional_cell(atoms):
    """Reciprocal vectors are normal to their planes; fcc (3 3 2) and (4 3 2) have halves in the primitive cell."""
    conventional = standard_cell(atoms)
    for plane in [*distinct_planes(atoms, 3), (4, 3, 2)]:
        normal = np.cross(*oriented(atoms, plane).atoms.cell.array[:2])
        across = np.linalg.solve(conventional.cell.array, np.array(plane, dtype=float))
        cosine = normal @ across / np.linalg.norm(normal) / np.linalg.norm(across)
        assert abs(cosine) == pytest.approx(1.0, abs=1e-12), plane


def test_terminations_are_those_of_symmetry():
    """Silicon (111) can be cut through one bond or three; (001) of rutile in one way, (110) in two or more."""
    rutile = crystal(["Ti", "O"], [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.6, 4.6, 2.95, 90, 90, 90])
    assert [len(oriented(bulk("Si"), plane).cuts) for plane in ((1, 1, 1), (1, 0, 0), (1, 1, 0))] == [2, 1, 1]
    assert len(oriented(rutile, (0, 0, 1)).cuts) == 1 and len(oriented(rutile, (1, 1, 0)).cuts) == 2
    shuffle = oriented(bulk("Si"), (1, 1, 1)).slab(oriented(bulk("Si"), (1, 1, 1)).cuts[0], 3, 10.0)
    heights = np.unique(shuffle.positions[:, 2].round(3))
    assert len(heights) == 6 and np.diff(heights)[0] < 1.0  # a bilayer at the end: one broken bond for each atom


def test_slabs_are_pieces_of_the_crystal():
    """Inside of a slab every atom has the neighbours of the crystal; there is as much vacuum as was asked for."""
    for atoms, length in ((bulk("Si"), 2.3517), (bulk("NaCl", "rocksalt", a=5.6), 2.8)):
        for plane in distinct_planes(atoms, 2):
            turned = oriented(atoms, plane)
            slab = turned.slab(turned.cuts[0], 8, 15.0)
            assert slab.cell[2, :2] == pytest.approx(0.0, abs=1e-9)
            assert slab.cell[2, 2] - np.ptp(slab.positions[:, 2]) >= 15.0
            wide = slab * (3, 3, 1) if plane != (2, 2, 1) else slab * (2, 2, 1)
            middle = int(np.abs(wide.positions[:, 2] - wide.positions[:, 2].mean()).argmin())
            distances = np.sort(wide.get_distances(middle, range(len(wide)), mic=True))
            assert distances[1:5] == pytest.approx(length, abs=1e-3)


@pytest.mark.parametrize(
    ("energies", "areas"),
    [
        ([1.0, 2.0], [6 * 4.0, 0.0]),
        ([2.0, 1.0], [0.0, 8 * np.sqrt(3) / 4 * 6.0]),
        ([np.sqrt(3) / 2, 1.0], [6 * 1.5, 8 * np.sqrt(3) / 4 * 1.5]),
    ],
    ids=["cube", "octahedron", "cuboctahedron"],
)
def test_shapes_of_known_solids(energies, areas):
    """Facets of (100) and (111): squares of edge 2, triangles of edge sqrt(6), and both with edges sqrt(3/2)."""
    shape = wulff(bulk("Cu", cubic=True), [(1, 0, 0), (1, 1, 1)], energies)
    assert shape.shares == pytest.approx(np.array(areas) / np.sum(areas))
    assert len(shape.polygons) == 6 * (areas[0] > 0) + 8 * (areas[1] > 0)
    assert shape.mean == pytest.approx(shape.shares @ energies)


def test_planes_that_enclose_nothing_have_no_shape():
    assert wulff(bulk("Ti"), [(0, 0, 1)], [1.0]) is None
    assert wulff(bulk("Cu"), [(1, 0, 0)], [-1.0]) is None


class Levelled(EMT):
    """EMT whose energies are multiplied by what a structure says, as levels of theory are chosen by models."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=()):
        super().calculate(atoms, properties, system_changes or ["positions"])
        for name in ("energy", "free_energy", "energies", "forces"):
            self.results[name] = self.results[name] * atoms.info["level"]


def test_slabs_say_what_the_crystal_says(copper):
    """Twice the energies are twice the surface energy: a level of theory reaches the slabs."""
    one, two = copper.copy(), copper.copy()
    one.info["level"], two.info["level"] = 1.0, 2.0
    small = SlabSizes(4.0)
    results = [surface(atoms, Levelled(), [(1, 1, 1)], small, Goal(0.05)) for atoms in (one, two)]
    energies = [result.facets[0].rigid_energy for result in results]
    assert energies[1] == pytest.approx(2.0 * energies[0], rel=1e-9)


def test_files_and_pictures(copper, tmp_path):
    result = surface(copper, EMT(), 1, SlabSizes(5.0), Goal(0.05))
    names = sorted(path.name for path in result.save(tmp_path))
    suffixes = (".json", "-surfaces.csv", ".extxyz", ".svg", ".png")
    assert names == sorted(f"surface{suffix}" for suffix in suffixes)
    assert "mean over the Wulff shape" in (tmp_path / "surface.json").read_text()
    assert len(result.structures()) == 3


def test_what_is_doubtful_is_said(copper):
    strained = copper * (2, 1, 1)
    strained.rattle(0.1, seed=1)
    strained.wrap()
    result = surface(strained, EMT(), [(1, 0, 0)], SlabSizes(4.0), Goal(1e-4, steps=1))
    said = " ".join(result.failures())
    assert "the largest force is" in said and "slabs of (1 0 0) did not relax" in said


def test_bad_input(copper):
    with pytest.raises(DataError, match="surface needs a crystal"):
        surface(molecule("H2O"), EMT())
    with pytest.raises(DataError, match=r"without a common divisor.*\(2, 2, 0\)"):
        surface(copper, EMT(), [(2, 2, 0)])
    with pytest.raises(DataError, match="no Miller indices"):
        surface(copper, EMT(), [])
    with pytest.raises(DataError, match="1 to 6, found 0"):
        surface(copper, EMT(), 0)
    with pytest.raises(ValueError, match="thickness must be a positive"):
        SlabSizes(thickness=0.0)
