"""The C++ back end: runs the compiled source of a plan on tensors in place."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.ops import compiler
from carten.ops.codegen import source
from carten.ops.index import Index
from carten.ops.plan import Array, Plan

SCALARS = {torch.float32: "float", torch.float64: "double"}
GENERATOR = ("program.py", "schedule.py", "layout.py", "codegen.py", "prelude.h")


def supports(operands: Sequence[Tensor]) -> bool:
    """Whether these tensors are on the CPU and of one type that this back end computes with."""
    first = operands[0].dtype
    return first in SCALARS and all(x.device.type == "cpu" and x.dtype == first for x in operands)


def evaluate(plan: Plan, operands: Sequence[Tensor], indices: Mapping[str, Index], n_sites: int) -> tuple[Tensor, ...]:
    """Run a plan; see :func:`carten.ops.library.evaluate`.

    Raises:
        ValueError: an operand or an index does not fit the plan.
        ModelError: there is no C++ compiler, or it failed.
    """
    channels = next((x.shape[2] for a, x in zip(plan.inputs, operands, strict=True) if a.channels), 1)
    return _kernel(plan, operands[0].dtype, channels)(operands, indices, n_sites)


@cache
def _kernel(plan: Plan, dtype: torch.dtype, channels: int) -> _Kernel:
    return _Kernel(plan, dtype, channels)


class _Kernel:
    """A plan compiled for one data type and number of channels; one pass over the sites for every scatter index."""

    def __init__(self, plan: Plan, dtype: torch.dtype, channels: int) -> None:
        self.dtype = dtype
        self.inputs = [(a.name, a.index, _shape(a, channels)) for a in plan.inputs]
        self.outputs = [(a.index, _shape(a, channels)) for a in plan.outputs]
        self.indices = plan.indices
        names = [a.name for a in plan.outputs]
        self.passes = [_Pass(part, dtype, channels, names) for part in split(plan)]

    def __call__(self, operands: Sequence[Tensor], indices: Mapping[str, Index], n_sites: int) -> tuple[Tensor, ...]:
        rows = {name: indices[name].rows for name in self.indices}
        rows[""] = n_sites
        kept = list(operands)
        for n, (name, index, shape) in enumerate(self.inputs):
            x = kept[n]
            if x.shape != (rows[index], *shape) or x.dtype != self.dtype:
                expected, found = f"{self.dtype} of shape {(rows[index], *shape)}", f"{x.dtype} of {tuple(x.shape)}"
                raise ValueError(f"operand {name!r} has to be {expected}, found {found}")
            if not x.is_contiguous():
                kept[n] = x.contiguous()
        results = [torch.empty((rows[index], *shape), dtype=self.dtype) for index, shape in self.outputs]
        addresses = {name: indices[name].address(n_sites) for name in self.indices}
        inputs = [x.data_ptr() for x in kept]
        for part in self.passes:
            part(inputs, [results[n].data_ptr() for n in part.positions], addresses, indices, n_sites)
        return tuple(results)


class _Pass:
    """One compiled function."""

    def __init__(self, plan: Plan, dtype: torch.dtype, channels: int, names: Sequence[str]) -> None:
        self.positions = [names.index(a.name) for a in plan.outputs]
        self.gathered = [a.index for a in plan.inputs if a.index]
        self.scattered = next((a.index for a in plan.outputs if a.index), "")
        key = "\n".join((plan.digest, SCALARS[dtype], str(channels), _generator()))
        library = compiler.load(key, lambda: source(plan, SCALARS[dtype], channels))
        self.function: Callable[..., None] = library.run
        self.function.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        self.function.restype = None
        self.pack: Any = ctypes.c_int64 * (len(plan.inputs) + len(plan.outputs) + len(self.gathered) + 5)

    def __call__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        addresses: Mapping[str, int],
        indices: Mapping[str, Index],
        n_sites: int,
    ) -> None:
        key = order = rows = 0
        if self.scattered:
            index = indices[self.scattered]
            key, rows = addresses[self.scattered], index.rows
            order = 0 if index.order is None else index.order.data_ptr()
        gathered = [addresses[name] for name in self.gathered]
        threads = torch.get_num_threads()
        self.function(self.pack(*inputs, *outputs, *gathered, key, order, n_sites, rows, threads), team())


def split(plan: Plan) -> list[Plan]:
    """Plans with at most one scatter index each; outputs without one ride along where they cost least."""
    names = list(dict.fromkeys(a.index for a in plan.outputs if a.index))
    if len(names) < 2:
        return [plan]
    groups = [[a.name for a in plan.outputs if a.index == name] for name in names]
    plain = [a.name for a in plan.outputs if not a.index]
    if plain:
        cheapest = min(groups, key=lambda group: _terms(plan, [*group, *plain]) - _terms(plan, group))
        cheapest += plain
    return [plan.select(group) for group in groups]


def _terms(plan: Plan, names: Sequence[str]) -> int:
    cost = plan.select(names).cost()
    return cost.scalar + 16 * cost.vector


def _shape(array: Array, channels: int) -> tuple[int, ...]:
    return (array.size, channels) if array.channels else (array.size,)


@cache
def _generator() -> str:
    """Digest of the code that generates the source."""
    files = [Path(__file__).with_name(name).read_bytes() for name in GENERATOR]
    return hashlib.sha256(b"".join(files)).hexdigest()


@cache
def team() -> int | None:
    """Address of ``GOMP_parallel`` in the OpenMP runtime of torch, whose threads the kernels share; None: run serially."""
    root = Path(torch.__file__).parent
    found = [path for folder in (root / "lib", root.parent / "torch.libs") for path in sorted(folder.glob("lib*omp*"))]
    for name in (*map(str, found), None):
        try:
            return ctypes.cast(ctypes.CDLL(name).GOMP_parallel, ctypes.c_void_p).value
        except (OSError, AttributeError):
            continue
    return None


def check() -> None:
    """Find the compiler.

    Raises:
        ModelError: there is none.
    """
    compiler.compiler()


__all__ = ["ModelError", "check", "evaluate", "split", "supports", "team"]
