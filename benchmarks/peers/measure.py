"""Measurements: all codes are alive at once and are asked for times one after another, round after round."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.catalogue import Code, scan
from benchmarks.peers.environments import python
from benchmarks.peers.process import Failed, Worker
from benchmarks.peers.settings import Job, Settings, Task
from benchmarks.peers.structures import System, save, training_frames

Record = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Args:
        cache: folder with the environments.
        threads: of every code.
        rounds: how often each code has its turn.
        seconds: of evaluations in a turn.
        limit: seconds for an answer; building and compiling a model included.
        output: ``results.json``; written after every group of measurements.
    """

    cache: Path
    threads: int
    rounds: int
    seconds: float
    limit: float
    output: Path


@dataclass(frozen=True)
class Group:
    """What is measured in alternation: one task of one structure with models of one size."""

    task: Task
    kind: str
    system: System
    settings: Settings


def groups(kinds: Sequence[str], found: Sequence[System]) -> list[Group]:
    """All groups of the kinds ``infer``, ``train`` and ``scan``; the last two are of the smallest structure."""
    smallest, common = found[0], Settings()
    made = [Group("infer", "infer", system, common) for system in found if "infer" in kinds]
    made += [Group("train", "train", smallest, common)] if "train" in kinds else []
    made += [Group("infer", "scan", smallest, size) for size in scan() if "scan" in kinds]
    return made


def measure(plan: Plan, codes: Sequence[Code], todo: Sequence[Group]) -> None:
    """Measure every group and write the records."""
    records: list[Record] = []
    for number, group in enumerate(todo, start=1):
        print(f"[{number}/{len(todo)}] {_title(group)}", flush=True)
        able = [code for code in codes if group.task in code.tasks and (group.kind != "scan" or code.sized)]
        records += _measured(plan, able, group)
        plan.output.parent.mkdir(parents=True, exist_ok=True)
        plan.output.write_text(json.dumps(records, indent=1) + "\n")


def _measured(plan: Plan, codes: Sequence[Code], group: Group) -> list[Record]:
    records = {code.name: _record(plan, code, group) for code in codes}
    with ExitStack() as stack:
        working: dict[str, Worker] = {}
        for code in codes:
            try:
                working[code.name] = stack.enter_context(_ready(plan, code, group, records[code.name]))
            except Failed as error:
                _fail(records[code.name], working, error)
        for _ in range(plan.rounds):
            for name, worker in list(working.items()):
                try:
                    records[name]["seconds"] += worker.ask({"seconds": plan.seconds})["times"]
                except Failed as error:
                    _fail(records[name], working, error)
        for name, worker in list(working.items()):
            try:
                records[name].update(worker.ask({}))
            except Failed as error:
                _fail(records[name], working, error)
    return [_finished(record) for record in records.values()]


def _ready(plan: Plan, code: Code, group: Group, record: Record) -> Worker:
    """A worker that has done its first evaluation; where a code keeps what it compiles, another one compiled before.

    Raises:
        Failed: it could not.
    """
    if code.compiles:
        with _start(plan, code, group) as before:
            cold = before.answer()
        record["first_start_seconds"] = cold["setup"] + cold["first"]
    worker = _start(plan, code, group)
    try:
        facts = worker.answer()
    except Failed:
        worker.end()
        raise
    record["start_seconds"] = facts.pop("setup") + facts.pop("first")
    record.update(facts)
    return worker


def _start(plan: Plan, code: Code, group: Group) -> Worker:
    frames = [group.system.atoms] if group.task == "infer" else training_frames(group.system.atoms)
    name = f"{group.system.name}-{len(group.system.atoms)}-{group.task}"
    structures = save(plan.cache / "structures" / f"{name}.extxyz", frames)
    interpreter = python(plan.cache, code.environment) if code.environment else Path(sys.executable)
    job = Job(
        code.module, code.variant, code.distribution, group.task, str(structures), group.settings, plan.threads,
        str(plan.cache),
    )  # fmt: skip
    label = f"{code.module}-{code.variant}-{name}".replace("--", "-")
    return Worker(interpreter, job, plan.cache / "logs" / f"{label}.log", plan.limit)


def _record(plan: Plan, code: Code, group: Group) -> Record:
    frames = 1 if group.task == "infer" else len(training_frames(group.system.atoms))
    return {
        "model": code.name,
        "version": "",
        "system": group.system.name,
        "task": group.task,
        "kind": group.kind,
        "dtype": "float32",
        "threads": plan.threads,
        "n_atoms": frames * len(group.system.atoms),
        "settings": asdict(group.settings),
        "note": code.note,
        "machine": _machine(),
        "seconds": [],
    }


def _machine() -> str:
    """The processor and the number of its cores."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def _finished(record: Record) -> Record:
    """The record with what its times amount to."""
    seconds = record.pop("seconds")
    if "error" not in record:
        per_atom = 1e6 / record["n_atoms"]
        record["us_per_atom"] = per_atom * statistics.median(seconds)
        record["us_per_atom_min"] = per_atom * min(seconds)
        record["repeats"] = len(seconds)
    result = record.get("error") or f"{record['us_per_atom']:.1f} µs/atom"
    print(f"  {record['model']:16} {result}", flush=True)
    return record


def _fail(record: Record, working: dict[str, Worker], error: Failed) -> None:
    record["error"] = str(error)
    worker = working.pop(record["model"], None)
    if worker is not None:
        worker.end()


def _title(group: Group) -> str:
    size = group.settings
    return (
        f"{group.task} {group.system.name}, {len(group.system.atoms)} atoms, {size.channels} channels, "
        f"L {size.l_features}, l_max {size.l_edges}, ν {size.correlation}"
    )
