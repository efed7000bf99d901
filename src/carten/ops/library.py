"""Evaluating plans: the one entrance to all back ends, with autograd of any order."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.ops import cpp, reference, triton
from carten.ops.autograd import is_needed, is_transformed
from carten.ops.index import Index
from carten.ops.plan import Plan
from carten.ops.record import record, recording

Result = TypeVar("Result")

BACKENDS = ("auto", "cpp", "triton", "reference")
COMPILED = {"cpp": (cpp, "the CPU"), "triton": (triton, "a GPU")}
"""Back ends that generate code, and where it runs."""


def evaluate(
    plan: Plan, operands: Sequence[Tensor], indices: Mapping[str, Index], n_sites: int, backend: str = "auto"
) -> tuple[Tensor, ...]:
    """Run a plan on tensors; results are differentiable to any order with respect to every operand.

    What it runs is compiled already: ``torch.compile`` leaves it alone.

    Args:
        plan: the program.
        operands: one tensor per input of the plan, (rows, size, channels) or (rows, size), all of one dtype and device.
        indices: the index of every gathered or scattered array, by name.
        n_sites: number of sites (edges or atoms) the program runs at.
        backend: ``"reference"``, ``"cpp"`` on a CPU, ``"triton"`` on a GPU, or ``"auto"`` (the fastest that can run).

    Returns:
        One tensor per output of the plan.

    Raises:
        ValueError: an unknown back end, or tensors that do not fit the plan.
        ModelError: a named back end can't run: no C++ compiler, no Triton, or tensors that are elsewhere.
    """
    if torch.compiler.is_compiling():
        return uncompiled(evaluate)(plan, operands, indices, n_sites, backend)
    chosen = choose(operands, backend)
    if chosen == "reference" and not _recorded():
        return reference.evaluate(plan, operands, indices, n_sites)
    if torch.is_grad_enabled() and any(x.requires_grad for x in operands):
        results: tuple[Tensor, ...] = _Evaluate.apply(plan, indices, n_sites, backend, chosen, *operands)  # type: ignore[no-untyped-call]
        return results
    return _run(backend, chosen, plan, operands, indices, n_sites)


def uncompiled(function: Callable[..., Result]) -> Callable[..., Result]:
    """The function, left alone by ``torch.compile``: for use where ``torch.compiler.is_compiling()``.

    (As a decorator, ``torch.compiler.disable`` takes seconds at every start.)
    """
    eager: Callable[..., Result] = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
    return eager


def _run(
    backend: str, chosen: str, plan: Plan, operands: Sequence[Tensor], indices: Mapping[str, Index], n_sites: int
) -> tuple[Tensor, ...]:
    """Run a plan by the chosen back end; ``"auto"`` turns to the next one where a compiler fails."""
    module = COMPILED[chosen][0] if chosen in COMPILED else reference
    try:
        return record(lambda: module.evaluate(plan, operands, indices, n_sites), plan, operands, indices, n_sites)
    except ModelError:
        if (other := choose(operands, backend)) == chosen:  # it does not know that it can't run
            raise
    return _run(backend, other, plan, operands, indices, n_sites)


def _recorded() -> bool:
    """Whether the derivatives of the reference back end are to be seen as plans too."""
    return recording() and not is_transformed()


def choose(operands: Sequence[Tensor], backend: str) -> str:
    """The back end that will run."""
    if backend == "reference":
        return backend
    if backend not in BACKENDS:
        raise ValueError(f"unknown back end {backend!r}; there are {', '.join(BACKENDS)}")
    transformed = is_transformed()
    if backend == "auto":
        return "reference" if transformed else _fastest(operands)
    module, place = COMPILED[backend]
    module.check()
    if transformed or not module.supports(operands):
        actual = "a torch.func transform" if transformed else f"{operands[0].dtype} on {operands[0].device}"
        raise ModelError(
            f"backend={backend!r} runs on float32 or float64 on {place}, found {actual}; use backend='auto'"
        )
    return backend


def _fastest(operands: Sequence[Tensor]) -> str:
    name = "triton" if operands[0].is_cuda else "cpp"
    return name if COMPILED[name][0].supports(operands) and _found(name) else "reference"


def _found(backend: str) -> bool:
    """Whether a back end can compile here; where it can't, that is said once."""
    try:
        COMPILED[backend][0].check()
    except ModelError as error:
        _warn_once(f"plans run in plain torch, which is slow: {error}")
        return False
    return True


@cache
def _warn_once(message: str) -> None:
    warnings.warn(message, stacklevel=2)


class _Evaluate(torch.autograd.Function):
    """A plan whose gradient is a plan."""

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, indices: Mapping[str, Index], n_sites: int, backend: str, chosen: str, *operands: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.plan, ctx.indices, ctx.n_sites, ctx.backend = plan, indices, n_sites, backend
        ctx.save_for_backward(*operands)
        ctx.set_materialize_grads(False)
        return _run(backend, chosen, plan, operands, indices, n_sites)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        plan: Plan = ctx.plan
        nodes = (node for node, _ in ctx.next_functions)
        needed = [need and is_needed(node) for need, node in zip(ctx.needs_input_grad[5:], nodes, strict=True)]
        seeds = [(a.name, g) for a, g in zip(plan.outputs, gradients, strict=True) if g is not None]
        wrt = [a.name for a, need in zip(plan.inputs, needed, strict=True) if need]
        if not seeds or not wrt:
            return (None,) * len(ctx.needs_input_grad)
        derivative = plan.vjp(tuple(wrt), tuple(name for name, _ in seeds))
        operands = (*ctx.saved_tensors, *(g for _, g in seeds))
        backend = "reference" if is_transformed(g for _, g in seeds) else ctx.backend
        derivatives = iter(evaluate(derivative, operands, ctx.indices, ctx.n_sites, backend))
        return (None, None, None, None, None, *(next(derivatives) if need else None for need in needed))
