"""Second derivatives of frozen models by expansions are those of the radial networks; higher ones evaluate these."""

import numpy as np
import pytest
import torch
from ase.build import molecule

from carten.data.structures import structure_graph
from carten.model import expansion, network
from carten.physics.zbl import ZblConfig
from carten.properties.spec import input_table
from small import oxide, small_model

TWICE = ("hessian", "elastic", "internal_strain", "forces", "energy")


def values(model, atoms, names, inputs=None):
    graph = structure_graph(atoms, model.cutoff, inputs or {}, "structure")
    return {name: value.detach().numpy() for name, value in model(graph, names).items()}


def both(model, atoms, names, inputs=None):
    """By expansion, and with weights that could be learned, for which nothing is expanded."""
    expanded = values(model, atoms, names, inputs)
    return expanded, values(model.requires_grad_(True), atoms, names, inputs)


@pytest.mark.parametrize("options", [{"n_layers": 2}, {"terms": (ZblConfig(),)}], ids=["layers", "term"])
def test_second_derivatives(options, monkeypatch):
    calls, expand = [], network.expand
    monkeypatch.setattr(network, "expand", lambda *arguments: calls.append(1) or expand(*arguments))
    expanded, exact = both(small_model(properties=("energy", "forces", "stress"), **options), oxide(), TWICE)
    assert len(calls) == 1
    for name in TWICE:
        np.testing.assert_allclose(expanded[name], exact[name], atol=1e-11 * np.abs(exact[name]).max(), err_msg=name)


def test_edges_of_one_length_share_a_table():
    """Methane: C-H, H-H, in both directions; as exact as tables apart."""
    model = small_model(n_layers=2)
    lengths = structure_graph(molecule("CH4"), model.cutoff, {}, "methane").edge_vectors().norm(dim=1)
    assert len(expansion.expand(lengths, model.config).lengths) == 2
    apart = lengths + torch.linspace(0.0, 1e-6, len(lengths))
    assert len(expansion.expand(apart, model.config).lengths) == len(lengths)
    assert len(expansion.expand(lengths[:0], model.config).lengths) == 0


def test_single_precision():
    model = small_model(n_layers=2, dtype=torch.float32)
    expanded, exact = both(model, molecule("CH4"), ["hessian"])
    np.testing.assert_allclose(expanded["hessian"], exact["hessian"], atol=1e-4 * np.abs(exact["hessian"]).max())


def test_responses_to_fields():
    field = {"electric_field": np.array([[0.1, 0.0, -0.2]])}
    model = small_model(properties=("energy", "forces"), inputs=(input_table()["electric_field"],))
    names = ["hessian", "born_charges", "polarizability"]
    expanded, exact = both(model, molecule("CH3OH"), names, field)
    for name in names:
        np.testing.assert_allclose(expanded[name], exact[name], atol=1e-11 * np.abs(exact[name]).max(), err_msg=name)


def test_third_derivatives_are_not_expanded():
    """The slope of a component of the Hessian in a position, against a central difference."""
    model, atoms, step = small_model(n_layers=2), oxide(), 1e-4
    graph = structure_graph(atoms, model.cutoff, {}, "structure")
    graph.positions.requires_grad_()
    component = model(graph, ["hessian"])["hessian"][1, 0, 2]
    (slopes,) = torch.autograd.grad(component, graph.positions)
    ends = []
    for sign in (1.0, -1.0):
        atoms.positions = oxide().positions
        atoms.positions[2, 1] += sign * step
        ends.append(values(model, atoms, ["hessian"])["hessian"][1, 0, 2])
    assert slopes[2, 1].item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5)
