"""Small plans: look-ups, gates, and the polynomials that embeddings of numbers and tensors consist of."""

from __future__ import annotations

from functools import cache

import numpy as np

from carten.ops.plan import Monomial, Operand, Plan, Step


def _copies(size: int) -> tuple[Monomial, ...]:
    return tuple((m, m, 0, 1.0) for m in range(size))


@cache
def look_up_plan(size: int = 1) -> Plan:
    """``y = x[row]``. Input: ``x`` (rows, size, channels) gathered at ``row``."""
    return Plan((Operand("x", size, index="row"),), (), (Operand("y", size),), (Step("y", "x", "", _copies(size)),))


@cache
def join_plan(sizes: tuple[int, ...]) -> Plan:
    """Several arrays as one, with the components of all. Inputs: ``x0``, ``x1``, .. of these sizes."""
    inputs = tuple(Operand(f"x{k}", size) for k, size in enumerate(sizes))
    first = np.cumsum((0, *sizes)).tolist()
    steps = tuple(
        Step("y", f"x{k}", "", tuple((first[k] + m, m, 0, 1.0) for m in range(size))) for k, size in enumerate(sizes)
    )
    return Plan(inputs, (), (Operand("y", sum(sizes)),), steps)


@cache
def gate_plan(size: int, gain: float = 1.0) -> Plan:
    """``y = gain x g``. Inputs: ``x`` (sites, size, channels), ``gate`` (sites, 1, channels)."""
    step = Step("y", "x", "gate", tuple((m, m, 0, gain) for m in range(size)))
    return Plan((Operand("x", size), Operand("gate", 1)), (), (Operand("y", size),), (step,))


@cache
def gain_plan(rows: tuple[str, ...], index: str = "") -> Plan:
    """``y = x (1 + sum of gains)``, of one component each.

    Args:
        rows: indices at which ``gain0``, ``gain1``, .. are gathered.
        index: at which ``x`` is gathered, if any.
    """
    gains = [Operand(f"gain{k}", 1, index=row) for k, row in enumerate(rows)]
    one = ((0, 0, 0, 1.0),)
    steps = [Step("gain", gain.name, "", one) for gain in gains]
    steps += [Step("y", "x", "", one), Step("y", "x", "gain", one)]
    return Plan((Operand("x", 1, index=index), *gains), (Operand("gain", 1),), (Operand("y", 1),), tuple(steps))


@cache
def slope_plan() -> Plan:
    """Value and slope of f(x) from those of x, ``y = (f, x' f')``. Inputs, (.., 2): ``x``, ``f``, ``slope`` = f'."""
    steps = (Step("y", "f", "", ((0, 0, 0, 1.0),)), Step("y", "x", "slope", ((1, 1, 0, 1.0),)))
    return Plan((Operand("x", 2), Operand("f", 2), Operand("slope", 2)), (), (Operand("y", 2),), steps)


@cache
def spread_plan(size: int) -> Plan:
    """``y_a = x m_a``. Inputs: ``x`` (rows, 1, channels) and ``m`` (rows, size) without channels; outputs ``y0``, .."""
    outputs = tuple(Operand(f"y{a}", 1) for a in range(size))
    steps = tuple(Step(f"y{a}", "x", "m", ((0, 0, a, 1.0),)) for a in range(size))
    return Plan((Operand("x", 1), Operand("m", size, channels=False)), (), outputs, steps)


@cache
def contract_plan(size: int, copies: int) -> Plan:
    """``y = sum_a x_a m_a``. Inputs: ``x0``, .. (rows, size, channels) and ``m`` (rows, copies) without channels."""
    inputs = tuple(Operand(f"x{a}", size) for a in range(copies))
    steps = tuple(Step("y", f"x{a}", "m", tuple((k, k, a, 1.0) for k in range(size))) for a in range(copies))
    return Plan((*inputs, Operand("m", copies, channels=False)), (), (Operand("y", size),), steps)


@cache
def squares_plan(sizes: tuple[int, ...], copies: int) -> Plan:
    """``y_k = sum_a |x_ka|^2 / size_k``. Inputs: ``x0_0``, ``x0_1``, .. by k, then a. Output: (rows, sizes)."""
    inputs = tuple(Operand(f"x{k}_{a}", size) for k, size in enumerate(sizes) for a in range(copies))
    steps = tuple(
        Step("y", x.name, x.name, tuple((n // copies, m, m, 1 / x.size) for m in range(x.size)))
        for n, x in enumerate(inputs)
    )
    return Plan(inputs, (), (Operand("y", len(sizes)),), steps)


@cache
def linear_plan(matrix: tuple[tuple[float, ...], ...]) -> Plan:
    """``y = M x`` of arrays without channels."""
    terms = tuple((o, a, 0, v) for o, row in enumerate(matrix) for a, v in enumerate(row) if v)
    inputs, outputs = (Operand("x", len(matrix[0]), channels=False),), (Operand("y", len(matrix), channels=False),)
    return Plan(inputs, (), outputs, (Step("y", "x", "", terms),))


@cache
def square_plan(size: int, scale: float) -> Plan:
    """``square = |x / scale|^2`` and ``shifted = 1 + square``. Inputs: ``x``, ``one`` (of ones), both (rows, size)."""
    inputs = (Operand("x", size, channels=False), Operand("one", size, channels=False))
    outputs = (Operand("square", 1, channels=False), Operand("shifted", 1, channels=False))
    terms = tuple((0, m, m, scale**-2) for m in range(size))
    steps = [Step(name, "x", "x", terms) for name in ("square", "shifted")]
    return Plan(inputs, (), outputs, (*steps, Step("shifted", "one", "", ((0, 0, 0, 1.0),))))


@cache
def chebyshev_plan(n: int, scale: float) -> Plan:
    """Chebyshev polynomials T_1 .. T_n of ``u = (x / scale) root``. Inputs: ``x``, ``root``, ``one``, all (rows, 1)."""
    local = tuple(Operand(f"T{k}", 1, channels=False) for k in range(1, n + 1))
    steps = [Step("T1", "x", "root", ((0, 0, 0, 1 / scale),))]
    for k in range(2, n + 1):
        steps.append(Step(f"T{k}", "T1", f"T{k - 1}", ((0, 0, 0, 2.0),)))
        steps.append(Step(f"T{k}", f"T{k - 2}" if k > 2 else "one", "", ((0, 0, 0, -1.0),)))
    steps += [Step("y", f"T{k}", "", ((k - 1, 0, 0, 1.0),)) for k in range(1, n + 1)]
    inputs = tuple(Operand(name, 1, channels=False) for name in ("x", "root", "one"))
    return Plan(inputs, local, (Operand("y", n, channels=False),), tuple(steps))


@cache
def magnitudes_plan(first: int, n: int) -> Plan:
    """``(s v)^k``, k = first .. first + n - 1. Inputs: ``square`` s, ``inverse`` v and ``one``, all (rows, 1)."""
    highest = first + n - 1
    local = tuple(Operand(f"p{k}", 1, channels=False) for k in range(1, highest + 1))
    steps = [Step("p1", "square", "inverse", ((0, 0, 0, 1.0),))]
    steps += [Step(f"p{k}", "p1", f"p{k - 1}", ((0, 0, 0, 1.0),)) for k in range(2, highest + 1)]
    steps += [Step("y", f"p{k}" if k else "one", "", ((k - first, 0, 0, 1.0),)) for k in range(first, highest + 1)]
    inputs = tuple(Operand(name, 1, channels=False) for name in ("square", "inverse", "one"))
    return Plan(inputs, local, (Operand("y", n, channels=False),), tuple(steps))


@cache
def tensor_plan(size: int, copies: int, structure: bool) -> Plan:
    """``y_m = sum_q x_mq g_q (1 + e_q)``: tensors with learned gains, at atoms.

    Inputs: ``x`` (.., size * copies) without channels and ``gain`` g (.., copies, channels), both gathered at
    ``structure`` if they belong to structures; ``by_element`` e (elements, copies, channels) gathered at ``element``.
    """
    index = "structure" if structure else ""
    inputs = (
        Operand("x", size * copies, channels=False, index=index),
        Operand("gain", copies, index=index),
        Operand("by_element", copies, index="element"),
    )
    steps = (
        Step("total", "gain", "", _copies(copies)),
        Step("total", "gain", "by_element", tuple((q, q, q, 1.0) for q in range(copies))),
        Step("y", "total", "x", tuple((m, q, m * copies + q, 1.0) for m in range(size) for q in range(copies))),
    )
    return Plan(inputs, (Operand("total", copies),), (Operand("y", size),), steps)


@cache
def weighted_powers_plan(sizes: tuple[int, ...], order: int) -> Plan:
    """``y_k = sum_q W[z, q, k] p_qk``: what the projections p of powers q = 1.. of a function add up to.

    Inputs: ``p0``, .. of each power, with the components of all outputs; ``weights`` (elements, order * outputs,
    channels) gathered at ``element``. Outputs: ``y0``, .. of these sizes.
    """
    first = np.cumsum((0, *sizes)).tolist()
    powers = tuple(Operand(f"p{q}", sum(sizes)) for q in range(order))
    steps = tuple(
        Step(f"y{k}", f"p{q}", "weights", tuple((m, first[k] + m, q * len(sizes) + k, 1.0) for m in range(size)))
        for k, size in enumerate(sizes)
        for q in range(order)
    )
    weights = Operand("weights", order * len(sizes), index="element")
    return Plan((*powers, weights), (), tuple(Operand(f"y{k}", size) for k, size in enumerate(sizes)), steps)
