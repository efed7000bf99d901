"""C++ of the phases of a model: explicit calls of kernels, matrix products and pointwise functions, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from carten.deploy.phases import GEOMETRY, SEEDS, Phase, Scheme
from carten.ops.cost import cost
from carten.ops.operators import Add, Apply, Combine, Mix, Multiply, Operator, Run, Value
from carten.ops.plan import Plan
from carten.properties.planning import ENERGIES

Weight = tuple[str, float, bool]
"""A constant of the library: name of the weight, what it is multiplied by, and whether it is transposed."""


@dataclass(frozen=True)
class PlanKernel:
    """A plan to compile: the number of its channels, and the index in whose order it scatters."""

    plan: Plan
    channels: int
    followed: str

    @property
    def function(self) -> str:
        """Name of its function."""
        return f"carten_plan_{self.plan.digest[:24]}_{self.channels}_{self.followed}"


@dataclass
class Source:
    """The functions of all phases, and what they refer to by number.

    Attributes:
        functions: C++ of every phase.
        weights: constants, by number.
        arrays: values that are kept, by number: rows and width.
        scattered: numbers of those that edges add to.
        kernels: plans they call.
        work: multiply-adds of the plans, for each of own atoms and of edges.
    """

    functions: list[str] = field(default_factory=list)
    weights: dict[Weight, int] = field(default_factory=dict)
    arrays: dict[str, int] = field(default_factory=dict)
    scattered: tuple[str, ...] = ()
    kernels: dict[PlanKernel, None] = field(default_factory=dict)
    levels: Mapping[str, int] = field(default_factory=dict)
    work: dict[str, int] = field(default_factory=lambda: {"own": 0, "edges": 0})


class _Memory:
    """Places of values in the memory of a chunk: so many times the rows of atoms, so many times those of edges."""

    def __init__(self) -> None:
        self.end = {"own": 0, "edges": 0}
        self.free: list[tuple[str, int, str]] = []

    def take(self, rows: str, width: int) -> tuple[str, str]:
        """A place, as an expression and as what to give back."""
        fitting = [place for place in self.free if place[0] == rows and place[1] >= width]
        if fitting:
            place = min(fitting, key=lambda place: place[1])
            self.free.remove(place)
            return place[2], place[2]
        expression = f"m + {self.end['own']} * N + {self.end['edges']} * E"
        self.end[rows] += width
        return expression, expression


class _Writer:
    """The body of one phase."""

    def __init__(self, scheme: Scheme, source: Source, phase: Phase) -> None:
        self.scheme, self.source, self.phase = scheme, source, phase
        self.lines: list[str] = []
        self.memory = _Memory()
        self.names: dict[str, str] = {}
        self.places: dict[str, tuple[str, int, str]] = {}
        self.last: dict[str, int] = {}
        self.step = 0

    def body(self) -> list[str]:
        phase = self.phase
        groups = [phase.operators, *(reading.operators for reading in phase.readings), phase.gradient]
        ends, n = [], 0
        for group in groups:
            for operator in group:
                self.last.update(dict.fromkeys((*operator.reads, *operator.writes), n))
                n += 1
            ends.append(n)
        for reading, end in zip(phase.readings, ends[1:], strict=False):
            self.last.update({name: max(self.last.get(name, 0), end) for name in reading.outputs})
        if phase.edges:
            self.last.update(dict.fromkeys(phase.edges.values(), n + 1))
        self._all(phase.operators)
        for reading in phase.readings:
            self._reading(reading.name, reading.operators, reading.outputs)
        if phase.gradient:
            self.lines.append("if (!v.gradients) return true;")
            reads = {name for operator in phase.gradient for name in operator.reads}
            seeds = [name for name in SEEDS if SEEDS[name] in reads]
            self.lines += [f"seed_{name}(v, c, {self._write(SEEDS[name])});" for name in seeds]
            self._all(phase.gradient)
            if phase.edges:
                gradients = [self._read(phase.edges[name]) if name in phase.edges else "nullptr" for name in GEOMETRY]
                first = "true" if seeds else "false"
                self.lines.append(f"leave<{first}>(v, c, {', '.join(gradients)});")
        self.lines.append("return true;")
        return self.lines

    def _all(self, operators: Iterable[Operator]) -> None:
        for operator in operators:
            self._emit(operator)
            self.step += 1
            for name in (*operator.reads, *operator.writes):
                if self.last.get(name, -1) < self.step and name in self.places:
                    self.memory.free.append(self.places.pop(name))

    def _reading(self, name: str, operators: Sequence[Operator], outputs: Sequence[str]) -> None:
        number = list(self.source.levels).index(name)
        if name != ENERGIES:
            self.lines.append(f"if (v.readouts && v.readouts[{number - (ENERGIES in self.source.levels)}]) {{")
        self._all(operators)
        parts = ", ".join(self._read(output) for output in outputs)
        if name == ENERGIES:
            self.lines.append(f"energies(v, c, {parts});")
        else:
            self.lines += [f"const S* const parts[] = {{{parts}}};", f"readout<Readout{number}>(v, c, parts);", "}"]

    def _emit(self, operator: Operator) -> None:
        match operator:
            case Run():
                self._run(operator)
            case Mix():
                self._mix(operator)
            case Combine(source, matrix, target, transposed):
                x, y = self.scheme.values[source], self.scheme.values[target]
                m = self._weight((matrix, 1.0, transposed))
                call = f"combine({self._read(source)}, {self._rows(x)}, {x.size}, {x.channels or 1}, {m}, {y.size}"
                self.lines.append(f"{call}, {self._write(target)});")
            case Add(inputs, target):
                self._add([self._read(name) for name in inputs], target)
            case Multiply(left, right, target):
                n, reads = self._numbers(target), (self._read(left), self._read(right))
                self.lines.append(f"multiply({', '.join(reads)}, {n}, {self._write(target)});")
            case Apply(function, source, target, order):
                if order > 1:
                    raise ValueError(f"the derivative of order {order} of {function!r} is not compiled")
                n, read, name = self._numbers(target), self._read(source), "slopes" if order else "apply"
                self.lines.append(f"{name}<{function.capitalize()}>({read}, {n}, {self._write(target)});")

    def _mix(self, mix: Mix) -> None:
        x, w = self.scheme.values[mix.input], self.scheme.values[mix.weight]
        n_in, n_out = (w.size, w.channels) if mix.index else (int(w.rows), w.size)
        n_in, n_out = (n_out, n_in) if mix.transposed else (n_in, n_out)
        matrix, size = self._weight((mix.weight, mix.scale, mix.transposed)), x.width // n_in
        head = f"{self._read(mix.input)}, {self._rows(x)}"
        if mix.index:
            call = f"product_by_kind({head}, {size}, {n_in}, {matrix}, {self._index(mix.index)[0]}, {n_out}"
        else:
            call = f"product({head} * {size}, {n_in}, {matrix}, {n_out}"
        self.lines.append(f"{call}, {self._write(mix.output)});")

    def _add(self, reads: Sequence[str], target: str) -> None:
        n, y = self._numbers(target), self._write(target)
        if len(reads) == 1:
            self.lines.append(f"copy({reads[0]}, {n}, {y});")
        for left, right in zip([reads[0], *[y] * (len(reads) - 2)], reads[1:], strict=False):
            self.lines.append(f"add({left}, {right}, {n}, {y});")

    def _run(self, run: Run) -> None:
        values, renamed = self.scheme.values, dict(run.indices)
        channels = max((values[name].channels for name in (*run.inputs, *run.outputs)), default=0) or 1
        scatters = {array.index for array in run.plan.outputs if array.index}
        followed = next((index for index in scatters if renamed[index] == "centre"), "")
        kernel = PlanKernel(run.plan, channels, followed)
        self.source.kernels[kernel] = None
        if run.sites in self.source.work:
            self.source.work[run.sites] += cost(run.plan).multiply_adds(channels)
        words: list[str] = []
        for array, name in zip(run.plan.inputs, run.inputs, strict=True):
            if array.index:
                base, index, limit = self._gathered(name, renamed[array.index])
                words += [f"address({base})", str(values[name].width), f"address({index})", limit]
            else:
                words += [f"address({self._read(name)})", str(values[name].width)]
        for array, name in zip(run.plan.outputs, run.outputs, strict=True):
            if array.index and array.index != followed:
                index, limit = self._index(renamed[array.index])
                copy = f"c.copies[{self.source.scattered.index(name)}]"
                words += [f"address({copy})", f"address({index})", limit]
            else:
                words.append(f"address({self._write(name)})")
        key, rows = self._index(renamed[followed]) if followed else ("nullptr", "0")
        words += [f"address({key})", "0", self._sites(run.sites), rows, "1"]
        self.lines.append(f"{{ const int64_t a[] = {{{', '.join(words)}}}; if ({kernel.function}(a)) return false; }}")

    def _gathered(self, name: str, index: str) -> tuple[str, str, str]:
        """Address of the first of all rows, of the index, and how many rows there are."""
        place, limit = self._index(index)
        if name in self.scheme.weights:
            next_knot = f" + {self.scheme.values[name].width}" if index == "high" else ""
            base = self._weight((name, 1.0, False)) + next_knot
        elif self.scheme.values[name].rows == "own" or index == "centre":
            base = self._read(name)
        else:
            base = f"v.array[{self.source.arrays[name]}]"
        return base, place, limit

    def _index(self, name: str) -> tuple[str, str]:
        """Address of an index for the sites at hand, and its number of rows."""
        match name:
            case "centre":
                return "v.centre + c.edge", "n"
            case "neighbour":
                return "v.neighbour + c.edge", "v.n_all"
            case "low" | "high":
                return "v.low + c.edge", "v.n_intervals"
            case "element" | "all_element":
                return "v.element + c.first", "model_n_elements"
            case "centre_element" | "neighbour_element":
                return f"v.{name} + c.edge", "model_n_elements"
            case "zero" | "structure" | "all_structure":
                return "v.zero", "1"
        number, per_atom, n_values = self.scheme.categories[name]
        return f"v.category[{number}]" + (" + c.first" if per_atom else ""), str(n_values)

    def _sites(self, rows: str | int) -> str:
        return {"own": "n", "all": "n", "edges": "e", "structures": "1"}[str(rows)]

    def _rows(self, value: Value) -> str:
        return self._sites(value.rows)

    def _numbers(self, name: str) -> str:
        value = self.scheme.values[name]
        return f"{self._rows(value)} * {value.width}"

    def _weight(self, weight: Weight) -> str:
        name, scale, _ = weight
        for stored in ((name, scale, False), weight):  # transposes are made from what is stored
            self.source.weights.setdefault(stored, len(self.source.weights))
        number = self.source.weights[weight]
        return f"v.weights[{number}]"

    def _read(self, name: str) -> str:
        """Address of a value, at the first row at hand."""
        value = self.scheme.values[name]
        if name in self.names:
            return self.names[name]
        if name in self.source.arrays:
            base = f"v.array[{self.source.arrays[name]}]"
            return base if value.rows == "structures" else f"{base} + c.first * {value.width}"
        if name == "one":
            return "v.one"
        if name in GEOMETRY:
            return f"v.{name} + c.edge * {value.width}"
        if name in self.scheme.weights:
            return self._weight((name, 1.0, False))
        raise ValueError(f"{self.phase.name}: nothing writes {name!r}")

    def _write(self, name: str) -> str:
        """Address of a value that is about to be written."""
        value = self.scheme.values[name]
        if name in self.source.arrays and not name.startswith("input/"):
            return self._read(name)
        rows = "own" if value.rows in ("own", "all", "structures") else "edges"
        expression, given_back = self.memory.take(rows, value.width)
        local = f"x{len(self.names)}"
        self.lines.append(f"S* const {local} = {expression};")
        self.names[name] = local
        self.places[name] = (rows, value.width, given_back)
        return local


def write_phases(scheme: Scheme, heads: Sequence[str]) -> Source:
    """The C++ of all phases, one function ``static bool NAME(const View& v, const Chunk& c)`` for each."""
    source = Source(levels={name: n for n, name in enumerate(heads)})
    source.arrays = {name: n for n, name in enumerate((*scheme.input_names, *scheme.kept))}
    source.scattered = scheme.scattered
    for phase in scheme.phases:
        writer = _Writer(scheme, source, phase)
        body = "\n  ".join(writer.body())
        ends = ", ".join(map(str, writer.memory.end.values()))
        source.functions.append(
            f"static bool {phase.name}(const View& v, const Chunk& c) {{\n"
            "  const int64_t n = c.n, e = c.n_edges, N = padded(n), E = padded(e);\n  S* const m = c.local;\n"
            f"  {body}\n}}\nconstexpr int64_t {phase.name}_memory[] = {{{ends}}};\n"
        )
    return source
