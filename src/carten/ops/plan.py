"""Plans: channel-wise sparse polynomials with gather and scatter, and their derivatives.

A plan runs a short straight-line program at every *site* (an edge or an atom). Its arrays have rows, components and,
optionally, channels; an input may be gathered (one row per site chosen by an index) and an output scattered (added to
the row chosen by an index). Every step is ``target[o] += coefficient * left[a] * right[b]``, applied to each channel;
where the target has no channel axis, the sum over channels is meant. The derivative of a plan is a plan.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

from torch import Tensor

Monomial = tuple[int, int, int, float]
"""Components of target, left and right, and the coefficient; right is 0 in a linear step."""


@dataclass(frozen=True)
class Operand:
    """An operand: ``(rows, size, channels)``, or ``(rows, size)`` without channels.

    Args:
        name: unique in a plan.
        size: number of components.
        channels: whether there is a channel axis.
        index: name of the index that gathers (inputs) or scatters (outputs) rows; ``""`` means one row per site.
    """

    name: str
    size: int
    channels: bool = True
    index: str = ""


@dataclass(frozen=True)
class Step:
    """``target[o] += coefficient * left[a] * right[b]`` over all terms; linear where ``right`` is empty."""

    target: str
    left: str
    right: str
    terms: tuple[Monomial, ...]


@dataclass(frozen=True, eq=False)
class Plan:
    """A program over sites: ``outputs = steps(inputs)`` with intermediate ``locals`` that never leave a site."""

    inputs: tuple[Operand, ...]
    locals: tuple[Operand, ...]
    outputs: tuple[Operand, ...]
    steps: tuple[Step, ...]

    text: str = field(init=False, repr=False)
    """The whole plan as JSON; see :func:`parse`."""
    digest: str = field(init=False, repr=False)
    """Content hash, equal for equal plans."""

    def __post_init__(self) -> None:
        _check(self)
        groups = (self.inputs, self.locals, self.outputs)
        arrays = [[(a.name, a.size, a.channels, a.index) for a in group] for group in groups]
        text = json.dumps([*arrays, [(s.target, s.left, s.right, s.terms) for s in self.steps]])
        object.__setattr__(self, "text", text)
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())

    @cached_property
    def arrays(self) -> dict[str, Operand]:
        """All arrays by name."""
        return {array.name: array for array in (*self.inputs, *self.locals, *self.outputs)}

    @property
    def indices(self) -> tuple[str, ...]:
        """Names of the indices the plan needs, in order of first use."""
        return tuple(dict.fromkeys(a.index for a in (*self.inputs, *self.outputs) if a.index))

    def n_channels(self, operands: Sequence[Tensor]) -> int:
        """Size of the channel axis of tensors for the inputs; 1 where none has channels.

        Raises:
            ValueError: the first tensor that should have a channel axis has none.
        """
        name, x = next(((a.name, x) for a, x in zip(self.inputs, operands, strict=True) if a.channels), ("", None))
        if x is not None and x.dim() != 3:
            raise ValueError(f"operand {name!r} has to be of shape (rows, size, channels), found {tuple(x.shape)}")
        return 1 if x is None else x.shape[2]

    def require_shapes(self, operands: Sequence[Tensor], rows: Mapping[str, int], channels: int) -> None:
        """Check tensors for the inputs.

        Args:
            operands: the tensors.
            rows: of each index; the number of sites under ``""``.
            channels: size of the channel axis.

        Raises:
            ValueError: a tensor has another shape than the plan says.
        """
        for array, x in zip(self.inputs, operands, strict=True):
            expected = (rows[array.index], array.size, channels)[: 3 if array.channels else 2]
            if tuple(x.shape) != expected:
                raise ValueError(f"operand {array.name!r} has to be of shape {expected}, found {tuple(x.shape)}")

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Plan) and self.digest == other.digest)

    def __str__(self) -> str:
        def show(array: Operand) -> str:
            axes = f"{array.size}{', c' if array.channels else ''}"
            return f"{array.name}[{array.index or 'site'}, {axes}]"

        lines = [f"({', '.join(map(show, self.inputs))}) -> ({', '.join(map(show, self.outputs))})"]
        for step in self.steps:
            right = f" * {step.right}" if step.right else ""
            lines.append(f"  {step.target} += {step.left}{right}   ({len(step.terms)} terms)")
        return "\n".join(lines)

    def select(self, names: Iterable[str]) -> Plan:
        """The same plan with only the named outputs, and only the steps and inputs that they need."""
        kept = set(names)
        return _prune(self.inputs, self.locals, [a for a in self.outputs if a.name in kept], self.steps)

    def vjp(self, wrt: Sequence[str], seeded: Sequence[str] | None = None) -> Plan:
        """Gradient with respect to inputs, contracted with a gradient of every output (reverse mode).

        Args:
            wrt: inputs to differentiate; one output of the new plan each, in this order.
            seeded: outputs whose gradient is not zero (all by default); their gradients become inputs of the new plan,
                in this order, after those of this plan.

        Returns:
            A plan with all inputs of this one, then the gradients of ``seeded``.
        """
        return _vjp(self, tuple(wrt), tuple(a.name for a in self.outputs) if seeded is None else tuple(seeded))


@cache
def parse(text: str) -> Plan:
    """The plan of :attr:`Plan.text`."""
    *arrays, steps = json.loads(text)
    inputs, local, outputs = (tuple(Operand(*fields) for fields in part) for part in arrays)
    parsed = (Step(target, left, right, tuple(tuple(t) for t in terms)) for target, left, right, terms in steps)
    return Plan(inputs, local, outputs, tuple(parsed))


def _check(plan: Plan) -> None:
    if len(plan.arrays) != len(plan.inputs) + len(plan.locals) + len(plan.outputs):
        raise ValueError("a plan needs unique array names, found " + ", ".join(a.name for a in plan.arrays.values()))
    written: set[str] = {array.name for array in plan.inputs}
    read: set[str] = set()
    outputs = {array.name for array in plan.outputs}
    for step in plan.steps:
        for name in (step.left, step.right):
            if name and (name not in written or name in outputs):
                raise ValueError(f"step for {step.target!r} reads {name!r} before it is written, or reads an output")
        if step.target not in plan.arrays or any(step.target == array.name for array in plan.inputs):
            raise ValueError(f"a step writes {step.target!r}, which is not a local or an output")
        read |= {step.left, step.right}
        if step.target in read:
            raise ValueError(f"a step changes {step.target!r} after it has been read")
        written.add(step.target)
        sizes = [plan.arrays[name].size if name else 1 for name in (step.target, step.left, step.right)]
        if any(not (0 <= i < size) for term in step.terms for i, size in zip(term[:3], sizes, strict=True)):
            raise ValueError(f"a term of the step for {step.target!r} is outside its arrays of sizes {sizes}")
    for array in plan.locals:
        if array.index:
            raise ValueError(f"local {array.name!r} can't be gathered or scattered")


def merge(terms: Iterable[Monomial]) -> tuple[Monomial, ...]:
    """Add up terms of equal components, sorted by target; vanishing ones are dropped."""
    total: dict[tuple[int, int, int], float] = defaultdict(float)
    for o, a, b, coefficient in terms:
        total[o, a, b] += coefficient
    return tuple((*key, value) for key, value in sorted(total.items()) if value != 0.0)


def _prune(
    inputs: Sequence[Operand], local: Sequence[Operand], outputs: Sequence[Operand], steps: Sequence[Step]
) -> Plan:
    """Drop steps no output needs, and locals nobody uses; inputs all stay."""
    needed = {array.name for array in outputs}
    kept: list[Step] = []
    for step in reversed(steps):
        if step.target in needed:
            needed.update(name for name in (step.left, step.right) if name)
            kept.append(step)
    used = {name for step in kept for name in (step.target, step.left, step.right)}
    return Plan(tuple(inputs), tuple(a for a in local if a.name in used), tuple(outputs), tuple(reversed(kept)))


def _fresh(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    taken.add(name)
    return name


@cache
def _vjp(plan: Plan, wrt: tuple[str, ...], seeded: tuple[str, ...]) -> Plan:
    active = set(wrt)
    for step in plan.steps:
        if step.left in active or step.right in active:
            active.add(step.target)
    taken = set(plan.arrays)
    gradient = {n: Operand(_fresh("d_" + n, taken), a.size, a.channels, a.index) for n, a in plan.arrays.items()}
    backward: list[Step] = []
    reached = set(seeded)
    for step in reversed(plan.steps):
        if step.target not in reached:
            continue
        seed = gradient[step.target].name
        if step.left in active:
            terms = merge((a, o, b, c) for o, a, b, c in step.terms)
            backward.append(Step(gradient[step.left].name, seed, step.right, terms))
            reached.add(step.left)
        if step.right in active:
            terms = merge((b, o, a, c) for o, a, b, c in step.terms)
            backward.append(Step(gradient[step.right].name, seed, step.left, terms))
            reached.add(step.right)
    inputs = [*plan.inputs, *(gradient[name] for name in seeded)]
    outputs = [gradient[name] for name in wrt]
    local = [*plan.locals, *(gradient[a.name] for a in plan.locals)]
    forward = [step for step in plan.steps if step.target not in {a.name for a in plan.outputs}]
    return _prune(inputs, local, outputs, [*forward, *backward])
