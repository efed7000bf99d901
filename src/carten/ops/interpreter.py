"""The interpreter: runs circuits on tensors, on any device and in any dtype, differentiable to any order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from operator import attrgetter

import numpy as np
import torch
from numpy.polynomial import Polynomial
from torch import Tensor, nn

from carten.ops import linear
from carten.ops.circuit import Circuit
from carten.ops.index import Index
from carten.ops.library import evaluate
from carten.ops.operators import Add, Apply, Combine, Mix, Multiply, Operator, Run, Value


def run(
    circuit: Circuit,
    tensors: Mapping[str, Tensor],
    indices: Mapping[str, Index],
    rows: Mapping[str, int],
    backend: str = "auto",
) -> dict[str, Tensor]:
    """Run a circuit.

    Args:
        circuit: the circuit.
        tensors: its inputs and weights by name.
        indices: by name.
        rows: numbers of rows by symbol.
        backend: how plans are evaluated, see :func:`carten.ops.library.evaluate`.

    Returns:
        The outputs by name.

    Raises:
        ValueError: a tensor, an index or a number of rows is missing or has another shape than the circuit says.
    """
    values = {value.name: _checked(value, tensors, rows) for value in circuit.inputs}
    values |= {value.name: _weight(value, tensors) for value in circuit.weights}
    if missing := [index.name for index in circuit.indices if index.name not in indices]:
        raise ValueError(f"the circuit needs the index {missing[0]!r}")
    for operator, last in zip(circuit.operators, circuit.last_reads, strict=True):
        results = _execute(operator, circuit, values, indices, rows, backend)
        values.update(zip(operator.writes, results, strict=True))
        for name in last:
            del values[name]
    return {name: values[name] for name in circuit.outputs}


def weights(module: nn.Module, circuit: Circuit) -> dict[str, Tensor]:
    """The weights of a circuit: parameters and buffers of the module it describes, as they are now."""
    return {value.name: _fetch(module, value.name) for value in circuit.weights}


def _fetch(module: nn.Module, name: str) -> Tensor:
    get, row = _getter(name)
    tensor: Tensor = get(module)
    return tensor if row is None else tensor[row]


@cache
def _getter(name: str) -> tuple[Callable[[nn.Module], Tensor], int | None]:
    """How to find a weight in a module by its dotted name, and which row of it is meant if it ends in ``[row]``."""
    path, _, row = name.partition("[")
    return attrgetter(path), int(row.removesuffix("]")) if row else None


def _checked(value: Value, tensors: Mapping[str, Tensor], rows: Mapping[str, int]) -> Tensor:
    if value.name not in tensors:
        raise ValueError(f"the circuit needs the input {value}")
    tensor = tensors[value.name]
    expected = (rows[value.rows] if isinstance(value.rows, str) else value.rows, *value.row_shape)
    if tensor.shape != expected:
        raise ValueError(f"input {value}: expected the shape {expected}, found {tuple(tensor.shape)}")
    return tensor


def _weight(value: Value, tensors: Mapping[str, Tensor]) -> Tensor:
    if value.name not in tensors:
        raise ValueError(f"the circuit needs the weight {value}")
    tensor = tensors[value.name]
    shape = (int(value.rows), *value.row_shape)
    if tensor.shape == shape:  # a view would be one more step of every derivative
        return tensor
    if tensor.numel() != prod(shape):
        raise ValueError(f"weight {value}: expected {shape}, found {tuple(tensor.shape)}")
    return tensor.reshape(shape)


def _execute(
    operator: Operator,
    circuit: Circuit,
    values: Mapping[str, Tensor],
    indices: Mapping[str, Index],
    rows: Mapping[str, int],
    backend: str,
) -> tuple[Tensor, ...]:
    match operator:
        case Run(plan, inputs, _, renamed, sites):
            operands = [values[name] for name in inputs]
            chosen = {name: indices[index] for name, index in renamed}
            return evaluate(plan, operands, chosen, rows[sites], backend)
        case Mix(source, weight, target, scale, index, transposed):
            x, w = values[source], values[weight].mT if transposed else values[weight]
            mixed = linear.mix_by_kind(x, w, scale, indices[index]) if index else linear.mix(x, w, scale)
            row_shape = circuit.by_name[target].row_shape
            return (mixed if mixed.shape[1:] == row_shape else mixed.view(len(x), *row_shape),)
        case Combine(source, matrix, _, transposed):
            m = values[matrix].mT if transposed else values[matrix]
            x = values[source]
            return (m @ x if x.dim() > 2 else x @ m.mT,)
        case Add(inputs, _):
            total = values[inputs[0]]
            for name in inputs[1:]:
                total = total + values[name]
            return (total if len(inputs) > 1 else total.clone(),)
        case Multiply(left, right, _):
            return (values[left] * values[right],)
        case Apply(function, source, _, order):
            return (apply(function, values[source], order),)


def apply(function: str, x: Tensor, order: int = 0) -> Tensor:
    """A pointwise function of :data:`carten.ops.operators.FUNCTIONS`, or its derivative of this order."""
    match function:
        case "one":
            return torch.ones_like(x) if order == 0 else torch.zeros_like(x)
        case "silu" if order == 1:  # as below, in fewer operations: tables of training take it
            s = torch.sigmoid(x)
            return s * (1 + x * (1 - s))
        case "silu":
            return nn.functional.silu(x) if order == 0 else x * _sigmoid(x, order) + order * _sigmoid(x, order - 1)
        case "sigmoid":
            return _sigmoid(x, order)
        case "inverse":
            return _power(x, -1.0, order)
        case "inverse_root":
            return _power(x, -0.5, order)
    raise ValueError(f"there is no function {function!r}")


def _power(x: Tensor, exponent: float, order: int) -> Tensor:
    factor = prod(exponent - k for k in range(order))
    return factor * x ** (exponent - order)


def _sigmoid(x: Tensor, order: int) -> Tensor:
    """The derivative s^(n) of the sigmoid s is a polynomial of s, since s' = s (1 - s)."""
    s = torch.sigmoid(x)
    if order == 0:
        return s
    *lower, highest = _sigmoid_polynomial(order)
    total = torch.full_like(s, highest)
    for coefficient in reversed(lower):
        total = total * s + coefficient
    return total


@cache
def _sigmoid_polynomial(order: int) -> tuple[float, ...]:
    polynomial = Polynomial([0.0, 1.0])
    for _ in range(order):
        polynomial = polynomial.deriv() * Polynomial([0.0, 1.0, -1.0])
    return tuple(map(float, np.asarray(polynomial.coef)))
