"""Magnetic structures: moments relaxed, exchange constants and the temperature of magnetic order in the mean field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import ase
import numpy as np
from ase.calculators.singlepoint import SinglePointCalculator
from matplotlib.figure import Figure

from carten.errors import DataError
from carten.math.arrays import Array, Floats
from carten.workflows.exchange import ExchangeConstants, Shell, exchange_constants
from carten.workflows.harmonic import wide_multiples
from carten.workflows.moments import MagneticModel, MomentGoal, MomentRelaxation, relax_moments
from carten.workflows.results import JobResult, Model, Progress, Quantity, as_calculator
from carten.workflows.saddle import moving_atoms

UNSTABLE = 1e-3
"""Of the largest curvature: as negative as this the moments are at a saddle."""
FAR = 0.1
"""Exchange of the farthest shell, as a share of the largest, above which a supercell is small."""


@dataclass(frozen=True)
class MagneticState(JobResult):
    """A structure with relaxed moments, and their exchange.

    Args:
        atoms: with moments, energy and forces.
        relaxation: how the moments came there.
        exchange: constants there.
        fields: (N, 3) or (N, 1) magnetic forces ``-dE/dm`` there, eV/μ_B.
    """

    job: ClassVar[str] = "magnetic"
    atoms: ase.Atoms
    relaxation: MomentRelaxation
    exchange: ExchangeConstants
    fields: Floats = field(repr=False)

    @property
    def moments(self) -> Floats:
        """(N, 3) or (N, 1) μ_B."""
        return self.relaxation.moments

    def quantities(self) -> list[Quantity]:
        relaxation, sizes = self.relaxation, np.linalg.norm(self.moments, axis=1)
        before, after = relaxation.energies
        numbers = [
            Quantity("energy", after, "eV"),
            Quantity("gained by the relaxation", 1000.0 * (before - after) / len(self.atoms), "meV/atom"),
            Quantity("largest magnetic force", 1000.0 * relaxation.largest_field, "meV/μ_B"),
            Quantity("total moment", np.atleast_1d(self.moments.sum(axis=0)), "μ_B"),
        ]
        for symbol in sorted({*self.atoms.symbols}):
            mean = float(sizes[self.atoms.symbols == symbol].mean())
            numbers.append(Quantity(f"mean size of the moments of {symbol}", mean, "μ_B"))
        numbers += [Quantity(f"J {_name(shell)}", 1000.0 * shell.exchange, "meV") for shell in self._strongest()]
        return [*numbers, Quantity("critical temperature (mean field)", self.exchange.critical, "K")]

    def _strongest(self, count: int = 6) -> Sequence[Shell]:
        """The shells with the largest J, nearest first."""
        strongest = sorted(self.exchange.shells, key=lambda shell: -abs(shell.exchange))[:count]
        return sorted(strongest, key=lambda shell: (shell.pair, shell.distance))

    def tables(self) -> Mapping[str, Mapping[str, Array]]:
        shells = self.exchange.shells
        columns = {
            "pair": np.array([shell.pair for shell in shells]),
            "distance_A": np.array([shell.distance for shell in shells]),
            "neighbours": np.array([shell.neighbours for shell in shells]),
            "J_meV": np.array([1000.0 * shell.exchange for shell in shells]),
            "spread_meV": np.array([1000.0 * shell.spread for shell in shells]),
            "cosine": np.array([shell.cosine for shell in shells]),
        }
        axes = "xyz" if self.moments.shape[1] == 3 else "z"
        moments = {f"m{axis}_mu_B": column for axis, column in zip(axes, self.moments.T, strict=True)}
        fields = {f"field_{axis}_eV/mu_B": column for axis, column in zip(axes, self.fields.T, strict=True)}
        atoms = {"element": np.array([*self.atoms.symbols]), **moments, **fields}
        return {"exchange": columns, "moments": atoms}

    def structures(self) -> list[ase.Atoms]:
        return [self.atoms]

    def warnings(self) -> list[str]:
        exchange, warnings = self.exchange, []
        if exchange.lowest < -UNSTABLE * abs(exchange.highest):
            warnings.append(
                f"the moments are at a saddle: the lowest curvature of the energy is {1000.0 * exchange.lowest:.3g} "
                "meV/μ_B². Parallel moments feel no torque: tilt them first (--tilt 5), or start from another order"
            )
        if exchange.far > FAR:
            warnings.append(
                f"J of the farthest shell is {100.0 * exchange.far:.0f} % of the largest one: images of atoms are too "
                "near to tell shells apart; choose a larger supercell"
            )
        return warnings

    def failures(self) -> list[str]:
        relaxation = self.relaxation
        if relaxation.converged:
            return []
        return [
            f"after {relaxation.steps} steps the largest magnetic force is {1000.0 * relaxation.largest_field:.3g} "
            f"meV/μ_B, the largest force {relaxation.largest_force:.3g} eV/Å"
        ]

    def draw(self, figure: Figure) -> None:
        axes = figure.subplots()
        axes.axhline(0.0, color="C5", linewidth=0.8)
        for number, pair in enumerate(dict.fromkeys(shell.pair for shell in self.exchange.shells)):
            shells = [shell for shell in self.exchange.shells if shell.pair == pair]
            distances = [shell.distance for shell in shells]
            values = [1000.0 * shell.exchange for shell in shells]
            axes.vlines(distances, 0.0, values, color=f"C{number % 5}", linewidth=1.2)
            spreads = [1000.0 * shell.spread for shell in shells]
            axes.errorbar(distances, values, spreads, fmt="o", color=f"C{number % 5}", markersize=4.0, label=pair)
        axes.set(xlabel="distance (Å)", ylabel="J (meV)")
        axes.legend(fontsize=8.0)


def magnetic(
    atoms: ase.Atoms,
    model: Model,
    goal: MomentGoal | None = None,
    supercell: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> MagneticState:
    """Relax magnetic moments, and perhaps atoms with them; the exchange constants there.

    Args:
        atoms: with moments in ``arrays["initial_magmoms"]`` (or ``"magmoms"``), μ_B; ``FixAtoms`` holds atoms.
        model: a model that has moments as input, or its file.
        goal: what varies, and when to stop.
        supercell: multiples of the cell for exchange constants; by default atoms are 10 Å from their images.
        progress: called with steps, then rows, done and all.

    Raises:
        ModelError: the model does not know an element, or has no moments as input.
        DataError: the structure has no moments, or one only; or constraints other than ``FixAtoms``.
    """
    calculator = as_calculator(model)
    system = MagneticModel(atoms, calculator)
    relaxation = relax_moments(system, goal, moving_atoms(atoms), progress)
    values = system.evaluate(relaxation.moments, relaxation.positions)
    exchange = exchange_constants(system, relaxation.moments, _repeats(atoms, supercell), progress)
    relaxed = system.with_moments(relaxation.moments)
    relaxed.set_constraint(atoms.constraints)
    relaxed.arrays[system.of_fields] = values.fields.reshape(relaxed.arrays["initial_magmoms"].shape)
    relaxed.calc = SinglePointCalculator(relaxed, energy=values.energy, forces=values.forces)
    return MagneticState(relaxed, relaxation, exchange, values.fields)


def _repeats(atoms: ase.Atoms, supercell: Sequence[int] | None) -> tuple[int, int, int]:
    """Multiples of the cell.

    Raises:
        DataError: there are not three from 1, or others than 1 where the structure is not periodic.
    """
    numbers = wide_multiples(atoms) if supercell is None else list(supercell)
    if len(numbers) != 3 or min(numbers) < 1 or (np.array(numbers)[~atoms.pbc] > 1).any():
        raise DataError(
            f"supercell: expected three multiples, 1 where {atoms.get_chemical_formula()} is not periodic, "
            f"found {numbers}"
        )
    one, two, three = numbers
    return one, two, three


def _name(shell: Shell) -> str:
    return f"{shell.pair} {shell.distance:.2f} Å ({shell.neighbours:.3g} neighbours)"
