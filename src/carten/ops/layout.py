"""Where the values of a program live while a site is computed, and which function computes them."""

from __future__ import annotations

from dataclasses import dataclass

from carten.ops.program import Operation, Program, operands
from carten.ops.schedule import chunks, sum_groups, vector_operations

MAX_AGAIN = 2
"""Terms of a vector that is computed again."""

Stage = tuple[list[list[Operation]], list[list[int]]]
"""Pieces of the loop over channel blocks, and groups of sums over channels."""


@dataclass(frozen=True)
class Layout:
    """Places of values.

    Args:
        program: the program.
        stages: what every stage runs, after its scalars.
        names: C++ name of the row of every input and output.
        outputs: names of the outputs.
        slots: position of every scalar; sums of one group are neighbours.
        rows: position of the vectors that outlive the loop over channel blocks which computes them.
        blocks: for each stage, position of the vectors that pass from one piece of the loop to another.
        spans: for each stage, the pieces in which a vector begins and is complete.
    """

    program: Program
    stages: list[Stage]
    names: dict[str, str]
    outputs: frozenset[str]
    slots: dict[int, int]
    rows: dict[int, int]
    blocks: list[dict[int, int]]
    spans: list[dict[int, tuple[int, int]]]

    @classmethod
    def of(cls, program: Program) -> Layout:
        """Schedule the stages of a program and give every value a place."""
        plan = program.plan
        numbers = range(program.n_stages)
        stages = [(chunks(vector_operations(program, n)), sum_groups(program, n)) for n in numbers]
        names = {a.name: f"i{n}" for n, a in enumerate(plan.inputs)} | {
            a.name: f"o{n}" for n, a in enumerate(plan.outputs)
        }
        outputs = frozenset(array.name for array in plan.outputs)
        summed = [v for _, groups in stages for group in groups for v in group]
        narrow = dict.fromkeys([*summed, *(v for v in program.order if not program.wide(v))])
        rows = _outliving(program, stages)
        spans = [_spans(pieces) for pieces, _ in stages]
        blocks = [_blocks(pieces, span) for (pieces, _), span in zip(stages, spans, strict=True)]
        return cls(program, stages, names, outputs, {v: n for n, v in enumerate(narrow)}, rows, blocks, spans)

    @property
    def n_blocks(self) -> int:
        """Vectors that pass between pieces at most."""
        return max((1 + max(places.values(), default=-1) for places in self.blocks), default=0)

    def begins(self, value: int, stage: int) -> int:
        """The piece that computes the first term of a vector."""
        return self.spans[stage][value][0]

    def completes(self, value: int, stage: int) -> int:
        """The piece that computes the last term of a vector."""
        return self.spans[stage][value][1]

    def scalar(self, value: int) -> str:
        """A scalar as an expression."""
        array, component = self.program.owner[value]
        return f"k[{self.slots[value]}]" if value in self.slots else f"{self.names[array.name]}[{component}]"

    def vector(self, value: int, stage: int, piece: int) -> str:
        """Address of the current block of a vector, in a piece of the loop of a stage."""
        span = self.spans[stage].get(value)
        if value in self.rows and (span is None or piece > span[1]):
            return f"w + {self.rows[value]} * P + c"
        if span is not None:
            return f"b + {self.blocks[stage][value]} * W"
        array, component = self.program.owner[value]
        return f"{self.names[array.name]} + {component} * C + c"


def is_cheap(program: Program, value: int) -> bool:
    """Whether a vector is computed again, from inputs, rather than stored for a sum over channels."""
    terms = program.terms.get(value, [])
    inputs = not any(v in program.stage for v in operands(terms))
    return inputs and len(terms) <= MAX_AGAIN and all(program.wide(left) for left, _, _ in terms)


def _outliving(program: Program, stages: list[Stage]) -> dict[int, int]:
    computed = {o.target: n for n, (pieces, _) in enumerate(stages) for piece in pieces for o in piece}
    rows: dict[int, int] = {}
    for n, (pieces, groups) in enumerate(stages):
        for piece in pieces:
            for value in operands((o.left, o.right, 1.0) for o in piece):
                if computed.get(value, n) < n:
                    rows.setdefault(value, len(rows))
        for value in operands(term for group in groups for s in group for term in program.sums[s]):
            if value in computed and not is_cheap(program, value):
                rows.setdefault(value, len(rows))
    return rows


def _spans(pieces: list[list[Operation]]) -> dict[int, tuple[int, int]]:
    spans: dict[int, tuple[int, int]] = {}
    for n, piece in enumerate(pieces):
        for operation in piece:
            spans[operation.target] = (spans.get(operation.target, (n, n))[0], n)
    return spans


def _blocks(pieces: list[list[Operation]], spans: dict[int, tuple[int, int]]) -> dict[int, int]:
    """Places of vectors that are used in a later piece than the one they begin in; places are used again."""
    last: dict[int, int] = {}
    for n, piece in enumerate(pieces):
        for operation in piece:
            last.update({value: n for value in (operation.target, operation.left, operation.right) if value in spans})
    crossing = [value for value in spans if last[value] > spans[value][0]]
    places: dict[int, int] = {}
    busy: list[int] = []
    for value in sorted(crossing, key=lambda v: spans[v][0]):
        free = next((n for n, until in enumerate(busy) if until < spans[value][0]), len(busy))
        busy[free : free + 1] = [last[value]]
        places[value] = free
    return places
