"""Measurements: all codes are loaded at the same time and measured in turns, round after round."""

from __future__ import annotations

import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.peers.catalogue import Code, scan
from benchmarks.peers.environments import python
from benchmarks.peers.foresight import foreseen
from benchmarks.peers.process import Failed, Worker
from benchmarks.peers.records import Record, Records, done, machine
from benchmarks.peers.settings import Job, Settings, Task
from benchmarks.peers.structures import System, save, training_frames

SLOW = 5.0  # seconds; of codes that take longer, two evaluations are enough


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Args:
        cache: folder with the environments.
        threads: of every code.
        rounds: how often each code has its turn.
        seconds: of evaluations in a turn.
        clock: ``"wall"``, or ``"processor"`` on a machine that has other work to do: what the processor spent on a
            single thread.
        limit: seconds for an answer; building a model included.
        minutes: after which nothing new is begun.
        output: ``results.json``.
    """

    cache: Path
    threads: int
    rounds: int
    seconds: float
    clock: str
    limit: float
    minutes: float
    output: Path


@dataclass(frozen=True)
class Group:
    """A set of alternating measurements: one task for one structure with models of one size."""

    task: Task
    kind: str
    system: System
    settings: Settings

    def __str__(self) -> str:
        size = self.settings
        model = f"{size.channels} channels, L {size.l_features}, l_max {size.l_edges}, ν {size.correlation}"
        return f"{self.task} {self.system.name}, {len(self.system.atoms)} atoms, {model}"

    @property
    def frames(self) -> int:
        """Number of structures evaluated together."""
        return 1 if self.task == "infer" else len(training_frames(self.system.atoms))

    def of(self, codes: Sequence[Code]) -> list[Code]:
        """The codes that support it."""
        return [code for code in codes if self.task in code.tasks and (self.kind != "scan" or code.sized)]


def groups(kinds: Sequence[str], found: Sequence[System]) -> list[Group]:
    """All groups of the kinds ``infer``, ``train`` and ``scan``; the last two are of the smallest structure."""
    smallest, common = found[0], Settings()
    made = [Group("infer", "infer", system, common) for system in found if "infer" in kinds]
    made += [Group("train", "train", smallest, common)] if "train" in kinds else []
    made += [Group("infer", "scan", smallest, size) for size in scan() if "scan" in kinds]
    return made


def _tasks(codes: Sequence[Code], todo: Sequence[Group]) -> Iterator[tuple[Group, Code]]:
    for group in todo:
        yield from ((group, code) for code in group.of(codes))


def forget(plan: Plan, codes: Sequence[Code], todo: Sequence[Group]) -> None:
    """Drop the records of these codes and groups, and what was compiled for them."""
    records = Records(plan.output)
    for group, code in _tasks(codes, todo):
        records.drop(_record(plan, code, group))
        if code.compiles:
            shutil.rmtree(_job(plan, code, group).compiled, ignore_errors=True)


def compile_first(plan: Plan, codes: Sequence[Code], todo: Sequence[Group]) -> bool:
    """Start once each model that compiles something it keeps, and record how long that takes; whether all is done."""
    records = Records(plan.output)
    until = time.monotonic() + 60.0 * plan.minutes
    for group, code in _tasks([code for code in codes if code.compiles], todo):
        record = records.find(_record(plan, code, group))
        if done(record) or _job(plan, code, group).compiled.exists() or foreseen(records.all, record):
            continue
        if time.monotonic() > until:
            return False
        try:
            worker, _, seconds = _ready(plan, code, group)
            worker.end()
            record["first_start_seconds"] = seconds
        except Failed as error:
            record["error"] = str(error)
            shutil.rmtree(_job(plan, code, group).compiled, ignore_errors=True)
        records.put(record)
        print(f"{group}\n  {code.name:20} {record.get('error') or record['first_start_seconds']}", flush=True)
    return True


def measure(plan: Plan, codes: Sequence[Code], todo: Sequence[Group]) -> bool:
    """Measure what has no record yet; whether all is done."""
    records = Records(plan.output)
    until = time.monotonic() + 60.0 * plan.minutes
    for number, group in enumerate(todo, start=1):
        known = {code: records.find(_record(plan, code, group)) for code in group.of(codes)}
        left = {code: record for code, record in known.items() if not done(record)}
        if left and time.monotonic() > until:
            return False
        if left:
            print(f"[{number}/{len(todo)}] {group}", flush=True)
        for record in _measured(plan, left, group, records):
            records.put(record)
            result = record.get("error") or f"{record['us_per_atom']:.1f} µs/atom"
            print(f"  {record['model']:20} {result}", flush=True)
    return True


def _measured(plan: Plan, todo: dict[Code, Record], group: Group, records: Records) -> Iterator[Record]:
    times: dict[str, list[tuple[float, float]]] = {code.name: [] for code in todo}
    with ExitStack() as stack:
        working: dict[str, Worker] = {}
        for code, record in todo.items():
            try:
                record["error"] = foreseen(records.all, record)
                if not record["error"]:
                    worker, said, record["start_seconds"] = _ready(plan, code, group)
                    working[code.name] = stack.enter_context(worker)
                    record.update(said)
            except Failed as error:
                record["error"] = str(error)
        by_name = {code.name: record for code, record in todo.items()}
        for turn in range(plan.rounds + 1):
            for name, worker in list(working.items()):
                try:
                    if turn == plan.rounds:
                        by_name[name].update(worker.ask({}))
                    elif turn < 2 or times[name][-1][0] < SLOW:
                        times[name] += worker.ask({"seconds": plan.seconds})["times"]
                except Failed as error:
                    by_name[name]["error"] = str(error)
                    working.pop(name).end()
    for name, record in by_name.items():
        yield _finished(record, times[name])


def _ready(plan: Plan, code: Code, group: Group) -> tuple[Worker, Record, float]:
    """A worker that has done its first evaluation, what it says, and the seconds from the command until then.

    Raises:
        Failed: it could not.
    """
    begun = time.perf_counter()
    worker = _start(plan, code, group)
    try:
        said = worker.answer()
    except Failed:
        worker.end()
        raise
    seconds = said.pop("processor_seconds")
    return worker, said, seconds if plan.clock == "processor" else time.perf_counter() - begun


def _start(plan: Plan, code: Code, group: Group) -> Worker:
    job = _job(plan, code, group)
    frames = [group.system.atoms] if group.task == "infer" else training_frames(group.system.atoms)
    save(Path(job.structures), frames)
    log = plan.cache / "logs" / f"{job.name}-{Path(job.structures).stem}.log"
    return Worker(_interpreter(plan, code), job, log, plan.limit)


def _job(plan: Plan, code: Code, group: Group) -> Job:
    structures = plan.cache / "structures" / f"{group.system.name}-{len(group.system.atoms)}-{group.task}.extxyz"
    return Job(
        code.module, code.variant, code.distribution, group.task, str(structures), group.settings, plan.threads,
        str(plan.cache),
    )  # fmt: skip


def _interpreter(plan: Plan, code: Code) -> Path:
    return python(plan.cache, code.environment) if code.environment else Path(sys.executable)


def _record(plan: Plan, code: Code, group: Group) -> Record:
    return {
        "model": code.name,
        "version": _version(plan, code),
        "system": group.system.name,
        "task": group.task,
        "kind": group.kind,
        "dtype": "float32",
        "threads": plan.threads,
        "n_atoms": group.frames * len(group.system.atoms),
        "settings": asdict(group.settings),
        "note": code.note,
        "machine": machine(),
        "clock": plan.clock,
    }


def _version(plan: Plan, code: Code) -> str:
    """Of what is installed in the environment of a code."""
    packages = map(str, _interpreter(plan, code).parent.parent.glob("lib/python*/site-packages"))
    found = distributions(name=code.distribution, path=list(packages))
    return next((one.version for one in found), "")


def _finished(record: Record, times: Sequence[tuple[float, float]]) -> Record:
    """The record with what its times, of the clock and of the processor, amount to."""
    if record.get("error"):
        return record
    record.pop("error", None)
    clocks = dict(zip(("wall", "processor"), zip(*times, strict=True), strict=True))
    seconds = clocks[record["clock"]]
    per_atom = 1e6 / record["n_atoms"]
    record["us_per_atom"] = per_atom * statistics.median(seconds)
    record["us_per_atom_min"] = per_atom * min(seconds)
    record["us_per_atom_wall"] = per_atom * statistics.median(clocks["wall"])
    record["repeats"] = len(seconds)
    return record
