"""Random plans and operands: every kind of array, steps of every kind, several scatter indices."""

import numpy as np
import torch

from carten.ops.index import Index
from carten.ops.plan import Operand, Plan, Step, merge

INDICES = ("", "", "few", "many")
"""Sites themselves (twice as likely), an index with 3 rows, an index with more rows than sites."""


def random_plan(seed: int, n_steps: int = 8, max_terms: int = 12) -> Plan:
    """A plan with inputs of all kinds, intermediates with and without channels, and several outputs."""
    rng = np.random.default_rng(seed)

    def array(name: str, place: str = "") -> Operand:
        return Operand(name, int(rng.integers(1, 5)), bool(rng.integers(2)), place)

    inputs = [array(f"x{n}", str(rng.choice(INDICES))) for n in range(4)]
    inputs.append(Operand("x4", 3, channels=True))
    local = [array(f"t'{n}") for n in range(int(rng.integers(2, 6)))]
    outputs = [array(f"y{n}", str(rng.choice(INDICES))) for n in range(3)]
    steps: list[Step] = []
    readable = list(inputs)
    for target in local:
        steps += [_step(rng, target, readable, max_terms) for _ in range(int(rng.integers(1, 3)))]
        readable.append(target)
    for n in range(n_steps):
        steps.append(_step(rng, outputs[n % len(outputs)], readable, max_terms))
    return Plan(tuple(inputs), tuple(local), tuple(outputs), tuple(steps))


def _step(rng: np.random.Generator, target: Operand, readable: list[Operand], max_terms: int) -> Step:
    left, right = (readable[int(n)] for n in rng.integers(len(readable), size=2))
    linear = bool(rng.random() < 0.3)
    coefficients = (1.0, -1.0, 0.5, -0.5, 0.3, float(rng.normal()))
    terms = [
        (
            int(rng.integers(target.size)),
            int(rng.integers(left.size)),
            0 if linear else int(rng.integers(right.size)),
            float(rng.choice(coefficients)),
        )
        for _ in range(int(rng.integers(1, max_terms)))
    ]
    return Step(target.name, left.name, "" if linear else right.name, merge(terms))


def random_indices(n_sites: int, seed: int) -> dict[str, Index]:
    """An unsorted index into 3 rows, and a sorted one into more rows than there are sites, some of them empty."""
    g = torch.Generator().manual_seed(seed)
    many = torch.sort(torch.randint(n_sites + 3, (n_sites,), generator=g)).values
    return {
        "few": Index(torch.randint(3, (n_sites,), generator=g), 3),
        "many": Index(many, n_sites + 3, ascending=True),
    }


def random_operands(
    plan: Plan, n_sites: int, indices: dict[str, Index], channels: int, seed: int, dtype: torch.dtype = torch.float64
) -> list[torch.Tensor]:
    """Normal numbers of the shapes the plan asks for."""
    g = torch.Generator().manual_seed(seed)
    shapes = [
        (indices[a.index].rows if a.index else n_sites, a.size, *([channels] if a.channels else []))
        for a in plan.inputs
    ]
    return [torch.randn(shape, generator=g, dtype=torch.float64).to(dtype) for shape in shapes]
