"""A record of the plans that run: which, on how many rows, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from torch import Tensor

from carten.ops.cost import cost
from carten.ops.index import Index
from carten.ops.plan import Plan


@dataclass(frozen=True)
class RecordedPlan:
    """One evaluation of a plan.

    Args:
        plan: the plan.
        rows: of the arrays of every index; the number of sites under ``""``.
        channels: size of the channel axis.
        itemsize: bytes of a number.
        seconds: from start to end; on a GPU, until it was handed over.
    """

    plan: Plan
    rows: Mapping[str, int]
    channels: int
    itemsize: int
    seconds: float

    @property
    def multiply_adds(self) -> int:
        """At all sites."""
        return self.rows[""] * cost(self.plan).multiply_adds(self.channels)

    @property
    def bytes(self) -> int:
        """Of all inputs and outputs, each once."""
        return cost(self.plan).bytes(self.channels, self.itemsize, self.rows)


_runs: ContextVar[list[RecordedPlan] | None] = ContextVar("runs", default=None)


@contextmanager
def recorded() -> Iterator[list[RecordedPlan]]:
    """Collect what runs inside, in this thread (which is where autograd runs backward passes on a CPU)."""
    runs: list[RecordedPlan] = []
    token = _runs.set(runs)
    try:
        yield runs
    finally:
        _runs.reset(token)


def recording() -> bool:
    """Whether somebody collects."""
    return _runs.get() is not None


def record(
    run: Callable[[], tuple[Tensor, ...]],
    plan: Plan,
    operands: Sequence[Tensor],
    indices: Mapping[str, Index],
    n_sites: int,
) -> tuple[Tensor, ...]:
    """Evaluate a plan, and note it where somebody collects."""
    runs = _runs.get()
    if runs is None:
        return run()
    started = time.perf_counter()
    results = run()
    seconds = time.perf_counter() - started
    channels = plan.n_channels(operands)
    rows = {"": n_sites, **{name: indices[name].rows for name in plan.indices}}
    runs.append(RecordedPlan(plan, rows, channels, operands[0].itemsize, seconds))
    return results
