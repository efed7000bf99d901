"""The order in which the vectors of a stage are computed: close to what the registers of a processor can hold."""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Sequence
from itertools import accumulate

from carten.ops.program import Operation, Program, depth_first, lifetimes

REGISTERS = 24
MAX_OPERATIONS = 300
MAX_SUMS = 16
OPEN, REOPEN, LOAD, FINISH = 2.3, 2.5, 1.0, 0.3
"""Costs of an operation: starting a sum, returning to one, loading an operand; and the gain of freeing a register."""


def vector_operations(program: Program, stage: int) -> list[Operation]:
    """All vector operations of a stage, in the order in which to run them."""
    members = [v for v in program.order if program.wide(v) and program.stage[v] == stage]
    base = [Operation(v, *term) for v in depth_first(program, members) for term in program.terms[v]]
    return _Scheduler(program, base).run()


def chunks(operations: Sequence[Operation]) -> list[list[Operation]]:
    """Pieces of bounded length, cut where few values are in use."""
    change: Counter[int] = Counter()
    for first, last in lifetimes(operations).values():
        change[first + 1] += 1
        change[last + 1] -= 1
    crossing = list(accumulate(change[n] for n in range(len(operations) + 1)))
    result: list[list[Operation]] = []
    start = 0
    while len(operations) - start > MAX_OPERATIONS:
        window = range(start + MAX_OPERATIONS * 2 // 3, start + MAX_OPERATIONS + 1)
        end = min(window, key=lambda n: (crossing[n], -n))
        result.append(list(operations[start:end]))
        start = end
    return [*result, list(operations[start:])] if start < len(operations) else result


def sum_groups(program: Program, stage: int) -> list[list[int]]:
    """Scalars whose channel sums one loop accumulates in registers."""
    sums = [v for v in program.order if program.sum_stage.get(v) == stage]
    return [sums[n : n + MAX_SUMS] for n in range(0, len(sums), MAX_SUMS)]


class _Scheduler:
    """Greedy list scheduling: always the operation that needs the fewest registers to be filled or given up."""

    def __init__(self, program: Program, base: Sequence[Operation]) -> None:
        self.base = base
        self.sources = [[v for v in {o.left, o.right} if program.wide(v)] for o in base]
        self.users: dict[int, list[int]] = defaultdict(list)
        self.writers: dict[int, list[int]] = defaultdict(list)
        for n, operation in enumerate(base):
            self.writers[operation.target].append(n)
            for value in self.sources[n]:
                self.users[value].append(n)
        self.open = {value: len(writers) for value, writers in self.writers.items()}
        self.uses = {value: len(users) for value, users in self.users.items()}
        self.waiting = [sum(value in self.open for value in sources) for sources in self.sources]
        self.resident: OrderedDict[int, None] = OrderedDict()
        self.started: set[int] = set()
        self.done = [False] * len(base)
        self.heap: list[tuple[float, int]] = []

    def run(self) -> list[Operation]:
        for n, waiting in enumerate(self.waiting):
            if not waiting:
                self._push(n)
        order: list[Operation] = []
        while self.heap:
            cost, n = heapq.heappop(self.heap)
            if not self.done[n] and cost == self._cost(n):
                self._take(n)
                order.append(self.base[n])
        return order

    def _cost(self, n: int) -> float:
        target = self.base[n].target
        cost = 0.0
        for value in self.sources[n]:
            if value not in self.resident:
                cost += LOAD
            elif self.uses[value] == 1:
                cost -= FINISH
        if target not in self.resident:
            cost += REOPEN if target in self.started else OPEN
        if self.open[target] == 1:
            cost -= FINISH
        return cost

    def _push(self, n: int) -> None:
        if not self.done[n] and not self.waiting[n]:
            heapq.heappush(self.heap, (self._cost(n), n))

    def _take(self, n: int) -> None:
        self.done[n] = True
        target = self.base[n].target
        touched = {target}
        for value in self.sources[n]:
            self.uses[value] -= 1
            touched.add(value)
            self._enter(value, touched)
        self.started.add(target)
        self.open[target] -= 1
        self._enter(target, touched)
        if self.open[target] == 0:
            for user in self.users.get(target, ()):
                self.waiting[user] -= 1
        for value in touched:
            if self.uses.get(value, 0) == 0 and self.open.get(value, 0) == 0:
                self.resident.pop(value, None)
        for value in touched:
            for other in (*self.users.get(value, ()), *self.writers.get(value, ())):
                self._push(other)

    def _enter(self, value: int, touched: set[int]) -> None:
        self.resident[value] = None
        self.resident.move_to_end(value)
        if len(self.resident) > REGISTERS:
            touched.add(self.resident.popitem(last=False)[0])
