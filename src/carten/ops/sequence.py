"""Sequences: all operators that a tape noted, and their gradient, as one call each of compiled code."""

from __future__ import annotations

import ctypes
from collections import abc
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from carten.ops import compiler, cpp
from carten.ops.index import Index
from carten.ops.plan import Operand
from carten.ops.tape import Added, Multiplied, Operator, Ran, Tape

PLAN, PRODUCT, BY_KIND, SUM = range(4)
"""Kinds of operators in ``sequence.h``."""

LARGE = 2**24
"""Bytes from which arrays are allocated one by one."""

MOST_WORDS = 256
"""Arguments of an operator, as in ``sequence.h``."""

ALIGNED = 16
"""Numbers to whose multiples arrays in a workspace are aligned."""


@dataclass(frozen=True)
class Call:
    """What a sequence is run on: arrays and indices by name, numbers of rows by name, at most so many threads."""

    arrays: Mapping[str, Tensor]
    indices: Mapping[str, Index]
    rows: Mapping[str, int]
    threads: int = 1


class _Space:
    """Arrays of a workspace: entries ``first``, ``first + 1``, .. of the table. Those not in use serve again.

    Args:
        first: entry of its first array.
        free: arrays of another workspace that may be used: by entry, rows (by name) and numbers in a row.
    """

    def __init__(self, first: int, free: Mapping[int, tuple[str, int]]) -> None:
        self.first = first
        self.sizes: dict[int, tuple[str, int]] = {}
        self.free = dict(free)
        self._known = dict(free)

    def take(self, rows: str, width: int) -> int:
        """Entry of an array of at least this width."""
        fitting = [(size, entry) for entry, (name, size) in self.free.items() if name == rows and size >= width]
        if fitting:
            entry = min(fitting)[1]
            del self.free[entry]
        else:
            entry = self.first + len(self.sizes)
            self.sizes[entry] = self._known[entry] = (rows, width)
        return entry

    def give(self, entry: int) -> None:
        """An array is not needed any more."""
        self.free[entry] = self._known[entry]


class Workspace:
    """Memory for the arrays of a space, for some numbers of rows.

    Small ones are one piece. Large ones are a piece for each array: what the system hands out anew for every evaluation
    costs time, and it keeps moderate pieces ready for the next.
    """

    def __init__(self, space: _Space, rows: Mapping[str, int], dtype: torch.dtype) -> None:
        self._first = space.first
        sizes = [-(-rows[name] * width // ALIGNED) * ALIGNED for name, width in space.sizes.values()]
        if sum(sizes) * dtype.itemsize > LARGE:
            self._arrays = [torch.empty(size, dtype=dtype) for size in sizes]
        else:
            self._arrays = list(torch.split(torch.empty(sum(sizes), dtype=dtype), sizes))

    @property
    def addresses(self) -> np.ndarray:
        """Of all arrays."""
        return np.array([x.data_ptr() for x in self._arrays], dtype=np.int64)

    def __contains__(self, entry: int) -> bool:
        return 0 <= entry - self._first < len(self._arrays)

    def array(self, entry: int, rows: int, like: Tensor) -> Tensor:
        """An array as a tensor, with the axes of another but for the first."""
        strides = [1]
        for size in reversed(like.shape[1:]):
            strides.append(strides[-1] * size)
        memory = self._arrays[entry - self._first]
        return memory.as_strided((rows, *like.shape[1:]), strides[::-1], memory.storage_offset())


@dataclass(frozen=True)
class _Code:
    """Words of the operators, and the arrays of the workspace they use."""

    words: np.ndarray
    space: _Space


class Sequence:
    """What a tape noted on a sample, for any number of rows.

    Args:
        tape: after all operators ran on the sample, on the CPU.
        sample: its arrays, indices and numbers of rows; these numbers tell which axis is which.
        results: what is wanted.

    Raises:
        ValueError: an operator that can't be part of a sequence.
    """

    def __init__(self, tape: Tape, sample: Call, results: abc.Sequence[Tensor]) -> None:
        self.tape, self.sample, self.results = tape, sample, results
        self.dtype = results[0].dtype
        self.names = [*(("index", name) for name in sample.indices), *(("order", name) for name in sample.indices)]
        self.names += [*(("array", name) for name in sample.arrays), *(("rows", name) for name in sample.rows)]
        self.names.append(("threads", ""))
        self.symbols = {count: name for name, count in sample.rows.items()}
        self.constants: list[Tensor] = []
        self.followed: set[str] = set()
        self.known = {x.data_ptr(): self.names.index(("array", name)) for name, x in sample.arrays.items()}
        self.index = {x.values.data_ptr(): name for name, x in sample.indices.items()}
        self.seeds = [torch.zeros_like(x) for x in results]
        forward = list(tape.operators)
        every = self._reversed(tuple(True for _ in results))[0]
        kept = {x.data_ptr() for operator in every for x in _inputs(operator)} | {x.data_ptr() for x in results}
        self.forward = self._encode(forward, _Space(len(self.names), {}), kept)
        self.backward: dict[tuple[bool, ...], tuple[_Code, list[int]]] = {}

    def run(self, call: Call) -> tuple[Workspace, list[Tensor]]:
        """The workspace, and the results in it."""
        workspace = Workspace(self.forward.space, call.rows, self.dtype)
        self._execute(self.forward.words, call, [workspace.addresses])
        return workspace, [
            workspace.array(self.known[x.data_ptr()], call.rows[self.symbols[len(x)]], x) for x in self.results
        ]

    def gradients(self, call: Call, workspace: Workspace, given: abc.Sequence[Tensor | None]) -> list[Tensor | None]:
        """Gradients with respect to the tape's variables from those of the results; valid until asked for again."""
        mask = tuple(gradient is not None for gradient in given)
        if mask not in self.backward:
            self.backward[mask] = self._derive(mask)
        code, entries = self.backward[mask]
        scratch = Workspace(code.space, call.rows, self.dtype)
        seeds = [gradient.contiguous() for gradient in given if gradient is not None]
        addresses = np.array([x.data_ptr() for x in seeds], dtype=np.int64)
        self._execute(code.words, call, [workspace.addresses, addresses, scratch.addresses])
        found: list[Tensor | None] = []
        for entry, x in zip(entries, self.tape.variables, strict=True):
            place = scratch if entry in scratch else workspace
            found.append(place.array(entry, call.rows[self.symbols[len(x)]], x) if entry else None)
        return found

    def _derive(self, mask: tuple[bool, ...]) -> tuple[_Code, list[int]]:
        """Code of a gradient, and the entries where it leaves the gradients of the variables; 0 for none."""
        operators, gradients = self._reversed(mask)
        known = dict(self.known)
        before = self.forward.space
        first = before.first + len(before.sizes)
        seeds = [seed for seed, there in zip(self.seeds, mask, strict=True) if there]
        self.known.update({seed.data_ptr(): first + n for n, seed in enumerate(seeds)})
        wanted = {x.data_ptr() for x in gradients if x is not None}
        code = self._encode(operators, _Space(first + len(seeds), before.free), wanted)
        entries = [0 if x is None else self.known[x.data_ptr()] for x in gradients]
        self.known = known
        return code, entries

    def _reversed(self, mask: tuple[bool, ...]) -> tuple[list[Operator], abc.Sequence[Tensor | None]]:
        """Operators of the gradient, and the gradients of the variables in the sample."""
        self.tape.operators = []
        given = [seed if there else None for seed, there in zip(self.seeds, mask, strict=True)]
        gradients = self.tape.gradients(self.results, given)
        return self.tape.operators, gradients

    def _execute(self, words: np.ndarray, call: Call, addresses: list[np.ndarray]) -> None:
        table = np.concatenate([self._table(call), *addresses])
        arguments = (words.ctypes.data, len(words), table.ctypes.data, call.threads)
        if _library(self.dtype).run((ctypes.c_int64 * 4)(*arguments), cpp.team()):
            for index in call.indices.values():
                index.check()
            raise ValueError("the values of an index were changed: they point outside its rows, or are not sorted")

    def _table(self, call: Call) -> np.ndarray:
        indices = call.indices.values()
        values = [index.values.data_ptr() for index in indices]
        orders = [_order(index) if name in self.followed else 0 for name, index in call.indices.items()]
        arrays = [call.arrays[name].data_ptr() for name in self.sample.arrays]
        counts = [call.rows[name] for name in self.sample.rows]
        return np.array([*values, *orders, *arrays, *counts, call.threads], dtype=np.int64)

    def _encode(self, operators: abc.Sequence[Operator], space: _Space, kept: set[int]) -> _Code:
        """Words of operators; arrays are given up after their last use, but not those kept."""
        last = {x.data_ptr(): n for n, operator in enumerate(operators) for x in _inputs(operator)}
        own: dict[int, int] = {}
        words: list[int] = []
        for n, operator in enumerate(operators):
            for x in _outputs(operator):
                own[x.data_ptr()] = space.take(self.symbols[len(x)], x.numel() // len(x))
                self.known[x.data_ptr()] = own[x.data_ptr()]
            kind, body = self._words(operator)
            if len(body) > MOST_WORDS:
                raise ValueError(f"an operator has {len(body)} arguments, at most {MOST_WORDS} are possible")
            words += [kind, len(body), *body]
            used = {x.data_ptr() for x in (*_inputs(operator), *_outputs(operator))}
            for p in used:
                if p in own and p not in kept and last.get(p, n) == n:
                    space.give(own[p])
        return _Code(np.array(words, dtype=np.int64), space)

    def _words(self, operator: Operator) -> tuple[int, list[int]]:
        match operator:
            case Ran():
                return PLAN, self._plan(operator)
            case Multiplied(x, weight, output, size, kinds):
                body = [*map(self._address, (x, weight, output)), self._rows(len(x)), size, *weight.shape[-2:]]
                if kinds is None:
                    return PRODUCT, body
                return BY_KIND, [*body, self._entry("index", self._name(kinds)), kinds.rows]
            case Added(left, right, output):
                body = [*map(self._address, (left, right, output)), self._rows(len(left)), left.numel() // len(left)]
                return SUM, body

    def _plan(self, ran: Ran) -> list[int]:
        plan = ran.plan
        channels = plan.n_channels(ran.inputs)
        function, followed = cpp.single_pass(plan, self.dtype, channels)
        words = [function]

        def place(array: Operand, x: Tensor, stride: bool) -> None:
            words.append(self._address(x))
            if stride:
                words.append(x.numel() // len(x))
            if array.index and (stride or array.index != followed):
                words.extend(self._indexed(ran.indices[array.index]))

        for array, x in zip(plan.inputs, ran.inputs, strict=True):
            place(array, x, stride=True)
        for array, x in zip(plan.outputs, ran.outputs, strict=True):
            place(array, x, stride=False)
        key = order = rows = 0
        if followed:
            key, rows = self._indexed(ran.indices[followed])
            order = self._entry("order", self._name(ran.indices[followed]))
            self.followed.add(self._name(ran.indices[followed]))
        return [*words, key, order, self._rows(ran.n_sites), rows, self._entry("threads", "")]

    def _indexed(self, index: Index) -> tuple[int, int]:
        return self._entry("index", self._name(index)), self._rows(index.rows)

    def _name(self, index: Index) -> str:
        name = self.index.get(index.values.data_ptr())
        if name is None:
            raise ValueError("an index is not part of the sample")
        return name

    def _entry(self, kind: str, name: str) -> int:
        return -1 - self.names.index((kind, name))

    def _rows(self, count: int) -> int:
        return self._entry("rows", self.symbols[count]) if count in self.symbols else count

    def _address(self, x: Tensor) -> int:
        if x.data_ptr() in self.known:
            return -1 - self.known[x.data_ptr()]
        if len(x) in self.symbols or not x.is_contiguous():
            raise ValueError(f"an array of shape {tuple(x.shape)} is not part of the sample")
        self.constants.append(x)
        return x.data_ptr()


def _order(index: Index) -> int:
    """Address of the order of an index, 0 where it is in order."""
    return 0 if index.order is None else index.order.data_ptr()


def _inputs(operator: Operator) -> abc.Sequence[Tensor]:
    match operator:
        case Ran():
            return operator.inputs
        case Multiplied():
            return (operator.input,)
        case Added():
            return (operator.left, operator.right)


def _outputs(operator: Operator) -> abc.Sequence[Tensor]:
    return operator.outputs if isinstance(operator, Ran) else (operator.output,)


@cache
def _library(dtype: torch.dtype) -> ctypes.CDLL:
    folder = Path(__file__).parent
    texts = [(folder / name).read_text(encoding="utf-8") for name in ("prelude.h", "sequence.h")]
    sizes = [f"constexpr int64_t {name} = {value};" for name, value in (("C", 64), ("n_slots", 1), ("n_rows", 1))]
    sizes += ["constexpr int64_t n_blocks = 1, n_head = 0;", "constexpr double site_work = 1;"]
    source = "\n".join(["#include <cstdint>", f"typedef {cpp.SCALARS[dtype]} S;", *sizes, *texts])
    library = compiler.load(source, lambda: source)
    library.run.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
    library.run.restype = ctypes.c_int64
    return library
