"""The reference back end: plain torch on any device and dtype, differentiable by autograd; what a plan means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch
from torch import Tensor

from carten.ops.index import Index
from carten.ops.plan import Operand, Plan, Step


def evaluate(plan: Plan, operands: Sequence[Tensor], indices: Mapping[str, Index], n_sites: int) -> tuple[Tensor, ...]:
    """Run a plan; see :func:`carten.ops.library.evaluate`."""
    channels = plan.n_channels(operands)
    plan.require_shapes(operands, {"": n_sites, **{name: indices[name].rows for name in plan.indices}}, channels)
    values: dict[str, Tensor] = {}
    for array, operand in zip(plan.inputs, operands, strict=True):
        values[array.name] = operand.index_select(0, indices[array.index].values) if array.index else operand
    sample = operands[0]
    for array in (*plan.locals, *plan.outputs):
        shape = (n_sites, array.size, channels) if array.channels else (n_sites, array.size)
        values[array.name] = sample.new_zeros(shape)
    for step in plan.steps:
        values[step.target] = _add(plan, step, values)
    return tuple(_scatter(array, values[array.name], indices) for array in plan.outputs)


def _add(plan: Plan, step: Step, values: Mapping[str, Tensor]) -> Tensor:
    """The target after one step."""
    target = values[step.target]
    o, a, b, coefficients = _tables(step, target.device)
    channels = [plan.arrays[name].channels for name in (step.left, step.right) if name]
    product = values[step.left].index_select(1, a)
    if any(channels) and not channels[0]:
        product = product.unsqueeze(2)
    if step.right:
        right = values[step.right].index_select(1, b)
        product = product * (right.unsqueeze(2) if any(channels) and not channels[1] else right)
    coefficients = coefficients.to(target.dtype)
    wide = plan.arrays[step.target].channels
    if any(channels) and not wide:
        product = product.sum(2)
    elif wide and not any(channels):
        product = product.unsqueeze(2).expand(-1, -1, target.shape[2])
    product = product * (coefficients[:, None] if wide else coefficients)
    return target.index_add(1, o, product)


@lru_cache(maxsize=4096)
def _tables(step: Step, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    columns = list(zip(*step.terms, strict=True)) or [(), (), (), ()]
    with torch.inference_mode(False):  # the tensors are kept, also for training
        o, a, b = (torch.tensor(column, dtype=torch.int64, device=device) for column in columns[:3])
        return o, a, b, torch.tensor(columns[3], dtype=torch.float64, device=device)


def _scatter(array: Operand, value: Tensor, indices: Mapping[str, Index]) -> Tensor:
    if not array.index:
        return value
    index = indices[array.index]
    return value.new_zeros((index.rows, *value.shape[1:])).index_add(0, index.values, value)
