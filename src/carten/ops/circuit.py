"""Circuits: the operators a layer consists of, in order, on named values; and their derivatives.

A plan says what happens at one site; a circuit is a list of plans, linear maps and pointwise functions on whole arrays.
Rows of arrays are symbols (``own`` atoms, ``all`` atoms, ``edges``, ..), so that one circuit serves any structure, any
device and any program that runs it. The derivative of a circuit is a circuit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cache, cached_property
from typing import Any

from carten.ops.operators import (
    FUNCTIONS,
    Add,
    Apply,
    CircuitIndex,
    Combine,
    Mix,
    Multiply,
    Operator,
    Run,
    Value,
    index_names,
)
from carten.ops.plan import parse
from carten.ops.reverse import reverse

_OPERATORS: dict[str, Callable[..., Operator]] = {kind.__name__: kind for kind in (Mix, Combine, Add, Multiply, Apply)}


@dataclass(frozen=True, eq=False)
class Circuit:
    """Operators on named values.

    Args:
        inputs: what it is run on.
        weights: fixed arrays: names of tensors of the module that the circuit describes, see
            :func:`carten.ops.interpreter.weights`.
        indices: what it gathers and scatters with.
        values: what operators write.
        operators: in an order in which they can run.
        outputs: names of the results.

    Raises:
        ValueError: the operators don't fit the values.
    """

    inputs: tuple[Value, ...]
    weights: tuple[Value, ...]
    indices: tuple[CircuitIndex, ...]
    values: tuple[Value, ...]
    operators: tuple[Operator, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        check(self)

    @cached_property
    def text(self) -> str:
        """The whole circuit as JSON; see :func:`parse_circuit`."""
        return _dump(self)

    @cached_property
    def digest(self) -> str:
        """Content hash, equal for equal circuits."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @cached_property
    def by_name(self) -> dict[str, Value]:
        """All values by name."""
        return {value.name: value for value in (*self.inputs, *self.weights, *self.values)}

    @cached_property
    def last_reads(self) -> tuple[tuple[str, ...], ...]:
        """For each operator, the values that nothing reads after it and that are no outputs."""
        kept, result = set(self.outputs), []
        for operator in reversed(self.operators):
            last = {name for name in (*operator.reads, *operator.writes) if name not in kept}
            kept |= last
            result.append(tuple(sorted(last)))
        return tuple(reversed(result))

    @property
    def rows(self) -> tuple[str, ...]:
        """Symbols of rows, in order of first use."""
        values = (*self.inputs, *self.values)
        symbols = [value.rows for value in values] + [index.sites for index in self.indices]
        return tuple(dict.fromkeys(symbol for symbol in symbols if isinstance(symbol, str)))

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Circuit) and self.digest == other.digest)

    def __str__(self) -> str:
        shown = (("inputs", self.inputs), ("weights", self.weights), ("indices", self.indices))
        lines = [f"{title}: {', '.join(map(str, members))}" for title, members in shown if members]
        lines += [f"  {operator}" for operator in self.operators]
        return "\n".join([*lines, "outputs: " + ", ".join(str(self.by_name[name]) for name in self.outputs)])

    def select(self, outputs: Sequence[str]) -> Circuit:
        """The same circuit with these values as outputs, without what they do not need.

        Raises:
            ValueError: a name that no operator writes.
        """
        if missing := set(outputs) - {value.name for value in self.values}:
            raise ValueError(f"the circuit has no values {', '.join(sorted(missing))}")
        return prune(self.inputs, self, tuple(outputs))

    def split(self) -> tuple[Circuit, Circuit]:
        """What depends on weights alone, and the rest, whose weights are the outputs of the first besides its own."""
        fixed = {value.name for value in self.weights}
        early: list[Operator] = []
        late: list[Operator] = []
        for operator in self.operators:
            constant = fixed.issuperset(operator.reads) and not isinstance(operator, Run)
            (early if constant else late).append(operator)
            fixed.update(operator.writes if constant else ())
        needed = {*self.outputs, *(name for operator in late for name in operator.reads)}
        folded = tuple(v for v in self.values if v.name in fixed and v.name in needed)
        first = Circuit((), self.weights, (), self.values, tuple(early), tuple(v.name for v in folded))
        remaining = tuple(value for value in self.values if value not in folded)
        rest = Circuit(self.inputs, (*self.weights, *folded), self.indices, remaining, tuple(late), self.outputs)
        return prune((), first, first.outputs), prune(rest.inputs, rest, rest.outputs)

    def vjp(self, wrt: Sequence[str], seeded: Sequence[str] | None = None) -> Circuit:
        """Gradients with respect to inputs, contracted with gradients of the outputs (reverse mode).

        Args:
            wrt: names of inputs to differentiate.
            seeded: outputs whose gradients are not zero, by default all.

        Returns:
            A circuit. Its inputs are the values of this one that it reads, inputs or not, under their names, then
            ``gradient(NAME)`` of each of ``seeded``. Its outputs are ``gradient(NAME)`` of each of ``wrt``, in this
            order, without those that ``seeded`` does not depend on. (A prime is added to a name that is taken, as it is
            where a gradient is differentiated again.)

        Raises:
            ValueError: a name that is no input or no output, or a matrix depends on ``wrt``.
        """
        if missing := set(wrt) - {value.name for value in self.inputs}:
            raise ValueError(f"gradients are taken with respect to inputs, not {', '.join(sorted(missing))}")
        seeded = self.outputs if seeded is None else seeded
        if missing := set(seeded) - set(self.outputs):
            raise ValueError(f"gradients are given for outputs, not {', '.join(sorted(missing))}")
        return _vjp(self, tuple(wrt), tuple(seeded))


@cache
def _vjp(circuit: Circuit, wrt: tuple[str, ...], seeded: tuple[str, ...]) -> Circuit:
    gradient = reverse(circuit.by_name, circuit.operators, wrt, seeded)
    values = (*circuit.inputs, *circuit.values)
    every = (*values, *gradient.seeds)
    complete = Circuit(every, circuit.weights, circuit.indices, gradient.values, gradient.operators, gradient.outputs)
    needed = prune(every, complete, gradient.outputs)
    reads = {name for operator in needed.operators for name in operator.reads}
    kept = tuple(value for value in values if value.name in reads)
    return prune((*kept, *gradient.seeds), needed, gradient.outputs)


def prune(inputs: tuple[Value, ...], circuit: Circuit, outputs: tuple[str, ...]) -> Circuit:
    """Drop the operators, values, weights and indices that outputs don't need; these inputs all stay."""
    needed, kept = set(outputs), []
    for operator in reversed(circuit.operators):
        if needed.intersection(operator.writes):
            needed.update(operator.reads)
            kept.append(operator)
    written = {name for operator in kept for name in operator.writes}
    used = {name for operator in kept for name in index_names(operator)}
    return Circuit(
        inputs,
        tuple(value for value in circuit.weights if value.name in needed),
        tuple(index for index in circuit.indices if index.name in used),
        tuple(value for value in circuit.values if value.name in written),
        tuple(reversed(kept)),
        outputs,
    )


def check(circuit: Circuit) -> None:
    """Check that every operator fits its values.

    Raises:
        ValueError: one does not; the message names it.
    """
    by_name = circuit.by_name
    if len(by_name) != len(circuit.inputs) + len(circuit.weights) + len(circuit.values):
        names = [value.name for value in (*circuit.inputs, *circuit.weights, *circuit.values)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"values of a circuit need unique names, found {', '.join(repeated)} twice")
    indices = {index.name: index for index in circuit.indices}
    written = {value.name for value in (*circuit.inputs, *circuit.weights)}
    for operator in circuit.operators:
        for name in operator.reads:
            if name not in written:
                raise ValueError(f"'{operator}' reads {name!r}, which is not written before")
        for name in operator.writes:
            if name in written or name not in by_name:
                raise ValueError(f"'{operator}' writes {name!r}, which is written before or not a value")
        written.update(operator.writes)
        if missing := [name for name in index_names(operator) if name not in indices]:
            raise ValueError(f"'{operator}' uses the index {missing[0]!r}, which the circuit does not have")
        if problem := _misfit(operator, by_name, indices):
            raise ValueError(f"'{operator}': {problem}")
    if missing := [name for name in circuit.outputs if name not in written]:
        raise ValueError(f"the output {missing[0]!r} is not written by any operator")


def _misfit(operator: Operator, by_name: Mapping[str, Value], indices: Mapping[str, CircuitIndex]) -> str:
    """What is wrong with an operator; empty if nothing is."""
    match operator:
        case Run():
            return _misfit_of_plan(operator, by_name, indices)
        case Mix(source, weight, target, _, index, transposed):
            x, w, y = by_name[source], by_name[weight], by_name[target]
            if not isinstance(w.rows, int):
                return f"{w} is no weight"
            n_in, n_out = (w.size, w.channels) if index else (w.rows, w.size)
            n_in, n_out = (n_out, n_in) if transposed else (n_in, n_out)
            if x.width % n_in:
                return f"rows of {x} do not consist of {n_in} numbers each"
            if index and (indices[index].sites, indices[index].rows) != (x.rows, w.rows):
                return f"index {indices[index]} does not pick one of {w} for {x}"
            return "" if x.rows == y.rows and x.width // n_in * n_out == y.width else f"{y} can't hold the result"
        case Combine(source, matrix, target, transposed):
            x, m, y = by_name[source], by_name[matrix], by_name[target]
            sizes = (m.rows, m.size) if transposed else (m.size, m.rows)
            return "" if sizes == (x.size, y.size) and x.channels == y.channels else f"{m} does not map {x} to {y}"
        case Apply() if operator.function not in FUNCTIONS:
            return f"there is no function {operator.function!r}; there are {', '.join(FUNCTIONS)}"
        case Add() | Multiply() | Apply():
            shapes = {(by_name[n].rows, *by_name[n].row_shape) for n in (*operator.reads, *operator.writes)}
            return "" if len(shapes) == 1 else "the values differ in shape"


def _misfit_of_plan(run: Run, by_name: Mapping[str, Value], indices: Mapping[str, CircuitIndex]) -> str:
    plan, renamed = run.plan, dict(run.indices)
    if set(renamed) != set(plan.indices):
        return f"the plan needs the indices {', '.join(plan.indices)}, found {', '.join(renamed)}"
    if (len(run.inputs), len(run.outputs)) != (len(plan.inputs), len(plan.outputs)):
        return f"the plan has {len(plan.inputs)} inputs and {len(plan.outputs)} outputs"
    channels = set()
    for operand, name in zip((*plan.inputs, *plan.outputs), (*run.inputs, *run.outputs), strict=True):
        value = by_name[name]
        index = indices[renamed[operand.index]] if operand.index else None
        rows, sites = (index.rows, index.sites) if index else (run.sites, run.sites)
        if (value.rows, value.size, bool(value.channels)) != (rows, operand.size, operand.channels):
            return f"{value} does not fit {operand}"
        if sites != run.sites:
            return f"index {index} is not one of sites {run.sites}"
        channels.add(value.channels)
    return "" if len(channels - {0}) <= 1 else f"values have {sorted(channels)} channels"


def _dump(circuit: Circuit) -> str:
    plans: dict[str, str] = {}
    operators: list[Any] = []
    for operator in circuit.operators:
        if isinstance(operator, Run):
            plans[operator.plan.digest] = operator.plan.text
            body = (operator.plan.digest, operator.inputs, operator.outputs, operator.indices, operator.sites)
        else:
            body = astuple(operator)
        operators.append((type(operator).__name__, *body))
    return json.dumps(
        {
            "inputs": [astuple(value) for value in circuit.inputs],
            "weights": [astuple(value) for value in circuit.weights],
            "indices": [astuple(index) for index in circuit.indices],
            "values": [astuple(value) for value in circuit.values],
            "operators": operators,
            "outputs": circuit.outputs,
            "plans": plans,
        }
    )


def parse_circuit(text: str) -> Circuit:
    """The circuit of :attr:`Circuit.text`."""
    document = json.loads(text)
    plans = {digest: parse(plan) for digest, plan in document["plans"].items()}
    operators: list[Operator] = []
    for kind, *body in document["operators"]:
        if kind == "Run":
            digest, inputs, outputs, indices, sites = body
            operators.append(Run(plans[digest], tuple(inputs), tuple(outputs), tuple(map(tuple, indices)), sites))
        else:
            operators.append(_OPERATORS[kind](*(tuple(x) if isinstance(x, list) else x for x in body)))
    inputs, weights, values = ([Value(*x) for x in document[name]] for name in ("inputs", "weights", "values"))
    indices = tuple(CircuitIndex(*x) for x in document["indices"])
    return Circuit(tuple(inputs), tuple(weights), indices, tuple(values), tuple(operators), tuple(document["outputs"]))
