"""Splitting a plan into passes that a GPU runs without atomic operations, each one kernel.

A pass is a plan of one of two kinds. In a *site* pass every program of the grid has its own sites; it may sum over
channels. In a *segment* pass every program has its own row of the scatter index and goes through the sites of that row;
it can't sum over channels, because it holds sums over sites of some channels only. Sums over channels that a segment
pass needs are therefore outputs of the site pass, which runs first, and inputs of the segment pass.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

from carten.ops.plan import Monomial, Operand, Plan, Step


@dataclass(frozen=True)
class Pass:
    """A plan whose outputs all have the same index.

    Args:
        plan: the plan.
        index: the scatter index of all its outputs, or ``""`` for a site pass.
    """

    plan: Plan
    index: str

    @property
    def wide(self) -> bool:
        """Whether anything in the plan has channels."""
        return any(array.channels for array in self.plan.arrays.values())


def passes(plan: Plan, limit: int) -> list[Pass]:
    """The passes of a plan, in the order in which to run them.

    Arrays have the names they have in the plan, but for the :func:`pieces` of outputs; outputs of a pass that the plan
    does not have are inputs of later ones.

    Args:
        plan: any plan.
        limit: sums over sites that one segment pass may have; what has more is split, at the price of computing
            shared intermediates again.
    """
    plan = _split_outputs(_sum_before_scatter(plan, _channel_sums(plan)), limit)
    sums = _channel_sums(plan)
    groups = _groups(plan, limit)
    shared = _needed_sums(plan, [name for group in groups for name in group], sums)
    result = _site_passes(_with_outputs(plan, shared))
    for group in groups:
        segment = _with_inputs(plan.select(group), shared)
        result.append(Pass(segment, segment.outputs[0].index))
    return result


def pieces(array: Operand, limit: int) -> list[Operand]:
    """Arrays that together hold an output; itself unless it is scattered and has more components than the limit."""
    if not array.index or array.size <= limit:
        return [array]
    count = -(-array.size // limit)
    edges = [array.size * n // count for n in range(count + 1)]
    return [
        Operand(f"{array.name}[{start}:{stop}]", stop - start, array.channels, array.index)
        for start, stop in pairwise(edges)
    ]


def _channel_sums(plan: Plan) -> set[str]:
    """Arrays without channels that sums over channels contribute to."""
    arrays = plan.arrays
    return {
        step.target
        for step in plan.steps
        if not arrays[step.target].channels and any(arrays[n].channels for n in (step.left, step.right) if n)
    }


def _sum_before_scatter(plan: Plan, sums: Collection[str]) -> Plan:
    """Give scattered sums over channels a local of their own, which a further step scatters."""
    moved = [array for array in plan.outputs if array.index and array.name in sums]
    names = {array.name: f"{array.name} at sites" for array in moved}
    local = [Operand(names[array.name], array.size, channels=False) for array in moved]
    steps = [Step(names.get(step.target, step.target), step.left, step.right, step.terms) for step in plan.steps]
    steps += [Step(array.name, names[array.name], "", _copy(array.size)) for array in moved]
    return Plan(plan.inputs, (*plan.locals, *local), plan.outputs, tuple(steps))


def _copy(size: int) -> tuple[Monomial, ...]:
    return tuple((n, n, 0, 1.0) for n in range(size))


def _split_outputs(plan: Plan, limit: int) -> Plan:
    """The same plan with all :func:`pieces` of its outputs."""
    outputs: list[Operand] = []
    steps = list(plan.steps)
    for array in plan.outputs:
        parts = pieces(array, limit)
        outputs += parts
        first = 0
        for part in parts if len(parts) > 1 else ():
            for step in (step for step in plan.steps if step.target == array.name):
                inside = (t for t in step.terms if first <= t[0] < first + part.size)
                terms = tuple((o - first, a, b, c) for o, a, b, c in inside)
                steps += [Step(part.name, step.left, step.right, terms)] if terms else []
            first += part.size
        steps = [step for step in steps if len(parts) == 1 or step.target != array.name]
    return Plan(plan.inputs, plan.locals, tuple(outputs), tuple(steps))


def _groups(plan: Plan, limit: int) -> list[list[str]]:
    """Outputs that one segment pass computes: of one index, all with or all without channels, not too many."""
    groups: dict[tuple[str, bool], list[list[Operand]]] = {}
    for array in (array for array in plan.outputs if array.index):
        batches = groups.setdefault((array.index, array.channels), [[]])
        if sum(member.size for member in batches[-1]) + array.size > limit:
            batches.append([])
        batches[-1].append(array)
    return [[array.name for array in group] for batches in groups.values() for group in batches if group]


def _needed_sums(plan: Plan, outputs: Sequence[str], sums: Collection[str]) -> list[str]:
    """Sums over channels that these outputs depend on, not counting what is needed for other sums only."""
    needed = set(outputs)
    for step in reversed(plan.steps):
        if step.target in needed and step.target not in sums:
            needed.update(name for name in (step.left, step.right) if name)
    return [array.name for array in plan.locals if array.name in needed and array.name in sums]


def _with_outputs(plan: Plan, sums: Sequence[str]) -> Plan:
    """The outputs of sites, and these locals as further outputs."""
    inner = {name: f"{name} inside" for name in sums}
    local = tuple(Operand(inner.get(array.name, array.name), array.size, array.channels) for array in plan.locals)
    kept = [array for array in plan.outputs if not array.index]
    further = [array for array in plan.locals if array.name in inner]
    scattered = {array.name for array in plan.outputs if array.index}
    steps = [
        Step(inner.get(s.target, s.target), inner.get(s.left, s.left), inner.get(s.right, s.right), s.terms)
        for s in plan.steps
        if s.target not in scattered
    ]
    steps += [Step(array.name, inner[array.name], "", _copy(array.size)) for array in further]
    return Plan(plan.inputs, local, (*kept, *further), tuple(steps))


def _with_inputs(plan: Plan, sums: Sequence[str]) -> Plan:
    """The same plan where sums that were computed before are inputs, and inputs that nothing needs are left out."""
    computed = {array.name: array for array in plan.locals if array.name in sums}
    steps = tuple(step for step in plan.steps if step.target not in computed)
    local = tuple(array for array in plan.locals if array.name not in computed)
    return _used(Plan((*plan.inputs, *computed.values()), local, plan.outputs, steps), plan.outputs)


def _used(plan: Plan, outputs: Sequence[Operand]) -> Plan:
    """Only these outputs, and only the inputs that they need."""
    selected = plan.select([array.name for array in outputs])
    names = {name for step in selected.steps for name in (step.left, step.right)}
    inputs = tuple(array for array in selected.inputs if array.name in names)
    return Plan(inputs, selected.locals, selected.outputs, selected.steps)


def _site_passes(plan: Plan) -> list[Pass]:
    """Outputs that depend on no array with channels are computed apart from the others, with sites side by side."""
    wide = {array.name for array in plan.arrays.values() if array.channels}
    for step in plan.steps:
        if wide & {step.target, step.left, step.right}:
            wide.add(step.target)
    parts = [[array for array in plan.outputs if (array.name in wide) == kind] for kind in (True, False)]
    return [Pass(_used(plan, part), "") for part in parts if part]
