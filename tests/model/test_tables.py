"""Tabulated radial functions: as good as the network they stand for, and only where they may be used."""

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule

from carten.data.neighbours import graph
from carten.errors import ModelError
from carten.model import edges
from carten.model.config import NetworkConfig
from carten.model.interaction import Interaction
from carten.model.tables import tabulate
from carten.properties.potential import Potential
from carten.properties.spec import input_table, property_table

SMALL = {"n_channels": 4, "l_max_edges": 2, "l_max_features": 1, "correlation_order": 2, "n_readout_channels": 4}


def potential(**options: object) -> Potential:
    rows = property_table()
    config = NetworkConfig.model_validate({**SMALL, **options})
    return Potential(config, [1, 6, 8], [rows["energy"], rows["forces"]], 8.0).freeze()


@pytest.mark.parametrize("basis", ["bessel", "chebyshev"])
@pytest.mark.parametrize("backend", ["reference", "cpp"])
def test_energies_and_forces_are_those_of_the_exact_network(basis: str, backend: str) -> None:
    model = potential(radial={"basis": basis})
    model.network.backend = backend
    structure = graph(molecule("CH3CH2OH"), model.cutoff)
    exact = model(structure, ["energy", "forces"])
    assert model.freeze(tabulate=True).network.n_intervals > 0
    table = model(structure, ["energy", "forces"])
    torch.testing.assert_close(table["energy"], exact["energy"], rtol=1e-6, atol=0)
    scale = float(exact["forces"].abs().max())
    assert float((table["forces"] - exact["forces"]).abs().max()) < 1e-5 * scale
    assert float((table["forces"] - exact["forces"]).abs().max()) > 0  # a table was used indeed


def test_forces_are_derivatives_of_the_tabulated_energy() -> None:
    model = potential().freeze(tabulate=True)
    atoms = molecule("CH3CH2OH")
    forces = model(graph(atoms, model.cutoff), ["forces"])["forces"]
    step, differences = 1e-5, []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[0, 0] += sign * step
        differences.append(float(model(graph(moved, model.cutoff), ["energy"])["energy"]))
    assert float(forces[0, 0]) == pytest.approx(-(differences[0] - differences[1]) / (2 * step), rel=1e-5)


def test_second_derivatives_and_training_use_the_exact_network() -> None:
    model = potential()
    structure = graph(molecule("H2O"), model.cutoff)
    hessian = model(structure, ["hessian"])["hessian"]
    model.freeze(tabulate=True)
    torch.testing.assert_close(model(structure, ["hessian"])["hessian"], hessian, rtol=0, atol=0)
    model.train()
    exact = potential().train()(structure, ["energy"])["energy"]
    torch.testing.assert_close(model(structure, ["energy"])["energy"], exact, rtol=0, atol=0)


def test_responses_to_a_field_use_tables() -> None:
    """Born charges are derivatives in space of the polarization: once in space."""
    energy, told = property_table()["energy"], [input_table()["electric_field"]]
    model = Potential(NetworkConfig.model_validate(SMALL), [1, 6, 8], [energy], 8.0, inputs=told).freeze()
    structure = graph(molecule("CH3CH2OH"), model.cutoff)
    exact = model(structure, ["born_charges"])["born_charges"]
    found = model.freeze(tabulate=True)(structure, ["born_charges"])["born_charges"]
    assert 0 < float((found - exact).abs().max()) < 1e-5 * float(exact.abs().max())


def test_training_on_tables_gives_the_gradients_of_the_exact_network() -> None:
    """Of a loss of forces, that is through second derivatives; and forces are those of the tabulated energy."""
    structure = graph(molecule("CH3CH2OH"), 5.0)
    gradients = []
    for n_intervals in (0, 1024):
        model = potential().train().requires_grad_(True)
        if n_intervals:
            model.network.train_on_tables(n_intervals)
        forces = model(structure, ["energy", "forces"])["forces"]
        parameters = [p for name, p in model.named_parameters() if "network" in name]
        found = torch.autograd.grad(forces.square().sum(), parameters, allow_unused=True)
        gradients.append([x for x in found if x is not None])
    exact, tables = gradients
    assert len(exact) == len(tables)
    assert any(not torch.equal(a, b) for a, b in zip(exact, tables, strict=True))
    for a, b in zip(exact, tables, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * float(a.abs().max()))


def test_tables_that_are_trained_concern_training_only() -> None:
    model = potential()
    structure = graph(molecule("H2O"), model.cutoff)
    exact = model(structure, ["energy"])["energy"]
    model.network.train_on_tables(64)
    torch.testing.assert_close(model(structure, ["energy"])["energy"], exact, rtol=0, atol=0)
    assert float(model.train()(structure, ["energy"])["energy"]) != float(exact)


def test_networks_that_depend_on_elements_stay_exact() -> None:
    model = potential(radial={"elements": True}).freeze(tabulate=True)
    assert model.network.n_intervals == 0


def test_lengths_at_and_beyond_the_cutoff_give_nothing() -> None:
    model = potential().freeze(tabulate=True)
    alone = float(model(graph(molecule("H2O"), 0.1), ["energy"])["energy"])
    far = bulk("C", "sc", a=model.cutoff, cubic=True)
    single = graph(far, model.cutoff + 1e-9)
    lone = float(model(graph(far, 0.5 * model.cutoff), ["energy"])["energy"])
    assert single.n_edges == 6
    assert float(model(single, ["energy"])["energy"]) == pytest.approx(lone, abs=1e-12)
    assert np.isfinite(alone)


def test_a_tolerance_that_cannot_be_met_is_an_error() -> None:
    model = potential()
    interactions = [module for module in model.modules() if isinstance(module, Interaction)]
    with pytest.raises(ModelError, match="could not be tabulated"):
        tabulate(interactions, model.config, tolerance=1e-18)
    assert all(interaction.table is None for interaction in interactions)


def test_tables_made_in_inference_mode_serve_training() -> None:
    """The radial basis at the knots is kept from one use to the next."""
    config = NetworkConfig.model_validate({**SMALL, "cutoff": 4.321})
    with torch.inference_mode():
        knots = edges.knots(config, 64)
    assert not knots.is_inference()
