"""Evaluating plans: the one entrance to all back ends, with autograd of any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from carten.ops import reference
from carten.ops.index import Index
from carten.ops.plan import Plan

BACKENDS = ("auto", "reference")


def evaluate(
    plan: Plan, operands: Sequence[Tensor], indices: Mapping[str, Index], n_sites: int, backend: str = "auto"
) -> tuple[Tensor, ...]:
    """Run a plan on tensors.

    Args:
        plan: the program.
        operands: one tensor per input of the plan, (rows, size, channels) or (rows, size), all of one dtype and device.
        indices: the index of every gathered or scattered array, by name.
        n_sites: number of sites (edges or atoms) the program runs at.
        backend: ``"reference"`` or ``"auto"`` (the fastest that can run here).

    Returns:
        One tensor per output of the plan.
    """
    return reference.evaluate(plan, operands, indices, n_sites)
