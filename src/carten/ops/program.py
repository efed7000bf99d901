"""Plans lowered to single components: what has to be computed, from what, and in which stage of a site."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from carten.ops.plan import Array, Plan

Product = tuple[int, int, float]
"""Two values and a coefficient; the second value is ``NONE`` in a linear term."""

NONE = -1


@dataclass
class Program:
    """A plan as a graph of *values*, numbered components of its arrays.

    Stage k of a site first computes scalars (values without channels), then vectors (values with channels) and sums over
    channels, which scalars of later stages may use.

    Args:
        plan: the plan.
        owner: array and component of every value.
        terms: the products that add up to every value that is computed; sums over channels are kept apart in ``sums``.
        sums: the products whose sum over channels contributes to a scalar.
        stage: the stage in which a value is available.
        sum_stage: the stage at whose end the sum over channels of a scalar is available.
        order: all values that are needed, operands first.
    """

    plan: Plan
    owner: list[tuple[Array, int]] = field(default_factory=list)
    terms: dict[int, list[Product]] = field(default_factory=dict)
    sums: dict[int, list[Product]] = field(default_factory=dict)
    stage: list[int] = field(default_factory=list)
    sum_stage: dict[int, int] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)

    def wide(self, value: int) -> bool:
        """Whether a value has channels."""
        return value != NONE and self.owner[value][0].channels

    @property
    def n_stages(self) -> int:
        """Number of stages."""
        return 1 + max((self.stage[v] for v in self.order), default=0)


def lower(plan: Plan) -> Program:
    """Number the components, merge terms, drop what no output needs, and assign stages."""
    program = Program(plan)
    first: dict[str, int] = {}
    for array in plan.arrays.values():
        first[array.name] = len(program.owner)
        program.owner += [(array, component) for component in range(array.size)]
    products, written = _collect(program, first)
    _assign(program, products, sorted(written, key=lambda value: (written[value], value)))
    return program


def _collect(program: Program, first: dict[str, int]) -> tuple[dict[int, dict[tuple[int, int], float]], dict[int, int]]:
    """All products of every value, and the last step that writes it; products with a vanishing factor are dropped."""
    plan = program.plan
    known = {first[a.name] + i for a in plan.inputs for i in range(a.size)}
    products: dict[int, dict[tuple[int, int], float]] = defaultdict(lambda: defaultdict(float))
    written: dict[int, int] = {}
    for position, step in enumerate(plan.steps):
        target, left = first[step.target], first[step.left]
        right = first[step.right] if step.right else NONE
        for o, a, b, coefficient in step.terms:
            pair = (left + a, right + b if step.right else NONE)
            if pair[0] in known and (pair[1] == NONE or pair[1] in known):
                products[target + o][_ordered(program, *pair)] += coefficient
                written[target + o] = position
        known.update(target + o for o, *_ in step.terms if target + o in products)
    return products, written


def _ordered(program: Program, left: int, right: int) -> tuple[int, int]:
    """The factors of a product in the one order that is used: vectors first, then by number."""
    if right == NONE:
        return left, right
    return min((left, right), (right, left), key=lambda pair: (not program.wide(pair[0]), pair))


def _assign(program: Program, products: dict[int, dict[tuple[int, int], float]], candidates: list[int]) -> None:
    outputs = {array.name for array in program.plan.outputs}
    needed = {value for value in candidates if program.owner[value][0].name in outputs}
    for value in reversed(candidates):
        if value in needed:
            needed.update(v for pair in products[value] for v in pair if v != NONE)
    program.stage = [0] * len(program.owner)
    for value in (value for value in candidates if value in needed):
        terms = [(*pair, c) for pair, c in products[value].items() if c != 0.0]
        summed = [t for t in terms if program.wide(t[0])] if not program.wide(value) else []
        program.terms[value] = [t for t in terms if t not in summed] if summed else terms
        stages = [program.stage[v] for t in program.terms[value] for v in t[:2] if v != NONE]
        if summed:
            program.sums[value] = summed
            program.sum_stage[value] = max(program.stage[v] for t in summed for v in t[:2] if v != NONE)
            stages.append(program.sum_stage[value] + 1)
        program.stage[value] = max(stages, default=0)
        program.order.append(value)
