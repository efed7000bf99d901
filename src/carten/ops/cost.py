"""What a plan costs: the multiply-adds that compiled code performs, and the numbers it has to read and write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from carten.ops.plan import Operand, Plan
from carten.ops.program import lower


@dataclass(frozen=True)
class Cost:
    """Work of a plan.

    Args:
        scalar: multiply-adds at a site, once for all channels.
        vector: multiply-adds at a site, for each channel; sums over channels included.
        read: inputs.
        written: outputs.
    """

    scalar: int
    vector: int
    read: tuple[Operand, ...]
    written: tuple[Operand, ...]

    def multiply_adds(self, channels: int) -> int:
        """Multiply-adds per site."""
        return self.scalar + self.vector * channels

    def bytes(self, channels: int, itemsize: int, rows: Mapping[str, int]) -> int:
        """Bytes read and written if every number moves once, as with a cache that holds what several sites share.

        Of a gathered array no more rows are read than there are sites.

        Args:
            channels: size of the channel axis.
            itemsize: bytes of a number.
            rows: of the arrays of every index; those of the sites under ``""``.
        """
        moved = [(min(rows[array.index], rows[""]), array) for array in self.read]
        moved += [(rows[array.index], array) for array in self.written]
        return itemsize * sum(n * array.size * (channels if array.channels else 1) for n, array in moved)


@cache
def cost(plan: Plan) -> Cost:
    """The cost of a plan as it is lowered for the compilers: vanishing terms dropped, equal coefficients shared."""
    program = lower(plan)
    scalar = vector = 0
    for value in program.order:
        terms, sums = len(program.terms[value]), len(program.sums.get(value, ()))
        if program.wide(value):
            vector += terms
        else:
            scalar += terms
            vector += sums
    return Cost(scalar, vector, plan.inputs, plan.outputs)
