"""The Triton back end: runs plans on a GPU, without atomic operations, so that results are the same every time."""

from __future__ import annotations

import hashlib
import importlib
import linecache
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.ops.cost import cost
from carten.ops.index import Index
from carten.ops.plan import Operand, Plan, Step
from carten.ops.triton_codegen import kernel
from carten.ops.triton_passes import Pass, passes, pieces

TRITON_TYPES = {torch.float32: "float32", torch.float64: "float64"}

MAX_ACCUMULATORS = 96
"""Sums over sites that one kernel keeps in registers."""

WORK = 16384
"""Terms of a plan that one program of the grid computes one after the other, when its sites can be split."""

BUSY = 128
"""Programs that keep a GPU busy."""


def supports(operands: Sequence[Tensor]) -> bool:
    """Whether these tensors have one type that this back end computes with, on a GPU or, interpreted, on the CPU."""
    first = operands[0]
    fit = first.dtype in TRITON_TYPES and all(x.device == first.device and x.dtype == first.dtype for x in operands)
    return fit and (first.is_cuda or (first.device.type == "cpu" and _interpreted()))


def check() -> None:
    """Find Triton.

    Raises:
        ModelError: it is not installed.
    """
    if find_spec("triton") is None:
        raise ModelError("backend='triton' needs Triton, which is not installed: pip install 'carten[gpu]'")


@cache
def _interpreted() -> bool:
    """Whether Triton runs kernels in its interpreter, for tests; decided when it is imported."""
    triton: Any = importlib.import_module("triton")
    return not isinstance(triton.jit(_shape), triton.JITFunction)


def evaluate(plan: Plan, operands: Sequence[Tensor], indices: Mapping[str, Index], n_sites: int) -> tuple[Tensor, ...]:
    """Run a plan; see :func:`carten.ops.library.evaluate`.

    Raises:
        ValueError: an operand or an index does not fit the plan.
        ModelError: Triton is not installed.
    """
    check()
    channels = plan.n_channels(operands)
    return _evaluator(plan, operands[0].dtype, channels)(operands, indices, n_sites)


@cache
def _evaluator(plan: Plan, dtype: torch.dtype, channels: int) -> _Evaluator:
    return _Evaluator(plan, dtype, channels)


class _Evaluator:
    """A plan for one data type and number of channels: one kernel for each pass."""

    def __init__(self, plan: Plan, dtype: torch.dtype, channels: int) -> None:
        self.plan, self.dtype, self.channels = plan, dtype, channels
        self.kernels = [_kernel(part, dtype, channels) for part in passes(plan, MAX_ACCUMULATORS)]

    def __call__(self, operands: Sequence[Tensor], indices: Mapping[str, Index], n_sites: int) -> tuple[Tensor, ...]:
        values = dict(zip((array.name for array in self.plan.inputs), operands, strict=True))
        for array in self.plan.inputs:
            values[array.name] = self._fit(array, values[array.name], indices, n_sites)
        for name in self.plan.indices:
            indices[name].address(n_sites)
        device = operands[0].device
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            for run in self.kernels:
                values.update(run(values, indices, n_sites))
        return tuple(self._joined(array, values) for array in self.plan.outputs)

    def _fit(self, array: Operand, x: Tensor, indices: Mapping[str, Index], n_sites: int) -> Tensor:
        """The operand, contiguous."""
        rows = indices[array.index].rows if array.index else n_sites
        shape = (rows, *_shape(array, self.channels))
        if x.shape != shape or x.dtype != self.dtype:
            raise ValueError(
                f"operand {array.name!r} has to be {self.dtype} of shape {shape}, found {x.dtype} of {tuple(x.shape)}"
            )
        return x.contiguous()

    def _joined(self, array: Operand, values: Mapping[str, Tensor]) -> Tensor:
        """An output from its pieces."""
        parts = [values[piece.name] for piece in pieces(array, MAX_ACCUMULATORS)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


@dataclass(frozen=True)
class _Segments:
    """Rows of a scatter index: row r has the sites ``order[bounds[r]:bounds[r + 1]]``; no order is ascending order."""

    order: Tensor | None
    bounds: Tensor
    rows: int
    sites: int

    @classmethod
    def of(cls, index: Index, n_sites: int) -> _Segments:
        """The segments of an index."""
        return cls(index.order, index.pointers, index.rows, n_sites)

    def split(self, length: int) -> tuple[_Segments, _Segments]:
        """Rows of at most ``length`` sites, in excess at the end; and the segments that they make up."""
        bounds = self.bounds
        first = torch.cat([bounds[:1], torch.cumsum((bounds.diff() + (length - 1)) // length, 0)])
        count = self.sites // length + self.rows
        number = torch.arange(count + 1, device=bounds.device)
        row = torch.searchsorted(first, number, right=True) - 1
        start = bounds[row] + (number - first[row]) * length
        start = torch.where(row < self.rows, start, bounds[-1])
        return _Segments(self.order, start, count, self.sites), _Segments(None, first, self.rows, count)


@cache
def _kernel(part: Pass, dtype: torch.dtype, channels: int) -> _Kernel:
    return _Kernel(part, dtype, channels)


class _Kernel:
    """A generated kernel and how to start it."""

    def __init__(self, part: Pass, dtype: torch.dtype, channels: int) -> None:
        self.plan, self.index, self.dtype = part.plan, part.index, dtype
        generated = kernel(part, TRITON_TYPES[dtype], channels, warp_size())
        self.tile = generated.tile
        self.blocks = -(-channels // max(1, generated.tile.lanes))
        self.outputs = [
            (array.name, _shape(array, channels), written == array.size)
            for array, written in zip(self.plan.outputs, generated.written, strict=True)
        ]
        self.gathered = [array.index for array in self.plan.inputs if array.index]
        work = cost(self.plan)
        self.work = max(1, work.scalar + work.vector)
        self.function = load_module(generated.source)

    def __call__(self, values: Mapping[str, Tensor], indices: Mapping[str, Index], n_sites: int) -> dict[str, Tensor]:
        inputs = [values[array.name] for array in self.plan.inputs]
        inputs_device = next(iter(values.values())).device
        rows = [indices[name].values for name in self.gathered]
        if self.index:
            return self._segments(inputs, rows, _Segments.of(indices[self.index], n_sites), inputs_device)
        results = self._allocate(n_sites, inputs_device)
        self._start(-(-n_sites // self.tile.sites), [*inputs, *results.values(), *rows, n_sites, self.blocks])
        return results

    def _allocate(self, rows: int, device: torch.device) -> dict[str, Tensor]:
        return {
            name: (torch.empty if complete else torch.zeros)((rows, *shape), dtype=self.dtype, device=device)
            for name, shape, complete in self.outputs
        }

    def _start(self, size: int, arguments: Sequence[object], **constants: bool) -> None:
        if size:
            grid = (size, self.tile.blocks)
            self.function[grid](*arguments, **constants, num_warps=self.tile.warps, num_stages=1)

    def _segments(
        self, inputs: Sequence[Tensor], rows: Sequence[Tensor], segments: _Segments, device: torch.device
    ) -> dict[str, Tensor]:
        """Sums over the sites of each row; long rows are split, and their parts added up."""
        length = self._length(segments)
        parts, rows_of_parts = segments.split(length) if length else (segments, None)
        results = self._allocate(parts.rows, device)
        order = parts.bounds if parts.order is None else parts.order
        arguments = [*inputs, *results.values(), *rows, order, parts.bounds]
        self._start(parts.rows, arguments, ORDERED=parts.order is not None)
        return results if rows_of_parts is None else {name: _sum(x, rows_of_parts) for name, x in results.items()}

    def _length(self, segments: _Segments) -> int:
        """Sites that one program goes through, or 0 if each should go through all of its row."""
        sites, rows = segments.sites, segments.rows
        alike = sites * self.work <= (WORK * rows if rows >= BUSY else WORK * 8)
        if alike or sites <= 2 * rows:
            return 0
        return min(256, max(4, WORK // self.work))


def _sum(x: Tensor, segments: _Segments) -> Tensor:
    """Rows of a tensor summed over segments."""
    flat = x.reshape(len(x), 1, -1)
    run = _kernel(Pass(SUM, "row"), x.dtype, flat.shape[2])
    (result,) = run._segments([flat], [], segments, x.device).values()
    return result.reshape(segments.rows, *x.shape[1:])


SUM = Plan((Operand("x", 1),), (), (Operand("y", 1, index="row"),), (Step("y", "x", "", ((0, 0, 0, 1.0),)),))
"""Rows added up."""


def _shape(array: Operand, channels: int) -> tuple[int, ...]:
    return (array.size, channels) if array.channels else (array.size,)


@cache
def warp_size() -> int:
    """Threads of a GPU that work in step: 32, or 64 on AMD's."""
    return 64 if torch.version.hip is not None else 32


def load_module(source: str) -> Any:
    """The function ``run`` of a generated module.

    Triton reads the text of a function where Python keeps the lines of sources: nothing is imported from a file.
    """
    name = f"triton_{hashlib.sha256(source.encode()).hexdigest()[:32]}"
    file = f"<{name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    module = ModuleType(name)
    exec(compile(source, file, "exec"), module.__dict__)  # noqa: S102  generated by triton_codegen
    return module.run
