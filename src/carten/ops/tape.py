"""A tape: the operators that ran, and the gradient of their results; from it, a sequence is compiled.

For a small molecule autograd, and Python, take longer than the arithmetic. While a tape runs, the operators of this
package note what they do and how gradients go back through them; whatever else torch does then counts as a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor

from carten.ops.index import Index
from carten.ops.plan import Plan

Gradients = Sequence[Tensor | None]
Reverse = Callable[[Gradients], Gradients]
"""From the gradients of the outputs of an operator to those of its inputs."""


@dataclass(frozen=True, eq=False)
class Ran:
    """A plan ran."""

    plan: Plan
    inputs: Sequence[Tensor]
    outputs: Sequence[Tensor]
    indices: Mapping[str, Index]
    n_sites: int


@dataclass(frozen=True, eq=False)
class Multiplied:
    """``output = input weight`` of all components; ``kinds`` picks one of several weights for every row."""

    input: Tensor
    weight: Tensor
    output: Tensor
    size: int
    kinds: Index | None = None


@dataclass(frozen=True, eq=False)
class Added:
    """``output = left + right``."""

    left: Tensor
    right: Tensor
    output: Tensor


Operator = Ran | Multiplied | Added


@dataclass(frozen=True, eq=False)
class _Record:
    outputs: Sequence[Tensor]
    inputs: Sequence[Tensor]
    reverse: Reverse


class Tape:
    """What was computed from variables. Tensors are told apart by their memory, all of which is kept.

    Args:
        variables: what results are differentiated with respect to; first derivatives only.

    Attributes:
        operators: what ran, in order.
    """

    def __init__(self, variables: Sequence[Tensor]) -> None:
        self.variables = variables
        self.operators: list[Operator] = []
        self._records: list[_Record] = []
        self._varying = {x.data_ptr() for x in variables}

    def varies(self, x: Tensor) -> bool:
        """Whether a tensor depends on the variables."""
        return x.data_ptr() in self._varying

    def record(self, outputs: Sequence[Tensor], inputs: Sequence[Tensor], reverse: Reverse) -> None:
        """Note how gradients go back; ``reverse`` gives one for each of these inputs."""
        if any(map(self.varies, inputs)):
            self._records.append(_Record(outputs, inputs, reverse))
            self._varying.update(x.data_ptr() for x in outputs)

    def add(self, left: Tensor, right: Tensor) -> Tensor:
        """``left + right``."""
        total = left + right
        self.operators.append(Added(left, right, total))
        return total

    def gradients(self, results: Sequence[Tensor], given: Gradients) -> Gradients:
        """Gradients with respect to the variables from those of results; ``None`` where these are no function of it."""
        found: dict[int, Tensor] = {}

        def add(xs: Sequence[Tensor], gradients: Gradients) -> None:
            for x, gradient in zip(xs, gradients, strict=True):
                if gradient is not None and self.varies(x):
                    there = found.get(x.data_ptr())
                    found[x.data_ptr()] = gradient if there is None else self.add(there, gradient)

        add(results, given)
        for record in reversed(self._records):
            gradients = [found.pop(x.data_ptr(), None) for x in record.outputs]
            if any(gradient is not None for gradient in gradients):
                add(record.inputs, record.reverse(gradients))
        return [found.get(x.data_ptr()) for x in self.variables]


_running: ContextVar[Tape | None] = ContextVar("running", default=None)


def running() -> Tape | None:
    """The tape that runs in this thread."""
    return _running.get()


@contextmanager
def taped(variables: Sequence[Tensor]) -> Iterator[Tape]:
    """Run a tape."""
    tape = Tape(variables)
    token = _running.set(tape)
    try:
        yield tape
    finally:
        _running.reset(token)
