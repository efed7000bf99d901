"""Barriers: ASE's own band, a double well in closed form, one batch beside single images, ends that do not fit."""

from itertools import pairwise

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms, FixBondLength
from ase.mep import NEB
from ase.optimize import BFGS, FIRE

from carten.deploy import deploy
from carten.errors import DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.workflows.ends import exchanged_atoms
from carten.workflows.neb import Band, neb
from carten.workflows.paths import match_path
from carten.workflows.relax import Goal, relax
from carten.workflows.saddle import stationary_modes
from carten.workflows.spectrum import LIGHT
from small import stiff_model
from wells import DISTANCE, HALF, HEIGHT, STIFF, DoubleWell, hop, well


def test_a_double_well_in_closed_form():
    """The barrier is h, and the curvature at its top, -4 h / a^2, gives the imaginary wavenumber."""
    result = neb(well(-0.9, 0.1), well(0.7), DoubleWell(), Band(images=3, fmax=1e-3))
    assert result.converged and not result.failures() and not result.warnings()
    assert result.energies.max() == pytest.approx(HEIGHT, abs=1e-4)
    assert result.energies[-1] == pytest.approx(0.0, abs=1e-4)
    assert result.coordinate[-1] == pytest.approx(2.0 * HALF, abs=0.01)
    assert result.saddle.positions[1] == pytest.approx(DISTANCE, abs=1e-2)
    expected = -np.sqrt(4.0 * HEIGHT / HALF**2 / result.saddle.get_masses()[1]) / (2.0 * np.pi * LIGHT)
    assert result.modes.imaginary == pytest.approx([expected], rel=2e-3)


def test_a_tilted_well_has_two_barriers():
    """Stationary points by the roots of the derivative of the polynomial."""
    tilt = 0.1
    roots = np.sort(np.roots([4.0 * HEIGHT / HALF**4, 0.0, -4.0 * HEIGHT / HALF**2, tilt]).real)
    low, top, high = HEIGHT * ((roots / HALF) ** 2 - 1.0) ** 2 + tilt * roots
    result = neb(well(-0.8), well(0.8), DoubleWell(tilt=tilt), Band(images=4, fmax=1e-3))
    values = {quantity.name: quantity.value for quantity in result.quantities()}
    assert values["barrier forward"] == pytest.approx(top - low, abs=1e-4)
    assert values["barrier backward"] == pytest.approx(top - high, abs=1e-4)
    assert values["reaction energy"] == pytest.approx(high - low, abs=1e-4)


def test_a_hop_on_copper_is_that_of_ase():
    start, end = hop()
    result = neb(start, end, EMT(), Band(images=3, fmax=0.01))
    assert not result.failures(), result.failures()
    values = {quantity.name: quantity.value for quantity in result.quantities()}
    assert values["barrier forward"] == pytest.approx(values["barrier backward"], abs=1e-4)
    images = [start, *(start.copy() for _ in range(3)), end]
    for image in images:
        image.calc = EMT()
    for image in (start, end):
        BFGS(image, logfile=None).run(fmax=1e-3)
    band = NEB(images, climb=True, method="improvedtangent")
    band.interpolate(mic=True)
    assert FIRE(band, logfile=None).run(fmax=0.01, steps=500)
    barrier = max(image.get_potential_energy() for image in images) - start.get_potential_energy()
    assert values["barrier forward"] == pytest.approx(barrier, abs=1e-3)


def test_a_path_goes_through_the_boundary_of_the_cell():
    start, end = hop()
    beyond = end.copy()
    beyond.positions[-1] -= beyond.cell[0]
    inside = neb(start, end, EMT(), Band(images=1, fmax=0.1))
    outside = neb(start, beyond, EMT(), Band(images=1, fmax=0.1))
    assert outside.coordinate[-1] == pytest.approx(inside.coordinate[-1], abs=1e-6)
    assert outside.energies == pytest.approx(inside.energies, abs=1e-6)


@pytest.mark.needs("cpp")
def test_images_in_one_batch_are_those_one_by_one():
    """A vacancy of a random model: its library evaluates images together, the torch model one after the other."""
    model = stiff_model()
    crystal = bulk("C", "fcc", a=3.6, cubic=True)
    (relaxed,) = relax(crystal, deploy(model), Goal(1e-3, 1e-2, cell=True))
    start, end = relaxed.atoms.copy(), relaxed.atoms.copy()
    end.positions[1] = start.positions[0]
    del start[0], end[0]
    band = Band(images=3, fmax=0.2, steps=5)
    together = neb(start, end, Calculator(model), band)
    single = neb(start, end, Calculator(model, backend="reference"), band)
    assert together.steps == single.steps
    assert together.energies == pytest.approx(single.energies, abs=1e-6)
    for one, other in zip(together.path, single.path, strict=True):
        assert one.positions == pytest.approx(other.positions, abs=1e-5)


def test_what_does_not_converge_is_kept_and_said():
    result = neb(well(-0.8), well(0.8), DoubleWell(), Band(images=4, fmax=1e-6, steps=1))
    assert not result.converged and result.modes is None
    assert "allow more steps" in result.failures()[0]
    assert len(result.structures()) == 6


def test_a_band_that_was_interrupted_goes_on(tmp_path):
    """The hop goes half a cell: images of the end are as near on either side. The barrier is that of one go."""
    start, end = hop()
    file = tmp_path / "new" / "band.extxyz"

    def interrupt(done, total):
        if done == 11:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        neb(start, end, EMT(), Band(images=3, fmax=1e-6), interrupt, file=file)
    path = ase.io.read(file, ":")
    assert len(path) == 5
    end.positions[-1] -= end.cell[0]
    full = neb(start, end, EMT(), Band(images=3, fmax=0.01))
    result = neb(start, end, EMT(), Band(images=9, fmax=0.01), path=path)
    assert result.converged and len(result.path) == 5 and result.steps < full.steps
    assert result.energies.max() == pytest.approx(full.energies.max(), abs=1e-3)
    assert result.coordinate[-1] == pytest.approx(full.coordinate[-1], abs=0.01)


def test_a_molecule_that_was_turned_goes_on():
    """Images of ammonia that are turned against each other are put next to each other, and keep their shape."""
    start = molecule("NH3")
    path = [start.copy() for _ in range(4)]
    for number, image in enumerate(path):
        image.positions[0, 2] -= 0.2 * number
        image.rotate(37.0 * number, (1, 2, 3))
    matched = match_path(start, path)
    lengths = [np.linalg.norm(b.positions - a.positions) for a, b in pairwise(matched)]
    assert max(lengths) < 0.2
    for image, copy in zip(path, matched, strict=True):
        assert copy.get_all_distances() == pytest.approx(image.get_all_distances(), abs=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path[:2], "at least one image between them, 3 structures; found 2"),
        (lambda path: [path[0], path[1][:1], path[2]], "image 1 of the band.*has 2 in the start.*has 1 in the end"),
        (lambda path: [path[0], changed(path[1], numbers=[1, 29]), path[2]], "image 1 of the band.*another order"),
        (lambda path: [path[0], changed(path[1], pbc=True), path[2]], "image 1 of the band.*periodic in"),
        (lambda path: [path[0], shifted(path[1], 0, 0.3), path[2]], "image 1 of the band.*atom 0 is held"),
        (lambda path: [shifted(path[0], 1, [0.3, 0.0, 0.0]), *path[1:]], r"start is not that of .* 0\.3 Å elsewhere"),
        (lambda path: [*path[:2], shifted(path[2], 1, 0.3)], r"the end is not that of the band"),
        (lambda path: path[::-1], "the start is not that of the band.*in the same order"),
        (lambda path: [path[0], shifted(path[1], 1, np.nan), path[2]], "image 1 .*not finite"),
        (lambda path: [path[0], well(0.0, 0.0), shifted(path[1], 1, [0.0, 0.0, -2.0]), path[2]], "atoms overlap in"),
    ],
    ids=["few", "number", "order", "periodicity", "held", "start", "end", "reversed", "nan", "overlap"],
)
def test_bands_that_do_not_fit(change, message):
    path = [well(-HALF), well(0.0), well(HALF)]
    with pytest.raises(DataError, match=message):
        neb(well(-HALF), well(HALF), DoubleWell(), path=change(path))


def shifted(atoms, atom, shift):
    positions = atoms.positions.copy()
    positions[atom] += shift
    return changed(atoms, positions=positions)


def test_ends_that_are_kept_must_be_relaxed():
    result = neb(well(-0.8), well(0.7), DoubleWell(), Band(images=3, relax_ends=False))
    assert any("the end is not relaxed" in failure for failure in result.failures())
    assert result.path[-1].positions[1, 0] == pytest.approx(0.7)


def test_a_saddle_of_second_order_is_said():
    """A ridge across the path, on which the band balances by symmetry."""
    result = neb(well(-HALF), well(HALF), DoubleWell((-1.0, STIFF)), Band(images=3))
    assert len(result.modes.imaginary) == 2
    assert any("2 modes are imaginary" in failure for failure in result.failures())


def test_a_minimum_is_no_saddle():
    modes = stationary_modes(well(HALF), DoubleWell())
    assert "no mode is imaginary" in modes.failures()[0]


def test_exchanged_atoms_are_pointed_out():
    start = bulk("Cu", cubic=True) * (2, 1, 1)
    end = start.copy()
    end.positions[[0, 1]] = end.positions[[1, 0]]
    end.positions[2] += 0.2
    assert exchanged_atoms(start, end) == [0, 1]
    assert not exchanged_atoms(*hop())


def test_atoms_that_pass_through_each_other():
    """Two neighbours that change places on the line between them."""
    start = bulk("Cu", cubic=True) * 2
    neighbour = int(np.argsort(start.get_all_distances(mic=True)[0])[1])
    end = start.copy()
    end.positions[[0, neighbour]] = end.positions[[neighbour, 0]]
    with pytest.raises(DataError, match=r"atoms pass through each other in image 1 .* choose a structure between"):
        neb(start, end, EMT(), Band(images=2))


def changed(atoms, **arrays):
    copy = atoms.copy()
    for name, value in arrays.items():
        setattr(copy, name, value)
    return copy


@pytest.mark.parametrize(
    ("end", "message"),
    [
        (molecule("CH4"), "has 3 in the start.*has 5 in the end"),
        (molecule("H2O")[[1, 0, 2]], r"atoms 0 \(O in the start, H in the end\), 1 .*another order: sort the end"),
        (molecule("SH2"), r"atoms 0 \(O in the start, S in the end\): other elements"),
        (changed(molecule("H2O"), cell=[9.0, 9.0, 9.0], pbc=True), "periodic in"),
        (changed(molecule("H2O"), constraints=[FixAtoms([0])]), "held differ"),
        (molecule("H2O"), "relax to the same structure"),
    ],
    ids=["number", "order", "elements", "periodicity", "constraints", "same"],
)
def test_ends_that_do_not_fit(end, message):
    with pytest.raises(DataError, match=message):
        neb(molecule("H2O"), end, EMT())


def test_cells_and_held_atoms_that_differ():
    start, end = hop()
    with pytest.raises(DataError, match=r"cells of the ends differ.*keep the cell"):
        neb(start, changed(end, cell=1.01 * end.cell.array), EMT())
    end.set_constraint()
    end.positions[0] += 0.5
    end.set_constraint(start.constraints)
    with pytest.raises(DataError, match=r"atom 0 is held, but it is .* elsewhere"):
        neb(start, end, EMT())
    start.set_constraint(FixBondLength(0, 1))
    with pytest.raises(DataError, match="FixBondLengths: only FixAtoms"):
        neb(start, end, EMT())


@pytest.mark.needs("cpp")
def test_a_library_alone_has_no_hessian():
    start, end = well(-0.8), well(0.8)
    for atoms in (start, end):
        atoms.numbers = [6, 8]
    with pytest.raises(ModelError, match=r"use the \.carten file"):
        neb(start, end, deploy(stiff_model()))


@pytest.mark.parametrize("name", ["images", "fmax", "steps"])
def test_settings_are_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        Band(**{name: 0})
