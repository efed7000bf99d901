"""Reverse mode for circuits: the operators of the gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from carten.ops.operators import Add, Apply, Combine, Mix, Multiply, Operator, Run, Value, renamed
from carten.ops.plan import Plan


@dataclass(frozen=True)
class Gradient:
    """Operators of a gradient: ``seeds`` are what it starts from, ``values`` what its operators write."""

    seeds: tuple[Value, ...]
    values: tuple[Value, ...]
    operators: tuple[Operator, ...]
    outputs: tuple[str, ...]


def gradient_name(name: str, by_name: Mapping[str, Value]) -> str:
    """Name of the gradient of a value: ``gradient(NAME)``, with a prime where a gradient is differentiated again."""
    gradient = f"gradient({name})"
    while gradient in by_name:
        gradient += "'"
    return gradient


def reverse(
    by_name: Mapping[str, Value], operators: Sequence[Operator], wrt: Sequence[str], seeded: Sequence[str]
) -> Gradient:
    """Gradients with respect to some values, from those of others.

    Args:
        by_name: all values of the circuit by name.
        operators: of the circuit.
        wrt: values to differentiate with respect to.
        seeded: values whose gradients are not zero.
    """
    return _Reverse(by_name, operators, wrt, seeded).gradient()


class _Reverse:
    """Collects the operators of the gradients, from the last operator of the circuit to the first."""

    def __init__(
        self, by_name: Mapping[str, Value], operators: Sequence[Operator], wrt: Sequence[str], seeded: Sequence[str]
    ) -> None:
        self.by_name, self.forward, self.wrt = by_name, operators, wrt
        self.varying = set(wrt)
        for operator in operators:
            if self.varying.intersection(operator.reads):
                self.varying.update(operator.writes)
        seeds = {name: gradient_name(name, by_name) for name in seeded}
        self.seeds = {seed: self._like(name, seed) for name, seed in seeds.items()}
        self.shares: dict[str, list[str]] = {name: [seed] for name, seed in seeds.items()}
        self.values: dict[str, Value] = {}
        self.operators: list[Operator] = []

    def gradient(self) -> Gradient:
        for operator in reversed(self.forward):
            gradients = [self._total(name) if name in self.varying else None for name in operator.writes]
            if any(gradients):
                self._step(operator, gradients)
        outputs = tuple(self._finish(name) for name in self.wrt if name in self.shares)
        return Gradient(tuple(self.seeds.values()), tuple(self.values.values()), tuple(self.operators), outputs)

    def _like(self, name: str, new: str) -> Value:
        return replace(self.by_name[name], name=new)

    def _fresh(self, name: str, like: str) -> str:
        """A new value of the shape of another."""
        while name in self.by_name or name in self.values or name in self.seeds:
            name += "'"
        self.values[name] = self._like(like, name)
        return name

    def _share(self, name: str, operator: Callable[[str], Operator]) -> None:
        """Let an operator write a share of the gradient of a value, if it varies."""
        if name in self.varying:
            target = self._fresh(f"d {name}", name)
            self.operators.append(operator(target))
            self.shares.setdefault(name, []).append(target)

    def _total(self, name: str) -> str | None:
        """The gradient of a value; ``None`` if it has none."""
        shares = self.shares.get(name, [])
        if len(shares) > 1:
            target = self._fresh(f"d {name}", name)
            self.operators.append(Add(tuple(shares), target))
            self.shares[name] = [target]
        return self.shares[name][0] if shares else None

    def _finish(self, name: str) -> str:
        """Give the gradient of an input its name."""
        total, target = self._total(name), gradient_name(name, self.by_name)
        if total is None or target in self.seeds:
            raise ValueError(f"{name!r} is an input and an output at once")
        if total in self.seeds or sum(total in shares for shares in self.shares.values()) > 1:
            self.values[target] = self._like(name, target)
            self.operators.append(Add((total,), target))
        else:
            self.values = {target if n == total else n: v for n, v in self.values.items()}
            self.values[target] = self._like(name, target)
            self.operators = [renamed(x, lambda n: target if n == total else n) for x in self.operators]
        return target

    def _step(self, operator: Operator, gradients: Sequence[str | None]) -> None:
        """Gradients of what an operator reads from those of what it writes."""
        if isinstance(operator, Run):
            self._plan(operator, gradients)
            return
        if isinstance(operator, Mix | Combine) and operator.reads[1] in self.varying:
            raise ValueError(f"'{operator}': circuits are not differentiated with respect to matrices")
        seed = str(gradients[0])
        match operator:
            case Mix(source, weight, _, scale, index, transposed):
                self._share(source, lambda target: Mix(seed, weight, target, scale, index, not transposed))
            case Combine(source, matrix, _, transposed):
                self._share(source, lambda target: Combine(seed, matrix, target, not transposed))
            case Add(sources, _):
                for source in sources:
                    if source in self.varying:
                        self.shares.setdefault(source, []).append(seed)
            case Multiply(left, right, _):
                self._share(left, lambda target: Multiply(seed, right, target))
                self._share(right, lambda target: Multiply(seed, left, target))
            case Apply(function, source, _, order) if function != "one":
                slope = self._fresh(f"slope of {operator.output}", source)
                self.operators.append(Apply(function, source, slope, order + 1))
                self._share(source, lambda target: Multiply(seed, slope, target))

    def _plan(self, run: Run, gradients: Sequence[str | None]) -> None:
        """The gradient of a plan is a plan."""
        seeds = {a.name: g for a, g in zip(run.plan.outputs, gradients, strict=True) if g is not None}
        wrt = {a.name: name for a, name in zip(run.plan.inputs, run.inputs, strict=True) if name in self.varying}
        derivative = run.plan.vjp(tuple(wrt), tuple(seeds))
        operands = dict(zip((a.name for a in derivative.inputs), (*run.inputs, *seeds.values()), strict=True))
        derivative = _without_unread_inputs(derivative)
        targets = [self._fresh(f"d {name}", name) for name in wrt.values()]
        for name, target in zip(wrt.values(), targets, strict=True):
            self.shares.setdefault(name, []).append(target)
        used = tuple(pair for pair in run.indices if pair[0] in derivative.indices)
        inputs = tuple(operands[array.name] for array in derivative.inputs)
        self.operators.append(Run(derivative, inputs, tuple(targets), used, run.sites))


def _without_unread_inputs(plan: Plan) -> Plan:
    read = {name for step in plan.steps for name in (step.left, step.right)}
    return Plan(tuple(a for a in plan.inputs if a.name in read), plan.locals, plan.outputs, plan.steps)
