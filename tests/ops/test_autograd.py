"""Undocumented functions of torch still answer what the operators ask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from carten.ops.autograd import is_needed, is_transformed


class Watched(torch.autograd.Function):
    """x y, which notes what its backward pass is asked for."""

    needed: list[bool]
    transformed: list[bool]

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(x, y)
        return x * y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        Watched.needed = [is_needed(node) for node, _ in ctx.next_functions]
        Watched.transformed = [is_transformed([gradient])]
        x, y = ctx.saved_tensors
        return gradient * y, gradient * x


@pytest.fixture
def operands() -> tuple[Tensor, Tensor, Tensor]:
    """Two leaves, and their product through a function of them: neither factor is a leaf."""
    x, y = (torch.full((3,), value, requires_grad=True) for value in (2.0, 3.0))
    return x, y, Watched.apply(2.0 * x, 5.0 * y)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("position", [0, 1])
def test_a_pass_goes_through_what_it_differentiates(operands, position):
    torch.autograd.grad(operands[2].sum(), operands[position])
    assert Watched.needed == [position == 0, position == 1]


def test_a_pass_to_all_leaves_goes_through_both(operands):
    operands[2].sum().backward()
    assert Watched.needed == [True, True]


def test_leaves_at_the_end_of_a_pass_are_needed():
    x, y = (torch.full((3,), value, requires_grad=True) for value in (2.0, 3.0))
    torch.autograd.grad(Watched.apply(x, y).sum(), (x, y))
    assert Watched.needed == [True, True]


def test_transforms_and_batches_of_gradients_are_seen(operands):
    seen = []
    torch.func.vmap(lambda x: seen.append(is_transformed()) or 2.0 * x)(torch.ones(2))
    assert seen == [True] and not is_transformed() and not is_transformed([torch.ones(2)])
    torch.autograd.grad(operands[2], operands[0], torch.eye(3), is_grads_batched=True, retain_graph=True)
    assert Watched.transformed == [True]
    torch.autograd.grad(operands[2], operands[0], torch.ones(3))
    assert Watched.transformed == [False]
