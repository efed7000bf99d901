"""Screening: energies and relaxed structures of many candidates, ranked by their distance to the convex hull."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import ase
import numpy as np
from ase.calculators.calculator import BaseCalculator
from ase.data import atomic_numbers

from carten.data.write import as_json
from carten.errors import ConfigError, DataError, ModelError
from carten.interfaces.ase import Calculator
from carten.math.arrays import Floats
from carten.ops.memory import is_out_of_memory
from carten.pretrained import located
from carten.workflows.executors import run_tasks
from carten.workflows.hull import above_hull, formation_energies
from carten.workflows.lock import only_writer
from carten.workflows.points import single_points
from carten.workflows.relax import Goal, choose_evaluator, relax
from carten.workflows.results import Model, Progress, as_calculator
from carten.workflows.screen_database import ScreenDatabase, ScreenOutcome, structure_key
from carten.workflows.screening import STABLE, Screening, ranked

MAX_ATOMS = 500
"""Of a task: structures that are evaluated in one batch, and written together."""
TASKS = 64
"""That an executor gets at least, where there are so many structures, to share them among its workers."""
SHOWN = 200
"""Structures on the hull that are kept in the result; the database has all."""
_FAULTS = (DataError, ModelError, RuntimeError, ValueError, ArithmeticError, LookupError)
"""What a calculator may raise about one structure."""


@dataclass(frozen=True)
class ScreenSettings:
    """What to compute.

    Args:
        goal: of the relaxation; ``None`` evaluates structures as they are.
        references: energies of elements by symbol, eV per atom; otherwise the lowest ones in the set.
        dtype: precision of a model that is given as a file.

    Raises:
        ConfigError: a reference is of no element, or not finite.
    """

    goal: Goal | None = None
    references: Mapping[str, float] = field(default_factory=dict)
    dtype: str = "float64"

    def __post_init__(self) -> None:
        for symbol, energy in self.references.items():
            if atomic_numbers.get(symbol, 0) < 1 or not np.isfinite(energy):
                raise ConfigError(f"reference: expected a finite energy of an element in eV/atom, {symbol}={energy}")


@dataclass(frozen=True)
class _Task:
    """Structures for a worker, which opens the model by its path: the same on all machines, as its identity shows."""

    structures: list[tuple[str, str, ase.Atoms]]
    model: str | BaseCalculator
    identity: str
    dtype: str
    goal: Goal | None


def screen(
    structures: Sequence[ase.Atoms],
    model: Model,
    database: str | Path,
    settings: ScreenSettings | None = None,
    executor: Executor | None = None,
    names: Sequence[str] = (),
    progress: Progress | None = None,
) -> Screening:
    """Evaluate or relax structures, keep them in a database, and rank all that it has.

    Finished structures are written batch by batch. A call that was killed is repeated to go on; structures that are in
    the database already are not computed again, others can be added. A structure that fails is kept with the reason.

    Args:
        structures: any.
        model: a model, its file, or any calculator of ASE. With an executor a file must have the same path everywhere.
        database: an SQLite database of ASE (``.db``), created where there is none. Rows have energy, forces and stress,
            ``fingerprint``, ``energy_before`` (eV), ``steps``, ``converged`` and ``failed``.
        settings: what to compute.
        executor: any of :mod:`concurrent.futures`, or of Dask (``distributed.Client(..).get_executor()``); this process
            by default.
        names: of the structures, such as where they came from; ``"structure 0"``, .. by default.
        progress: called with how many structures of how many are in the database.

    Raises:
        DataError: the database has energies of another model or other settings, or another process writes it.
        ModelError: a worker died, or has another model under the path.
    """
    settings, path = settings or ScreenSettings(), Path(database)
    source = str(located(model).absolute()) if isinstance(model, str | Path) else as_calculator(model)
    labels = names or [f"structure {k}" for k in range(len(structures))]
    labelled = list(zip(labels, structures, strict=True))
    with only_writer(path):
        identity = _identity(source)
        results = ScreenDatabase(path, _facts(identity, source, settings))
        keyed = {_key(name, atoms): (name, atoms) for name, atoms in reversed(labelled)}
        present = results.fingerprints()
        todo = [(key, *keyed[key]) for key in reversed(keyed) if key not in present]
        done = len(keyed) - len(todo)
        largest = len(todo) if executor is None else max(1, len(todo) // TASKS)
        tasks = (_Task(group, source, identity, settings.dtype, settings.goal) for group in _groups(todo, largest))
        if progress is not None:
            progress(done, len(keyed))
        for outcomes in run_tasks(executor, _evaluated, tasks):
            results.write(outcomes)
            done += len(outcomes)
            if progress is not None:
                progress(done, len(keyed))
        return _screening(results, settings.references, len(structures) - len(keyed))


def _screening(results: ScreenDatabase, references: Mapping[str, float], repeated: int) -> Screening:
    rows = results.rows()
    finished, failed = [row for row in rows if not row.error], tuple(row for row in rows if row.error)
    phases = [(row.composition, row.energy) for row in finished]
    ranking, formation, hull = ranked(finished, formation_energies(phases, references), above_hull(phases, references))
    on_hull = [row.id for row, distance in zip(ranking, hull, strict=True) if distance <= STABLE]
    return Screening(ranking, failed, formation, hull, results.atoms(on_hull[:SHOWN]), repeated, references)


def _key(name: str, atoms: ase.Atoms) -> str:
    try:
        return structure_key(atoms)
    except DataError as error:
        raise DataError(f"{name}: {error}") from error


def _groups(
    todo: Sequence[tuple[str, str, ase.Atoms]], largest: int
) -> Iterator[list[tuple[str, str, ase.Atoms]]]:
    group: list[tuple[str, str, ase.Atoms]] = []
    for item in todo:
        n_atoms = sum(len(atoms) for *_, atoms in (*group, item))
        if group and (n_atoms > MAX_ATOMS or len(group) == largest):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


def _facts(identity: str, model: str | BaseCalculator, settings: ScreenSettings) -> dict[str, Any]:
    """What the energies depend on."""
    relaxation = {} if settings.goal is None else asdict(settings.goal)
    facts = {"model": identity, "relax": settings.goal is not None, **relaxation}
    return facts | ({"dtype": settings.dtype} if isinstance(model, str) else {})


def _identity(model: str | BaseCalculator) -> str:
    """A name for a model that no other one has."""
    if isinstance(model, str):
        content = Path(model).read_bytes()
    elif isinstance(model, Calculator):
        weights = [value.detach().cpu().numpy() for each in model.models for value in each.state_dict().values()]
        content = b"".join(value.tobytes() for value in weights) + json.dumps(as_json(model.inputs)).encode()
    else:
        parameters = getattr(model, "parameters", {})
        text = json.dumps(parameters, default=str, sort_keys=True)
        return f"{type(model).__module__}.{type(model).__qualname__} {text}"
    return hashlib.sha256(content).hexdigest()[:16]


@functools.lru_cache(maxsize=2)
def _opened(path: str, identity: str, dtype: str) -> Calculator:
    """A model from its file, once for as long as that stays the same; a file that was replaced is read again."""
    if _identity(path) != identity:
        raise ModelError(
            f"{path} is not the model that this screening began with: a worker has another file there, or it was "
            "replaced meanwhile; put the same file there on all machines, and run the same command again"
        )
    return Calculator(path, dtype=dtype, threads=1)


def _evaluated(task: _Task) -> list[ScreenOutcome]:
    """In a worker: the structures together, or, where one of them is impossible, each for itself."""
    calculator = _opened(task.model, task.identity, task.dtype) if isinstance(task.model, str) else task.model
    compute = _energies if task.goal is None else functools.partial(_relaxed, goal=task.goal)
    structures = [atoms for *_, atoms in task.structures]
    outcomes = _attempt(compute, structures, calculator)
    if isinstance(outcomes, str):
        outcomes = [_alone(compute, atoms, calculator) for atoms in structures]
    return [
        ScreenOutcome(outcome.atoms, {"fingerprint": key, "name": name, **outcome.values})
        for (key, name, _), outcome in zip(task.structures, map(_checked, outcomes), strict=True)
    ]


_Compute = Callable[[list[ase.Atoms], BaseCalculator], list[ScreenOutcome]]


def _attempt(compute: _Compute, structures: list[ase.Atoms], calculator: BaseCalculator) -> list[ScreenOutcome] | str:
    """Outcomes, or why there are none."""
    try:
        return compute(structures, calculator)
    except _FAULTS as error:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            raise
        return str(error) or type(error).__name__


def _alone(compute: _Compute, atoms: ase.Atoms, calculator: BaseCalculator) -> ScreenOutcome:
    outcome = _attempt(compute, [atoms], calculator)
    return _failed(atoms, outcome) if isinstance(outcome, str) else outcome[0]


def _energies(structures: list[ase.Atoms], calculator: BaseCalculator) -> list[ScreenOutcome]:
    return [
        ScreenOutcome(atoms, _values(atoms.get_potential_energy(), 0, True))
        for atoms in single_points(structures, calculator)
    ]


def _relaxed(structures: list[ase.Atoms], calculator: BaseCalculator, goal: Goal) -> list[ScreenOutcome]:
    results = relax(structures, choose_evaluator(calculator, structures), goal)
    return [
        _failed(x.atoms, x.problem)
        if x.problem
        else ScreenOutcome(x.atoms, _values(x.energy_before, x.steps, x.converged))
        for x in results
    ]


def _values(energy_before: float, steps: int, converged: bool) -> dict[str, Any]:
    return {"energy_before": float(energy_before), "steps": steps, "converged": bool(converged), "error": ""}


def _failed(atoms: ase.Atoms, reason: str) -> ScreenOutcome:
    bare = atoms.copy()
    bare.calc = None
    return ScreenOutcome(bare, {"error": reason})


def _checked(outcome: ScreenOutcome) -> ScreenOutcome:
    """An outcome whose numbers are finite, or a failure."""
    if outcome.values["error"]:
        return outcome
    results: dict[str, float | Floats] = outcome.atoms.calc.results
    if all(np.isfinite(value).all() for value in results.values()):
        return outcome
    return _failed(outcome.atoms, "energy or forces are not finite")
