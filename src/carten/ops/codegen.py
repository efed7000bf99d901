"""C++ source of a plan, specialised to data type and number of channels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from carten.ops.layout import Layout
from carten.ops.plan import Array, Plan
from carten.ops.program import NONE, Product, Program, lower, operands
from carten.ops.schedule import Operation

MAX_SCALARS = 150
"""Scalars that one function computes."""

FORGET = 12
"""Operations after which scalars are read again."""


def source(plan: Plan, scalar: str, channels: int) -> str:
    """C++ source with one function ``run(const int64_t* arguments, Team team)``.

    The arguments are the addresses of inputs, outputs, the index of every gathered input (in order), the scatter index
    and its order (0: ascending, or no scatter index), then the numbers of sites, of scattered rows and of threads.

    Args:
        plan: a plan whose outputs use at most one index.
        scalar: ``"float"`` or ``"double"``.
        channels: size of the channel axis.
    """
    site = _Site(plan, scalar)
    calls = list(site.calls())
    widths = [_width(array, channels) for array in plan.outputs if array.index]
    constants = [
        f"typedef {scalar} S;",
        f"constexpr int64_t C = {channels};",
        f"constexpr int64_t n_slots = {len(site.layout.slots) + 1};",
        f"constexpr int64_t n_rows = {len(site.layout.rows) + 1};",
        f"constexpr int64_t n_blocks = {site.layout.n_blocks + 1};",
        f"constexpr int64_t n_head = {sum(widths)};",
        f"constexpr double site_work = {100.0 + plan.cost().multiply_adds(channels)};",
    ]
    prelude = Path(__file__).with_name("prelude.h").read_text(encoding="utf-8")
    driver = _driver(plan, channels, [*_empty(site.program, channels), *calls])
    return "\n".join(["#include <cstdint>", *constants, prelude, *site.functions, *driver]) + "\n"


def _width(array: Array, channels: int) -> int:
    """Numbers in one row."""
    return array.size * (channels if array.channels else 1)


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
                yield f"for (int64_t c = 0; c + W <= C; c += W) {{ {' '.join(b.replace('<N>', '<W>') for b in blocks)} }}"
                tail = " ".join(b.replace("<N>", "<C % W>") for b in blocks)
                yield f"if (C % W) {{ const int64_t c = C / W * W; {tail} }}"
            yield from (self._sums(group, stage) for group in groups)

    def _function(self, lines: Sequence[str], block: bool) -> str:
        """Define a function with this body; returns the statement that calls it."""
        text = "\n  ".join(lines)
        name = f"f{len(self.functions)}"
        known = [*self.layout.names.values(), "k", "w", "b"]
        used = [
            n
            for n in known
            if f" {n}[" in text or f"({n}[" in text or f"({n} +" in text or f"({n}," in text or f" {n} +" in text
        ]
        declared = [f"{'const ' if n[0] == 'i' else ''}S* __restrict {n}" for n in used]
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
            yield f"{'add' if array.index else 'store'}<N>({place}, v{value});"
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


def _driver(plan: Plan, channels: int, site: Sequence[str]) -> Iterable[str]:
    """The struct that runs a range of sites, and the function that is called from outside."""
    inputs = [(n, _width(array, channels), array.index) for n, array in enumerate(plan.inputs)]
    outputs = [(n, _width(array, channels), array.index) for n, array in enumerate(plan.outputs)]
    scattered = [(n, width) for n, width, index in outputs if index]
    heads = [sum(width for _, width in scattered[:m]) for m in range(len(scattered))]
    fields = [f"const S* in{n};" for n, *_ in inputs] + [f"S* out{n};" for n, *_ in outputs]
    fields += [f"const int64_t* index{n};" for n, _, index in inputs if index]
    yield "struct Job : Common {"
    yield from (f"  {declared}" for declared in fields)
    yield "  explicit Job(const int64_t* a) {"
    for position, declared in enumerate(fields):
        kind, _, name = declared.rstrip(";").rpartition(" ")
        yield f"    {name} = reinterpret_cast<{kind}>(a[{position}]);"
    yield f"    read(a + {len(fields)});"
    yield "  }"
    yield "  void clear(int64_t begin, int64_t end) const {"
    yield from (f"    ::clear(out{n}, begin, end, {width});" for n, width in scattered)
    yield "  }"
    yield "  void merge(int64_t row, const S* head) const {"
    yield from (
        f"    ::merge(out{n} + row * {w}, head + {h}, {w});" for (n, w), h in zip(scattered, heads, strict=True)
    )
    yield "  }"
    yield "  void operator()(const int64_t begin, const int64_t end, S* head, int64_t& head_row) const {"
    yield "    alignas(64) S k[n_slots]; alignas(64) S b[n_blocks * W]; S* const w = scratch();"
    yield "    int64_t row = before(begin);"
    yield from (f"    S* o{n} = nullptr;" for n, _ in scattered)
    yield "    for (int64_t p = begin; p < end; ++p) {"
    yield "      const int64_t site = order ? order[p] : p;"
    if scattered:
        yield "      const int64_t next = key[site];"
        yield "      if (p == begin || next != row) {"
        yield "        const bool shared = p == begin && next == row;"
        yield "        if (shared) { head_row = row; zero(head, n_head); } else { clear(row + 1, next + 1); }"
        for (n, width), offset in zip(scattered, heads, strict=True):
            yield f"        o{n} = shared ? head + {offset} : out{n} + next * {width};"
        yield "        row = next;"
        yield "      }"
    for n, width, index in inputs:
        yield f"      const S* const i{n} = in{n} + {f'index{n}[site]' if index else 'site'} * {width};"
    yield from (f"      S* const o{n} = out{n} + site * {width};" for n, width, index in outputs if not index)
    yield "      if (p + 1 < end) {"
    yield "        const int64_t ahead = order ? order[p + 1] : p + 1;"
    for n, width, index in inputs:
        if width > 64:
            yield f"        prefetch(in{n} + {f'index{n}[ahead]' if index else 'ahead'} * {width}, {width});"
    yield from (
        f"        prefetch(out{n} + ahead * {width}, {width});"
        for n, width, index in outputs
        if not index and width > 64
    )
    yield "      }"
    yield from (f"      {line}" for line in site)
    yield "    }"
    yield "    if (n_head && begin < end && end == n) clear(row + 1, rows);"
    yield "  }\n};"
    yield 'extern "C" void run(const int64_t* arguments, Team team) { parallel(Job(arguments), team); }'
