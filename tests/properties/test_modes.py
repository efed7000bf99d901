"""Derivatives in every mode of autograd: right, or an error, never zeros; and through structures that require grad."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.optimize import BFGS

import carten
from carten.data.dataset import Dataset, collate
from carten.data.labels import frame_from
from carten.data.neighbours import graph
from carten.errors import ModelError
from carten.model.config import NetworkConfig
from carten.model.slopes import slopes
from carten.physics.term import EnergyTerm, TermConfig
from carten.properties.fixed import Fixed
from carten.properties.io import save
from carten.properties.potential import Potential
from carten.properties.products import Products
from carten.properties.spec import input_table, property_table
from model.models import crystal

SMALL = {"n_channels": 4, "l_max_edges": 2, "l_max_features": 1, "correlation_order": 2, "cutoff": 4.0}
NAMES = ("energy", "forces", "stress", "hessian")


def build(inputs=(), terms=(), names=("energy",)):
    rows = property_table()
    config = NetworkConfig.model_validate(SMALL)
    return Potential(config, [1, 6, 7, 8], [rows[name] for name in names], inputs=inputs, terms=terms)


@pytest.fixture
def file(tmp_path):
    save(path := tmp_path / "m.carten", build(), {})
    return path


def solid():
    return graph(crystal(), 4.0)


# --- inference mode ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outside_first", [False, True])
def test_inference_mode_changes_nothing(outside_first):
    expected = build().freeze()(solid(), NAMES)
    model = build().freeze()
    if outside_first:
        model(solid(), NAMES)
    with torch.inference_mode():
        inside = model(solid(), NAMES)  # the graph is made of inference tensors
    outside = model(solid(), NAMES)
    for name, value in expected.items():
        assert value.abs().max() > 1e-3
        torch.testing.assert_close(inside[name], value, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(outside[name], value, rtol=1e-12, atol=1e-14)
        assert not inside[name].is_inference()


def test_training_after_inference_mode():
    """Nothing that was cached inside spoils gradients of weights."""
    model = build()
    with torch.inference_mode():
        model(solid(), NAMES)
    model.train()(solid(), ["forces"])["forces"].square().sum().backward()
    assert all(p.grad is not None for p in model.network.parameters())


def test_models_opened_cast_and_built_in_inference_mode(file):
    expected = carten.load(file)(solid(), NAMES)
    with torch.inference_mode():
        opened = carten.load(file)
        cast = carten.load(file).to(torch.float32).to(torch.float64)
        built = build()
    torch.testing.assert_close(opened(solid(), NAMES), expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(built(solid(), ["energy"])["energy"], expected["energy"], rtol=1e-6, atol=0)
    torch.testing.assert_close(cast(solid(), NAMES), expected, rtol=1e-4, atol=1e-5)
    built.train()(solid(), ["forces"])["forces"].square().sum().backward()


def test_a_calculator_in_inference_mode_and_after(file):
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.1, seed=1)
    alone = atoms.copy()
    alone.calc = carten.Calculator(file)
    expected = alone.get_forces()
    with torch.inference_mode():
        atoms.calc = carten.Calculator(file)
        np.testing.assert_allclose(atoms.get_forces(), expected, rtol=1e-12, atol=1e-14)
        assert not BFGS(atoms, logfile=None).run(fmax=1e-6, steps=2)
    alone.positions = atoms.positions
    np.testing.assert_allclose(atoms.get_forces(), alone.get_forces(), rtol=1e-12, atol=1e-14)
    assert np.abs(atoms.get_forces()).max() > 1e-3


def test_weights_that_are_inference_tensors_are_refused():
    model = build()
    with torch.inference_mode():
        state = {name: value.clone() for name, value in model.state_dict().items()}
        model.load_state_dict(state, assign=True)
    with pytest.raises(ModelError, match=r"the weights were set in torch\.inference_mode"):
        model(solid(), ["forces"])


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_products_and_fixed_terms_in_every_mode(mode):
    model, structure = build(), solid()
    vectors = torch.tensor(np.random.default_rng(0).normal(size=(structure.n_atoms, 3)))
    hessian = model(structure, ["hessian"])["hessian"].view(structure.n_atoms, structure.n_atoms, 3, 3)
    expected = torch.einsum("ax,abxy->by", vectors, hessian)
    zbl = carten.physics.config.load_terms([{"kind": "zbl", "cutoff": 4.0}])
    fixed = Fixed(zbl, NetworkConfig.model_validate(SMALL), [1, 6, 7, 8], [property_table()["energy"]], [])
    repulsion = fixed.values(structure, ["forces"])["forces"]
    assert repulsion.abs().max() > 1e-3
    with mode():
        products = Products(model, solid())
        torch.testing.assert_close(products(vectors * 1.0), expected, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(fixed.values(solid(), ["forces"])["forces"], repulsion, rtol=1e-12, atol=0)


# --- no gradient ------------------------------------------------------------------------------------------------------


def test_values_that_nothing_connects_are_an_error():
    x = torch.ones(3, requires_grad=True)
    with pytest.raises(ModelError, match="there is no slope of y"):
        slopes(torch.ones(3), [x], "slope of y", create=False, retain=False)
    with pytest.raises(ModelError, match="there is no slope of y"):
        slopes(x.square(), [x, torch.ones(3, requires_grad=True)], "slope of y", create=False, retain=False)
    with torch.no_grad(), pytest.raises(ModelError, match="there is no slope of y"):
        slopes(x.square(), [x], "slope of y", create=False, retain=False)


def test_an_evaluation_without_recording_is_an_error():
    model = build()
    with torch.no_grad():
        planned = model.planned(("forces",))
        evaluation = model.evaluation(solid(), planned)
        with pytest.raises(ModelError, match="there is no derivative of energy by positions"):
            evaluation.follow(planned.steps)


# --- structures that require grad -------------------------------------------------------------------------------------


def differences(function, tensor, direction, step=1e-4):
    ends = [function(tensor + sign * step * direction) for sign in (1, -1)]
    return (ends[0] - ends[1]) / (2 * step)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("what", ["positions", "cell", "electric_field"])
def test_differentiable_structures(training, what):
    """Energies, forces, stress and dipole have their derivatives: central differences of the exact model's."""
    exact = build(inputs=[input_table()["electric_field"]])
    model = build(inputs=[input_table()["electric_field"]]).freeze().train(training)
    structure = replace(solid(), inputs={"electric_field": torch.tensor([[0.1, -0.2, 0.05]], dtype=torch.float64)})
    names = ["energy", "forces", "stress", "dipole"]
    generator = torch.Generator().manual_seed(1)
    weights: dict[str, torch.Tensor] = {}

    def with_(value):
        if what == "electric_field":
            return replace(structure, inputs={what: value})
        return replace(structure, **{what: value})

    def loss(value, model=exact):
        total = torch.zeros((), dtype=torch.float64)
        for name, x in model(with_(value), names).items():
            if name not in weights:
                weights[name] = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            total = total + (weights[name] * x).sum()
        return total

    start = structure.inputs[what] if what == "electric_field" else getattr(structure, what)
    direction = torch.randn(start.shape, generator=generator, dtype=torch.float64)
    value = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(value, model), value)
    with torch.no_grad():
        expected = float(differences(loss, start, direction))
    assert abs(expected) > 1e-3
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-6)


def test_structures_that_are_results_themselves():
    """A step of dynamics: the gradient of what comes after with respect to where it began."""
    model, structure = build(), solid()
    start = structure.positions.clone().requires_grad_()
    force = model(replace(structure, positions=start), ["forces"])["forces"]
    moved = start + 0.1 * force
    energy = model(replace(structure, positions=moved), ["energy", "forces"])["energy"].sum()
    (gradient,) = torch.autograd.grad(energy, start)

    def after(positions):
        force = model(replace(structure, positions=positions), ["forces"])["forces"].detach()
        return float(model(replace(structure, positions=positions + 0.1 * force), ["energy"])["energy"].detach())

    direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = differences(after, structure.positions, direction)
    assert float((gradient * direction).sum()) == pytest.approx(expected, rel=1e-6)


# --- a term that hides what it depends on -----------------------------------------------------------------------------


class HiddenConfig(TermConfig):
    kind: Literal["hidden"] = "hidden"
    fixed = True

    def build(self, host):
        return Hidden()


class Hidden(EnergyTerm):
    """Detaches its energies."""

    def forward(self, view):
        return view.graph.positions.detach().square().sum(1)


def test_a_fixed_term_that_detaches_is_an_error():
    fixed = Fixed([HiddenConfig()], NetworkConfig.model_validate(SMALL), [1], [property_table()["energy"]], [])
    with pytest.raises(ModelError, match=r"no derivative of energy by positions.*a term or layer detaches"):
        fixed.values(graph(molecule("H2"), 4.0), ["forces"])


# --- the same structure in training and in inference ------------------------------------------------------------------


def test_a_float32_model_is_trained_on_the_edges_that_it_predicts_with():
    """Far from the origin float32 positions are off by 1e-4 Å; energies and forces of batches must not be."""
    near, far = molecule("CH3CH2OH"), molecule("CH3CH2OH")
    far.positions += 1e3
    model = build().to(torch.float32)
    batch = collate([Dataset([frame_from(far)], [], model.cutoff)[0]])
    trained = model.train()(batch.graph, ["energy", "forces"])
    predicted = model.eval()(graph(near, model.cutoff), ["energy", "forces"])
    scale = float(predicted["forces"].abs().max())
    assert float((trained["forces"].detach() - predicted["forces"]).abs().max()) < 2e-6 * scale
    torch.testing.assert_close(trained["energy"].detach(), predicted["energy"], rtol=1e-6, atol=0)
