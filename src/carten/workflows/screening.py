"""What a screening found: ranking, distances to the convex hull, picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import ase
import numpy as np
from matplotlib.figure import Figure

from carten.math.arrays import Array, Floats
from carten.workflows.hull import Composition
from carten.workflows.results import JobResult, Quantity

STABLE = 1e-6
"""eV per atom; phases that are no farther above the hull are on it."""
LISTED = 10
"""Failures that are listed one by one."""


@dataclass(frozen=True)
class ScreenedStructure:
    """A row of the database.

    Args:
        id: of the row.
        name: where the structure came from.
        formula: of all its atoms.
        composition: reduced.
        n_atoms: atoms.
        energy: eV per atom; NaN where it failed.
        energy_before: of the structure as it was given, eV per atom.
        volume: of a periodic structure, Å^3 per atom; else NaN.
        steps: of the relaxation.
        converged: whether it relaxed; true where it was not to.
        error: why there is no energy; else empty.
    """

    id: int
    name: str
    formula: str
    composition: Composition
    n_atoms: int
    energy: float = np.nan
    energy_before: float = np.nan
    volume: float = np.nan
    steps: int = 0
    converged: bool = True
    error: str = ""


@dataclass(frozen=True)
class Screening(JobResult):
    """Structures ranked by their distance to the convex hull, then by energy.

    Args:
        ranking: those with an energy, best first.
        failed: those without.
        formation: (n,) formation energies of the ranking in eV per atom; NaN where an element has no reference.
        hull: (n,) eV per atom above the convex hull.
        stable: structures on the hull.
        repeated: structures that were given more than once, and computed once.
        references: energies of elements that were given, eV per atom.
    """

    job: ClassVar[str] = "screen"
    ranking: tuple[ScreenedStructure, ...]
    failed: tuple[ScreenedStructure, ...]
    formation: Floats
    hull: Floats
    stable: list[ase.Atoms] = field(repr=False)
    repeated: int = 0
    references: Mapping[str, float] = field(default_factory=dict)

    @property
    def elements(self) -> tuple[str, ...]:
        """Of the structures with an energy, in alphabetical order."""
        return tuple(sorted({symbol for row in self.ranking for symbol, _ in row.composition}))

    def quantities(self) -> list[Quantity]:
        numbers = [
            Quantity("structures", len(self.ranking) + len(self.failed)),
            Quantity("with an energy", len(self.ranking)),
            Quantity("on the convex hull", int((self.hull <= STABLE).sum())),
            Quantity("within 25 meV/atom of it", int((self.hull <= 0.025).sum())),
        ]
        best = zip(self.ranking[:LISTED], self.formation, self.hull, strict=False)
        for number, (row, formation, distance) in enumerate(best, start=1):
            text = f"{row.formula}  {row.energy:.4f}  {formation:.4f}  {distance:.4f}  {row.name.rpartition('/')[2]}"
            unit = "eV/atom: energy, formation, above hull" if number == 1 else ""
            numbers.append(Quantity(f"rank {number}", text, unit))
        return numbers

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        rows, count = self.ranking, len(self.ranking)
        ranking = {
            "rank": np.arange(1, count + 1),
            "row": np.array([row.id for row in rows]),
            "name": np.array([row.name for row in rows], dtype=object),
            "formula": np.array([row.formula for row in rows], dtype=object),
            "atoms": np.array([row.n_atoms for row in rows]),
            "above_hull_eV/atom": self.hull,
            "formation_eV/atom": self.formation,
            "energy_eV/atom": np.array([row.energy for row in rows]),
            "energy_before_eV/atom": np.array([row.energy_before for row in rows]),
            "volume_A^3/atom": np.array([row.volume for row in rows]),
            "steps": np.array([row.steps for row in rows]),
            "converged": np.array([row.converged for row in rows]),
        }
        failed = {name: np.array([getattr(row, name) for row in self.failed], dtype=object) for name in _FAILED}
        return {"ranking": ranking} | ({"failed": failed} if self.failed else {})

    def structures(self) -> list[ase.Atoms]:
        return self.stable

    def warnings(self) -> list[str]:
        remarks = []
        missing = {
            symbol
            for row, energy in zip(self.ranking, self.formation, strict=True)
            if np.isnan(energy)
            for symbol, _ in row.composition
        } - {row.composition[0][0] for row in self.ranking if len(row.composition) == 1}
        if missing:
            remarks.append(
                f"the set has no structure of the element {', '.join(sorted(missing))}: formation energies are missing "
                "and the hull is that of the compounds alone; give their structures, or energies (--reference)"
            )
        for row in self.ranking:
            symbol = row.composition[0][0]
            if len(row.composition) == 1 and row.energy < self.references.get(symbol, -np.inf) - STABLE:
                remarks.append(
                    f"{row.name} ({row.formula}) is lower than the reference of {symbol}, {row.energy:.4f} against "
                    f"{self.references[symbol]:.4f} eV/atom: formation energies and the hull refer to the lower one"
                )
        if self.repeated:
            remarks.append(f"{self.repeated} structures were given more than once, and are computed and listed once")
        return remarks

    def failures(self) -> list[str]:
        failures = [f"{row.name} ({row.formula}): {row.error}" for row in self.failed[:LISTED]]
        if len(self.failed) > LISTED:
            failures.append(f"and {len(self.failed) - LISTED} more without an energy, see the table")
        if unrelaxed := [row for row in self.ranking if not row.converged]:
            failures.append(
                f"{len(unrelaxed)} structures did not relax, the first is {unrelaxed[0].name}: allow more steps"
            )
        return failures

    def draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        if not self.ranking:
            axes.text(0.5, 0.5, "no energies", ha="center", transform=axes.transAxes)
        elif len(self.elements) == 2 and not np.isnan(self.formation).any():
            second = self.elements[1]
            shares = np.array([_share(row.composition, second) for row in self.ranking])
            on_hull = self.hull <= STABLE
            order = np.argsort(shares[on_hull], kind="stable")
            axes.plot(shares, self.formation, "o", color="C0", markersize=3.5, alpha=0.6, label="structures")
            axes.plot(shares[on_hull][order], self.formation[on_hull][order], "o-", color="C1", label="convex hull")
            axes.set(xlabel=f"share of {second}", ylabel="formation energy (eV/atom)", xlim=(-0.02, 1.02))
            axes.legend(fontsize=8.0)
        else:
            axes.hist(1000.0 * self.hull, bins=min(50, max(5, len(self.hull) // 4)), color="C0")
            axes.set(xlabel="energy above the convex hull (meV/atom)", ylabel="structures")


_FAILED = ("id", "name", "formula", "error")


def ranked(
    rows: Sequence[ScreenedStructure], formation: Floats, hull: Floats
) -> tuple[tuple[ScreenedStructure, ...], Floats, Floats]:
    """Rows, formation energies and distances to the hull in the order of the ranking."""
    order = sorted(range(len(rows)), key=lambda k: (hull[k], rows[k].energy, rows[k].name))
    return tuple(rows[k] for k in order), formation[order], hull[order]


def _share(composition: Composition, symbol: str) -> float:
    counts = dict(composition)
    return counts.get(symbol, 0) / sum(counts.values())
