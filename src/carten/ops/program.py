"""Plans lowered to single components: what has to be computed, from what, and in which stage of a site."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from carten.ops.plan import Operand, Plan

Product = tuple[int, int, float]
"""Two values and a coefficient; the second value is ``NONE`` in a linear term."""

NONE = -1


class Operation(NamedTuple):
    """``target += coefficient * left * right``, or linear where ``right`` is ``NONE``."""

    target: int
    left: int
    right: int
    coefficient: float


@dataclass
class Program:
    """A plan as a graph of *values*: numbered components of its arrays, and sums that share a coefficient.

    Stage k of a site first computes scalars (values without channels), then vectors (values with channels) and sums
    over channels, which scalars of later stages may use.

    Args:
        plan: the plan.
        owner: array and component of every value; the array of a shared sum has no name.
        terms: what adds up to every value that is computed; a product has the coefficient 1 or -1, a linear term any.
        sums: the terms whose sum over channels contributes to a scalar.
        stage: the stage in which a value is available.
        sum_stage: the stage at whose end the sum over channels of a scalar is available.
        order: all values that are needed, operands first.
    """

    plan: Plan
    owner: list[tuple[Operand, int]] = field(default_factory=list)
    terms: dict[int, list[Product]] = field(default_factory=dict)
    sums: dict[int, list[Product]] = field(default_factory=dict)
    stage: dict[int, int] = field(default_factory=dict)
    sum_stage: dict[int, int] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)

    def wide(self, value: int) -> bool:
        """Whether a value has channels."""
        return value != NONE and self.owner[value][0].channels

    @property
    def n_stages(self) -> int:
        """Number of stages."""
        return 1 + max((self.stage[v] for v in self.order), default=0)


def operands(terms: Iterable[Product]) -> list[int]:
    """Values that occur in terms."""
    return [value for left, right, _ in terms for value in (left, right) if value != NONE]


def depth_first(program: Program, members: Sequence[int]) -> list[int]:
    """Values, each as late as its first use by another of them allows."""
    inside = set(members)
    used = {v for m in members for v in operands(program.terms[m])}
    done: dict[int, None] = {}
    for root in (m for m in members if m not in used):
        stack = [root]
        while stack:
            pending = [v for v in operands(program.terms[stack[-1]]) if v in inside and v not in done]
            if pending:
                stack += reversed(pending)
            else:
                done.setdefault(stack.pop())
    return list(done)


def lifetimes(operations: Sequence[Operation]) -> dict[int, tuple[int, int]]:
    """The first operation that adds to a target, and the last that it takes part in."""
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for n, operation in enumerate(operations):
        for value in (operation.target, operation.left, operation.right):
            last[value] = n
        first.setdefault(operation.target, n)
    return {value: (n, last[value]) for value, n in first.items()}


def lower(plan: Plan) -> Program:
    """Number the components, merge terms, drop what no output needs, share coefficients, and assign stages."""
    program = Program(plan)
    first: dict[str, int] = {}
    for array in plan.arrays.values():
        first[array.name] = len(program.owner)
        program.owner += [(array, component) for component in range(array.size)]
    inputs = {first[array.name] + n for array in plan.inputs for n in range(array.size)}
    products = _needed(program, _nonzero(_collect(program, first), inputs))
    shared: dict[tuple[Product, ...], int] = {}
    for value, terms in products.items():
        wide = program.wide(value)
        for summed in (False, True):
            selected = [t for t in terms if (program.wide(t[0]) and not wide) == summed]
            if selected and summed:
                program.sums[value] = selected
            elif selected:
                program.terms[value] = _share(program, selected, shared)
        program.terms.setdefault(value, [])
        program.order.append(value)
    _assign_stages(program)
    return program


def _collect(program: Program, first: dict[str, int]) -> dict[int, dict[tuple[int, int], float]]:
    """All products of every value, in the order in which values are complete."""
    products: dict[int, dict[tuple[int, int], float]] = {}
    for step in program.plan.steps:
        target, left = first[step.target], first[step.left]
        for o in sorted({o for o, *_ in step.terms}):
            products[target + o] = products.pop(target + o, defaultdict(float))
        for o, a, b, coefficient in step.terms:
            right = first[step.right] + b if step.right else NONE
            products[target + o][_ordered(program, left + a, right)] += coefficient
    return products


def _ordered(program: Program, left: int, right: int) -> tuple[int, int]:
    """The factors of a product in the one order that is used: vectors first, then by number."""
    if right == NONE:
        return left, right
    return min((left, right), (right, left), key=lambda pair: (not program.wide(pair[0]), pair))


def _nonzero(products: dict[int, dict[tuple[int, int], float]], inputs: set[int]) -> dict[int, list[Product]]:
    """Terms that don't vanish; values without any are left out."""
    nonzero = {NONE, *inputs}
    result: dict[int, list[Product]] = {}
    for value, pairs in products.items():
        terms = [(a, b, c) for (a, b), c in pairs.items() if c != 0.0 and a in nonzero and b in nonzero]
        if terms:
            result[value] = terms
            nonzero.add(value)
    return result


def _needed(program: Program, products: dict[int, list[Product]]) -> dict[int, list[Product]]:
    """Values that contribute to an output."""
    outputs = {array.name for array in program.plan.outputs}
    needed = {value for value in products if program.owner[value][0].name in outputs}
    for value in reversed(products):
        if value in needed:
            needed.update(operands(products[value]))
    return {value: terms for value, terms in products.items() if value in needed}


def _share(program: Program, terms: list[Product], shared: dict[tuple[Product, ...], int]) -> list[Product]:
    """Replace products with equal coefficients by their sum, times the coefficient."""
    result = [t for t in terms if t[1] == NONE or abs(t[2]) == 1.0]
    groups: dict[tuple[float, bool], list[Product]] = defaultdict(list)
    for term in terms:
        if term[1] != NONE and abs(term[2]) != 1.0:
            groups[abs(term[2]), program.wide(term[0])].append(term)
    for (size, wide), group in groups.items():
        sign = 1.0 if group[0][2] > 0 else -1.0
        key = tuple((a, b, sign if c > 0 else -sign) for a, b, c in group)
        if key not in shared:
            shared[key] = len(program.owner)
            program.owner.append((Operand("", 0, channels=wide), shared[key]))
            program.terms[shared[key]] = list(key)
            program.order.append(shared[key])
        result.append((shared[key], NONE, sign * size))
    return result


def _assign_stages(program: Program) -> None:
    stage = program.stage
    for value in program.order:
        available = [stage.get(v, 0) for v in operands(program.terms[value])]
        if value in program.sums:
            program.sum_stage[value] = max(stage.get(v, 0) for v in operands(program.sums[value]))
            available.append(program.sum_stage[value] + 1)
        stage[value] = max(available, default=0)
