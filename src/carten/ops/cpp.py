"""The C++ back end: runs the compiled source of a plan on tensors in place."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.ops import codegen, compiler, threads
from carten.ops.driver import width
from carten.ops.fingerprint import fingerprint
from carten.ops.index import Index
from carten.ops.plan import Operand, Plan, Step

C_TYPES = {torch.float32: "float", torch.float64: "double"}


def supports(operands: Sequence[Tensor]) -> bool:
    """Whether these tensors are on the CPU and of one type that this back end computes with."""
    first = operands[0].dtype
    return first in C_TYPES and all(x.is_cpu and x.dtype == first for x in operands)


def evaluate(plan: Plan, operands: Sequence[Tensor], indices: Mapping[str, Index], n_sites: int) -> tuple[Tensor, ...]:
    """Run a plan; see :func:`carten.ops.library.evaluate`.

    Raises:
        ValueError: an operand or an index does not fit the plan.
        ModelError: there is no C++ compiler, or it failed.
    """
    channels = plan.n_channels(operands)
    return _kernel(plan, operands[0].dtype, channels)(operands, indices, n_sites)


@cache
def _kernel(plan: Plan, dtype: torch.dtype, channels: int) -> _Kernel:
    return _Kernel(plan, dtype, channels)


class _Kernel:
    """A plan compiled for one data type and number of channels.

    One pass over the sites gives all outputs. Those that are scattered by another index than the one whose order the
    pass follows are *strewn*: each thread adds to its own copy. Where these copies would be as large as the sites'
    own numbers, such an output is *deferred*: written site by site, then summed by a second pass in the right order.
    """

    def __init__(self, plan: Plan, dtype: torch.dtype, channels: int) -> None:
        self.plan = plan
        self.dtype = dtype
        self.channels = channels
        self.inputs = [(a.name, a.index, _shape(a, channels)) for a in plan.inputs]
        self.outputs = [(a.index, _shape(a, channels)) for a in plan.outputs]
        self.indices = plan.indices
        self.followed = followed(plan)
        self.strewn = list(dict.fromkeys(a.index for a in plan.outputs if a.index not in ("", self.followed)))
        self.passes: dict[tuple[str, ...], _Pass] = {}

    def main(self, deferred: tuple[str, ...]) -> _Pass:
        """The pass over the sites, with outputs scattered by these indices left at the sites."""
        if deferred not in self.passes:
            outputs = tuple(replace(a, index="") if a.index in deferred else a for a in self.plan.outputs)
            plan = replace(self.plan, outputs=outputs)
            self.passes[deferred] = _Pass(plan, self.followed, self.dtype, self.channels)
        return self.passes[deferred]

    def __call__(self, operands: Sequence[Tensor], indices: Mapping[str, Index], n_sites: int) -> tuple[Tensor, ...]:
        kept = self.checked(operands, indices, n_sites)
        n_threads = threads.thread_count()
        rows = {name: indices[name].rows for name in self.indices}
        rows.update({"": n_sites})
        deferred = tuple(name for name in self.strewn if 2 * (n_threads - 1) * rows[name] >= max(n_sites, 1))
        results = [
            torch.empty((n_sites if index in deferred else rows[index], *shape), dtype=self.dtype)
            for index, shape in self.outputs
        ]
        self.main(deferred)(kept, results, indices, n_sites)
        for n, (index, shape) in enumerate(self.outputs) if deferred else ():
            if index in deferred:
                total = torch.empty((rows[index], *shape), dtype=self.dtype)
                sums = _sums(self.plan.outputs[n].size, self.plan.outputs[n].channels, self.dtype, self.channels)
                sums([results[n]], [total], {"row": indices[index]}, n_sites)
                results[n] = total
        return tuple(results)

    def checked(self, operands: Sequence[Tensor], indices: Mapping[str, Index], n_sites: int) -> list[Tensor]:
        """Operands of the right shapes, each row contiguous."""
        kept = list(operands)
        for n, (name, index, shape) in enumerate(self.inputs):
            x = kept[n]
            rows = indices[index].rows if index else n_sites
            if x.shape != (rows, *shape) or x.dtype != self.dtype:
                expected, actual = f"{self.dtype} of shape {(rows, *shape)}", f"{x.dtype} of {tuple(x.shape)}"
                raise ValueError(f"operand {name!r} has to be {expected}, found {actual}")
            if not (x.is_contiguous() or _rows_are_contiguous(x, shape)):
                kept[n] = x.contiguous()
        return kept


@cache
def _sums(size: int, channels: bool, dtype: torch.dtype, n_channels: int) -> _Pass:
    """Sums over the sites of each row."""
    inputs, outputs = (Operand("x", size, channels),), (Operand("sum", size, channels, "row"),)
    step = Step("sum", "x", "", tuple((n, n, 0, 1.0) for n in range(size)))
    return _Pass(Plan(inputs, (), outputs, (step,)), "row", dtype, n_channels)


def _rows_are_contiguous(x: Tensor, shape: tuple[int, ...]) -> bool:
    return x.stride()[1:] == ((shape[1], 1) if len(shape) > 1 else (1,))


class _Pass:
    """One compiled function."""

    def __init__(self, plan: Plan, followed: str, dtype: torch.dtype, channels: int) -> None:
        self.inputs = [a.index for a in plan.inputs]
        self.outputs = [a.index if a.index != followed else "" for a in plan.outputs]
        self.followed = followed
        key = "\n".join((plan.digest, followed, C_TYPES[dtype], str(channels), fingerprint(codegen.__file__)))
        library = compiler.load_library(key, lambda: codegen.source(plan, C_TYPES[dtype], channels, followed))
        self.function: Callable[..., int] = library.run
        self.function.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        self.function.restype = ctypes.c_int64
        n_indexed = sum(map(bool, (*self.inputs, *self.outputs)))
        self.pack: Any = ctypes.c_int64 * (2 * len(self.inputs) + len(self.outputs) + 2 * n_indexed + 5)

    def __call__(
        self, inputs: Sequence[Tensor], outputs: Sequence[Tensor], indices: Mapping[str, Index], n_sites: int
    ) -> None:
        arguments: list[int] = []
        for name, x in zip(self.inputs, inputs, strict=True):
            arguments += (x.data_ptr(), x.stride(0))
            if name:
                arguments += (indices[name].unchecked(n_sites), indices[name].rows)
        for name, x in zip(self.outputs, outputs, strict=True):
            arguments.append(x.data_ptr())
            if name:
                arguments += (indices[name].unchecked(n_sites), indices[name].rows)
        key = order = rows = 0
        if self.followed:
            index = indices[self.followed]
            key, rows = index.unchecked(n_sites), index.rows
            order = 0 if index.order is None else index.order.data_ptr()
        arguments += (key, order, n_sites, rows, threads.thread_count())
        if self.function(self.pack(*arguments), threads.team()):
            for index in indices.values():
                index.check()
            raise ValueError("the values of an index were changed: they point outside its rows, or are not sorted")


def followed(plan: Plan) -> str:
    """The index in whose order to visit sites: it scatters the widest rows, but not if wider ones are gathered.

    Sites are taken to be stored in an order that is good for what is gathered (edges by their centre).
    """
    moved: Counter[str] = Counter()
    for array in (*plan.inputs, *plan.outputs, *plan.outputs):
        moved[array.index] += width(array, channels=16)
    scattered = list(dict.fromkeys(a.index for a in plan.outputs if a.index))
    gathered = [a.index for a in plan.inputs if a.index and a.index not in scattered]
    widest = max(scattered, key=lambda name: moved[name], default="")
    return "" if any(moved[name] > moved[widest] for name in gathered) else widest


def _shape(array: Operand, channels: int) -> tuple[int, ...]:
    return (array.size, channels) if array.channels else (array.size,)


def check() -> None:
    """Try the compiler.

    Raises:
        ModelError: there is none, or it does not work.
    """
    compiler.check()


__all__ = ["ModelError", "check", "evaluate", "followed", "supports"]
