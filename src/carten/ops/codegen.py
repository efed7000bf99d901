"""C++ source of a plan, specialised to data type and number of channels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from carten.ops.cost import cost
from carten.ops.driver import Driver
from carten.ops.layout import Layout
from carten.ops.plan import Plan
from carten.ops.program import NONE, Operation, Product, Program, lower

MAX_SCALARS = 150
"""Scalars that one function computes."""

FORGET = 12
"""Operations after which scalars are read again."""


def source(plan: Plan, scalar: str, channels: int, followed: str) -> str:
    """C++ source with one function ``int64_t run(const int64_t* arguments, Team team)``.

    The arguments are: for every input its address and the distance of its rows, and if it is gathered the address of
    the index and the number of rows; for every output its address, and if it is scattered by another index than
    ``followed`` that of the index and the number of rows; then the addresses of the followed index and of its order (0:
    sites as they are), the numbers of sites, of rows of the followed index, and of threads. The function returns 1 if
    an index points outside its array, else 0.

    Args:
        plan: the plan.
        scalar: ``"float"`` or ``"double"``.
        channels: size of the channel axis.
        followed: the index in whose order sites are visited; ``""`` for as they are.
    """
    site = _Site(plan, scalar)
    driver = Driver(plan, channels, followed)
    calls = [*_empty(site.program, channels), *site.calls()]
    constants = [
        f"typedef {scalar} S;",
        f"constexpr int64_t C = {channels};",
        f"constexpr int64_t n_slots = {len(site.layout.slots) + 1};",
        f"constexpr int64_t n_rows = {len(site.layout.rows) + 1};",
        f"constexpr int64_t n_blocks = {site.layout.n_blocks + 1};",
        f"constexpr int64_t n_head = {driver.n_head};",
        f"constexpr double site_work = {100.0 + cost(plan).multiply_adds(channels)};",
    ]
    headers = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("vectors.h", "prelude.h")]
    return "\n".join(["#include <cstdint>", *constants, *headers, *site.functions, *driver.source(calls)]) + "\n"


class _Site:
    """Functions that together run the program at one site."""

    def __init__(self, plan: Plan, scalar: str) -> None:
        self.scalar = scalar
        self.program = lower(plan)
        self.layout = Layout.of(self.program)
        self.functions: list[str] = []

    def calls(self) -> Iterable[str]:
        """Statements that run all stages; the functions they call are added to ``functions``."""
        for stage, (chunks, groups) in enumerate(self.layout.stages):
            scalars = [v for v in self.program.order if not self.program.wide(v) and self.program.stage[v] == stage]
            for start in range(0, len(scalars), MAX_SCALARS):
                yield self._scalars(scalars[start : start + MAX_SCALARS])
            if chunks:
                blocks = [self._chunk(stage, n) for n in range(len(chunks))]
                body = " ".join(block.replace("<N>", "<W>") for block in blocks)
                yield f"for (int64_t c = 0; c + W <= C; c += W) {{ {body} }}"
                tail = " ".join(b.replace("<N>", "<C % W>") for b in blocks)
                yield f"if (C % W) {{ const int64_t c = C / W * W; {tail} }}"
            yield from (self._sums(group, stage) for group in groups)

    def _function(self, lines: Sequence[str], block: bool) -> str:
        """Define a function with this body; returns the statement that calls it."""
        text = "\n  ".join(lines)
        name = f"f{len(self.functions)}"
        names = [*self.layout.names.values(), "k", "w", "b"]
        used = [
            n
            for n in names
            if f" {n}[" in text or f"({n}[" in text or f"({n} +" in text or f"({n}," in text or f" {n} +" in text
        ]
        declared = [f"{'const ' if n[0] == 'i' else ''}S* __restrict {n}" for n in used]
        flags = [f"past_{n}" for n in used if f"past_{n}," in text]
        used, declared = [*used, *flags], [*declared, *(f"const bool {flag}" for flag in flags)]
        head = "template <int N> " if block else ""
        if block:
            used, declared = ["c", *used], ["const int64_t c", *declared]
        self.functions.append(f"{head}static NOINLINE void {name}({', '.join(declared)}) {{\n  {text}\n}}\n")
        return f"{name}{'<N>' if block else ''}({', '.join(used)});"

    def _scalars(self, values: Sequence[int]) -> str:
        lines: list[str] = []
        for value in values:
            array, component = self.program.owner[value]
            place = f"k[{self.layout.slots[value]}]"
            start = place if value in self.program.sums else "S(0)"
            total = self._sum(self.program.terms[value], self.layout.scalar)
            lines.append(f"const S s{value} = {start} + ({total or 'S(0)'});")
            lines.append(f" {place} = s{value};")
            if array.name in self.layout.outputs:
                lines.append(f" {self.layout.names[array.name]}[{component}] {'+' if array.index else ''}= s{value};")
        return self._function(lines, block=False)

    def _chunk(self, stage: int, n: int) -> str:
        """One piece of the loop over channel blocks."""
        operations = self.layout.stages[stage][0][n]
        lines: list[str] = []
        local: set[int] = set()

        def read(value: int) -> str:
            if not self.program.wide(value):
                return self.layout.scalar(value)
            if value not in local:
                local.add(value)
                lines.append(f"V v{value} = load<N>({self.layout.vector(value, stage, n)});")
            return f"v{value}"

        left = {operation.target: m for m, operation in enumerate(operations)}
        for m, operation in enumerate(operations):
            self._accumulate(operation, stage, n, read, local, lines)
            if m % FORGET == FORGET - 1:
                lines += self._forget(operations)
            if left[operation.target] == m:
                lines += self._leave(operation.target, stage, n)
        return self._function(lines, block=True)

    def _forget(self, operations: Sequence[Operation]) -> Iterable[str]:
        values = {v for o in operations for v in (o.left, o.right) if v != NONE and not self.program.wide(v)}
        if values & self.layout.slots.keys():
            yield "FORGET(k, n_slots)"
        arrays = {self.program.owner[v][0] for v in values - self.layout.slots.keys()}
        yield from (f"FORGET({self.layout.names[a.name]}, {a.size})" for a in sorted(arrays, key=lambda a: a.name))

    def _accumulate(
        self,
        operation: Operation,
        stage: int,
        n: int,
        read: Callable[[int], str],
        local: set[int],
        lines: list[str],
    ) -> None:
        target = operation.target
        term = self._term(operation, read)
        if target in local or self.layout.begins(target, stage) < n:
            read(target)
            lines.append(f"v{target} {'+' if term[0] == ' ' else '-'}= {term[1:]};")
        else:
            local.add(target)
            lines.append(f"V v{target} = {'' if term[0] == ' ' else '- '}{term[1:]};")

    def _term(self, operation: Operation, read: Callable[[int], str]) -> str:
        """A product with its sign in front, a space for plus."""
        size = abs(operation.coefficient)
        factors = [] if size == 1.0 else [self._literal(size)]
        factors += [read(value) for value in (operation.left, operation.right) if value != NONE]
        if not self.program.wide(operation.left):
            factors.append("ones()")
        return (" " if operation.coefficient > 0 else "-") + " * ".join(factors)

    def _leave(self, value: int, stage: int, n: int) -> Iterable[str]:
        """Store a vector after its last change in a piece."""
        array, component = self.program.owner[value]
        complete = self.layout.completes(value, stage) == n
        if complete and array.name in self.layout.outputs:
            place = f"{self.layout.names[array.name]} + {component} * C + c"
            way = "add<N>(" if array.index else f"put<N>(past_{self.layout.names[array.name]}, "
            yield f"{way}{place}, v{value});"
        elif complete and value in self.layout.rows:
            yield f"store<N>(w + {self.layout.rows[value]} * P + c, v{value});"
        if value in self.layout.blocks[stage] and not (complete and value in self.layout.rows):
            yield f"store<W>(b + {self.layout.blocks[stage][value]} * W, v{value});"

    def _sums(self, group: Sequence[int], stage: int) -> str:
        """One loop over channel blocks that adds up products over channels."""
        loads: dict[int, str] = {}

        def read(value: int) -> str:
            if not self.program.wide(value):
                return self.layout.scalar(value)
            if value not in loads:
                again = value not in self.layout.rows and value in self.program.stage
                place = (
                    "" if again else f"load<N>({self.layout.vector(value, stage, len(self.layout.stages[stage][0]))})"
                )
                total = self._sum(self.program.terms[value], read) if again else place
                loads[value] = f"const V v{value} = {total};"
            return f"v{value}"

        sums = [f"a[{n}] += keep<N>({self._sum(self.program.sums[s], read)});" for n, s in enumerate(group)]
        body = " ".join([*loads.values(), *sums])
        lines = [f"V a[{len(group)}] = {{}};"]
        lines.append(f"for (int64_t c = 0; c + W <= C; c += W) {{ constexpr int N = W; {body} }}")
        lines.append(f"if (C % W) {{ constexpr int N = C % W; const int64_t c = C / W * W; {body} }}")
        lines.append(f" reduce(a, k + {self.layout.slots[group[0]]});")
        return self._function(lines, block=False)

    def _sum(self, terms: Sequence[Product], read: Callable[[int], str]) -> str:
        """An expression; terms with equal coefficients share it."""
        groups: dict[float, list[str]] = defaultdict(list)
        for left, right, c in terms:
            product = read(left) + (f" * {read(right)}" if right != NONE else "")
            groups[abs(c)].append(f"{'+' if c > 0 else '-'} {product}")
        parts = []
        for size, products in groups.items():
            total = " ".join(products).removeprefix("+ ")
            parts.append(f"({total})" if size == 1.0 else f"{self._literal(size)} * ({total})")
        return " + ".join(parts)

    def _literal(self, number: float) -> str:
        return f"{number!r}f" if self.scalar == "float" else repr(number)


def _empty(program: Program, channels: int) -> Iterable[str]:
    """Components of outputs that no term reaches are zero."""
    computed = {program.owner[v] for v in program.order}
    for n, array in enumerate(program.plan.outputs):
        width = channels if array.channels else 1
        for component in range(array.size):
            if not array.index and (array, component) not in computed:
                yield f"zero(o{n} + {component * width}, {width});"
