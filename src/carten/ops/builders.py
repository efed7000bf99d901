"""Plans of the model's heavy steps, built from the coupling tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from carten.math.coupling import coupling, is_admissible
from carten.math.stf import harmonics
from carten.ops.plan import Monomial, Operand, Plan, Step, merge
from carten.ops.space import Part, Space

Path = tuple[Part, Part, Part]

VANISHING = 1e-10
"""Products of random numbers of order one that stay below this are zero."""


def couples(left: Part, right: Part, target: Part) -> bool:
    """Whether left x right -> target exists: the triangle rule, p3 = p1 p2 and t3 = t1 t2."""
    signs = (left.p * right.p, left.t * right.t)
    return is_admissible(left.l, right.l, target.l) and (target.p, target.t) == signs


def coupling_terms(left: Part, right: Part, target: Part) -> list[Monomial]:
    """Non-zero entries (c, a, b, C[a, b, c]) of one coupling; unit variance in gives unit variance out."""
    table = coupling(left.l, right.l, target.l)
    return [(int(c), int(a), int(b), float(table[a, b, c])) for a, b, c in np.argwhere(table)]


@cache
def harmonics_plan(l_max: int) -> Plan:
    """Harmonics of unit vectors, ``|Y_l|^2 = 2l + 1``, by the recursion ``Y_l ~ (Y_{l-1} x r)_l``; sites are vectors.

    Inputs: ``one`` (E, 1), filled with ones, and ``vectors`` (E, 3). Output: (E, (l_max + 1)^2), degree by degree.
    """
    probe = np.array([0.48, -0.6, 0.64])
    values = np.split(harmonics(l_max, probe), [rank * rank for rank in range(1, l_max + 1)])
    local: list[Operand] = []
    steps = [Step("harmonics", "one", "", ((0, 0, 0, 1.0),))]
    previous = "one"
    for rank in range(1, l_max + 1):
        table = coupling(rank - 1, 1, rank)
        raw = np.einsum("abc,a,b->c", table, values[rank - 1], probe)
        scale = float(np.linalg.norm(values[rank]) / np.linalg.norm(raw))
        terms = [(c, a, b, scale * x) for c, a, b, x in coupling_terms(Part(rank - 1, 1), Part(1, 1), Part(rank, 1))]
        local.append(Operand(f"Y{rank}", 2 * rank + 1, channels=False))
        steps.append(Step(f"Y{rank}", previous, "vectors", merge(terms)))
        steps.append(
            Step("harmonics", f"Y{rank}", "", tuple((rank * rank + m, m, 0, 1.0) for m in range(2 * rank + 1)))
        )
        previous = f"Y{rank}"
    inputs = (Operand("one", 1, channels=False), Operand("vectors", 3, channels=False))
    return Plan(inputs, tuple(local), (Operand("harmonics", (l_max + 1) ** 2, channels=False),), tuple(steps))


@cache
def interaction_paths(features: Space, l_max_edges: int, target: Space) -> tuple[Path, ...]:
    """All products features x harmonics -> target, ordered by target."""
    edges = Space.up_to(l_max_edges).parts
    triples = ((h, y, a) for a in target.parts for h in features.parts for y in edges)
    return tuple(path for path in triples if couples(*path))


@cache
def interaction_plan(features: Space, l_max_edges: int, target: Space) -> Plan:
    """Messages summed over edges, ``A_i[m, path] = sum_j R_path (h_j x Y(r_ij))_m`` (TACE; ICTP Eq. 5).

    Sites are edges. Inputs: the parts of ``features`` gathered at ``neighbour``, ``harmonics`` (edges, components) and
    ``radial`` (edges, paths, channels). Outputs: the parts of ``target`` that have a path, scattered to ``centre`` with
    components ordered (m, path), so that mixing over paths and channels is one matrix product. The harmonics enter
    through one matrix per edge that all channels share.
    """
    paths = interaction_paths(features, l_max_edges, target)
    slots: dict[tuple[Path, int, int], int] = {}
    matrix: list[Monomial] = []
    transform: list[Step] = []
    weigh: list[Step] = []
    sizes: dict[Part, int] = {}
    for out in dict.fromkeys(path[2] for path in paths):
        arriving = [path for path in paths if path[2] == out]
        sizes[out] = out.size * len(arriving)
        for part in features.parts:
            terms: list[Monomial] = []
            for path in (path for path in arriving if path[0] == part):
                for c, a, b, x in coupling_terms(*path):
                    slot = slots.setdefault((path, c, a), len(slots))
                    matrix.append((slot, path[1].l ** 2 + b, 0, x))
                    terms.append((c * len(arriving) + arriving.index(path), a, slot, 1.0))
            transform.append(Step(f"T{out.name}", f"h{part.name}", "matrix", tuple(sorted(set(terms)))))
        pairs = [(m * len(arriving) + k, paths.index(path)) for m in range(out.size) for k, path in enumerate(arriving)]
        weigh.append(Step(f"A{out.name}", f"T{out.name}", "radial", tuple((o, o, k, 1.0) for o, k in pairs)))
    inputs = [Operand(f"h{part.name}", part.size, index="neighbour") for part in features.parts]
    inputs += [Operand("harmonics", (l_max_edges + 1) ** 2, channels=False), Operand("radial", len(paths))]
    local = [Operand("matrix", len(slots), channels=False), *(Operand(f"T{p.name}", n) for p, n in sizes.items())]
    outputs = [Operand(f"A{part.name}", size, index="centre") for part, size in sizes.items()]
    steps = [Step("matrix", "harmonics", "", merge(matrix)), *(s for s in transform if s.terms), *weigh]
    return Plan(tuple(inputs), tuple(local), tuple(outputs), tuple(steps))


Power = dict[Part, tuple[str, int]]
"""Name of the array and number of paths of every part of ``B^q``."""


class _Products:
    """Steps and locals that form the powers ``B^q`` of a product basis, components ordered (path, m)."""

    def __init__(self, space: Space, between: Space, symmetric: bool) -> None:
        self.space = space
        self.between = between
        self.symmetric = symmetric
        self.locals: list[Operand] = []
        self.steps: list[Step] = []

    def first(self) -> Power:
        """``B^1 = A``."""
        return {part: (f"A{part.name}", 1) for part in self.space.parts}

    def paths(self, power: Iterable[Part], order: int, target: Part) -> list[tuple[Part, Part]]:
        """Pairs (x, y) of ``B^(order-1) x A -> target``; an odd product of A with itself vanishes."""
        parts = self.space.parts
        pairs = [(x, y) for x in power for y in parts if couples(x, y, target)]
        if order > 2:
            return pairs
        pairs = [(x, y) for x, y in pairs if not (x == y and target.l % 2 == 1)]
        return [(x, y) for x, y in pairs if not self.symmetric or parts.index(x) <= parts.index(y)]

    def times(self, power: Power, order: int, targets: Space | None = None) -> Power:
        """``B^order = B^(order-1) x A`` over all admissible paths to the targets, by default all between."""
        result: Power = {}
        for target in (targets or self.between).parts:
            name, paths = f"B{order}_{target.name}", 0
            for x, y in self.paths(power, order, target):
                source, copies = power[x]
                table = coupling_terms(x, y, target)
                blocks = [(paths + k) * target.size for k in range(copies)]
                terms = [(o + c, k * x.size + a, b, v) for k, o in enumerate(blocks) for c, a, b, v in table]
                self.steps.append(Step(name, source, f"A{y.name}", tuple(terms)))
                paths += copies
            if paths:
                result[target] = (name, paths)
                self.locals.append(Operand(name, paths * target.size))
        return result

    def weigh(self, target: str, part: Part, power: tuple[str, int], first: int) -> int:
        """Add ``sum_η W_η B_η`` to an array, with weights from ``first`` on; returns how many."""
        source, copies = power
        terms = [(m, k * part.size + m, first + k, 1.0) for m in range(part.size) for k in range(copies)]
        self.steps.append(Step(target, source, "weights", tuple(terms)))
        return copies


@cache
def reachable(space: Space, target: Space, order: int, between: Space | None = None) -> Space:
    """The parts of ``target`` that a product basis over ``space`` makes; arguments as in :func:`product_plan`.

    Some paths exist and yet vanish for every A, such as the pseudovector ``(a v) x v`` of a scalar and a vector: each
    part is tried on random features, with random weights of the paths.
    """
    products = _Products(space, between or space, symmetric=True)
    generator = np.random.default_rng(0)
    first = {part: generator.normal(size=part.size) for part in space.parts}
    power, reached = first, set(first)
    for q in range(2, order + 1):
        following = {}
        for part in (target if q == order else products.between).parts:
            total = np.zeros(part.size)
            for x, y in products.paths(power, q, part):
                table = coupling(x.l, y.l, part.l)
                total += generator.normal() * np.einsum("abc,a,b->c", table, power[x], first[y])
            if np.abs(total).max() > VANISHING:
                following[part] = total
        power = following
        reached.update(power)
    return Space(tuple(part for part in target.parts if part in reached))


@cache
def product_plan(space: Space, target: Space, order: int, symmetric: bool = True, between: Space | None = None) -> Plan:
    """Product basis of correlation order ν with weights, ``m_L = sum_q sum_η W[z, q, η] B^q_{η,L}`` (ICTP Eq. 6).

    Sites are atoms. ``B^1 = A``, ``B^q = B^(q-1) x A``. The paths of the highest order are never formed: their weights
    enter the earlier factor, ``sum_η W_η (B^(ν-1)_η x A)_L = ((sum_η W_η B^(ν-1)_η) x A)_L``.
    Inputs: the parts of ``space``, and ``weights`` (elements, all η, channels) gathered at ``element``.
    Outputs: the parts of ``target``.

    Args:
        space: parts of A.
        target: parts of the result.
        order: correlation order ν >= 1.
        symmetric: whether the first product keeps one of the two orders of a pair (the other repeats it).
        between: parts that intermediate products are truncated to, those of A by default; pseudotensors among them let
            products of true tensors pass through odd couplings.
    """
    products = _Products(space, between or space, symmetric)
    power = products.first()
    n_weights = 0
    for q in range(1, max(order, 2)):
        power = products.times(power, q) if q > 1 else power
        for part in (part for part in target.parts if part in power):
            n_weights += products.weigh(f"m{part.name}", part, power[part], n_weights)
    for part in target.parts if order > 1 else ():
        for x, y in products.paths(power, order, part):
            mixed = f"W_{part.name}_{x.name}_{y.name}"
            products.locals.append(Operand(mixed, x.size))
            n_weights += products.weigh(mixed, x, power[x], n_weights)
            products.steps.append(Step(f"m{part.name}", mixed, f"A{y.name}", tuple(coupling_terms(x, y, part))))
    inputs = [
        *(Operand(f"A{part.name}", part.size) for part in space.parts),
        Operand("weights", n_weights, index="element"),
    ]
    outputs = [Operand(f"m{part.name}", part.size) for part in target.parts]
    return Plan(tuple(inputs), tuple(products.locals), tuple(outputs), tuple(products.steps))


@cache
def powers_plan(
    space: Space,
    target: Space,
    order: int,
    symmetric: bool = True,
    between: Space | None = None,
    apart: bool = False,
) -> Plan:
    """All ``B^q`` of the product basis, q = 1..order, without weights: for weights that mix channels.

    Sites are atoms. Inputs: the parts of ``space``. Outputs: the parts of ``target`` with components ordered (m, path),
    the paths of each part in the order of their weights in :func:`product_plan`, whose arguments these are. With orders
    ``apart`` paths are multiplied by :func:`order_scales`.
    """
    products = _Products(space, between or space, symmetric)
    power = products.first()
    blocks_of: dict[Part, list[tuple[str, int, int]]] = {part: [] for part in target.parts}
    for q in range(1, order + 1):
        power = products.times(power, q, target if q == order else None) if q > 1 else power
        for part in (part for part in target.parts if part in power):
            blocks_of[part].append((*power[part], sum(copies for _, copies, _ in blocks_of[part])))
    outputs, steps = [], list(products.steps)
    for part, blocks in blocks_of.items():
        scales = order_scales([copies for _, copies, _ in blocks], apart)
        n = len(scales)
        outputs.append(Operand(f"m{part.name}", part.size * n))
        for source, copies, first in blocks:
            pairs = [(m, k) for m in range(part.size) for k in range(copies)]
            terms = [(m * n + first + k, k * part.size + m, 0, scales[first + k]) for m, k in pairs]
            steps.append(Step(f"m{part.name}", source, "", tuple(sorted(terms))))
    inputs = tuple(Operand(f"A{part.name}", part.size) for part in space.parts)
    return Plan(inputs, tuple(products.locals), tuple(outputs), tuple(steps))


def order_scales(paths: Sequence[int], apart: bool) -> list[float]:
    """For each path the root of all paths over those of its order, of numbers of paths by order; 1 unless ``apart``.

    A linear map of all paths divides by the root of their number; with these factors each order is normalised alone.
    """
    return [(sum(paths) / n) ** 0.5 if apart else 1.0 for n in paths for _ in range(n)]


@cache
def tabulated_interaction_plan(features: Space, l_max_edges: int, target: Space) -> Plan:
    """As :func:`interaction_plan`, with radial functions from a cubic Hermite table: no array (edges, paths, channels).

    Inputs as before, but for ``radial``: ``fraction`` (edges, 1), where in its interval an edge's length lies, from 0
    to 1; ``low`` and ``high`` (knots, 2 paths, channels), values and slopes of all paths at both ends, per interval.
    """
    plan = interaction_plan(features, l_max_edges, target)
    radial = plan.arrays["radial"]
    n = radial.size
    weights = [Operand(name, size, channels=False) for name, size in (("square", 1), ("cube", 1), ("hermite", 4))]
    steps = [
        Step("square", "fraction", "fraction", ((0, 0, 0, 1.0),)),
        Step("cube", "square", "fraction", ((0, 0, 0, 1.0),)),
        Step("hermite", "harmonics", "", ((0, 0, 0, 1.0),)),  # Y_0 = 1
        Step("hermite", "fraction", "", ((1, 0, 0, 1.0),)),
        Step("hermite", "square", "", ((0, 0, 0, -3.0), (1, 0, 0, -2.0), (2, 0, 0, 3.0), (3, 0, 0, -1.0))),
        Step("hermite", "cube", "", ((0, 0, 0, 2.0), (1, 0, 0, 1.0), (2, 0, 0, -2.0), (3, 0, 0, 1.0))),
        Step("radial", "low", "hermite", tuple((p, k * n + p, k, 1.0) for p in range(n) for k in (0, 1))),
        Step("radial", "high", "hermite", tuple((p, k * n + p, 2 + k, 1.0) for p in range(n) for k in (0, 1))),
    ]
    inputs = [array for array in plan.inputs if array != radial]
    inputs += [
        Operand("fraction", 1, channels=False),
        Operand("low", 2 * n, index="low"),
        Operand("high", 2 * n, index="high"),
    ]
    return Plan(tuple(inputs), (*weights, radial, *plan.locals), plan.outputs, (*steps, *plan.steps))


@cache
def weight_paths(
    space: Space, target: Space, order: int, symmetric: bool = True, between: Space | None = None
) -> tuple[tuple[Part, object], ...]:
    """What the weights of :func:`product_plan` belong to, in order: a part of the target, and a path to it.

    Products over other parts have the same labels for the paths that they share.
    """
    products = _Products(space, between or space, symmetric)
    power: dict[Part, list[object]] = {part: [part] for part in space.parts}
    labels: list[tuple[Part, object]] = []
    for q in range(1, max(order, 2)):
        if q > 1:
            power = {
                part: [(path, y, part) for x, y in products.paths(power, q, part) for path in power[x]]
                for part in products.between.parts
            }
            power = {part: paths for part, paths in power.items() if paths}
        labels += [(part, path) for part in target.parts for path in power.get(part, ())]
    for part in target.parts if order > 1 else ():
        labels += [(part, (path, y, part)) for x, y in products.paths(power, order, part) for path in power[x]]
    return tuple(labels)
