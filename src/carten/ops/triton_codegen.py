"""Triton source of a pass of a plan, specialised to data type and number of channels.

One program of the grid computes a tile of ``sites`` x ``lanes`` channels. Values without channels have one number for
each site of the tile; values with channels have a number for each of its elements, one or a few in each thread.
Everything a site needs is in registers: operations are ordered so that few values are alive at once, and inputs are
read again when they were not used for a while (they are then in the cache). What the compiler can't keep in registers
after all, it keeps in memory that is local to a thread, which is as fast as a scratch buffer would be.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from carten.ops.plan import Operand
from carten.ops.program import NONE, Operation, Program, lower, operands
from carten.ops.triton_order import Order, vector_order
from carten.ops.triton_passes import Pass

KEEP = 32
"""Vectors of inputs that are kept in registers."""

SUMS_PER_LOOP = 8
"""Sums over channels that one loop over channels accumulates."""

MAX_REGISTERS = 128
"""Registers for vectors, of the 255 that a thread can have; others hold addresses, scalars and operands."""

SCALAR_SITES = 128
"""Sites side by side where there are no channels."""


@dataclass(frozen=True)
class Tile:
    """What one program of the grid computes at once.

    Args:
        sites: sites; 1 means that values without channels are true scalars.
        lanes: channels, 0 where a pass has none.
        blocks: parts that the channels are split into on the second axis of the grid.
        warps: groups of threads that work in step.
    """

    sites: int
    lanes: int
    blocks: int
    warps: int


@dataclass(frozen=True)
class Kernel:
    """Source, tile, and the components of each output that are written (what is not written is zero)."""

    source: str
    tile: Tile
    written: tuple[int, ...]


def kernel(part: Pass, scalar: str, channels: int, warp: int = 32) -> Kernel:
    """Generate the function ``run`` of a pass.

    Its arguments are the inputs, the outputs, the index of every gathered input (in order), then for a site pass the
    number of sites and the number of lanes full of channels (not a constant, which would have the compiler unroll loops
    over channels and run out of registers), and for a segment pass ``order`` and ``bounds``: row r has the sites
    ``order[bounds[r]:bounds[r + 1]]``, or, where ``ORDERED`` is false, ``bounds[r]`` to ``bounds[r + 1] - 1``.

    Args:
        part: a pass.
        scalar: ``"float32"`` or ``"float64"``.
        channels: size of the channel axis.
        warp: threads that work in step on the device.
    """
    program = lower(part.plan)
    order = vector_order(program)
    tile = _tile(part, program, order, channels, (warp, 4 if scalar == "float32" else 8))
    source = _Source(part, program, order, tile, scalar, channels)
    text = "\n".join(source.lines()) + "\n"
    outputs = [array.name for array in part.plan.outputs]
    names = [program.owner[v][0].name for v in program.order]
    return Kernel(text, tile, tuple(names.count(name) for name in outputs))


def _power(n: int) -> int:
    """The smallest power of two that is not less."""
    return 1 << max(n - 1, 0).bit_length()


def _tile(part: Pass, program: Program, order: Order, channels: int, device: tuple[int, int]) -> Tile:
    """Threads lie along channels, then sites.

    Sums over channels: four (two) channels a thread, so that a warp adds up several sites with few exchanges.
    Else one channel a thread, or two where the values of both fit in registers, which halves the work on scalars.
    """
    warp, size = device
    if not part.wide:
        return Tile(SCALAR_SITES, 0, 1, SCALAR_SITES // warp) if not part.index else Tile(warp, 0, 1, 1)
    each = 16 // size
    if program.sums:
        lanes = min(_power(channels), 8 * each)
        return Tile(warp * each // lanes, lanes, 1, 1)
    each = 2 if channels > warp and order.live * 2 * (size // 4) <= MAX_REGISTERS else 1
    lanes = min(_power(channels), warp * each)
    return Tile(max(1, warp // lanes), lanes, -(-channels // lanes), 1)


class _Source:
    """Lines of a module with the function ``run``."""

    def __init__(self, part: Pass, program: Program, order: Order, tile: Tile, scalar: str, channels: int) -> None:
        self.plan, self.index = part.plan, part.index
        self.program, self.order, self.tile, self.channels = program, order, tile, channels
        self.scalar = f"tl.{scalar}"
        self.short = {a.name: f"i{n}" for n, a in enumerate(self.plan.inputs)}
        self.short |= {a.name: f"o{n}" for n, a in enumerate(self.plan.outputs)}
        self.gathered = [self.short[array.name] for array in self.plan.inputs if array.index]
        self.final = {v for v in program.order if self._name(v).startswith("o")}
        self.masked = tile.lanes > 0 and channels % tile.lanes != 0

    def _name(self, value: int) -> str:
        """The argument that a value is part of, empty for intermediates."""
        return self.short.get(self.program.owner[value][0].name, "")

    def lines(self) -> Iterable[str]:
        names = [*self.short.values(), *(f"x{name[1:]}" for name in self.gathered)]
        names += ["order", "bounds", "ORDERED: tl.constexpr"] if self.index else ["n", "blocks"]
        yield "import triton\nimport triton.language as tl\n\n"
        yield "@triton.jit" if self.index else '@triton.jit(do_not_specialize=["n", "blocks"])'
        yield f"def run({', '.join(names)}):"
        yield from (f"    {line}" for line in (self._segment() if self.index else self._site()))

    def _axis(self, size: int, first: bool) -> str:
        """Numbers 0 to size - 1 along one of the axes of the tile."""
        both = self.tile.sites > 1 and self.tile.lanes > 0
        return f"tl.arange(0, {size})" + (("[:, None]" if first else "[None, :]") if both else "")

    def _shape(self, wide: bool) -> str:
        sites, lanes = self.tile.sites, self.tile.lanes
        if lanes == 0:
            return f"({sites},)"
        if sites == 1:
            return f"({lanes},)"
        return f"({sites}, {lanes if wide else 1})"

    def _site(self) -> Iterable[str]:
        yield "site = tl.program_id(0).to(tl.int64)"
        if self.tile.sites > 1:
            yield f"site = site * {self.tile.sites} + {self._axis(self.tile.sites, True)}"
            yield "live = site < n"
            yield "site = tl.minimum(site, n - 1)"
        yield from self._rows("site", [*self.plan.inputs, *self.plan.outputs])
        if self.program.sums:
            yield from _Loops(self).run()
            return
        if self.tile.lanes:
            yield from self.channel("tl.program_id(1)")
            yield from self.columns([*self.plan.inputs, *self.plan.outputs])
        yield from _Body(self).straight()

    def _segment(self) -> Iterable[str]:
        sites = self.tile.sites
        yield "row = tl.program_id(0).to(tl.int64)"
        if self.tile.lanes:
            yield from self.channel("tl.program_id(1)")
        sums = sorted(self.final)
        yield from (f"a{v} = tl.zeros({self._shape(True)}, {self.scalar})" for v in sums)
        yield "begin = tl.load(bounds + row)"
        yield "end = tl.load(bounds + row + 1)"
        yield f"for k in range(begin, end{f', {sites}' if sites > 1 else ''}):"
        if sites > 1:
            yield f"    at = k + {self._axis(sites, True)}"
            yield "    live = at < end"
            yield "    at = tl.minimum(at, end - 1)"
        place = "at" if sites > 1 else "k"
        yield f"    site = tl.load(order + {place}) if ORDERED else {place}"
        inputs, outputs = self.plan.inputs, self.plan.outputs
        addresses = [*self._rows("site", inputs), *self.columns(inputs)]
        yield from (f"    {line}" for line in [*addresses, *_Body(self).straight()])
        yield from [*self._rows("row", outputs), *self.columns(outputs)]
        for v in sums:
            total = f"tl.sum(a{v}, 0{', keep_dims=True' if self.tile.lanes else ''})" if sites > 1 else f"a{v}"
            yield self.store(v, total, one=True)

    def channel(self, block: str) -> Iterable[str]:
        """Channels of the tile."""
        yield f"c = {block} * {self.tile.lanes} + {self._axis(self.tile.lanes, False)}"
        if self.masked:
            yield f"inside = c < {self.channels}"

    def width(self, array: Operand) -> int:
        """Numbers in one row."""
        return array.size * (self.channels if array.channels else 1)

    def _rows(self, row: str, arrays: Sequence[Operand]) -> Iterable[str]:
        """Addresses of the rows of arrays."""
        for array in arrays:
            name = self.short[array.name]
            place = f"tl.load(x{name[1:]} + {row})" if name in self.gathered else row
            yield f"p_{name} = {name} + {place} * {array.size * (self.channels if array.channels else 1)}"

    def columns(self, arrays: Sequence[Operand]) -> Iterable[str]:
        """Addresses of the channels of the tile in the rows of arrays that have channels."""
        names = [self.short[array.name] for array in arrays if array.channels]
        return [f"q_{name} = p_{name} + c" for name in names]

    def _address(self, value: int) -> str:
        array, component = self.program.owner[value]
        name = self.short[array.name]
        return f"q_{name} + {component * self.channels}" if array.channels else f"p_{name} + {component}"

    def load(self, value: int) -> str:
        """Read an input."""
        mask = ", mask=inside, other=0.0" if self.masked and self.program.wide(value) else ""
        return f"tl.load({self._address(value)}{mask})"

    def store(self, value: int, expression: str, one: bool = False) -> str:
        """Write an output of the sites of the tile, or of one row."""
        masks = ["live"] if self.tile.sites > 1 and not one else []
        masks += ["inside"] if self.masked and self.program.wide(value) else []
        mask = f", mask={' & '.join(masks)}" if masks else ""
        return f"tl.store({self._address(value)}, {expression}{mask})"


class _Body:
    """Statements that compute the values of a site."""

    def __init__(self, source: _Source) -> None:
        self.source = source
        self.program = source.program
        self.outer: list[str] = []
        self.lines = self.outer
        self.loaded: OrderedDict[int, None] = OrderedDict()
        self.assigned: set[int] = set()

    def straight(self) -> list[str]:
        """All values in the order of the source, scalars when they are needed; no sums over channels."""
        left = Counter(operation.target for operation in self.source.order.operations)
        for operation in self.source.order.operations:
            self._add(operation)
            left[operation.target] -= 1
            if not left[operation.target]:
                self._leave(operation.target)
        self._rest()
        return self.lines

    def _rest(self) -> None:
        """Scalars that are outputs and that nothing else needed."""
        for value in self.program.order:
            if value in self.source.final and not self.program.wide(value):
                self._scalar(value)

    def _add(self, operation: Operation) -> None:
        """One term of a vector."""
        target, left, right, coefficient = operation
        direct = self._is_direct(target)
        name = f"a{target}" if direct else f"v{target}"
        if (direct or target in self.assigned) and right != NONE and coefficient == 1.0:
            self.lines.append(f"{name} = tl.fma({self._read(left)}, {self._read(right)}, {name})")
        elif direct or target in self.assigned:
            self.lines.append(self._plus(name, self._term(operation)))
        else:
            self.lines.append(f"{name} = {self._term(operation)}")
        self.assigned.add(target)

    def _plus(self, name: str, term: str) -> str:
        """Add a term."""
        return f"{name} {'-' if term[0] == '-' else '+'}= {term.removeprefix('-')}"

    def _is_direct(self, value: int) -> bool:
        """Whether terms are added to a sum over sites at once."""
        return bool(self.source.index) and value in self.source.final and self.source.tile.sites == 1

    def _leave(self, value: int) -> None:
        """Hand a complete value over, if it is an output."""
        if value not in self.source.final or self._is_direct(value):
            return
        wide = self.program.wide(value)
        lines = self.lines if wide else self.outer
        name = f"{'v' if wide else 's'}{value}"
        if self.source.index:
            lines.append(f"a{value} += tl.where(live, {name}, 0.0)")
        else:
            lines.append(self.source.store(value, name))

    def _term(self, operation: Operation) -> str:
        """A product with its coefficient."""
        _, left, right, coefficient = operation
        factors = [self._read(value) for value in (left, right) if value != NONE]
        factors += [] if abs(coefficient) == 1.0 else [repr(abs(coefficient))]
        return ("-" if coefficient < 0 else "") + " * ".join(factors)

    def _read(self, value: int) -> str:
        if not self.program.wide(value):
            return self._scalar(value)
        if value in self.program.terms:
            self._vector(value)
        else:
            if value not in self.loaded:
                self.lines.append(f"v{value} = {self.source.load(value)}")
            self.loaded[value] = None
            self.loaded.move_to_end(value)
            if len(self.loaded) > KEEP:
                self.loaded.popitem(last=False)
        return f"v{value}"

    def _vector(self, value: int) -> None:
        """Compute a vector that was not computed before."""
        if value not in self.assigned:
            for term in self.program.terms[value]:
                self._add(Operation(value, *term))
            self._leave(value)

    def _scalar(self, value: int) -> str:
        """The name of a scalar; if it was not computed before, its statements come before the loop over channels."""
        if value not in self.assigned:
            self.assigned.add(value)
            if value in self.program.terms:
                terms = [self._term(Operation(value, *term)) for term in self.program.terms[value]]
                self.outer.append(f"s{value} = {' + '.join(terms).replace('+ -', '- ')}")
                self._leave(value)
            else:
                self.outer.append(f"s{value} = {self.source.load(value)}")
        return f"s{value}"


class _Loops(_Body):
    """Statements of a site with sums over channels: loops over channels, each for some of the sums.

    What a loop needs is computed in it; a scalar that depends on sums is added up as soon as they are there.
    """

    def __init__(self, source: _Source) -> None:
        super().__init__(source)
        program = self.program
        self.late = {v for v in program.order if program.stage[v] and not program.wide(v)}
        self.missing = {v: len(self._late_terms(v)) + (v in program.sums) for v in self.late}
        self.begun: set[int] = set()
        self.users: dict[int, list[Operation]] = defaultdict(list)
        for value in sorted(self.late):
            for operation in self._late_terms(value):
                for factor in self._late_factors(operation):
                    self.users[factor].append(operation)

    def _late_factors(self, operation: Operation) -> set[int]:
        return {operation.left, operation.right} & self.late

    def _late_terms(self, value: int) -> list[Operation]:
        operations = [Operation(value, *term) for term in self.program.terms[value]]
        return [operation for operation in operations if self._late_factors(operation)]

    def run(self) -> list[str]:
        """All values."""
        for stage in range(self.program.n_stages):
            for sums, outputs in self._groups(stage):
                self._loop(sums, outputs)
        self._rest()
        return self.outer

    def _groups(self, stage: int) -> list[tuple[list[int], list[int]]]:
        """Sums that one loop accumulates, and vectors that it writes: those that share most with the sums."""
        program = self.program
        sums = [v for v in program.order if program.sum_stage.get(v) == stage]
        parts = [sums[n : n + SUMS_PER_LOOP] for n in range(0, len(sums), SUMS_PER_LOOP)]
        groups: list[tuple[list[int], list[int]]] = [(part, []) for part in parts]
        vectors = [v for v in program.order if program.wide(v) and program.stage[v] == stage]
        outputs = [v for v in vectors if v in self.source.final]
        if outputs and not groups:
            return [([], outputs)]
        reached = [self._reach(x for v in group for x in operands(program.sums[v])) for group, _ in groups]
        for value in outputs:
            needed = self._reach([value])
            shared = [len(needed & reach) for reach in reached]
            groups[shared.index(max(shared))][1].append(value)
        return groups

    def _reach(self, values: Iterable[int]) -> set[int]:
        """Vectors that values are computed from, and those themselves."""
        reached: set[int] = set()
        stack = list(values)
        while stack:
            value = stack.pop()
            if value not in reached and self.program.wide(value):
                reached.add(value)
                stack += operands(self.program.terms.get(value, ()))
        return reached

    def _loop(self, sums: Sequence[int], outputs: Sequence[int]) -> None:
        tile, channels = self.source.tile, self.source.channels
        self.assigned = {v for v in self.assigned if not self.program.wide(v)}
        self.loaded.clear()
        self.lines = []
        for value in outputs:
            self._vector(value)
        for value in sums:
            for term in self.program.sums[value]:
                product = self._term(Operation(value, *term))
                masked = f"tl.where(inside, {product}, 0.0)" if self.source.masked else product
                self.lines.append(f"a{value} += {masked}")
        self.outer += [f"a{v} = tl.zeros(({tile.sites}, {tile.lanes}), {self.source.scalar})" for v in sums]
        plan = self.program.plan
        body = [*self.source.channel("k"), *self.source.columns([*plan.inputs, *plan.outputs]), *self.lines]
        if channels > tile.lanes:
            self.outer.append("for k in range(blocks):")
            self.outer += [f"    {line}" for line in body]
        else:
            self.outer += ["k = 0", *body]
        for value in sums:
            self._accumulate(value, f"tl.sum(a{value}, 1, keep_dims=True)")

    def _accumulate(self, value: int, term: str) -> None:
        """Add one part to a scalar that depends on sums; with the last one, go on to the scalars that depend on it."""
        self.outer.append(self._plus(f"s{value}", term) if value in self.begun else f"s{value} = {term}")
        self.begun.add(value)
        self.missing[value] -= 1
        if self.missing[value]:
            return
        for operation in (Operation(value, *term) for term in self.program.terms[value]):
            if not self._late_factors(operation):
                self.outer.append(self._plus(f"s{value}", self._term(operation)))
        self.assigned.add(value)
        self._leave(value)
        for operation in self.users[value]:
            if self._late_factors(operation) <= self.assigned:
                self._accumulate(operation.target, self._term(operation))
