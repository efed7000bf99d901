"""The C++ back end: runs the compiled source of a plan on tensors in place."""

from __future__ import annotations

import ctypes
import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from carten.errors import ModelError
from carten.ops import compiler
from carten.ops.codegen import source
from carten.ops.driver import width
from carten.ops.index import Index
from carten.ops.plan import Array, Plan

SCALARS = {torch.float32: "float", torch.float64: "double"}
GENERATOR = ("program.py", "schedule.py", "layout.py", "codegen.py", "driver.py", "prelude.h")
MAX_COPIES = 1 << 24
"""Numbers in the copies that threads make of outputs, above a quarter of what belongs to the sites."""


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
    """A plan compiled for one data type and number of channels.

    One pass over the sites gives all outputs, unless the copies that threads then need of outputs scattered in other
    orders than the sites' would be too large: then there is one pass for every index that scatters.
    """

    def __init__(self, plan: Plan, dtype: torch.dtype, channels: int) -> None:
        self.plan = plan
        self.dtype = dtype
        self.channels = channels
        self.inputs = [(a.name, a.index, _shape(a, channels)) for a in plan.inputs]
        self.outputs = [(a.index, _shape(a, channels)) for a in plan.outputs]
        self.indices = plan.indices
        self.followed = followed(plan)
        self.strewn = [(a.index, width(a, channels)) for a in plan.outputs if a.index not in ("", self.followed)]
        self.local = sum(width(a, channels) for a in (*plan.inputs, *plan.outputs) if not a.index)

    @cached_property
    def together(self) -> list[_Pass]:
        """All outputs in one pass."""
        return [_Pass(self.plan, self.plan, self.followed, self.dtype, self.channels)]

    @cached_property
    def apart(self) -> list[_Pass]:
        """One pass for every index that scatters."""
        return [_Pass(self.plan, part, name, self.dtype, self.channels) for name, part in split(self.plan)]

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
        threads = torch.get_num_threads()
        copies = (threads - 1) * sum(rows[index] * numbers for index, numbers in self.strewn)
        for part in self.together if copies <= MAX_COPIES + n_sites * self.local // 4 else self.apart:
            outputs = [results[n].data_ptr() for n in part.positions]
            part([*inputs, *outputs, *part.addresses(addresses, indices, n_sites, threads)])
        return tuple(results)


class _Pass:
    """One compiled function."""

    def __init__(self, whole: Plan, plan: Plan, followed: str, dtype: torch.dtype, channels: int) -> None:
        names = [a.name for a in whole.outputs]
        self.positions = [names.index(a.name) for a in plan.outputs]
        self.gathered = [a.index for a in plan.inputs if a.index]
        self.strewn = [a.index for a in plan.outputs if a.index not in ("", followed)]
        self.followed = followed
        key = "\n".join((plan.digest, followed, SCALARS[dtype], str(channels), _generator()))
        library = compiler.load(key, lambda: source(plan, SCALARS[dtype], channels, followed))
        self.function: Callable[..., None] = library.run
        self.function.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        self.function.restype = None
        n_indices = len(self.gathered) + 2 * len(self.strewn)
        self.pack: Any = ctypes.c_int64 * (len(plan.inputs) + len(plan.outputs) + n_indices + 5)

    def addresses(
        self, addresses: Mapping[str, int], indices: Mapping[str, Index], n_sites: int, threads: int
    ) -> list[int]:
        """What follows the operands in the arguments."""
        key = order = rows = 0
        if self.followed:
            index = indices[self.followed]
            key, rows = addresses[self.followed], index.rows
            order = 0 if index.order is None else index.order.data_ptr()
        gathered = [addresses[name] for name in (*self.gathered, *self.strewn)]
        return [*gathered, key, order, n_sites, rows, threads, *(indices[name].rows for name in self.strewn)]

    def __call__(self, arguments: Sequence[int]) -> None:
        self.function(self.pack(*arguments), team())


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


def split(plan: Plan) -> list[tuple[str, Plan]]:
    """Plans with one scatter index each, and that index; outputs without one ride along where they cost least."""
    names = list(dict.fromkeys(a.index for a in plan.outputs if a.index))
    groups = {name: [a.name for a in plan.outputs if a.index == name] for name in names}
    plain = [a.name for a in plan.outputs if not a.index]
    if plain:
        cheapest = min(names, key=lambda name: _terms(plan, [*groups[name], *plain]) - _terms(plan, groups[name]))
        groups[cheapest] += plain
    return [(name, plan.select(group)) for name, group in groups.items()]


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
    """Address of ``GOMP_parallel`` in the OpenMP runtime of torch, whose threads the kernels share.

    None where there is none: kernels run serially.
    """
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
