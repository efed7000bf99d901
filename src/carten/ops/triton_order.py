"""The order of the vector operations of a site on a GPU, where all intermediate values live in registers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

from carten.ops.program import NONE, Operation, Program, depth_first, lifetimes, operands

EARLY = (1 << 30, 16, 8, 4)
"""Numbers of terms from which a sum is begun as soon as a term of it can be formed, rather than when it is needed."""


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
    used = {v for m in vectors for v in operands(program.terms[m])}
    orders: list[Order] = []
    for roots in (inner, [v for v in depth_first(program, vectors) if v in used]):
        for early in EARLY:
            sums = final | {v for v in inner if len(program.terms[v]) >= early}
            operations = _Arrangement(program, sums).run([*roots, *(v for v in vectors if v in final)])
            orders.append(Order(operations, _live(operations, final)))
    return min(orders, key=lambda order: order.live)


def _live(operations: Sequence[Operation], final: Iterable[int]) -> int:
    """The largest number of values that have been begun and are still needed; outputs always count."""
    outputs = set(final)
    change: Counter[int] = Counter()
    for value, (first, last) in lifetimes(operations).items():
        if value not in outputs:
            change[first] += 1
            change[last + 1] -= 1
    return max(accumulate(change[n] for n in range(len(operations))), default=0) + len(outputs)


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
