"""Feature spaces: which irreducible tensors (rank l, parity p, time parity t) a set of features consists of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Part(NamedTuple):
    """Irreducible tensors of rank ``l``; ``p`` and ``t`` (±1) are eigenvalues under inversion and time reversal."""

    l: int
    p: int
    t: int = 1

    @property
    def size(self) -> int:
        """Number of components, 2l + 1."""
        return 2 * self.l + 1

    @property
    def name(self) -> str:
        """For example ``2+`` or ``1-``; ``1+t`` changes sign when time is reversed, as magnetic moments do."""
        return f"{self.l}{'+' if self.p > 0 else '-'}{'t' if self.t < 0 else ''}"

    @classmethod
    def named(cls, name: str) -> Part:
        """The part of this :attr:`name`."""
        sign = name.removesuffix("t")
        return cls(int(sign[:-1]), 1 if sign[-1] == "+" else -1, -1 if name.endswith("t") else 1)

    @property
    def natural(self) -> bool:
        """Whether this is a true tensor, p = (-1)^l."""
        return self.p == 1 - 2 * (self.l % 2)


@dataclass(frozen=True)
class Space:
    """Parts in ascending order; features over a space are a list of tensors (rows, 2l + 1, channels), one per part."""

    parts: tuple[Part, ...]

    @classmethod
    def up_to(cls, l_max: int, pseudo: bool = False, reversing: bool = False) -> Space:
        """All true tensors of rank <= l_max and, if asked, all pseudotensors, and all that change sign with time."""
        signs = [(p, t) for p in ((1, -1) if pseudo else (1,)) for t in ((1, -1) if reversing else (1,))]
        return cls(tuple(Part(l, p * (-1) ** l, t) for l in range(l_max + 1) for p, t in signs))

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Space:
        """These parts, once each and in order."""
        return cls(tuple(sorted(set(parts), key=lambda part: (part.l, not part.natural, part.t < 0))))

    @property
    def l_max(self) -> int:
        """Highest rank."""
        return max(part.l for part in self.parts)

    def within(self, other: Space) -> Space:
        """The parts that are in another space too."""
        return Space(tuple(part for part in self.parts if part in other))

    def __contains__(self, part: Part) -> bool:
        return part in self.parts

    def __str__(self) -> str:
        return " ".join(part.name for part in self.parts)


SCALAR = Part(0, 1)
