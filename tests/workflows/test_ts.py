"""Saddle points: a double well in closed form, the top of a path, exact Hessians of a model, what does not converge."""

import sys

import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms

from carten.errors import ConfigError, DataError
from carten.interfaces.ase import Calculator
from carten.workflows.hessian import hessian
from carten.workflows.neb import Band, neb
from carten.workflows.saddle import constants_of, stationary_modes
from carten.workflows.ts import SaddleSearch, ts
from small import stiff_model
from wells import DISTANCE, HALF, HEIGHT, DoubleWell, hop, well

pytest.importorskip("sella")


def test_a_double_well_in_closed_form():
    progress = []
    result = ts(well(-0.3, 0.1), DoubleWell(), SaddleSearch(fmax=1e-3), lambda *step: progress.append(step))
    assert result.converged and not result.failures()
    assert result.atoms.positions[1] == pytest.approx(DISTANCE, abs=1e-3)
    assert result.energies[-1] == pytest.approx(HEIGHT, abs=1e-6)
    assert progress[-1] == (len(result.energies) - 1, 200)
    low, high = (atoms.positions[1, 0] for atoms in result.structures()[1:])
    assert sorted([low, high]) == pytest.approx([-0.1, 0.1], abs=1e-2)


def test_the_top_of_a_path():
    start, end = hop()
    path = neb(start, end, EMT(), Band(images=3, fmax=0.1))
    saddle = ts(path.saddle, EMT(), SaddleSearch(fmax=1e-3))
    assert not saddle.failures()
    barrier = saddle.energies[-1] - path.path[0].get_potential_energy()
    assert barrier == pytest.approx(path.energies.max(), abs=5e-3)
    held = start.constraints[0].get_indices()
    assert np.array_equal(saddle.atoms.positions[held], path.path[0].positions[held])


def test_second_derivatives_of_atoms_that_move():
    """The block of a model's exact Hessian; and modes of all atoms without translations and rotations."""
    atoms, calculator = molecule("CH4"), Calculator(stiff_model(), backend="reference")
    chosen = np.array([1, 3])
    rows = (3 * chosen[:, None] + np.arange(3)).ravel()
    expected = hessian(atoms, calculator)[np.ix_(rows, rows)]
    assert constants_of(atoms, chosen, calculator) == pytest.approx(expected, abs=1e-10)
    assert len(stationary_modes(atoms, calculator).wavenumbers) == 9
    atoms.set_constraint(FixAtoms([0, 2, 4]))
    assert len(stationary_modes(atoms, calculator).wavenumbers) == 6


def test_what_does_not_converge_is_kept_and_said():
    result = ts(well(-0.3, 0.1), DoubleWell(), SaddleSearch(fmax=1e-8, steps=1))
    assert not result.converged and result.modes is None
    assert "start nearer to a saddle" in result.failures()[0]
    assert len(result.structures()) == 1


def test_bad_input(monkeypatch):
    with pytest.raises(ValueError, match="steps must be positive"):
        SaddleSearch(steps=0)
    atoms = bulk("Cu")
    atoms.set_constraint(FixAtoms([0]))
    with pytest.raises(DataError, match="no atom may move"):
        ts(atoms, EMT())
    monkeypatch.setitem(sys.modules, "sella", None)
    with pytest.raises(ConfigError, match=r"pip install 'carten\[workflows\]'"):
        ts(well(HALF), DoubleWell())
