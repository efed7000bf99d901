"""The order of the vector operations of a site on a GPU, where all intermediate values live in registers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from carten.ops.program import NONE, Program, operands

EARLY = (1 << 30, 16, 8, 4)
"""Numbers of terms from which a sum is begun as soon as a term of it can be formed, rather than when it is needed."""


class Operation(NamedTuple):
    """``target += coefficient * left * right``, or linear where ``right`` is ``NONE``."""

    target: int
    left: int
    right: int
    coefficient: float


class Order(NamedTuple):
    """All vector operations, and how many vectors that no input holds are alive at once."""

    operations: list[Operation]
    live: int


def vector_order(program: Program) -> Order:
    """The best of a few orders: values one by one, sums of many terms and outputs whenever a term can be formed."""
    outputs = {array.name for array in program.plan.outputs}
    vectors = [v for v in program.order if program.wide(v)]
    final = {v for v in vectors if program.owner[v][0].name in outputs}
    inner = [v for v in vectors if v not in final]
    found: list[Order] = []
    for roots in (inner, _depth_first(program, vectors)):
        for early in EARLY:
            sums = final | {v for v in inner if len(program.terms[v]) >= early}
            operations = _Arrangement(program, sums).run([*roots, *(v for v in vectors if v in final)])
            found.append(Order(operations, _live(operations, final)))
    return min(found, key=lambda order: order.live)


def _depth_first(program: Program, vectors: Sequence[int]) -> list[int]:
    """Values that outputs need, each as late as its first use allows."""
    inside = set(vectors)
    used = {v for m in vectors for v in operands(program.terms[m])}
    done: dict[int, None] = {}
    for root in (m for m in vectors if m not in used):
        stack = [root]
        while stack:
            pending = [v for v in operands(program.terms[stack[-1]]) if v in inside and v not in done]
            if pending:
                stack += reversed(pending)
            else:
                done.setdefault(stack.pop())
    roots = {m for m in vectors if m not in used}
    return [v for v in done if v not in roots]


def _live(operations: Sequence[Operation], final: Iterable[int]) -> int:
    """The largest number of values that have been begun and are still needed; outputs always count."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for n, operation in enumerate(operations):
        for value in (operation.target, operation.left, operation.right):
            last[value] = n
        first.setdefault(operation.target, n)
    outputs = set(final)
    change: Counter[int] = Counter()
    for value, n in first.items():
        if value not in outputs:
            change[n] += 1
            change[last[value] + 1] -= 1
    live = most = 0
    for n in range(len(operations)):
        live += change[n]
        most = max(most, live)
    return most + len(outputs)


class _Arrangement:
    """Computes values in a given order, and terms of some sums as soon as their factors are there."""

    def __init__(self, program: Program, sums: set[int]) -> None:
        self.program = program
        self.sums = sums
        self.terms: dict[int, list[Operation]] = {}
        self.users: dict[int, list[Operation]] = defaultdict(list)
        self.missing: dict[Operation, int] = {}
        self.open: dict[int, int] = {}
        self.done: set[int] = set()
        self.operations: list[Operation] = []

    def run(self, roots: Iterable[int]) -> list[Operation]:
        vectors = [v for v in self.program.order if self.program.wide(v)]
        for value in vectors:
            self.terms[value] = [Operation(value, *term) for term in self.program.terms[value]]
            for operation in self.terms[value] if value in self.sums else ():
                self._register(operation)
        for root in roots:
            self._complete(root)
        return self.operations

    def _register(self, operation: Operation) -> None:
        factors = self._factors(operation)
        self.missing[operation] = len(factors)
        for factor in factors:
            self.users[factor].append(operation)

    def _factors(self, operation: Operation) -> set[int]:
        """Vectors that have to be computed first."""
        pair = {operation.left, operation.right} - {NONE}
        return {v for v in pair if self.program.wide(v) and v in self.program.terms}

    def _complete(self, root: int) -> None:
        stack = [root]
        while stack:
            value = stack[-1]
            factors = {v for o in self.terms[value] for v in self._factors(o)} if value not in self.done else set()
            pending = sorted(factors - self.done)
            if pending:
                stack += reversed(pending)
                continue
            stack.pop()
            if value not in self.done:
                self._finish(value)

    def _finish(self, value: int) -> None:
        """Add the terms of a value that have not been added yet, then what can be added to sums now."""
        rest = [o for o in self.terms[value] if value not in self.sums or not self._factors(o)]
        self.operations += rest
        self.done.add(value)
        for operation in self.users[value]:
            self.missing[operation] -= 1
            if not self.missing[operation]:
                self.operations.append(operation)
