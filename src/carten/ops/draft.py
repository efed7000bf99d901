"""Drafts: how layers write the circuit that they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from carten.ops.circuit import Circuit, prune
from carten.ops.operators import (
    Add,
    Apply,
    CircuitIndex,
    Combine,
    Mix,
    Multiply,
    Operator,
    Run,
    Value,
    renamed,
)
from carten.ops.plan import Plan


class _Content:
    """What has been written so far; all parts of a draft share it."""

    def __init__(self) -> None:
        self.inputs: dict[str, Value] = {}
        self.weights: dict[str, Value] = {}
        self.indices: dict[str, CircuitIndex] = {}
        self.values: dict[str, Value] = {}
        self.operators: list[Operator] = []


class Draft:
    """A circuit under construction.

    Args:
        path: of the module whose weights :meth:`weight` names; see :meth:`within`.
    """

    def __init__(self, path: str = "", content: _Content | None = None) -> None:
        self.path = path
        self._content = content or _Content()

    def within(self, name: str) -> Draft:
        """The same draft, for a submodule."""
        return Draft(f"{self.path}{name}.", self._content)

    def input(self, name: str, rows: str | int, size: int, channels: int = 0) -> Value:
        """An array that the circuit is run on; asked for again, the same.

        Raises:
            ValueError: it has another shape than before.
        """
        value = Value(name, rows, size, channels)
        if self._content.inputs.setdefault(name, value) != value:
            raise ValueError(f"the input {name!r} is {self._content.inputs[name]} and {value}")
        return value

    def index(self, name: str, sites: str, rows: str | int) -> CircuitIndex:
        """An index by name; asked for again, the same.

        Raises:
            ValueError: it has other sites or rows than before.
        """
        index = CircuitIndex(name, sites, rows)
        if self._content.indices.setdefault(name, index) != index:
            raise ValueError(f"the index {name!r} is {self._content.indices[name]} and {index}")
        return index

    def weight(self, name: str, shape: Sequence[int], row: int | None = None) -> Value:
        """A parameter or buffer of the module, or one row of it, seen in this shape of two or three axes.

        Raises:
            ValueError: it was seen in another shape before.
        """
        name = f"{self.path}{name}" + ("" if row is None else f"[{row}]")
        value = Value(name, *shape)
        if self._content.weights.setdefault(name, value) != value:
            raise ValueError(f"the weight {name!r} is {self._content.weights[name]} and {value}")
        return value

    def run(
        self, plan: Plan, operands: Sequence[Value], sites: str, indices: Mapping[str, CircuitIndex] | None = None
    ) -> tuple[Value, ...]:
        """The outputs of a plan at sites; ``indices`` are those of the plan."""
        indices = indices or {}
        channels = next((value.channels for value in operands if value.channels), 0)
        outputs = tuple(
            self._value(a.name, indices[a.index].rows if a.index else sites, a.size, channels if a.channels else 0)
            for a in plan.outputs
        )
        pairs = tuple((name, indices[name].name) for name in plan.indices)
        names = tuple(value.name for value in operands)
        self._content.operators.append(Run(plan, names, tuple(value.name for value in outputs), pairs, sites))
        return outputs

    def mix(
        self, x: Value, weight: Value, scale: float, size: int | None = None, index: CircuitIndex | None = None
    ) -> Value:
        """``scale x W`` of every row as it lies in memory, or W by the kind of a row.

        Args:
            x: the value.
            weight: a matrix (n_in, n_out), or matrices (kinds, n_in, n_out) where there is an index.
            scale: of the matrix.
            size: number of components of the result; by default as many as rows have vectors of n_in numbers.
            index: kind of every row.
        """
        n_in, n_out = (weight.size, weight.channels) if index else (int(weight.rows), weight.size)
        n_vectors = x.width // n_in
        size = n_vectors if size is None else size
        result = self._value("mixed", x.rows, size, n_vectors * n_out // size)
        self._content.operators.append(Mix(x.name, weight.name, result.name, scale, index.name if index else ""))
        return result

    def combine(self, x: Value, matrix: Value) -> Value:
        """A dense map of components, by a matrix (size of the result, size)."""
        result = self._value("combined", x.rows, int(matrix.rows), x.channels)
        self._content.operators.append(Combine(x.name, matrix.name, result.name))
        return result

    def add(self, *terms: Value) -> Value:
        """Sum of values of one shape."""
        result = self._like("sum", terms[0])
        self._content.operators.append(Add(tuple(term.name for term in terms), result.name))
        return result

    def multiply(self, left: Value, right: Value) -> Value:
        """Product of values of one shape, number by number."""
        result = self._like("product", left)
        self._content.operators.append(Multiply(left.name, right.name, result.name))
        return result

    def apply(self, function: str, x: Value, order: int = 0) -> Value:
        """A pointwise function of :data:`carten.ops.operators.FUNCTIONS`, or a derivative of it."""
        result = self._like(function, x)
        self._content.operators.append(Apply(function, x.name, result.name, order))
        return result

    def finish(self, outputs: Mapping[str, Value]) -> Circuit:
        """The circuit, with these values as outputs, by name; what they do not need is left out, but for inputs."""
        names: dict[str, str] = {}
        values, operators = dict(self._content.values), list(self._content.operators)
        for name, value in outputs.items():
            if value.name in self._content.values and value.name not in names:
                names[value.name] = name
            else:
                values[name] = replace(value, name=name)
                operators.append(Add((value.name,), name))
        changed = [renamed(operator, lambda name: names.get(name, name)) for operator in operators]
        shown = [replace(value, name=names.get(value.name, value.name)) for value in values.values()]
        indices = tuple(self._content.indices.values())
        inputs, weights = tuple(self._content.inputs.values()), tuple(self._content.weights.values())
        complete = Circuit(inputs, weights, indices, tuple(shown), tuple(changed), tuple(outputs))
        return prune(inputs, complete, complete.outputs)

    def _value(self, hint: str, rows: str | int, size: int, channels: int) -> Value:
        name = f"{self.path}{hint}#{len(self._content.values)}"
        value = Value(name, rows, size, channels)
        self._content.values[name] = value
        return value

    def _like(self, hint: str, value: Value) -> Value:
        return self._value(hint, value.rows, value.size, value.channels)
