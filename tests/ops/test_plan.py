"""Plans: what they check, what they keep, and that their derivatives are what autograd finds."""

import pytest
import torch

from carten.ops import reference
from carten.ops.plan import Operand, Plan, Step, merge, parse
from ops.plans import random_indices, random_operands, random_plan

X, Y = Operand("x", 2), Operand("y", 2, channels=False)
OUT = Operand("out", 1)


def plan(*steps, local=(), inputs=(X, Y), outputs=(OUT,)):
    return Plan(tuple(inputs), tuple(local), tuple(outputs), tuple(steps))


PRODUCT = Step("out", "x", "y", ((0, 0, 1, 2.0), (0, 1, 0, -1.0)))


def test_a_product_by_hand():
    x, y = torch.arange(12.0, dtype=torch.float64).view(2, 2, 3), torch.tensor([[1.0, 2.0], [3.0, 5.0]]).double()
    (found,) = reference.evaluate(plan(PRODUCT), [x, y], {}, 2)
    expected = 2 * x[:, 0] * y[:, 1, None] - x[:, 1] * y[:, 0, None]
    assert torch.equal(found[:, 0], expected)


@pytest.mark.parametrize(
    ("steps", "local", "message"),
    [
        ([Step("out", "t", "", ((0, 0, 0, 1.0),))], [Operand("t", 1)], "before it is written"),
        ([Step("out", "nothing", "", ((0, 0, 0, 1.0),))], [], "before it is written"),
        ([PRODUCT, Step("t", "out", "", ((0, 0, 0, 1.0),))], [Operand("t", 1)], "reads an output"),
        ([Step("x", "y", "", ((0, 0, 0, 1.0),))], [], "not a local or an output"),
        ([Step("out", "x", "y", ((1, 0, 0, 1.0),))], [], "outside its arrays"),
        ([PRODUCT], [Operand("t", 1, index="centre")], "can't be gathered"),
        ([PRODUCT], [Operand("x", 1)], "unique"),
        (
            [
                Step("t", "x", "", ((0, 0, 0, 1.0),)),
                Step("out", "t", "", ((0, 0, 0, 1.0),)),
                Step("t", "x", "", ((0, 1, 0, 1.0),)),
            ],
            [Operand("t", 1)],
            "after it has been read",
        ),
    ],
)
def test_wrong_plans_are_refused(steps, local, message):
    with pytest.raises(ValueError, match=message):
        plan(*steps, local=local)


def test_equal_plans_are_one_key():
    first, second = plan(PRODUCT), plan(PRODUCT)
    other = plan(Step("out", "x", "y", ((0, 0, 1, 2.0),)))
    assert first == second
    assert len({first, second, other}) == 2
    assert first.digest != other.digest


def test_a_plan_survives_as_text():
    for seed in range(3):
        whole = random_plan(seed)
        assert parse(whole.text) == whole
        assert parse(whole.text).steps == whole.steps


def test_text_names_arrays_and_steps():
    text = str(plan(PRODUCT, inputs=(X, Operand("y", 2, channels=False, index="centre"))))
    assert "x[site, 2, c]" in text
    assert "y[centre, 2]" in text
    assert "out += x * y   (2 terms)" in text


def test_merge_adds_equal_terms_and_drops_zeros():
    assert merge([(0, 1, 2, 0.5), (0, 1, 2, 0.25), (1, 0, 0, 1.0), (1, 0, 0, -1.0)]) == ((0, 1, 2, 0.75),)


@pytest.mark.parametrize("seed", range(5))
def test_selected_outputs_are_unchanged(seed):
    whole = random_plan(seed)
    indices = random_indices(6, seed)
    operands = random_operands(whole, 6, indices, 3, seed)
    expected = reference.evaluate(whole, operands, indices, 6)
    for n, array in enumerate(whole.outputs):
        part = whole.select([array.name])
        assert part.inputs == whole.inputs
        assert len(part.steps) < len(whole.steps)
        (found,) = reference.evaluate(part, operands, indices, 6)
        assert torch.equal(found, expected[n])


@pytest.mark.parametrize("seed", range(8))
def test_the_gradient_plan_is_the_gradient(seed):
    whole = random_plan(seed)
    indices = random_indices(6, seed)
    leaves = [x.requires_grad_() for x in random_operands(whole, 6, indices, 3, seed)]
    outputs = reference.evaluate(whole, leaves, indices, 6)
    g = torch.Generator().manual_seed(seed)
    seeds = [torch.randn(x.shape, generator=g, dtype=x.dtype) for x in outputs]
    wrt, given = [1, 3, 0], [2, 0]
    derivative = whole.vjp([whole.inputs[n].name for n in wrt], [whole.outputs[n].name for n in given])
    found = reference.evaluate(derivative, [*leaves, *(seeds[n] for n in given)], indices, 6)
    value = sum((outputs[n] * seeds[n]).sum() for n in given)
    expected = torch.autograd.grad(value, [leaves[n] for n in wrt], materialize_grads=True)
    for a, b in zip((x.detach() for x in found), expected, strict=True):
        assert a.shape == b.shape
        assert float((a - b).abs().max()) <= 1e-13 * max(1.0, float(b.abs().max()))
