"""The Triton back end against the reference, run by test_triton.py: on a GPU, or with TRITON_INTERPRET=1 on the CPU."""

import os

import pytest
import torch
from ase.build import molecule

from carten.data.neighbours import graph
from carten.ops import builders, triton
from carten.ops.index import Index
from carten.ops.library import evaluate
from carten.ops.plan import Operand, Plan, Step
from carten.ops.space import Space
from ops.plans import random_indices, random_operands, random_plan
from ops.test_cpp import DERIVATIVES, VALUES, close, derivatives
from small import small_model

SITES = 5
DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"


def put(operands, indices):
    """Operands and indices on the device."""
    moved = {name: Index(x.values.to(DEVICE), x.rows, x.ascending) for name, x in indices.items()}
    return [x.to(DEVICE) for x in operands], moved


def both(plan, operands, indices, n_sites):
    operands, indices = put(operands, indices)
    return [evaluate(plan, operands, indices, n_sites, backend) for backend in ("triton", "reference")]


def both_derivatives(plan, operands, indices, n_sites):
    operands, indices = put(operands, indices)
    return [derivatives(plan, operands, indices, n_sites, backend, 2) for backend in ("triton", "reference")]


@pytest.mark.parametrize(("seed", "channels"), [(0, 1), (1, 8), (2, 37), (3, 64), (4, 3), (6, 100)])
def test_values_of_random_plans(seed, channels):
    plan = random_plan(seed)
    indices = random_indices(SITES, seed)
    close(*both(plan, random_operands(plan, SITES, indices, channels, seed), indices, SITES), VALUES)


@pytest.mark.parametrize("seed", [1, 4])
def test_derivatives_of_random_plans(seed):
    plan = random_plan(seed, n_steps=4, max_terms=4)
    indices = random_indices(3, seed)
    operands = random_operands(plan, 3, indices, 5, seed)
    close(*both_derivatives(plan, operands, indices, 3), DERIVATIVES)


def test_single_precision():
    plan = random_plan(1)
    indices = random_indices(SITES, 1)
    operands, indices = put(random_operands(plan, SITES, indices, 8, 1, torch.float32), indices)
    exact = evaluate(plan, [x.double() for x in operands], indices, SITES, "reference")
    found = evaluate(plan, operands, indices, SITES, "triton")
    assert all(x.dtype == torch.float32 for x in found)
    close([x.double() for x in found], exact, 1e-5)


@pytest.mark.parametrize("n_sites", [0, 1])
def test_few_sites(n_sites):
    plan = random_plan(4)
    indices = random_indices(n_sites, 4)
    close(*both(plan, random_operands(plan, n_sites, indices, 2, 4), indices, n_sites), VALUES)


def test_strided_operands():
    plan = random_plan(1)
    indices = random_indices(2, 1)
    operands = random_operands(plan, 2, indices, 2, 1)
    operands, indices = put(operands, indices)
    strided = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in operands]
    assert any(not x.is_contiguous() for x in strided)
    close(*both(plan, strided, indices, 2), VALUES)


def test_operands_that_do_not_fit():
    plan = random_plan(1)
    indices = random_indices(2, 1)
    operands, indices = put(random_operands(plan, 2, indices, 2, 1), indices)
    with pytest.raises(ValueError, match=r"operand 'x4' has to be torch\.float64 of shape"):
        evaluate(plan, [*operands[:4], operands[4][:, :2]], indices, 2, "triton")
    fewer = [x if a.index else x[:1] for a, x in zip(plan.inputs, operands, strict=True)]
    with pytest.raises(ValueError, match="expected one for each of 1 sites"):
        evaluate(plan, fewer, indices, 1, "triton")


def sums_of_rows(channels):
    """Sums over sites of a product and of its sum over channels, by an index with few rows."""
    inputs = (Operand("x", 3), Operand("y", 2))
    outputs = (Operand("wide", 3, index="few"), Operand("narrow", 2, channels=False, index="few"))
    steps = (
        Step("wide", "x", "y", ((0, 0, 0, 1.0), (1, 1, 1, 0.5), (2, 2, 0, -1.0))),
        Step("narrow", "x", "y", ((0, 0, 1, 1.0), (1, 2, 1, 2.0))),
    )
    plan = Plan(inputs, (), outputs, steps)
    g = torch.Generator().manual_seed(channels)
    operands = [torch.randn(23, a.size, channels, generator=g, dtype=torch.float64) for a in inputs]
    rows = torch.randint(2, (23,), generator=g) * 2
    return plan, operands, {"few": Index(rows, 4)}, 23


def test_long_rows_are_split(monkeypatch):
    """Few rows with many sites: parts of rows, added up in as many steps as it takes; some rows have no site."""
    monkeypatch.setattr(triton, "WORK", 1)
    monkeypatch.setattr(triton, "BUSY", 1000)
    started = []
    start = triton._Kernel._start

    def count(self, size, *arguments, **constants):
        started.append(size)
        start(self, size, *arguments, **constants)

    monkeypatch.setattr(triton._Kernel, "_start", count)
    close(*both(*sums_of_rows(2)), VALUES)
    assert started == [1, 9, 6, 4, 9, 6, 4], "sums over channels, then parts of at most four sites, four parts, all"


def test_outputs_with_many_components_are_computed_in_pieces(monkeypatch):
    monkeypatch.setattr(triton, "MAX_ACCUMULATORS", 2)
    plan, operands, indices, n_sites = sums_of_rows(3)
    assert len(triton.passes(plan, 2)) > len(triton.passes(plan, 96))
    close(*both(plan, operands, indices, n_sites), VALUES)


def model_plans():
    vectors, both_parities = Space.up_to(1), Space.up_to(1, pseudo=True)
    return {
        "harmonics": builders.harmonics_plan(2),
        "interaction": builders.interaction_plan(vectors, 1, vectors),
        "product": builders.product_plan(vectors, Space.up_to(0), 3),
        "pseudotensors": builders.product_plan(both_parities, Space.up_to(0), 2),
    }


def model_operands(plan, n_sites):
    g = torch.Generator().manual_seed(7)
    rows = {"element": 2, "neighbour": 3, "centre": 3}
    values = {name: torch.randint(rows[name], (n_sites,), generator=g) for name in plan.indices}
    values = {name: torch.sort(x).values if name == "centre" else x for name, x in values.items()}
    indices = {name: Index(x, rows[name], ascending=name == "centre") for name, x in values.items()}
    return random_operands(plan, n_sites, indices, 2, 7), indices


@pytest.mark.parametrize("name", model_plans())
def test_plans_of_the_model(name):
    plan = model_plans()[name]
    operands, indices = model_operands(plan, 4)
    close(*both_derivatives(plan, operands, indices, 4), DERIVATIVES)


def test_energy_and_forces_of_a_model():
    atoms = molecule("H2O")
    results = []
    for backend in ("triton", "reference"):
        model = small_model((1, 8), ("energy", "forces")).to(DEVICE)
        model.network.backend = backend
        results.append(model(graph(atoms, model.cutoff).to(device=DEVICE)))
    close([results[0][k] for k in ("energy", "forces")], [results[1][k] for k in ("energy", "forces")], DERIVATIVES)
    assert float(results[0]["forces"].abs().max()) > 1e-3
