"""Labels for many structures: over processes, kept as they come, failures apart from the rest."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from carten.data.labels import Label
from carten.data.write import replacing, write_structure
from carten.errors import ConfigError, DataError
from carten.learning.labellers import Labeller
from carten.properties.spec import input_table, property_table
from carten.workflows.inputs import without_labels
from carten.workflows.predict import with_values
from carten.workflows.records import RunFiles

LEVEL = "fidelity"
"""Entry of a labelled structure that says its level of theory: the input of models of several levels."""
FAILURE = "label_error"
DIGITS = 8  # decimals of positions in files: labels are those of the positions that are written

Outcome = Mapping[str, Any]


@dataclass(frozen=True)
class Labelled:
    """What labelling brought.

    Args:
        frames: structures with labels, in the order they came.
        failed: structures without, each with ``info["label_error"]``.
        resumed: how many had been labelled before.
        removed: names of labels that structures brought along and lost.
    """

    frames: list[Atoms]
    failed: list[Atoms]
    resumed: int = 0
    removed: list[str] = field(default_factory=list)


def label_structures(
    frames: Sequence[Atoms],
    labeller: Labeller,
    output: Path,
    properties: Sequence[str] | None = None,
    jobs: int = 1,
    advance: Callable[[int], None] | None = None,
) -> Labelled:
    """Label structures; ``output`` appears when all is done, and failures beside it as ``*.failed.extxyz``.

    Until then results are kept in ``*.labels.jsonl``; the same call continues from there, also after a kill.

    Args:
        frames: structures; charge and multiplicity are in ``info``, see :mod:`carten.learning.labellers`.
        labeller: computes.
        output: extended XYZ.
        properties: names as ASE has them; energy, forces and, of periodic structures, stress when omitted.
        jobs: processes, each with one thread, or as many as OMP_NUM_THREADS says.
        advance: called with the number of structures done.

    Raises:
        ConfigError: the labeller is not usable, or the kept results are of other structures or another labeller.
        DataError: not a single structure could be labelled; another process writes to the same file.
    """
    names = [name for name in properties or () if name not in property_table()]
    if names:
        raise ConfigError(f"carten has no property {names[0]!r}: carten properties lists them")
    plain, removed = _plain(frames)
    with RunFiles(output).locked():
        journal = Journal(output.with_suffix(".labels.jsonl"), _facts(plain, labeller, properties))
        outcomes = journal.read()
        resumed = len(outcomes)
        todo = [number for number in range(len(plain)) if number not in outcomes]
        for number, outcome in _compute(plain, todo, labeller, properties, jobs):
            journal.append(number, outcome)
            outcomes[number] = outcome
            if advance is not None:
                advance(len(outcomes))
        labelled = _sorted(plain, outcomes, labeller.level_of_theory)
        failures = output.with_suffix(".failed.extxyz")
        write_frames(failures, labelled.failed)
        if labelled.frames:
            write_frames(output, labelled.frames)
        journal.path.unlink(missing_ok=True)
    if not labelled.frames:
        reason = labelled.failed[0].info[FAILURE]
        raise DataError(f"no structure could be labelled, see {failures}; the first: {reason}")
    return Labelled(labelled.frames, labelled.failed, resumed, removed)


class Journal:
    """Results as they come, a line of JSON each, after a line that says of what.

    Args:
        path: of the file.
        facts: structures and labeller.
    """

    def __init__(self, path: Path, facts: dict[str, Any]) -> None:
        self.path = path
        self.facts = facts

    def read(self) -> dict[int, Outcome]:
        """Outcomes by structure; a line that was cut off is removed from the file.

        Raises:
            ConfigError: they are of something else.
        """
        if not self.path.exists():
            return {}
        content = self.path.read_bytes()
        content = content[: content.rfind(b"\n") + 1]
        os.truncate(self.path, len(content))
        lines = [json.loads(line) for line in content.splitlines()]
        if not lines:
            return {}
        if differing := [key for key, value in self.facts.items() if lines[0].get(key) != value]:
            raise ConfigError(
                f"{self.path} has labels of an interrupted run with other {' and '.join(differing)}: remove it, or "
                "choose another output"
            )
        return {line["number"]: line["outcome"] for line in lines[1:]}

    def append(self, number: int, outcome: Outcome) -> None:
        """Write down one outcome."""
        with self.path.open("a", encoding="utf-8") as file:
            if file.tell() == 0:
                file.write(json.dumps(self.facts) + "\n")
            file.write(json.dumps({"number": number, "outcome": outcome}) + "\n")


def _facts(frames: Sequence[Atoms], labeller: Labeller, properties: Sequence[str] | None) -> dict[str, Any]:
    digest = hashlib.sha256("".join(map(_text, frames)).encode()).hexdigest()
    names = None if properties is None else list(properties)
    return {"structures": digest, "labeller": labeller.to_json(), "properties": names}


def _plain(frames: Sequence[Atoms]) -> tuple[list[Atoms], list[str]]:
    """Structures without labels, at the positions that files hold; and the names of labels that were left out."""
    labels = [Label(row) for row in property_table().values()]
    inputs = [Label(row) for row in input_table().values()]
    removed, plain = set[str](), []
    for atoms in frames:
        results = [] if atoms.calc is None else list(atoms.calc.results)
        copy, names = without_labels(atoms, labels, inputs)
        copy.positions = np.round(copy.positions, DIGITS)
        copy.cell[:] = np.round(copy.cell.array, DIGITS)
        removed.update(names, results)
        plain.append(copy)
    return plain, sorted(removed)


def _text(atoms: Atoms) -> str:
    text = StringIO()
    write_structure(text, atoms)
    return text.getvalue()


def _compute(
    frames: Sequence[Atoms],
    todo: Sequence[int],
    labeller: Labeller,
    properties: Sequence[str] | None,
    jobs: int,
) -> Iterator[tuple[int, Outcome]]:
    """Number and outcome of each structure, in the order in which they are done."""
    if not todo:
        return
    tasks, outcomes = queue.SimpleQueue[int | None](), queue.SimpleQueue[tuple[int, Outcome] | BaseException]()
    for number in todo:
        tasks.put(number)
    jobs = min(jobs, len(todo))
    request = {"labeller": labeller.to_json(), "properties": properties}
    workers = [Worker(request) for _ in range(jobs)]
    try:
        workers[0].start()  # says what is wrong before the others start
        for worker in workers:
            threading.Thread(target=_serve, args=(worker, frames, tasks, outcomes), daemon=True).start()
            tasks.put(None)
        for _ in todo:
            outcome = outcomes.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome
    finally:
        for worker in workers:
            worker.stop()


def _serve(worker: Worker, frames: Sequence[Atoms], tasks: Any, outcomes: Any) -> None:
    try:
        while (number := tasks.get()) is not None:
            outcomes.put((number, worker.label(frames[number])))
    except (OSError, ValueError) as error:
        outcomes.put(error)


class Worker:
    """A process of :mod:`carten.learning.worker`, which is started again after a calculator has ended it.

    Args:
        request: labeller and properties.
    """

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.request = request
        self.process: subprocess.Popen[str] | None = None
        self.errors: IO[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        """The process.

        Raises:
            ConfigError: the labeller cannot be used.
        """
        if self.process is not None:
            return self.process
        # of programs, not of carten; who has set it means it
        environment = {"OMP_NUM_THREADS": "1", **os.environ}  # noqa: TID251
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "carten.learning.worker"]
        self.errors = TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # until it stops
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=self.errors, text=True, env=environment)
        self.process = process
        answer = self._ask(self.request)
        if "error" in answer:
            self.stop()
            raise ConfigError(str(answer["error"]))
        return process

    def label(self, atoms: Atoms) -> Outcome:
        """Labels of a structure, or the error."""
        self.start()
        return self._ask(_text(atoms))

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        if self.errors is not None:
            self.errors.close()
        self.process = self.errors = None

    def _ask(self, content: Any) -> Outcome:
        process = self.process
        if process is None or process.stdin is None or process.stdout is None:
            return {"error": "stopped"}
        try:
            process.stdin.write(json.dumps(content) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if line.endswith("\n"):
            answer: Outcome = json.loads(line)
            return answer
        status = process.wait()
        last = self._last_line()
        self.stop()
        return {"error": f"the calculator ended its process with status {status}{f': {last}' if last else ''}"}

    def _last_line(self) -> str:
        """What the process wrote last, of use where it ended itself."""
        if self.errors is None:
            return ""
        self.errors.seek(0)
        return next((line.strip() for line in reversed(self.errors.readlines()) if line.strip()), "")


def _sorted(frames: Sequence[Atoms], outcomes: Mapping[int, Outcome], level: str) -> Labelled:
    rows, labelled = property_table(), Labelled([], [])
    for number, atoms in enumerate(frames):
        outcome = outcomes[number]
        if "error" in outcome:
            atoms.info[FAILURE] = outcome["error"]
            labelled.failed.append(atoms)
            continue
        values = {name: np.asarray(value) for name, value in outcome["results"].items()}
        if "stress" in values:
            values["stress"] = voigt_6_to_full_3x3_stress(values["stress"])
        atoms.info.pop(FAILURE, None)
        atoms.info[LEVEL] = level
        labelled.frames.append(with_values(atoms, values, rows))
    return labelled


def write_frames(path: Path, frames: Sequence[Atoms]) -> None:
    """Replace a file by structures; it is removed where there are none."""
    if not frames:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as file:
        for atoms in frames:
            write_structure(file, atoms)
