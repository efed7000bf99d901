"""Tabulated radial functions of training: as good as the network they stand for, and only where they may be used."""

import pytest
import torch
from ase.build import bulk, molecule

from carten.data.neighbours import graph
from carten.model import edges
from carten.model.config import NetworkConfig
from carten.model.interaction import RadialNetwork
from carten.model.tables import tables
from carten.properties.potential import Potential
from carten.properties.spec import property_table

SMALL = {"n_channels": 4, "l_max_edges": 2, "l_max_features": 1, "correlation_order": 2, "n_readout_channels": 4}


def potential(**options: object) -> Potential:
    rows = property_table()
    config = NetworkConfig.model_validate({**SMALL, **options})
    return Potential(config, [1, 6, 8], [rows["energy"], rows["forces"]], 8.0)


def in_training(model: Potential, tolerance: float, atoms=None, names=("energy", "forces")):
    """Values in training mode, with tables of a tolerance; exact ones where it is 0."""
    model.network.trained_intervals = 0
    if tolerance:
        model.network.choose_tables(tolerance)
    structure = graph(molecule("CH3CH2OH") if atoms is None else atoms, model.cutoff)
    return {name: value.detach() for name, value in model.train()(structure, list(names)).items()}


@pytest.mark.parametrize("basis", ["bessel", "chebyshev"])
@pytest.mark.parametrize("backend", ["reference", "cpp"])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_energies_and_forces_are_those_of_the_exact_network(basis: str, backend: str, scale: float) -> None:
    """Whatever the weights: the number of intervals follows from the tolerance."""
    model = potential(radial={"basis": basis, "n_basis": 8})
    model.network.backend = backend
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".radial." in name:
                weight.mul_(scale)
    exact, table = in_training(model, 0), in_training(model, 1e-5)
    for name, value in exact.items():
        difference = float((table[name] - value).abs().max())
        assert 0 < difference < 1e-4 * float(value.abs().max()), name  # a table was used indeed


def test_the_number_of_intervals_follows_from_weights_and_tolerance() -> None:
    model = potential()
    coarse, fine = (model.network.choose_tables(tolerance) for tolerance in (1e-4, 1e-8))
    assert 0 < coarse < fine == model.network.trained_intervals
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, RadialNetwork):
                module.weight[0].mul_(20.0)
    assert model.network.choose_tables(1e-4) > coarse


def test_forces_are_derivatives_of_the_tabulated_energy() -> None:
    model, atoms = potential(), molecule("CH3CH2OH")
    forces = in_training(model, 1e-4, atoms)["forces"]
    step, differences = 1e-5, []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[0, 0] += sign * step
        differences.append(float(in_training(model, 1e-4, moved)["energy"]))
    assert float(forces[0, 0]) == pytest.approx(-(differences[0] - differences[1]) / (2 * step), rel=1e-5)


def test_second_derivatives_in_space_and_evaluation_are_exact() -> None:
    model = potential()
    hessian = in_training(model, 0, molecule("H2O"), ["hessian"])["hessian"]
    assert torch.equal(in_training(model, 1e-4, molecule("H2O"), ["hessian"])["hessian"], hessian)
    exact = potential().eval()(graph(molecule("H2O"), 5.0), ["energy"])["energy"]
    assert torch.equal(model.eval()(graph(molecule("H2O"), 5.0), ["energy"])["energy"], exact)
    assert model.network.trained_intervals > 0


def test_training_on_tables_gives_the_gradients_of_the_exact_network() -> None:
    """Of a loss of forces, that is through second derivatives."""
    structure = graph(molecule("CH3CH2OH"), 5.0)
    gradients = []
    for tolerance in (0, 1e-8):
        model = potential().train()
        if tolerance:
            model.network.choose_tables(tolerance)
        forces = model(structure, ["energy", "forces"])["forces"]
        parameters = [p for name, p in model.named_parameters() if "network" in name]
        found = torch.autograd.grad(forces.square().sum(), parameters, allow_unused=True)
        gradients.append([x for x in found if x is not None])
    exact, tabulated = gradients
    assert len(exact) == len(tabulated)
    assert any(not torch.equal(a, b) for a, b in zip(exact, tabulated, strict=True))
    for a, b in zip(exact, tabulated, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * float(a.abs().max()))


def test_networks_that_depend_on_elements_stay_exact() -> None:
    assert potential(radial={"elements": True}).network.choose_tables() == 0


def test_a_radial_network_that_does_not_say_how_to_tabulate_it_stays_exact() -> None:
    class Doubled(RadialNetwork):
        def describe(self, draft, basis, edges):
            once = super().describe(draft, basis, edges)
            return draft.add(once, once)

    model = potential()
    assert model.network.choose_tables() > 0
    model.network.layers[0].interaction.radial.__class__ = Doubled
    assert model.network.choose_tables() == 0
    assert not torch.equal(in_training(model, 1e-5)["energy"], in_training(potential(), 0)["energy"])


def test_lengths_at_and_beyond_the_cutoff_give_nothing() -> None:
    model = potential().train()
    model.network.choose_tables()
    far = bulk("C", "sc", a=model.cutoff, cubic=True)
    single, lone = graph(far, model.cutoff + 1e-9), graph(far, 0.5 * model.cutoff)
    assert single.n_edges == 6
    expected = float(model(lone, ["energy"])["energy"].detach())
    assert float(model(single, ["energy"])["energy"].detach()) == pytest.approx(expected, abs=1e-12)


def test_a_tolerance_that_cannot_be_met_leaves_the_exact_network() -> None:
    model = potential()
    n, _, error = tables([layer.present_tables for layer in model.network.layers], model.config, 1e-18)
    assert n == 0 and error > 1e-18
    assert model.network.choose_tables(1e-18) == 0
    assert torch.equal(in_training(model, 1e-18)["energy"], in_training(model, 0)["energy"])


def test_tables_made_in_inference_mode_serve_training() -> None:
    """The radial basis at the knots is kept from one use to the next."""
    model = potential(cutoff=4.321)
    with torch.inference_mode():
        n = model.network.choose_tables()
    assert not edges.knots(model.config, n).is_inference()
    assert torch.isfinite(in_training(model, 1e-5)["energy"]).all()
