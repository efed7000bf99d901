"""Several runs of dynamics that differ in their seeds, evaluated in one batch, and statistics over them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator, PropertyNotImplementedError
from ase.stress import full_3x3_to_voigt_6_stress
from matplotlib.figure import Figure

from carten.data.structures import is_crystal, require_known
from carten.deploy import Deployed
from carten.errors import ConfigError, DataError, ModelError
from carten.workflows.crowd import Crowd
from carten.workflows.md import Advance, Settings, run_dynamics
from carten.workflows.relax import choose_evaluator
from carten.workflows.results import Model, as_calculator
from carten.workflows.run_statistics import RunStatistics
from carten.workflows.summary import DynamicsSummary, draw_log

Results = dict[str, Any]


@dataclass(frozen=True)
class DynamicsStatistics(RunStatistics[DynamicsSummary]):
    """Runs of dynamics of one system, and their means with standard errors."""

    job: ClassVar[str] = "md"
    size: ClassVar[tuple[float, float]] = (5.2, 6.2)

    def draw(self, figure: Figure) -> None:
        upper, lower = figure.subplots(2, sharex=True)
        for number, (name, result) in enumerate(zip(self.names, self.results, strict=True)):
            draw_log(upper, lower, result.log, number % 10, name)
        lower.legend(fontsize=7.0, ncols=4)


def replica_paths(trajectory: str | Path, count: int) -> list[Path]:
    """Trajectories of the replicas: ``md-0.extxyz``, ``md-1.extxyz``, .. for ``md.extxyz``."""
    path = Path(trajectory)
    return [path.with_stem(f"{path.stem}-{number}") for number in range(count)]


def run_replicas(
    atoms: ase.Atoms,
    model: Model,
    settings: Settings,
    count: int,
    trajectory: str | Path,
    restart: bool = False,
    advance: Advance | None = None,
) -> DynamicsStatistics:
    """Run molecular dynamics several times from one structure with different seeds; each has its own files.

    Replica k is the run of :func:`run_dynamics` with the seed ``settings.seed + k``. Where the model is a compiled
    library all replicas are evaluated in one batch, in step; else they run one after the other. A replica that
    explodes is a failure of the result, and the others go on.

    Args:
        atoms: the structure; velocities that it has would be those of all replicas, and are an error.
        model: a model, its file, or any calculator of ASE.
        settings: what to run.
        count: number of replicas, two at least.
        trajectory: its name gives those of the replicas, see :func:`replica_paths`.
        restart: continue runs of these files up to ``settings.steps``.
        advance: called with lines of the logs of all replicas, and the number of the ``replica``.

    Raises:
        ConfigError: there are fewer than two replicas, or they would write the same files of PLUMED.
        DataError: the structure has velocities, or what :func:`run_dynamics` refuses.
        ModelError: all replicas failed.
    """
    if count < 2:
        raise ConfigError(f"replicas: expected two or more, found {count}")
    if settings.plumed:
        raise ConfigError("replicas: all would write the same files of PLUMED; run them one by one, each in a folder")
    if atoms.get_momenta().any() and settings.ensemble != "langevin":
        raise DataError(
            "the structure has velocities, with which all replicas would begin: remove them, or use langevin, "
            "which soon makes a difference"
        )
    calculator, copies = as_calculator(model), [atoms.copy() for _ in range(count)]
    runs = [
        _Run(copy, replace(settings, seed=settings.seed + number), path, restart, _named(advance, number))
        for number, (copy, path) in enumerate(zip(copies, replica_paths(trajectory, count), strict=True))
    ]
    library = choose_evaluator(calculator, copies)
    if isinstance(library, Deployed) and not settings.stop_at:
        require_known(atoms.numbers, library.elements, "the structure")
        outcomes = _together(runs, library)
    else:
        outcomes = [run(calculator) for run in runs]
    finished = {f"replica {k}": x for k, x in enumerate(outcomes) if isinstance(x, DynamicsSummary)}
    lost = {f"replica {k}": str(x) for k, x in enumerate(outcomes) if isinstance(x, ModelError)}
    if not finished:
        raise ModelError("; ".join(f"{name}: {reason}" for name, reason in lost.items()))
    return DynamicsStatistics(tuple(finished), tuple(finished.values()), lost)


def _named(advance: Advance | None, number: int) -> Advance | None:
    return None if advance is None else lambda line: advance({"replica": number, **line})


@dataclass(frozen=True)
class _Run:
    atoms: ase.Atoms
    settings: Settings
    trajectory: Path
    restart: bool
    advance: Advance | None

    def __call__(self, calculator: BaseCalculator) -> DynamicsSummary | ModelError:
        self.atoms.calc = calculator
        try:
            return run_dynamics(self.atoms, self.settings, self.trajectory, self.restart, self.advance)
        except ModelError as error:
            return error


def _together(runs: Sequence[_Run], library: Deployed) -> list[DynamicsSummary | ModelError]:
    """A thread for each run; they meet whenever they need forces."""
    meeting = _Meeting(library, len(runs))

    def attend(number: int) -> DynamicsSummary | ModelError:
        try:
            return runs[number](_Seat(meeting, number))
        finally:
            meeting.leave(number)

    with ThreadPoolExecutor(len(runs)) as pool:
        futures = [pool.submit(attend, number) for number in range(len(runs))]
        try:
            return [future.result() for future in futures]
        except BaseException:
            meeting.end()
            raise


class _Seat(BaseCalculator):
    """The calculator of one run, whose atoms stay the same object: its forces come from the meeting."""

    def __init__(self, meeting: _Meeting, number: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.implemented_properties = ["energy", "forces", "stress"]
        self._meeting = meeting
        self._number = number
        self._place = (np.zeros((0, 3)), np.zeros((3, 3)))

    def get_property(self, name: str, atoms: ase.Atoms | None = None, allow_calculation: bool = True) -> Any:
        if atoms is not None and self.check_state(atoms):
            self.calculate(atoms)
        if name not in self.results:
            raise PropertyNotImplementedError(f"{name} of a structure without volume")
        value = self.results[name]
        return value.copy() if isinstance(value, np.ndarray) else value

    def calculate(self, atoms: Any, properties: Any = (), system_changes: Any = ()) -> None:
        self._place = (atoms.positions.copy(), atoms.cell.array.copy())
        self.results = self._meeting.evaluate(self._number, atoms)

    def check_state(self, atoms: ase.Atoms, tol: float = 0.0) -> list[str]:
        positions, cell = self._place
        changed = {"positions": not np.array_equal(positions, atoms.positions)}
        changed["cell"] = not np.array_equal(cell, atoms.cell.array)
        return [name for name, change in changed.items() if change]


class _Meeting:
    """Evaluates structures of several threads in one batch, as soon as all that take part wait."""

    def __init__(self, library: Deployed, count: int) -> None:
        self._library = library
        self._present = set(range(count))
        self._waiting: dict[int, ase.Atoms] = {}
        self._outcomes: dict[int, Results | Exception] = {}
        self._crowds: dict[tuple[int, ...], Crowd] = {}  # by ids of the structures
        self._condition = threading.Condition()
        self._ended = False

    def evaluate(self, number: int, atoms: ase.Atoms) -> Results:
        """Wait for the others; energy, forces and stress of these atoms."""
        with self._condition:
            self._waiting[number] = atoms
            self._evaluate_if_complete()
            self._condition.wait_for(lambda: number in self._outcomes or self._ended)
            if self._ended:
                raise KeyboardInterrupt
            outcome = self._outcomes.pop(number)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def leave(self, number: int) -> None:
        """This one does not take part any more."""
        with self._condition:
            self._present.discard(number)
            self._evaluate_if_complete()

    def end(self) -> None:
        """Send all home."""
        with self._condition:
            self._ended = True
            self._condition.notify_all()

    def _evaluate_if_complete(self) -> None:
        if not self._waiting or len(self._waiting) < len(self._present):
            return
        numbers = tuple(sorted(self._waiting))
        try:
            self._outcomes |= self._values(numbers)
        except (DataError, ModelError):
            for number in numbers:  # so that only those fail that have to
                try:
                    self._outcomes |= self._values((number,))
                except (DataError, ModelError) as error:
                    self._outcomes[number] = error
        self._waiting.clear()
        self._condition.notify_all()

    def _values(self, numbers: tuple[int, ...]) -> dict[int, Results]:
        structures = [self._waiting[number] for number in numbers]
        key = tuple(map(id, structures))
        if key not in self._crowds:
            self._crowds[key] = Crowd(self._library, structures, None)
        crowd = self._crowds[key]
        values = crowd.evaluate()
        outcomes = {}
        for place, number in enumerate(numbers):
            atoms, part = self._waiting[number], slice(crowd.first[place], crowd.first[place + 1])
            results: Results = {"energy": float(values.energies[place]), "forces": values.forces[part]}
            if is_crystal(atoms):
                results["stress"] = full_3x3_to_voigt_6_stress(-values.virials[place] / atoms.cell.volume)
            outcomes[number] = results
        return outcomes
