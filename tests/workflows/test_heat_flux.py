"""The flux of heat: the derivative of sum_i r_i E_i along a trajectory, whatever the cell it is written in."""

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import molecule

from carten.errors import DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.physics.charges import LesConfig
from carten.physics.zbl import ZblConfig
from carten.properties.potential import Potential
from carten.properties.spec import input_table
from carten.uncertainty.ensemble import Ensemble
from carten.workflows.heat_flux import heat_flux, heat_virials
from small import ethanol, oxide, small_model


def exact(model: Potential | Ensemble, **inputs: list[float]) -> Calculator:
    """Evaluated with torch: radial functions are exact, and nothing is compiled."""
    return Calculator(model, backend="reference", inputs=inputs)


def moving(atoms: Atoms, seed: int = 0) -> Atoms:
    atoms.rattle(0.05, seed=seed)
    atoms.set_velocities(np.random.default_rng(seed).normal(size=(len(atoms), 3)) * 0.03)
    return atoms


def moments(atoms: Atoms, calculator: Calculator, origins: np.ndarray) -> np.ndarray:
    """``sum_i r_i E_i``; energies do not depend on the images of the atoms, positions may."""
    energies = calculator.get_property("energies", atoms)
    energies = energies + 0.5 * atoms.get_masses() * np.square(atoms.get_velocities()).sum(axis=1)
    return energies @ (atoms.positions - origins)


def along_the_trajectory(atoms: Atoms, calculator: Calculator, step: float = 1e-4) -> np.ndarray:
    """The derivative of the moments in time, by differences with Newton's accelerations."""
    velocities, forces = atoms.get_velocities(), calculator.get_property("forces", atoms)
    accelerations, ends = forces / atoms.get_masses()[:, None], []
    for time in (step, -step):
        later = atoms.copy()
        later.positions += velocities * time + 0.5 * accelerations * time**2
        later.set_velocities(velocities + accelerations * time)
        ends.append(moments(later, calculator, np.zeros(3)))
    return (ends[0] - ends[1]) / (2 * step) * units.fs


@pytest.mark.parametrize("n_layers", [1, 2, 3])
def test_flux_is_the_derivative_of_the_moments_of_energy(n_layers):
    model = small_model(properties=("energy", "forces"), terms=(ZblConfig(),), n_layers=n_layers)
    model.heads["energies"].scale.fill_(3.0)
    calculator, atoms = exact(model), moving(ethanol())
    expected = along_the_trajectory(atoms, calculator)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(heat_flux(atoms, calculator), expected, atol=1e-6 * np.abs(expected).max())


def test_even_halves_of_edges_are_not_the_flux():
    calculator, atoms = exact(small_model(n_layers=2, properties=("energy", "virials"))), moving(ethanol())
    right = heat_virials(atoms, calculator)
    halves = type(right)(right.energies, calculator.get_property("virials", atoms))
    assert np.abs(halves.flux(atoms) - right.flux(atoms)).max() > 1e-2 * np.abs(right.flux(atoms)).max()


@pytest.mark.parametrize("atoms", [oxide(), oxide() * (2, 1, 1)], ids=str)
def test_virials_add_up_to_the_virial_in_cells_smaller_than_the_cutoff(atoms):
    calculator = exact(small_model(n_layers=2, properties=("energy", "virial")))
    total = heat_virials(atoms, calculator).virials.sum(axis=0)
    np.testing.assert_allclose(total.T, calculator.get_property("virial", atoms), atol=1e-10)


def test_one_atom_that_moves_in_a_cell():
    """Its energy and those of its neighbours are moved; nearest images are unique, so that there is an oracle."""
    calculator = exact(small_model(properties=("energy", "forces"), n_layers=2))
    atoms = oxide() * (6, 6, 6)
    atoms.rattle(0.05, seed=2)
    one, axis, step = 301, 1, 1e-4
    away = atoms.get_distances(one, range(len(atoms)), mic=True, vector=True)
    ends = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[one, axis] += sign * step
        ends.append(calculator.get_property("energies", moved).copy())
    slope = (ends[0] - ends[1]) / (2 * step)
    expected = away.T @ slope
    virials = heat_virials(atoms, calculator).virials
    np.testing.assert_allclose(virials[one, :, axis], expected, atol=1e-7 * np.abs(virials).max())


def test_neither_images_nor_repeated_cells_matter():
    calculator = exact(small_model(n_layers=2, properties=("energy",)))
    cell, molecule_alone = oxide(), moving(ethanol())
    virials = heat_virials(cell, calculator).virials
    np.testing.assert_allclose(
        heat_virials(cell * (1, 2, 2), calculator).virials, np.tile(virials, (4, 1, 1)), atol=1e-10
    )
    wrapped = molecule_alone.copy()
    wrapped.set_cell(np.eye(3) * 30.0)
    wrapped.pbc = True
    wrapped.wrap()
    assert np.ptp(wrapped.positions, axis=0).max() > 25.0
    for name in ("energies", "virials"):
        apart, together = (getattr(heat_virials(x, calculator), name) for x in (molecule_alone, wrapped))
        np.testing.assert_allclose(together, apart, atol=1e-10)


@pytest.mark.parametrize("n_atoms", [3, 1])
def test_inputs_of_atoms_belong_to_their_images(n_atoms):
    rows = (input_table()["partial_charges"],)
    calculator, cell = exact(small_model(n_layers=2, properties=("energy",), inputs=rows)), oxide()[:n_atoms]
    cell.set_initial_charges([0.4, -0.3, -0.1][:n_atoms])
    virials = heat_virials(cell, calculator).virials
    repeated = heat_virials(cell * (2, 1, 1), calculator).virials
    np.testing.assert_allclose(repeated, np.tile(virials, (2, 1, 1)), atol=1e-10)


def test_committees_have_the_flux_of_their_mean():
    models, atoms = [small_model(seed=seed, n_layers=2) for seed in (1, 2)], moving(ethanol())
    single = [heat_flux(atoms, exact(model)) for model in models]
    np.testing.assert_allclose(heat_flux(atoms, exact(Ensemble(models))), np.mean(single, axis=0), atol=1e-12)


def test_what_has_no_flux_says_so():
    field = (input_table()["electric_field"],)
    with pytest.raises(DataError, match="expected velocities, found none"):
        heat_flux(ethanol(), exact(small_model()))
    with pytest.raises(ModelError, match="les reaches beyond the cutoff"):
        heat_flux(moving(ethanol()), exact(small_model(terms=(LesConfig(),))))
    with pytest.raises(ModelError, match="no energies of atoms"):
        heat_flux(moving(ethanol()), exact(small_model(properties=("dipole",))))
    with pytest.raises(ModelError, match="set electric_field to 0"):
        heat_flux(moving(ethanol()), exact(small_model(inputs=field), electric_field=[0.0, 0.0, 0.1]))
    with pytest.raises(ModelError, match="does not know Au"):
        heat_flux(moving(molecule("H2O") + Atoms("Au", [[3, 0, 0]])), exact(small_model()))
