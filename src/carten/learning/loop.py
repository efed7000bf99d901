"""Active learning: train, explore with the model, select, label, and again. Every stage is a file that is made once.

A loop that is interrupted, by whatever, goes on at the stage that it was in when it is called again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml
from ase import Atoms
from rich.console import Console

from carten.data.read import Paths, read_structures
from carten.errors import ConfigError, DataError
from carten.learning.choice import choose_structures, read_model
from carten.learning.config import CellsConfig, DimersConfig, DynamicsConfig, LoopConfig
from carten.learning.curve import NAN, LearningCurve, Round
from carten.learning.exploration import DynamicsOutcome, explore, prove
from carten.learning.geometries import bonds, is_one_molecule
from carten.learning.labelling import FAILURE, Labelled, label_structures, write_frames
from carten.learning.selection import candidates
from carten.train.files import BEST, LAST, write_text
from carten.train.lock import locked
from carten.train.run import TrainResult, train
from carten.uncertainty.files import join
from carten.workflows.predict import predict

VALIDATION = 10  # one labelled structure in so many is held out
START, TEST, SETTINGS = "start.extxyz", "test.extxyz", "loop.yaml"
Say = Callable[[str], None]


def learn(config: LoopConfig, say: Say = print, console: Console | None = None) -> LearningCurve:
    """Run active learning to its end; all is in ``config.output``, the curve in ``learn-rounds.csv``, ``learn.svg``, ..

    Args:
        config: of the loop.
        say: is called with a sentence at each stage.
        console: where the progress of training is shown; nowhere when omitted.

    Raises:
        ConfigError: the folder holds a loop of another configuration, or the labeller cannot be used.
        DataError: the structures cannot be read, or explorations do not suit them.
    """
    if "forces" not in config.label.build().implemented:
        raise ConfigError(f"label.labeller: {config.label.labeller} computes no forces; choose one that does")
    with locked(config.output, say):
        _enter(config)
        return _Loop(config, say, console or Console(quiet=True)).run()


def _enter(config: LoopConfig) -> None:
    """Check that the folder is of this loop; more rounds than before may be asked for, anything before the labels."""
    path = config.output / SETTINGS
    if path.exists() and (config.output / START).exists():
        before, now = (yaml.safe_load(text) for text in (path.read_text(encoding="utf-8"), config.dump()))
        free = ("rounds", "jobs", "proof", "output")
        if differing := [key for key in now if key not in free and before.get(key) != now[key]]:
            raise ConfigError(
                f"{config.output} holds a loop with another {differing[0]}: choose another output, or restore what is "
                f"in {path}"
            )
    write_text(path, config.dump())


class _Loop:
    """One call of :func:`learn`."""

    def __init__(self, config: LoopConfig, say: Say, console: Console) -> None:
        self.config = config
        self.say = say
        self.console = console
        self.remarks: list[str] = []

    def run(self) -> LearningCurve:
        files = [self._labelled_once(self.config.structures, START)]
        _require_fitting(self.config, _frames(files[0]))
        test = None if self.config.test is None else self._labelled_once(self.config.test, TEST)
        rounds: list[Round] = []
        model: Path | None = None
        for number in range(self.config.rounds + 1):
            folder = self.config.output / f"round_{number}"
            folder.mkdir(exist_ok=True)
            model, entry = self._trained(number, folder, files, model, test)
            rounds.append(entry)
            if number < self.config.rounds:
                new, rounds[-1] = self._new_labels(number, folder, files, model, entry)
                LearningCurve(rounds).save(self.config.output)
                if new is None:
                    break
                files.append(new)
        return self._finished(rounds, model, _frames(*files))

    def _finished(self, rounds: Sequence[Round], model: Path | None, known: Sequence[Atoms]) -> LearningCurve:
        proof = None
        if self.config.proof is not None and model is not None:
            section = self.config.proof
            self.say(f"dynamics of {section.picoseconds:g} ps at {section.temperature:g} K with the final model")
            folder = self.config.output / "proof"
            proof = prove(model, known, section, folder, self.config.seed)
            self.remarks += _broken(folder / "proof.extxyz")
        curve = LearningCurve(rounds, proof, self.remarks, model)
        curve.save(self.config.output)
        return curve

    def _labelled_once(self, source: Paths, name: str) -> Path:
        """Structures of the user with labels."""
        path = self.config.output / name
        if not path.exists():
            frames = [atoms for _, atoms in read_structures(source)]
            self.say(f"labelling {len(frames)} structures: {name}")
            self._label(frames, path)
        return path

    def _label(self, frames: Sequence[Atoms], path: Path) -> None:
        """Label structures; those with huge forces are taken out."""
        section = self.config.label
        raw = path.with_suffix(".all.extxyz")
        if raw.exists():  # a process ended right after labelling
            labelled = Labelled(_frames(raw), [])
        else:
            labelled = label_structures(frames, section.build(), raw, jobs=self.config.jobs)
        sober = [atoms for atoms in labelled.frames if _largest_force(atoms) <= section.max_force]
        if not sober:
            raise DataError(f"{raw}: all structures have forces above {section.max_force:g} eV/Å (label.max_force)")
        write_frames(path, sober)
        raw.unlink()
        if dropped := len(labelled.frames) - len(sober):
            self._remark(f"{dropped} structures have forces above {section.max_force:g} eV/Å and are left out")
        if labelled.failed:
            reason = labelled.failed[0].info[FAILURE]
            failures = raw.with_suffix(".failed.extxyz")
            self._remark(f"{len(labelled.failed)} structures could not be labelled: {failures}; the first: {reason}")

    def _remark(self, text: str) -> None:
        self.remarks.append(text)
        self.say(text)

    def _trained(
        self, number: int, folder: Path, files: Sequence[Path], previous: Path | None, test: Path | None
    ) -> tuple[Path, Round]:
        """The model of a round and its errors."""
        record, size = folder / "trained.json", self.config.committee
        model = _runs(folder, 1)[0] / BEST if size == 1 else folder / "committee.carten"
        if not record.exists():
            n_labels = len(_frames(*files))
            self.say(f"round {number}: training on {n_labels} labelled structures")
            starts = _runs(previous.parent, size) if size > 1 and previous is not None else None
            results = []
            for k, output in enumerate(_runs(folder, size)):
                start = previous if starts is None else starts[k] / BEST
                results.append(self._train(files, output, start if self.config.from_previous else None, k))
            if size > 1:
                join([output / BEST for output in _runs(folder, size)], model, overwrite=True)
            errors = {"validation": "forces_rmse", "energy": "energy_per_atom_rmse"}
            columns = {name: [result.validation.get(key, NAN) for result in results] for name, key in errors.items()}
            values = {name: float(np.mean(column)) for name, column in columns.items()}
            tested = NAN if test is None else _force_error(model, _frames(test))
            entry = Round(n_labels, sum(result.minutes for result in results), **values, test=tested)
            write_text(record, json.dumps(asdict(entry)))
        entry = Round(**json.loads(record.read_text(encoding="utf-8")))
        self.say(f"round {number}: forces RMSE {entry.validation:.3g} meV/Å on the structures held out")
        return model, entry

    def _train(self, files: Sequence[Path], output: Path, start: Path | None, member: int) -> TrainResult:
        parts = [_split(path) for path in files]
        train_files, held_out = ([part[side] for part in parts] for side in (0, 1))
        config = self.config.training(train_files, held_out, output, start, member)
        if output.exists() and not (output / LAST).exists():  # a process ended before the first checkpoint
            shutil.rmtree(output)
        return train(config, resume=(output / LAST).exists(), console=self.console)

    def _new_labels(
        self, number: int, folder: Path, files: Sequence[Path], model: Path, entry: Round
    ) -> tuple[Path | None, Round]:
        """Labels of structures that the model came to, None if it came to nothing new; the round with its errors."""
        record, path = folder / "round.json", folder / "labelled.extxyz"
        if not record.exists():
            pool, runs = self._explored(number, folder, files, model)
            chosen = self._selected(number, folder, pool, files, model)
            survived = min((run.picoseconds for run in _early(runs) or runs), default=NAN)
            error = NAN
            if chosen:
                if not path.exists():
                    self.say(f"round {number}: labelling {len(chosen)} structures")
                    self._label(chosen, path)
                error = _force_error(model, _frames(path))
            write_text(record, json.dumps({"new": error, "survived": survived}))
        values = json.loads(record.read_text(encoding="utf-8"))
        entry = Round(**{**asdict(entry), **values})
        return (path if path.exists() else None), entry

    def _explored(
        self, number: int, folder: Path, files: Sequence[Path], model: Path
    ) -> tuple[list[Atoms], list[DynamicsOutcome]]:
        self.say(f"round {number}: exploring")
        seed = self.config.seed + 1000 * number
        pool, runs = explore(model, _frames(*files), self.config.explore, folder / "explore", seed)
        for temperature in dict.fromkeys(run.temperature for run in runs):
            early = _early([run for run in runs if run.temperature == temperature])
            if early:
                first = min(early, key=lambda run: run.picoseconds)
                count = "a run" if len(early) == 1 else f"{len(early)} runs"
                which = "" if len(early) == 1 else "the first "
                self.say(
                    f"round {number}: {count} at {temperature:g} K ended early, {which}after {first.picoseconds:g} ps: "
                    f"{first.reason}"
                )
        return pool, runs

    def _selected(
        self, number: int, folder: Path, pool: Sequence[Atoms], files: Sequence[Path], model: Path
    ) -> list[Atoms]:
        path, section, known = folder / "selected.extxyz", self.config.select, _frames(*files)
        if not path.exists():
            count = min(section.number, len(candidates(pool, known)[0]))
            if count == 0:
                self._remark(f"round {number}: exploration came to nothing new; the loop ends")
                return []
            selection = choose_structures(pool, count, model, section.method, known)
            self.say(f"round {number}: selected {count} of {len(pool)} structures by {selection.method}")
            write_frames(path, [pool[k] for k in selection.indices])
        return [atoms for _, atoms in read_structures(path)]


def _runs(folder: Path, size: int) -> list[Path]:
    """Folders of the runs of a round."""
    return [folder / ("run" if k == 0 else f"run_{k}") for k in range(size)]


def _early(runs: Sequence[DynamicsOutcome]) -> list[DynamicsOutcome]:
    return [run for run in runs if not run.complete]


def _split(path: Path) -> tuple[Path, Path]:
    """Files with the structures to train on and with those held out."""
    parts = path.with_suffix(".train.extxyz"), path.with_suffix(".validation.extxyz")
    if not all(part.exists() for part in parts):
        frames = _frames(path)
        if len(frames) < 2:
            raise DataError(f"{path}: has a single structure; one to train on and one to validate are needed")
        held_out = set(range(min(VALIDATION // 2, len(frames) - 1), len(frames), VALIDATION))
        write_frames(parts[0], [atoms for k, atoms in enumerate(frames) if k not in held_out])
        write_frames(parts[1], [frames[k] for k in sorted(held_out)])
    return parts


def _require_fitting(config: LoopConfig, frames: Sequence[Atoms]) -> None:
    for section in config.explore:
        if isinstance(section, CellsConfig) and not any(atoms.pbc.all() for atoms in frames):
            raise DataError("explore: random cells need periodic structures to start from, and there are none")
        if isinstance(section, DimersConfig) and not any(map(is_one_molecule, frames)):
            raise DataError("explore: dimers need molecules to start from, and there are none")
        if isinstance(section, DynamicsConfig) and all(len(atoms) < 2 for atoms in frames):
            raise DataError("explore: dynamics needs structures of two atoms or more")


def _frames(*paths: Path) -> list[Atoms]:
    return [atoms for _, atoms in read_structures(list(paths))]


def _largest_force(atoms: Atoms) -> float:
    return float(np.linalg.norm(atoms.get_forces(), axis=1).max())


def _force_error(model: Path, frames: Sequence[Atoms]) -> float:
    """RMSE of the components of forces, meV/Å."""
    values = predict(read_model(model), frames, ["forces"])
    errors = [value["forces"] - atoms.get_forces() for value, atoms in zip(values, frames, strict=True)]
    return float(1000.0 * np.sqrt(np.mean(np.square(np.concatenate(errors)))))


def _broken(path: Path) -> list[str]:
    """A remark where bonds of a molecule are others at the end of a trajectory than at its start."""
    frames = _frames(path)
    if frames[0].pbc.any() or bonds(frames[0]) == bonds(frames[-1]):
        return []
    return [f"{path}: bonds at the end are not those at the start; look at it"]
