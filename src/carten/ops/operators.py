"""Operators of circuits: plans, linear maps, sums and products of arrays, pointwise functions; all on named values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from carten.ops.plan import Plan

FUNCTIONS = ("one", "silu", "sigmoid", "inverse", "inverse_root")
"""Pointwise functions: 1, x / (1 + exp(-x)), 1 / (1 + exp(-x)), 1 / x and x^(-1/2), and all their derivatives."""


@dataclass(frozen=True)
class Value:
    """An array, ``(rows, size, channels)``, or ``(rows, size)`` without channels.

    Args:
        name: unique in a circuit.
        rows: symbol of the number of rows; a number for weights.
        size: number of components.
        channels: length of the channel axis; 0 where there is none.
    """

    name: str
    rows: str | int
    size: int
    channels: int = 0

    @property
    def width(self) -> int:
        """Numbers in a row."""
        return self.size * (self.channels or 1)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Axes of a row."""
        return (self.size, self.channels) if self.channels else (self.size,)

    def __str__(self) -> str:
        return f"{self.name}[{self.rows}, {', '.join(map(str, self.row_shape))}]"


@dataclass(frozen=True)
class CircuitIndex:
    """An index by name: for each of ``sites``, one of ``rows``."""

    name: str
    sites: str
    rows: str | int

    def __str__(self) -> str:
        return f"{self.name}: {self.sites} -> {self.rows}"


@dataclass(frozen=True)
class Run:
    """A plan at sites.

    Args:
        plan: the plan.
        inputs: values, one for each input of the plan.
        outputs: values, one for each output of the plan.
        indices: pairs of an index of the plan and the index of the circuit it stands for.
        sites: symbol of the number of sites.
    """

    plan: Plan
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    indices: tuple[tuple[str, str], ...]
    sites: str

    @property
    def reads(self) -> tuple[str, ...]:
        return self.inputs

    @property
    def writes(self) -> tuple[str, ...]:
        return self.outputs

    def __str__(self) -> str:
        sites = f" at {self.sites}" + "".join(f", {plan} = {index}" for plan, index in self.indices)
        return f"{', '.join(self.outputs)} = plan {self.plan.digest[:8]}({', '.join(self.inputs)}){sites}"


class _OneOutput:
    """An operator that writes a single value."""

    output: str

    @property
    def writes(self) -> tuple[str, ...]:
        return (self.output,)


@dataclass(frozen=True)
class Mix(_OneOutput):
    """``output = scale * input @ weight``, with every row taken as it lies in memory, (row width / n_in, n_in).

    Args:
        input: the value.
        weight: a matrix (n_in, n_out), or matrices (kinds, n_in, n_out).
        output: the result.
        scale: of the matrix.
        index: kind of every row, for matrices.
        transposed: whether to multiply by the transpose.
    """

    input: str
    weight: str
    output: str
    scale: float = 1.0
    index: str = ""
    transposed: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.input, self.weight)

    def __str__(self) -> str:
        kind = f"[{self.index}]" if self.index else ""
        return f"{self.output} = {self.scale:.6g} {self.input} @ {self.weight}{kind}{'^T' if self.transposed else ''}"


@dataclass(frozen=True)
class Combine(_OneOutput):
    """``output[r, a, c] = sum_b matrix[a, b] input[r, b, c]``: a dense linear map of components."""

    input: str
    matrix: str
    output: str
    transposed: bool = False

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.input, self.matrix)

    def __str__(self) -> str:
        return f"{self.output} = {self.matrix}{'^T' if self.transposed else ''} @ {self.input}"


@dataclass(frozen=True)
class Add(_OneOutput):
    """``output = sum of inputs``, all of one shape."""

    inputs: tuple[str, ...]
    output: str

    @property
    def reads(self) -> tuple[str, ...]:
        return self.inputs

    def __str__(self) -> str:
        return f"{self.output} = {' + '.join(self.inputs)}"


@dataclass(frozen=True)
class Multiply(_OneOutput):
    """``output = left * right``, number by number."""

    left: str
    right: str
    output: str

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.left, self.right)

    def __str__(self) -> str:
        return f"{self.output} = {self.left} * {self.right}"


@dataclass(frozen=True)
class Apply(_OneOutput):
    """``output = function(input)``, number by number, or the derivative of this order; see :data:`FUNCTIONS`."""

    function: str
    input: str
    output: str
    order: int = 0

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.input,)

    def __str__(self) -> str:
        primes = "'" * self.order
        return f"{self.output} = {self.function}{primes}({self.input})"


Operator = Run | Mix | Combine | Add | Multiply | Apply


def index_names(operator: Operator) -> tuple[str, ...]:
    """Indices of the circuit that an operator uses."""
    match operator:
        case Run():
            return tuple(index for _, index in operator.indices)
        case Mix() if operator.index:
            return (operator.index,)
    return ()


def renamed(operator: Operator, name: Callable[[str], str]) -> Operator:
    """The operator on values of other names."""
    match operator:
        case Run(plan, inputs, outputs, indices, sites):
            return Run(plan, tuple(map(name, inputs)), tuple(map(name, outputs)), indices, sites)
        case Mix(source, weight, target, scale, index, transposed):
            return Mix(name(source), name(weight), name(target), scale, index, transposed)
        case Combine(source, matrix, target, transposed):
            return Combine(name(source), name(matrix), name(target), transposed)
        case Add(inputs, target):
            return Add(tuple(map(name, inputs)), name(target))
        case Multiply(left, right, target):
            return Multiply(name(left), name(right), name(target))
        case Apply(function, source, target, order):
            return Apply(function, name(source), name(target), order)
