"""Equations of state against phonopy's fits, the stress, and another crystal's; what has no minimum."""

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.units import GPa
from phonopy.qha.eos import fit_to_eos, get_eos

from carten.errors import DataError
from carten.workflows.eos import EQUATIONS, eos

PHONOPY = {"birchmurnaghan": "birch_murnaghan", "vinet": "vinet", "murnaghan": "murnaghan"}


@pytest.fixture(scope="module")
def copper():
    return eos(bulk("Cu"), EMT())


def test_fits_are_those_of_phonopy(copper):
    fits = {fit.equation: fit for fit in copper.fits}
    assert list(fits) == list(EQUATIONS)
    for equation, name in PHONOPY.items():
        energy, modulus, slope, volume = fit_to_eos(copper.volumes, copper.energies, get_eos(name))
        fit = fits[equation]
        assert fit.volume == pytest.approx(volume, rel=1e-6)
        assert fit.energy == pytest.approx(energy, abs=1e-7)
        assert fit.bulk_modulus == pytest.approx(modulus, rel=1e-4)
        assert fit.slope == pytest.approx(slope, rel=1e-3)


def test_the_bulk_modulus_is_the_slope_of_the_stress(copper):
    """B = -V dp/dV by a central difference of EMT's stress at the minimum, and p = 0 there."""
    pressures = []
    for share in (0.999, 1.0, 1.001):
        atoms = copper.atoms.copy()
        atoms.set_cell(atoms.cell * share ** (1 / 3), scale_atoms=True)
        atoms.calc = EMT()
        pressures.append(-atoms.get_stress()[:3].mean())
    assert pressures[1] / GPa == pytest.approx(0.0, abs=0.02)
    slope = (pressures[2] - pressures[0]) / 0.002
    assert -slope / GPa == pytest.approx(copper.fits[0].bulk_modulus / GPa, rel=2e-3)


def test_numbers_do_not_depend_on_the_cell(copper):
    double = eos(bulk("Cu", cubic=True), EMT())
    for one, other in zip(copper.quantities(), double.quantities(), strict=True):
        if one.name != "cell lengths" and "RMSE" not in one.name:
            assert one.value == pytest.approx(other.value, rel=1e-6)
    assert double.atoms.cell.lengths() == pytest.approx(np.sqrt(2) * copper.atoms.cell.lengths())


def test_atoms_relax_at_each_volume():
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.05, seed=1)
    rigid, relaxed = (eos(atoms, EMT(), points=5, relaxed=relaxed) for relaxed in (False, True))
    assert not relaxed.failures()
    assert rigid.fits[0].energy > relaxed.fits[0].energy + 1e-3
    assert relaxed.fits[0].bulk_modulus / GPa == pytest.approx(134.4, abs=0.5)


def test_progress_is_reported():
    steps = []
    eos(bulk("Cu"), EMT(), points=5, progress=lambda *step: steps.append(step))
    assert steps == [(k, 5) for k in range(1, 6)]


def test_bad_input():
    with pytest.raises(DataError, match=r"lowest at the end.*smaller ones.*carten relax --cell"):
        eos(bulk("Cu", a=4.2), EMT())
    with pytest.raises(DataError, match="needs a crystal"):
        eos(molecule("H2O"), EMT())
    with pytest.raises(ValueError, match="at least 5 points"):
        eos(bulk("Cu"), EMT(), points=3)
