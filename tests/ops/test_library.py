"""The entrance to the back ends: which one runs, autograd, odd shapes, and what is refused."""

import re

import numpy as np
import pytest
import torch

from carten.errors import ModelError
from carten.ops import builders
from carten.ops.index import Index
from carten.ops.library import choose, evaluate
from carten.ops.plan import Operand, Plan, Step
from carten.ops.space import Space
from ops.plans import random_indices, random_operands, random_plan

SQUARE = Plan((Operand("x", 2, index="row"),), (), (Operand("y", 1),), (Step("y", "x", "x", ((0, 0, 1, 1.0),)),))
ROWS = {"row": Index(torch.tensor([1, 0, 1]), 2)}


def squares(x):
    """What ``SQUARE`` computes."""
    return (x[:, :1] * x[:, 1:])[[1, 0, 1]]


@pytest.mark.needs("cpp")
def test_auto_takes_cpp_where_it_can():
    assert choose([torch.ones(1)], "auto") == "cpp"
    assert choose([torch.ones(1, dtype=torch.float64)], "auto") == "cpp"
    assert choose([torch.ones(1, dtype=torch.bfloat16)], "auto") == "reference"
    assert choose([torch.ones(1, device="meta")], "auto") == "reference"
    assert choose([torch.ones(1), torch.ones(1, dtype=torch.float64)], "auto") == "reference"
    assert choose([torch.ones(1)], "reference") == "reference"


def test_unknown_back_ends_are_refused():
    with pytest.raises(ValueError, match="unknown back end 'fast'; there are auto"):
        evaluate(SQUARE, [torch.ones(2, 2, 1)], ROWS, 3, "fast")


@pytest.mark.needs("cpp")
def test_cpp_refuses_other_types():
    with pytest.raises(ModelError, match="float16"):
        evaluate(SQUARE, [torch.ones(2, 2, 1, dtype=torch.float16)], ROWS, 3, "cpp")


@pytest.mark.needs("cpp")
@pytest.mark.parametrize("shape", [(3, 2, 4), (2, 3, 4), (2, 2)])
@pytest.mark.parametrize("backend", ["cpp", "reference"])
def test_wrong_shapes_are_refused(shape, backend):
    with pytest.raises(ValueError, match=rf"operand 'x'.*found .*{re.escape(str(shape))}"):
        evaluate(SQUARE, [torch.ones(shape)], ROWS, 3, backend)


@pytest.mark.needs("cpp")
def test_wrong_numbers_of_sites_are_refused():
    with pytest.raises(ValueError, match="3 values, expected one for each of 4 sites"):
        evaluate(SQUARE, [torch.ones(2, 2, 4)], ROWS, 4, "cpp")


@pytest.mark.needs("cpp")
def test_strided_operands():
    whole = torch.randn(4, 4, 6, generator=torch.Generator().manual_seed(0))
    for x in (whole[::2, ::2, :3], whole[:2, :2, ::2], whole.permute(2, 1, 0)[:2, :2]):
        (found,) = evaluate(SQUARE, [x], ROWS, 3, "cpp")
        assert torch.allclose(found, squares(x))


@pytest.mark.needs("cpp")
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_sites", [0, 1])
def test_no_site_and_one_site(seed, n_sites):
    plan = random_plan(seed)
    indices = random_indices(n_sites, seed)
    leaves = [x.requires_grad_() for x in random_operands(plan, n_sites, indices, 4, seed)]
    outputs = evaluate(plan, leaves, indices, n_sites, "cpp")
    expected = evaluate(plan, leaves, indices, n_sites, "reference")
    for a, b in zip(outputs, expected, strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)
    gradients = torch.autograd.grad(sum(x.sum() for x in outputs), leaves, materialize_grads=True)
    assert [x.shape for x in gradients] == [x.shape for x in leaves]


@pytest.mark.needs("cpp")
def test_rows_without_sites_are_zero():
    plan = Plan((Operand("x", 1),), (), (Operand("y", 1, index="row"),), (Step("y", "x", "", ((0, 0, 0, 1.0),)),))
    index = Index(torch.tensor([2, 2, 5]), 8, ascending=True)
    (found,) = evaluate(plan, [torch.ones(3, 1, 3)], {"row": index}, 3, "cpp")
    assert found[:, 0, 0].tolist() == [0, 0, 2, 0, 0, 1, 0, 0]


@pytest.mark.needs("cpp")
def test_components_nobody_writes_are_zero():
    plan = Plan((Operand("x", 1),), (), (Operand("y", 3),), (Step("y", "x", "", ((1, 0, 0, 2.0),)),))
    (found,) = evaluate(plan, [torch.ones(2, 1, 5)], {}, 2, "cpp")
    assert found.sum(2).tolist() == [[0, 10, 0]] * 2


@pytest.mark.needs("cpp")
def test_rows_may_overlap_or_lie_apart():
    base = torch.arange(40.0).view(10, 1, 4)
    for x in (base.as_strided((2, 2, 4), (4, 4, 1)), base.expand(10, 2, 4)[:2], base.view(5, 2, 4)[::3]):
        (found,) = evaluate(SQUARE, [x], ROWS, 3, "cpp")
        assert torch.equal(found, squares(x))


@pytest.mark.needs("cpp")
@pytest.mark.parametrize("wrong", [2, -1, 2**62])
def test_an_index_outside_its_rows_is_refused(wrong):
    values = torch.tensor([1, 0, wrong])
    with pytest.raises(ValueError, match="an index into 2 rows has values from"):
        evaluate(SQUARE, [torch.ones(2, 2, 4)], {"row": Index(values, 2)}, 3, "cpp")
    into = Plan((Operand("x", 1),), (), (Operand("y", 1, index="row"),), (Step("y", "x", "", ((0, 0, 0, 1.0),)),))
    with pytest.raises(ValueError, match="an index into 2 rows has values from"):
        evaluate(into, [torch.ones(3, 1, 4)], {"row": Index(values, 2, ascending=True)}, 3, "cpp")


@pytest.mark.needs("cpp")
def test_not_a_number_stays_visible():
    x = torch.ones(2, 2, 4)
    x[1, 0, 2] = torch.nan
    (found,) = evaluate(SQUARE, [x], ROWS, 3, "cpp")
    assert torch.isnan(found).sum(dim=(1, 2)).tolist() == [1, 0, 1]


@pytest.mark.needs("cpp")
def test_gradients_only_where_they_are_wanted():
    features, harmonics, radial = (
        torch.randn(3, n, *c, dtype=torch.float64) for n, c in ((1, (2,)), (4, ()), (2, (2,)))
    )
    plan = builders.interaction_plan(Space.up_to(0), 1, Space.up_to(1))
    index = {"centre": Index(torch.tensor([0, 1, 1]), 3, True), "neighbour": Index(torch.tensor([1, 0, 2]), 3)}
    harmonics.requires_grad_()
    outputs = evaluate(plan, [features, harmonics, radial], index, 3, "cpp")
    outputs[1].sum().backward()
    assert harmonics.grad is not None
    assert features.grad is None
    assert not evaluate(plan, [features, harmonics.detach(), radial], index, 3, "cpp")[0].requires_grad


def test_functional_transforms_run_the_reference():
    x = torch.randn(5, 2, 2, 3, generator=torch.Generator().manual_seed(1))
    (found,) = torch.func.vmap(lambda one: evaluate(SQUARE, [one], ROWS, 3))(x)
    assert torch.allclose(found, torch.stack([squares(one) for one in x]))
    jacobian = torch.func.jacrev(lambda one: evaluate(SQUARE, [one], ROWS, 3)[0].sum((0, 1)))(x[0])
    assert jacobian.shape == (3, 2, 2, 3)


@pytest.mark.needs("cpp")
def test_batched_gradients_of_cpp():
    x = torch.randn(2, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    (y,) = evaluate(SQUARE, [x], ROWS, 3)
    seeds = torch.eye(y.numel(), dtype=torch.float64).view(-1, *y.shape)
    (found,) = torch.autograd.grad(y, x, seeds, is_grads_batched=True, retain_graph=True)
    expected = torch.stack([torch.autograd.grad(y, x, seed, retain_graph=True)[0] for seed in seeds])
    assert torch.allclose(found, expected)


@pytest.mark.needs("cpp")
def test_offsets_beyond_32_bits(tmp_path):
    rows = 2**31 // 32 + 3
    file = np.memmap(tmp_path / "sparse", np.float32, mode="w+", shape=(rows, 1, 32))
    file[0], file[-1] = 2.0, 3.0
    plan = Plan((Operand("x", 1, index="row"),), (), (Operand("y", 1),), (Step("y", "x", "", ((0, 0, 0, 1.0),)),))
    index = Index(torch.tensor([0, rows - 1]), rows, ascending=True)
    (found,) = evaluate(plan, [torch.from_numpy(file)], {"row": index}, 2, "cpp")
    assert found[:, 0, 5].tolist() == [2.0, 3.0]


@pytest.mark.needs("cpp")
@pytest.mark.parametrize("wanted", [(0, 1, 2, 3, 4), (1, 4)])
def test_torch_compile_leaves_plans_alone(wanted):
    plan = random_plan(0)
    indices = random_indices(9, 0)
    operands = random_operands(plan, 9, indices, 4, 0)
    leaves = [operands[n].requires_grad_() for n in wanted]

    def value(*tensors):
        outputs = evaluate(plan, [torch.sin(x) for x in tensors], indices, 9)
        return sum(torch.cos(x).sum() for x in outputs)

    compiled = torch.compile(value, backend="aot_eager")
    found, expected = compiled(*operands), value(*operands)
    assert abs(found.item() - expected.item()) <= 1e-12 * abs(expected.item())
    pairs = (torch.autograd.grad(x, leaves, materialize_grads=True) for x in (found, expected))
    assert all(torch.allclose(a, b, rtol=1e-12, atol=1e-12) for a, b in zip(*pairs, strict=True))
