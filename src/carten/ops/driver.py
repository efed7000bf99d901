"""C++ that runs a plan at all sites: rows of operands, scattered outputs, shares of threads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from carten.ops.plan import Operand, Plan

MIN_PREFETCH = 64
"""Numbers in a row that is worth fetching ahead."""


class OperandRow(NamedTuple):
    """An operand: its position among inputs or outputs, the length of a row, and the index that picks rows."""

    n: int
    width: int
    index_name: str


def width(array: Operand, channels: int) -> int:
    """Numbers in one row of an array."""
    return array.size * (channels if array.channels else 1)


class Driver:
    """The struct ``Job`` of a plan, which runs any range of sites.

    Outputs scattered by the index ``followed`` are written row by row, since sites are visited in its order; those
    scattered by another index are *strewn*: every share but the first adds to its own copy of them.
    """

    def __init__(self, plan: Plan, channels: int, followed: str) -> None:
        self.inputs = [OperandRow(n, width(array, channels), array.index) for n, array in enumerate(plan.inputs)]
        outputs = [OperandRow(n, width(array, channels), array.index) for n, array in enumerate(plan.outputs)]
        self.plain = [row for row in outputs if not row.index_name]
        self.rows = [row for row in outputs if row.index_name and row.index_name == followed]
        self.strewn = [row for row in outputs if row.index_name and row.index_name != followed]
        heads = [sum(row.width for row in self.rows[:m]) for m in range(len(self.rows) + 1)]
        self.heads, self.n_head = heads[:-1], heads[-1]
        self.fields: list[str] = []
        for row in self.inputs:
            self.fields += [f"const S* in{row.n}", f"int64_t stride{row.n}"]
            self.fields += [f"const int64_t* index{row.n}", f"int64_t limit{row.n}"] if row.index_name else []
        for row in outputs:
            self.fields += [f"S* out{row.n}"]
            self.fields += [f"const int64_t* target{row.n}", f"int64_t limit_{row.n}"] if row in self.strewn else []

    def source(self, site: Sequence[str]) -> Iterable[str]:
        """The struct, given the statements that run one site, and the function that is called from outside."""
        yield "struct Job : Common {"
        yield from (f"  {declared};" for declared in self.fields)
        yield "  explicit Job(const int64_t* a) {"
        for position, declared in enumerate(self.fields):
            kind, _, name = declared.rpartition(" ")
            cast = "" if kind == "int64_t" else f"reinterpret_cast<{kind}>"
            yield f"    {name} = {cast}(a[{position}]);"
        yield f"    read(a + {len(self.fields)});"
        yield "  }"
        yield from self._helpers()
        yield "  void operator()(const int64_t begin, const int64_t end, Share& share) const {"
        yield "    alignas(64) S k[n_slots]; alignas(64) S b[n_blocks * W]; S* const w = scratch();"
        yield "    int64_t row = before(begin);"
        yield from (f"    S* o{row.n} = nullptr;" for row in self.rows)
        yield from self._copies()
        yield from (f"    const bool far{n} = is_far(limit{n} * stride{n});" for n, _, index in self.inputs if index)
        yield from (f"    const bool past_o{n} = passes(out{n}, this->n * {size});" for n, size, _ in self.plain)
        yield "    for (int64_t p = begin; p < end; ++p) {"
        yield "      const int64_t site = order ? order[p] : p;"
        yield from self._rows_of_site()
        yield from self._open_row()
        yield from self._prefetch()
        yield from (f"      {line}" for line in site)
        yield "    }"
        yield "    settle();"
        yield "    if (n_head && begin < end && end == n) clear(row + 1, rows);"
        yield "  }\n};"
        yield 'extern "C" int64_t run(const int64_t* arguments, Team team) { return parallel(Job(arguments), team); }'

    def _rows_of_site(self) -> Iterable[str]:
        """Pointers to the rows of one site, none of them outside its array."""
        for n, _, index in self.inputs:
            yield f"      const int64_t r{n} = {f'index{n}[site]' if index else 'site'};"
        yield from (f"      const int64_t t{n} = target{n}[site];" for n, _, _ in self.strewn)
        yield from ["      const int64_t next = key[site];"] if self.rows else []
        inside = [f"within(r{n}, limit{n})" for n, _, index in self.inputs if index]
        inside += [f"within(t{n}, limit_{n})" for n, _, _ in self.strewn]
        inside += ["within(next, rows)", "next >= row"] if self.rows else []
        if inside:
            yield f"      if (!({' && '.join(inside)})) {{ share.wrong = true; return; }}"
        yield from (f"      const S* const i{n} = in{n} + r{n} * stride{n};" for n, *_ in self.inputs)
        yield from (f"      S* const o{n} = out{n} + site * {size};" for n, size, _ in self.plain)
        yield from (f"      S* const o{n} = copy{n} + t{n} * {size};" for n, size, _ in self.strewn)

    def _helpers(self) -> Iterable[str]:
        """Functions on whole outputs: see ``prelude.h``."""
        yield "  void clear(int64_t begin, int64_t end) const {"
        yield from (f"    ::clear(out{n}, begin, end, {size});" for n, size, _ in self.rows)
        yield "  }"
        yield "  void merge(int64_t row, const S* head) const {"
        for (n, size, _), offset in zip(self.rows, self.heads, strict=True):
            yield f"    ::merge(out{n} + row * {size}, head + {offset}, {size});"
        yield "  }"
        sizes = [f"limit_{n} * {size}" for n, size, _ in self.strewn]
        yield f"  int64_t copied() const {{ return {' + '.join(['0', *sizes])}; }}"
        yield "  void clear_strewn() const {"
        yield from (f"    zero(out{row.n}, {total});" for row, total in zip(self.strewn, sizes, strict=True))
        yield "  }"
        yield "  void merge_strewn(const S* copy, int64_t part, int64_t parts) const {"
        for row, total in zip(self.strewn, sizes, strict=True):
            begin, end = (f"{total} * {part} / parts" for part in ("part", "(part + 1)"))
            yield f"    ::merge(out{row.n} + {begin}, copy + {begin}, {end} - {begin});"
            yield f"    copy += {total};"
        yield "  }"

    def _copies(self) -> Iterable[str]:
        offset = "share.copy"
        for n, size, _ in self.strewn:
            yield f"    S* const copy{n} = share.copy ? {offset} : out{n};"
            offset += f" + limit_{n} * {size}"
        if self.strewn:
            yield "    if (share.copy) zero(share.copy, copied()); else if (!share.adds) clear_strewn();"

    def _open_row(self) -> Iterable[str]:
        if not self.rows:
            return
        yield "      if (p == begin || next != row) {"
        yield "        const bool shared = p == begin && next == row;"
        yield "        if (shared) { share.row = row; zero(share.head, n_head); } else { clear(row + 1, next + 1); }"
        for (n, size, _), offset in zip(self.rows, self.heads, strict=True):
            yield f"        o{n} = shared ? share.head + {offset} : out{n} + next * {size};"
        yield "        row = next;"
        yield "      }"

    def _prefetch(self) -> Iterable[str]:
        """Rows of the next site, on their way while this one is computed."""
        yield "      if (p + 1 < end) {"
        yield "        const int64_t ahead = order ? order[p + 1] : p + 1;"
        rows = [
            (f"if (far{n}) " if index else "", f"in{n}", f"index{n}[ahead]" if index else "ahead", f"stride{n}", size)
            for n, size, index in self.inputs
        ]
        rows += [(f"if (!past_o{n}) ", f"out{n}", "ahead", str(size), size) for n, size, _ in self.plain]
        rows += [("", f"copy{n}", f"target{n}[ahead]", str(size), size) for n, size, _ in self.strewn]
        for test, base, row, stride, size in rows:
            if size > MIN_PREFETCH:
                yield f"        {test}prefetch({base} + {row} * {stride}, {size});"
        yield "      }"
