"""C++ source of a plan, specialised to data type and number of channels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from carten.ops.plan import Array, Plan
from carten.ops.program import NONE, Product, Program, lower
from carten.ops.schedule import Loop, loops


def source(plan: Plan, scalar: str, channels: int) -> str:
    """C++ source with one function ``run(const int64_t* arguments, Team team)``.

    The arguments are the addresses of inputs, outputs, the index of every gathered input (in order), the scatter index
    and its order (0: ascending, or no scatter index), then the numbers of sites, of scattered rows and of threads.

    Args:
        plan: a plan whose outputs use at most one index.
        scalar: ``"float"`` or ``"double"``.
        channels: size of the channel axis.
    """
    return _Writer(plan, scalar, channels).source()


@dataclass(frozen=True)
class _Names:
    """C++ expressions of values inside one function."""

    program: Program
    slots: dict[int, int]
    scratch: dict[int, int]
    arrays: dict[str, str]

    def scalar(self, value: int) -> str:
        array, component = self.program.owner[value]
        return f"k[{self.slots[value]}]" if value in self.slots else f"{self.arrays[array.name]}[{component}]"

    def vector(self, value: int) -> str:
        """Address of the current block of a vector in memory."""
        if value in self.scratch:
            return f"w + {self.scratch[value]} * P + c"
        array, component = self.program.owner[value]
        return f"{self.arrays[array.name]} + {component} * C + c"


class _Writer:
    """Assembles the source; see :func:`source`."""

    def __init__(self, plan: Plan, scalar: str, channels: int) -> None:
        self.plan = plan
        self.scalar = scalar
        self.channels = channels
        self.program = lower(plan)
        self.loops = [loops(self.program, stage) for stage in range(self.program.n_stages)]
        arrays = {a.name: f"i{n}" for n, a in enumerate(plan.inputs)} | {
            a.name: f"o{n}" for n, a in enumerate(plan.outputs)
        }
        outputs = {array.name for array in plan.outputs}
        inputs = {array.name for array in plan.inputs}
        narrow = [v for v in self.program.order if not self.program.wide(v)]
        slots = {value: n for n, value in enumerate(narrow)}
        stored = [v for v in self._shared() if self.program.owner[v][0].name not in outputs | inputs]
        self.names = _Names(self.program, slots, {value: n for n, value in enumerate(stored)}, arrays)
        self.functions: list[str] = []

    def _shared(self) -> list[int]:
        """Vectors that are read by another loop than the one that computes them."""
        home = {v: (s, n) for s, stage in enumerate(self.loops) for n, loop in enumerate(stage) for v in loop.vectors}
        shared: dict[int, None] = {}
        for s, stage in enumerate(self.loops):
            for n, loop in enumerate(stage):
                products = [t for v in loop.vectors for t in self.program.terms[v]]
                products += [t for v in loop.sums for t in self.program.sums[v]]
                for value in (v for t in products for v in t[:2] if self.program.wide(v)):
                    if home.get(value, (s, n)) != (s, n):
                        shared.setdefault(value)
        return list(shared)

    def source(self) -> str:
        calls = [line for stage in range(self.program.n_stages) for line in self._stage(stage)]
        head = [
            f"typedef {self.scalar} S;",
            f"constexpr int64_t C = {self.channels};",
            f"constexpr int64_t n_slots = {max(len(self.names.slots), 1)};",
            f"constexpr int64_t n_scratch = {len(self.names.scratch)};",
            f"constexpr bool scattered = {'true' if any(a.index for a in self.plan.outputs) else 'false'};",
            f"constexpr int64_t n_head = {sum(_width(a, self.channels) for a in self.plan.outputs if a.index)};",
            f"constexpr double site_work = {float(self.plan.cost().multiply_adds(self.channels)) + 100.0};",
        ]
        prelude = Path(__file__).with_name("prelude.h").read_text(encoding="utf-8")
        return "\n".join(["#include <cstdint>", *head, prelude, *self.functions, *self._driver(calls)]) + "\n"

    # --- one site -------------------------------------------------------------------------------------------------

    def _stage(self, stage: int) -> Iterable[str]:
        """Statements of one stage at a site; functions they call are appended to ``self.functions``."""
        scalars = [v for v in self.program.order if not self.program.wide(v) and self.program.stage[v] == stage]
        for start in range(0, len(scalars), 100):
            yield self._call(self._scalars(scalars[start : start + 100]))
        for loop in self.loops[stage]:
            yield self._call(self._loop(loop))

    def _call(self, function: tuple[str, list[str], str]) -> str:
        body, parameters, kind = function
        name = f"f{len(self.functions)}"
        self.functions.append(body.replace("NAME", name).replace("KIND", kind))
        return f"{name}({', '.join(p.split()[-1] for p in parameters)});"

    def _parameters(self, text: str) -> list[str]:
        """Declarations of the arrays a function body mentions."""
        candidates = [f"{n}" for n in self.names.arrays.values()]
        used = [n for n in candidates if f"{n} " in text or f"{n}[" in text]
        result = [f"const S* __restrict {n}" if n[0] == "i" else f"S* __restrict {n}" for n in used]
        result += ["S* __restrict k"] if "k[" in text or "k +" in text else []
        return result + (["S* __restrict w"] if "w + " in text else [])

    def _scalars(self, values: Sequence[int]) -> tuple[str, list[str], str]:
        lines = []
        for value in values:
            array, component = self.program.owner[value]
            slot = self.names.slots[value]
            start = f"k[{slot}]" if value in self.program.sums else ""
            lines += self._sum_of("S", f"s{value}", self.program.terms[value], self.names.scalar, start)
            lines.append(f"k[{slot}] = s{value};")
            if array.name in self.names.arrays:
                lines.append(f"{self.names.arrays[array.name]}[{component}] {'+' if array.index else ''}= s{value};")
        text = "\n  ".join(lines)
        parameters = self._parameters(text)
        return f"static NOINLINE void NAME({', '.join(parameters)}) {{\n  {text}\n}}\n", parameters, ""

    def _loop(self, loop: Loop) -> tuple[str, list[str], str]:
        lines: list[str] = []
        local: set[int] = set()

        def read(value: int) -> str:
            if not self.program.wide(value):
                return self.names.scalar(value)
            if value not in local:
                local.add(value)
                lines.append(f"const V v{value} = load<N>({self.names.vector(value)});")
            return f"v{value}"

        for value in loop.vectors:
            for left, right, _ in self.program.terms[value]:
                read(left), right == NONE or read(right)
            lines += self._sum_of("V", f"v{value}", self.program.terms[value], read)
            local.add(value)
            lines += self._store(value)
        for n, value in enumerate(loop.sums):
            for left, right, _ in self.program.sums[value]:
                read(left), right == NONE or read(right)
            lines += self._sum_of("V", f"r{n}", self.program.sums[value], read)
            lines.append(f"a[{n}] += keep<N>(r{n});")
        text = "\n  ".join(lines)
        finish = [f"reduce<{len(loop.sums)}>(a, r);"] if loop.sums else []
        finish += [f"k[{self.names.slots[value]}] = r[{n}];" for n, value in enumerate(loop.sums)]
        parameters = self._parameters(text + "\n" + "\n".join(finish))
        names = [p.split()[-1] for p in parameters]
        signature = ", ".join(parameters)
        carry = f", V (&a)[{len(loop.sums)}]" if loop.sums else ""
        start = f"  V a[{len(loop.sums)}] = {{}};\n  S r[{len(loop.sums)}];\n" if loop.sums else ""
        call = ", ".join(["c", *names, *(["a"] if loop.sums else [])])
        return (
            (
                f"template <int N> static inline void NAME_block(const int64_t c, {signature}{carry}) {{\n  {text}\n}}\n"
                f"static NOINLINE void NAME({signature}) {{\n{start}"
                f"  for (int64_t c = 0; c + W <= C; c += W) NAME_block<W>({call});\n"
                f"  if (C % W) {{ const int64_t c = C / W * W; NAME_block<C % W>({call}); }}\n"
                f"  {' '.join(finish)}\n}}\n"
            ),
            parameters,
            "",
        )

    def _store(self, value: int) -> Iterable[str]:
        array, component = self.program.owner[value]
        if value in self.names.scratch:
            yield f"store<N>({self.names.vector(value)}, v{value});"
        elif array.name in self.names.arrays:
            place = f"{self.names.arrays[array.name]} + {component} * C + c"
            yield f"{'add' if array.index else 'store'}<N>({place}, v{value});"

    def _literal(self, number: float) -> str:
        return f"{number!r}f" if self.scalar == "float" else repr(number)

    def _sum_of(self, kind: str, name: str, terms: Sequence[Product], read: object, start: str = "") -> list[str]:
        """Statements that define ``name`` as a sum of products; terms with equal coefficients share it."""
        groups: dict[float, list[Product]] = defaultdict(list)
        for term in terms:
            groups[abs(term[2])].append(term)
        lines = [f"{kind} {name} = {start or f'zero<{kind}>()'};"]
        for size, group in sorted(groups.items(), key=lambda item: item[0] != 1.0):
            products = [(read(a) + (f" * {read(b)}" if b != NONE else ""), c > 0) for a, b, c in group]  # type: ignore[operator]
            if size == 1.0:
                lines += [f"{name} {'+' if plus else '-'}= {product};" for product, plus in products]
                continue
            total = "".join(f" {'+' if plus else '-'} {product}" for product, plus in products)
            lines.append(f"{name} += {self._literal(size)} * ({total.removeprefix(' + ')});")
        return lines

    # --- all sites ------------------------------------------------------------------------------------------------

    def _driver(self, calls: Sequence[str]) -> Iterable[str]:
        plan = self.plan
        scattered = [(n, a) for n, a in enumerate(plan.outputs) if a.index]
        gathered = [n for n, a in enumerate(plan.inputs) if a.index]
        first_index = len(plan.inputs) + len(plan.outputs)
        scalars = first_index + len(gathered)
        yield "struct Job : Common {"
        yield from (f"  const S* in{n}; " for n in range(len(plan.inputs)))
        yield from (f"  S* out{n};" for n in range(len(plan.outputs)))
        yield from (f"  const int64_t* index{n};" for n in gathered)
        yield "  explicit Job(const int64_t* a) {"
        yield from (f"    in{n} = reinterpret_cast<const S*>(a[{n}]);" for n in range(len(plan.inputs)))
        yield from (f"    out{n} = reinterpret_cast<S*>(a[{len(plan.inputs) + n}]);" for n in range(len(plan.outputs)))
        yield from (
            f"    index{n} = reinterpret_cast<const int64_t*>(a[{first_index + m}]);" for m, n in enumerate(gathered)
        )
        yield f"    read(a + {scalars});"
        yield "  }"
        yield "  void clear(int64_t begin, int64_t end) const {"
        yield from (f"    ::clear(out{n}, begin, end, {_width(a, self.channels)});" for n, a in scattered)
        yield "  }"
        yield "  void merge(int64_t row, const S* head) const {"
        offset = 0
        for n, a in scattered:
            yield f"    ::merge(out{n} + row * {_width(a, self.channels)}, head + {offset}, {_width(a, self.channels)});"
            offset += _width(a, self.channels)
        yield "    (void)row; (void)head;\n  }"
        yield "  void operator()(const int64_t begin, const int64_t end, S* head, int64_t& head_row) const {"
        yield "    alignas(64) S k[n_slots]; (void)k;"
        yield "    S* const w = scratch(); (void)w;"
        yield "    int64_t row = before(begin); (void)row; (void)head; (void)head_row;"
        yield from (f"    S* o{n} = nullptr;" for n, _ in scattered)
        yield "    for (int64_t p = begin; p < end; ++p) {"
        yield "      const int64_t site = order ? order[p] : p;"
        yield from self._open_row(scattered)
        for n, a in enumerate(plan.inputs):
            row = f"index{n}[site]" if a.index else "site"
            yield f"      const S* const i{n} = in{n} + {row} * {_width(a, self.channels)}; (void)i{n};"
        for n, a in enumerate(plan.outputs):
            if not a.index:
                yield f"      S* const o{n} = out{n} + site * {_width(a, self.channels)};"
        yield from (f"      {line}" for line in self._empty_outputs())
        yield from (f"      {line}" for line in calls)
        yield "    }"
        yield "    if (scattered && begin < end && end == n) clear(row + 1, rows);"
        yield "  }\n};"
        yield 'extern "C" void run(const int64_t* arguments, Team team) { parallel(Job(arguments), team); }'

    def _open_row(self, scattered: Sequence[tuple[int, Array]]) -> Iterable[str]:
        if not scattered:
            return
        yield "      const int64_t next = key[site];"
        yield "      if (p == begin || next != row) {"
        yield "        const bool shared = p == begin && next == row;"
        yield "        if (shared) { head_row = row; zero(head, n_head); } else { clear(row + 1, next + 1); }"
        offset = 0
        for n, a in scattered:
            width = _width(a, self.channels)
            yield f"        o{n} = shared ? head + {offset} : out{n} + next * {width};"
            offset += width
        yield "        row = next;"
        yield "      }"

    def _empty_outputs(self) -> Iterable[str]:
        """Components of outputs that no term reaches are zero."""
        computed = {self.program.owner[v] for v in self.program.order}
        for n, a in enumerate(self.plan.outputs):
            for component in range(a.size):
                if not a.index and (a, component) not in computed:
                    width = self.channels if a.channels else 1
                    yield f"zero(o{n} + {component * width}, {width});"


def _width(array: Array, channels: int) -> int:
    return array.size * (channels if array.channels else 1)
