"""Feature spaces: which irreducible tensors (rank l, parity p) a set of features consists of."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class Part(NamedTuple):
    """Irreducible tensors of one rank ``l`` and parity ``p`` (eigenvalue under inversion, -1 or +1) of O(3)."""

    l: int
    p: int

    @property
    def size(self) -> int:
        """Number of components, 2l + 1."""
        return 2 * self.l + 1

    @property
    def name(self) -> str:
        """For example ``2+`` or ``1-``."""
        return f"{self.l}{'+' if self.p > 0 else '-'}"

    @classmethod
    def named(cls, name: str) -> Part:
        """The part of this :attr:`name`."""
        return cls(int(name[:-1]), 1 if name[-1] == "+" else -1)

    @property
    def natural(self) -> bool:
        """Whether this is a true tensor, p = (-1)^l."""
        return self.p == 1 - 2 * (self.l % 2)


@dataclass(frozen=True)
class Space:
    """Parts in ascending order; features over a space are a list of tensors (rows, 2l + 1, channels), one per part."""

    parts: tuple[Part, ...]

    @classmethod
    def up_to(cls, l_max: int, pseudo: bool = False) -> Space:
        """All true tensors of rank <= l_max and, if asked, all pseudotensors too."""
        parts = [Part(l, p * (-1) ** l) for l in range(l_max + 1) for p in ((1, -1) if pseudo else (1,))]
        return cls(tuple(parts))

    @classmethod
    def of(cls, parts: Iterable[Part]) -> Space:
        """These parts, once each and in order."""
        return cls(tuple(sorted(set(parts), key=lambda part: (part.l, not part.natural))))

    @property
    def l_max(self) -> int:
        """Highest rank."""
        return max(part.l for part in self.parts)

    def __contains__(self, part: Part) -> bool:
        return part in self.parts

    def __str__(self) -> str:
        return " ".join(part.name for part in self.parts)


SCALAR = Part(0, 1)
