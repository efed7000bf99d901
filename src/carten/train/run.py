"""A training run, from a configuration to a model file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from rich.console import Console

from carten.data.contacts import shortest_contacts
from carten.errors import TrainingError
from carten.ops.memory import is_out_of_memory
from carten.ops.threads import only_kernels
from carten.properties.facts import sources_with
from carten.properties.io import load, save
from carten.properties.isolated import surprises
from carten.properties.potential import Potential
from carten.train.balance import balanced, lines, losses_of_means
from carten.train.build import build_model
from carten.train.config import Config
from carten.train.datamodule import Batches
from carten.train.files import BEST, CONFIG, LAST, LOG, write_text
from carten.train.history import History
from carten.train.keeper import Keeper
from carten.train.lock import locked
from carten.train.log import Log
from carten.train.loggers import MAKERS, Recorder, chosen_loggers
from carten.train.memory import require_memory
from carten.train.metrics import Breakdown
from carten.train.module import Fit
from carten.train.optimizer import Schedule
from carten.train.progress import Display
from carten.train.quiet import quiet
from carten.train.rehearsal import rehearse
from carten.train.replay import Replay
from carten.train.resume import Facts, Progress, find_progress, require_free, require_same_run
from carten.train.sets import read_sets
from carten.train.signals import Interrupted, Interruption, interruptible
from carten.train.start import kept_elements, read_start
from carten.train.summary import summary
from carten.train.terms import terms
from carten.train.trainer import Patience, make_trainer
from carten.train.tuning import Tuning
from carten.train.world import in_turn, lost_process, require_world


@dataclass(frozen=True)
class TrainResult:
    """What a run made.

    Args:
        model: path of the best model.
        epochs: epochs done, those before a resume included.
        steps: optimiser steps done.
        minutes: time spent training.
        validation: loss and errors of the best model on the validation set, in reported units.
        test: the same on the test set; empty without one.
        breakdowns: errors ``by group`` and ``by element``, of ``validation`` and ``test``; empty where there is one.
    """

    model: Path
    epochs: int
    steps: int
    minutes: float
    validation: Mapping[str, float]
    test: Mapping[str, float]
    breakdowns: Mapping[str, Mapping[str, Breakdown]]


def train(
    config: Config,
    resume: bool = False,
    console: Console | None = None,
    backend: str = "auto",
    clock: Callable[[], float] = time.monotonic,
) -> TrainResult:
    """Train a model; everything is written to ``config.output``, which no other run may use at the same time.

    SIGINT, SIGTERM and SIGUSR1 end the run after the step, or the validation, that they arrive in: a checkpoint is
    written first. Before the first step of the process there is nothing to finish, and they end it at once.

    Args:
        config: what to train, on what, and how.
        resume: continue from the last checkpoint in the output folder, bit for bit as if the run had not stopped.
        console: where progress is shown.
        backend: how plans are evaluated, see :func:`carten.ops.library.evaluate`.
        clock: seconds that ``training.max_minutes`` counts; :func:`time.process_time` leaves out what other programs
            take of the processor.

    Raises:
        ConfigError: the output folder has results already (and ``resume`` is false), is in use, or has nothing to
            resume, or the resumed run had another configuration.
        DataError: the data cannot be read, have changed since the run began, or no structure carries a label that has a
            weight.
        ModelFileError: the checkpoint is damaged.
        TrainingError: the loss became NaN or infinite, or another process of the run has ended.
        Interrupted: a signal was received; as a ``SystemExit`` it ends the process with the status 128 + signal.
    """
    require_world(config.training.devices, config.training.nodes)
    run = _Run(config, resume, console or Console(), backend, clock)
    with _surroundings(run) as interruption:
        return run(interruption)


def dry_run(config: Config, console: Console | None = None, backend: str = "auto") -> None:
    """Read and check everything, take a few steps, and say what the run needs; nothing is written.

    Args:
        config: what would be trained.
        console: where the memory and the time that it needs are shown.
        backend: as in :func:`train`.

    Raises:
        ConfigError: as :func:`train`; so are other errors.
        MemoryError: a step does not fit.
    """
    run = _Run(config, False, console or Console(), backend)
    with _surroundings(run):
        run.rehearse()


@contextmanager
def _surroundings(run: _Run) -> Iterator[Interruption]:
    """What holds while a run computes; errors are explained, and end up in its log file too."""
    with (
        quiet(),
        torch.random.fork_rng(devices=[]),
        only_kernels(run.config.training.devices),
        interruptible() as interruption,
    ):
        torch.set_rng_state(torch.Generator().manual_seed(run.config.seed).get_state())
        try:
            yield interruption
        except Interrupted as stop:
            if not stop.announced:
                run.say(f"{stop.signal.name}: {run.kept}")
                stop.announced = True
            raise
        except Exception as error:
            explained = run.explained(error)
            run.log.note(f"ended by an error: {explained or error}")
            if explained is None:
                raise
            raise explained from error
        finally:
            run.log.close()


class _Run:
    """One call of :func:`train`."""

    def __init__(
        self, config: Config, resume: bool, console: Console, backend: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.config = config
        self.clock = clock
        self.resume = resume
        self.log = Log(console)
        self.say = self.log.line
        self.backend = backend
        self.speaks = True
        self.resumed: Progress | None = None
        self.keeper: Keeper | None = None
        self.contacts: Mapping[str, float] = {}
        self.sources: Sequence[Mapping[str, Any]] = ()

    def __call__(self, interruption: Interruption) -> TrainResult:
        config, source = read_start(self.config)
        self.config = config
        last = config.output / LAST
        keeper = Keeper(last, self._save, config.training.checkpoint_minutes, interruption)
        makers = {name: partial(MAKERS[name], config.output) for name in chosen_loggers(config.training.loggers)}
        history = History(config, Recorder(makers, self.say), self.log)
        callbacks: list[Callback] = [Display(self.log), history, keeper]
        if config.training.patience is not None:
            callbacks.append(Patience(config.training))
        trainer = make_trainer(config, callbacks)
        self.keeper = keeper
        if not trainer.is_global_zero:
            self.speaks, self.log.console = False, Console(quiet=True)
        with ExitStack() as held:
            def prepare() -> tuple[Fit, Batches]:
                if trainer.is_global_zero:
                    held.enter_context(locked(config.output, self.say))
                    keeper.facts = Facts.of(config)
                    self._enter(keeper.facts)
                return self._prepare(source, trainer.is_global_zero)

            fit, batches = in_turn(trainer, prepare)
            if source is not None and not self.resume:
                trainer.validate(fit, datamodule=batches, verbose=False)
            trainer.fit(fit, datamodule=batches, ckpt_path=last if self.resume else None)
            if trainer.is_global_zero:
                for line in surprises(load(config.output / BEST, backend="reference")):
                    self.say(line)
            minutes, steps, epochs = fit.elapsed / 60.0, trainer.global_step, trainer.current_epoch
            test = self._test(trainer, fit, batches) if batches.sets.test is not None else None
        breakdowns = {"validation": keeper.breakdowns, **({"test": test.breakdowns} if test is not None else {})}
        tested = test.results if test is not None else {}
        return TrainResult(config.output / BEST, epochs, steps, minutes, keeper.results, tested, breakdowns)

    def rehearse(self) -> None:
        """Read, check, take a few steps, and say what the run needs."""
        self.config, source = read_start(self.config)
        chosen_loggers(self.config.training.loggers)
        require_free(self.config)
        fit, batches = self._prepare(source, writes=False)
        for line in rehearse(self.config, fit, batches):
            self.say(line)

    def explained(self, error: Exception) -> BaseException | None:
        """An error that says what to do instead of one of torch; ``None`` where there is nothing to add."""
        if isinstance(error, TrainingError) and not self.speaks:
            return SystemExit(1)  # all processes have found the same
        if not isinstance(error, RuntimeError):
            return None
        if is_out_of_memory(error):
            batch = self.config.data.batch.model_dump(exclude_none=True)
            smaller = ", ".join(f"{key}: {max(1, bound // 2)}" for key, bound in batch.items())
            return MemoryError(
                f"a step with data.batch {batch} did not fit; try data.batch='{{{smaller}}}', more training.devices, "
                "which divide it, or fewer model.n_channels; carten train --dry-run measures what fits"
            )
        if lost_process(error):
            return TrainingError(
                "another process of this run has ended, its message says why: --resume continues from the last "
                "checkpoint"
            )
        return None

    @property
    def kept(self) -> str:
        """What a run that is interrupted leaves."""
        last = self.config.output / LAST
        if self.keeper is not None and self.keeper.written is not None:
            epoch, step = self.keeper.written
            return f"stopped; {last} is of epoch {epoch}, step {step}: --resume continues from there"
        if self.resumed is not None:
            return f"stopped before the next step; {last} is unchanged: --resume continues from there"
        return "stopped before the first checkpoint: nothing is kept"

    def _enter(self, facts: Facts) -> None:
        """Look at the output folder; nothing is written to it until data and model have been found right."""
        if not self.resume:
            require_free(self.config)
            return
        self.resumed = find_progress(self.config)
        last = self.config.output / LAST
        self.say(f"resuming {last}: epoch {self.resumed.epochs}, step {self.resumed.steps}")
        require_same_run(self.resumed.facts, facts, last)
        if self.resumed.epochs >= self.config.training.epochs:
            self.say("this run is finished; raise training.epochs to go on")

    def _prepare(self, source: Potential | None, writes: bool) -> tuple[Fit, Batches]:
        """Data, model, and remarks on them."""
        config = self.config
        self.say(f"reading {', '.join(str(path) for path in config.data.train)}")
        loss_terms = terms(config.properties)
        replay = Replay.read(config, source)
        sets = read_sets(config, loss_terms, kept_elements(config, source, replay), self.say)
        require_memory(config.model, len(sets.elements))
        losses = losses_of_means(loss_terms, sets)
        loss_terms = balanced(loss_terms, config.properties, losses)
        model = build_model(config, sets, loss_terms, source, self.backend)
        if replay is not None and source is not None:
            sets = replay.added(sets, config, loss_terms, model, source)
        batches = Batches(config, sets)
        tuning = Tuning(model, config, source)
        self.sources = sources_with(source.provenance) if source is not None else ()
        if writes:
            self.log.open(config.output / LOG)
            self.contacts = shortest_contacts(sets.train)
            write_text(config.output / CONFIG, config.dump())
        for line in [*summary(config, sets, model, source), *tuning.lines, *sets.notes, *lines(loss_terms, losses)]:
            self.say(line)
        schedule, length = Schedule(config.schedule), replace(batches.length, clock=self.clock)
        average, seed, groups = config.training.ema, config.seed, sets.group_names
        fit = Fit(model, loss_terms, tuning, schedule, length, average, seed, groups)
        return fit, batches

    def _save(self, model: Potential, provenance: Mapping[str, Any]) -> None:
        config = self.config.model_dump(mode="json")
        facts = {**provenance, "config": config, "shortest_contacts": self.contacts}
        if self.sources:
            facts["sources"] = list(self.sources)
        save(self.config.output / BEST, model, facts, overwrite=True)

    def _test(self, trainer: Trainer, fit: Fit, batches: Batches) -> Fit:
        """The best model with its errors on the test set."""
        model = load(self.config.output / BEST, backend=self.backend)
        best = Fit(model, fit.terms, fit.tuning, fit.schedule, fit.length, groups=batches.sets.group_names)
        trainer.test(best, datamodule=batches, verbose=False)
        return best
