"""Evaluating plans: the one entrance to all back ends, with autograd of any order."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.ops import cpp, reference
from carten.ops.index import Index
from carten.ops.plan import Plan

BACKENDS = ("auto", "cpp", "reference")


def evaluate(
    plan: Plan, operands: Sequence[Tensor], indices: Mapping[str, Index], n_sites: int, backend: str = "auto"
) -> tuple[Tensor, ...]:
    """Run a plan on tensors; results are differentiable to any order with respect to every operand.

    Args:
        plan: the program.
        operands: one tensor per input of the plan, (rows, size, channels) or (rows, size), all of one dtype and device.
        indices: the index of every gathered or scattered array, by name.
        n_sites: number of sites (edges or atoms) the program runs at.
        backend: ``"reference"``, ``"cpp"`` or ``"auto"`` (the fastest that can run here).

    Returns:
        One tensor per output of the plan.

    Raises:
        ValueError: an unknown back end, or tensors that do not fit the plan.
        ModelError: ``backend="cpp"`` and there is no C++ compiler.
    """
    if choose(operands, backend) == "reference":
        return reference.evaluate(plan, operands, indices, n_sites)
    if torch.is_grad_enabled() and any(x.requires_grad for x in operands):
        results: tuple[Tensor, ...] = _Evaluate.apply(plan, indices, n_sites, *operands)  # type: ignore[no-untyped-call]
        return results
    return cpp.evaluate(plan, operands, indices, n_sites)


def choose(operands: Sequence[Tensor], backend: str) -> str:
    """The back end that will run."""
    if backend == "reference":
        return backend
    if backend not in BACKENDS:
        raise ValueError(f"unknown back end {backend!r}; there are {', '.join(BACKENDS)}")
    transformed = torch._C._are_functorch_transforms_active()
    if backend == "cpp":
        cpp.check()
        if transformed or not cpp.supports(operands):
            found = "a torch.func transform" if transformed else f"{operands[0].dtype} on {operands[0].device}"
            raise ModelError(f"backend='cpp' runs on float32 or float64 on the CPU, found {found}; use backend='auto'")
        return backend
    return "cpp" if not transformed and cpp.supports(operands) and _compiler_found() else "reference"


@cache
def _compiler_found() -> bool:
    try:
        cpp.check()
    except ModelError as error:
        warnings.warn(f"plans run in plain torch, which is slow: {error}", stacklevel=2)
        return False
    return True


class _Evaluate(torch.autograd.Function):
    """A plan whose gradient is a plan."""

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, indices: Mapping[str, Index], n_sites: int, *operands: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.plan, ctx.indices, ctx.n_sites = plan, indices, n_sites
        ctx.save_for_backward(*operands)
        ctx.set_materialize_grads(False)
        return cpp.evaluate(plan, operands, indices, n_sites)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        needed = ctx.needs_input_grad[3:]
        given = [(a.name, g) for a, g in zip(plan.outputs, gradients, strict=True) if g is not None]
        wrt = [a.name for a, need in zip(plan.inputs, needed, strict=True) if need]
        if not given:
            return (None,) * len(ctx.needs_input_grad)
        derivative = plan.vjp(tuple(wrt), tuple(name for name, _ in given))
        operands = (*ctx.saved_tensors, *(g for _, g in given))
        batched = any(torch._C._functorch.is_legacy_batchedtensor(g) for _, g in given)
        backend = "reference" if batched else "auto"
        found = iter(evaluate(derivative, operands, ctx.indices, ctx.n_sites, backend))
        return (None, None, None, *(next(found) if need else None for need in needed))
