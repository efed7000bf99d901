"""The cost of plans, against the operations in the code that is generated from them."""

import re

import pytest
import torch

from carten.ops import builders
from carten.ops.codegen import source
from carten.ops.cost import cost
from carten.ops.cpp import followed
from carten.ops.index import Index
from carten.ops.library import evaluate
from carten.ops.plan import Operand, Plan, Step
from carten.ops.record import recorded
from carten.ops.space import SCALAR, Space

X, Y, OUT = Operand("x", 2), Operand("y", 2, channels=False, index="row"), Operand("out", 1)
TWO, THREE = Space.up_to(2), Space.up_to(3)


def model_plans():
    plans = {
        "first interaction": builders.interaction_plan(Space((SCALAR,)), 3, THREE),
        "interaction": builders.interaction_plan(TWO, 3, THREE),
        "tabulated interaction": builders.tabulated_interaction_plan(TWO, 3, THREE),
        "product": builders.product_plan(THREE, TWO, 3),
        "powers": builders.powers_plan(TWO, TWO, 3, symmetric=False),
    }
    for name, plan in list(plans.items()):
        fixed = ("weights", "low", "high")
        plans[f"gradient of {name}"] = plan.vjp([a.name for a in plan.inputs if a.name not in fixed])
    return plans


PLANS = model_plans()


def vector_operations(text):
    """Multiply-adds on vectors in C++ source: every vector begun or added to, every product summed over channels."""
    pieces = re.findall(r"^ +(?:V )?v\d+ [+-]?= (?!load).*;$", text, re.M)
    loops = re.findall(r"\{ constexpr int N = W; (.*) \}$", text, re.M)
    again = [line for loop in loops for line in re.findall(r"const V v\d+ = (?!load)(.*?);", loop)]
    sums = [line for loop in loops for line in re.findall(r"keep<N>\((.*?)\);", loop)]
    terms = [len(re.split(r" [+-] ", line)) for line in (*again, *sums)]
    return len(pieces) + sum(terms), sum(terms[: len(again)])


@pytest.mark.parametrize("name", PLANS)
def test_the_cost_is_what_the_generated_code_does(name):
    plan = PLANS[name]
    counted, repeated = vector_operations(source(plan, "float", 64, followed(plan)))
    assert counted > 30
    assert counted - repeated <= cost(plan).vector <= counted, "vectors that are computed twice may count once or twice"
    assert repeated <= 0.2 * counted


def test_a_cost_by_hand():
    """``2 (x_0 y_1) - x_1 y_0``: the product, times two, and the other product; rows of ``y`` are gathered."""
    plan = Plan((X, Y), (), (OUT,), (Step("out", "x", "y", ((0, 0, 1, 2.0), (0, 1, 0, -1.0))),))
    found = cost(plan)
    assert (found.scalar, found.vector) == (0, 3)
    assert found.multiply_adds(8) == 24
    assert found.bytes(8, 4, {"": 10, "row": 3}) == 4 * (10 * 2 * 8 + 3 * 2 + 10 * 8)


def test_terms_that_cancel_cost_nothing():
    step = Step("out", "x", "y", ((0, 0, 0, 1.0),))
    opposite = Step("out", "x", "y", ((0, 0, 0, -1.0),))
    assert cost(Plan((X, Y), (), (OUT,), (step, opposite))).vector == 0


@pytest.mark.parametrize("backend", ["reference", pytest.param("cpp", marks=pytest.mark.needs("cpp"))])
def test_a_record_has_every_plan_that_runs(backend):
    plan = Plan((X, Y), (), (OUT,), (Step("out", "x", "y", ((0, 0, 1, 2.0), (0, 1, 0, -1.0))),))
    x, y = torch.ones(5, 2, 4, requires_grad=True), torch.ones(3, 2)
    index = {"row": Index(torch.tensor([0, 1, 2, 1, 0]), 3)}
    with recorded() as runs:
        evaluate(plan, [x, y], index, 5, backend)[0].sum().backward()
    evaluate(plan, [x, y], index, 5, backend)
    assert [run.plan for run in runs] == [plan, plan.vjp(["x"])]
    assert [dict(run.rows) for run in runs] == [{"": 5, "row": 3}] * 2
    assert all((run.channels, run.itemsize) == (4, 4) and run.seconds > 0 for run in runs)
    assert runs[0].multiply_adds == 5 * 4 * 3
    assert torch.equal(x.grad, torch.tensor([2.0, -1.0]).view(1, 2, 1).expand(5, 2, 4))
