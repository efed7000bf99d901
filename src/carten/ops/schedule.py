"""The order in which the vectors of a stage are computed, cut into loops over channels of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from carten.ops.program import NONE, Program

MAX_TERMS = 300
MAX_SUMS = 16


@dataclass(frozen=True)
class Loop:
    """One loop over channel blocks: vectors to compute, in order, and scalars whose channel sums it accumulates."""

    vectors: tuple[int, ...]
    sums: tuple[int, ...]


def loops(program: Program, stage: int) -> list[Loop]:
    """Loops of one stage; a vector that another loop needs has to be stored."""
    vectors = [v for v in _depth_first(program, stage) if program.wide(v)]
    sums = [v for v in program.order if program.sum_stage.get(v) == stage]
    return [*(Loop(chunk, ()) for chunk in _chunks(program, vectors)), *_sum_loops(sums)]


def _depth_first(program: Program, stage: int) -> list[int]:
    """Vectors of a stage, each as late as its first use allows."""
    members = [v for v in program.order if program.wide(v) and program.stage[v] == stage]
    inside = set(members)
    used = {v for m in members for left, right, _ in program.terms[m] for v in (left, right)}
    done: dict[int, None] = {}
    for root in [*(m for m in members if m not in used), *members]:
        stack = [root]
        while stack:
            value = stack[-1]
            pending = [v for t in program.terms[value] for v in t[:2] if v != NONE and v in inside and v not in done]
            if pending:
                stack += reversed(pending)
            else:
                done.setdefault(stack.pop())
    return list(done)


def _chunks(program: Program, vectors: list[int]) -> Iterator[tuple[int, ...]]:
    chunk: list[int] = []
    size = 0
    for value in vectors:
        terms = len(program.terms[value])
        if chunk and size + terms > MAX_TERMS:
            yield tuple(chunk)
            chunk, size = [], 0
        chunk.append(value)
        size += terms
    if chunk:
        yield tuple(chunk)


def _sum_loops(sums: list[int]) -> Iterator[Loop]:
    for start in range(0, len(sums), MAX_SUMS):
        yield Loop((), tuple(sums[start : start + MAX_SUMS]))
