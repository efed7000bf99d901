"""A training run, from a configuration to a model file."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console

from carten.data.contacts import shortest_contacts
from carten.errors import ConfigError, TrainingError
from carten.ops.threads import only_kernels
from carten.properties.io import load, save
from carten.properties.isolated import surprises
from carten.properties.potential import Potential
from carten.train.balance import balanced, lines, losses_of_means
from carten.train.build import build_model
from carten.train.checkpoint import SafetensorsCheckpoint
from carten.train.config import Config
from carten.train.datamodule import Batches
from carten.train.files import BEST, CONFIG, LAST, METRICS, TENSORBOARD, write_text
from carten.train.history import History
from carten.train.keeper import Keeper
from carten.train.lock import locked
from carten.train.memory import require_memory
from carten.train.metrics import Breakdown
from carten.train.module import Fit
from carten.train.optimizer import Schedule
from carten.train.progress import Display
from carten.train.quiet import quiet
from carten.train.replay import Replay
from carten.train.resume import Facts, Progress, find_progress, require_free, require_same_run
from carten.train.sets import read_sets
from carten.train.signals import Interrupted, Interruption, interruptible
from carten.train.start import kept_elements, read_start
from carten.train.summary import summary
from carten.train.terms import terms
from carten.train.tuning import Tuning
from carten.train.world import in_turn, lost_process, processes, require_world


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


def train(config: Config, resume: bool = False, console: Console | None = None, backend: str = "auto") -> TrainResult:
    """Train a model; everything is written to ``config.output``, which no other run may use at the same time.

    SIGINT, SIGTERM and SIGUSR1 end the run after the step, or the validation, that they arrive in: a checkpoint is
    written first. Before the first step of the process there is nothing to finish, and they end it at once.

    Args:
        config: what to train, on what, and how.
        resume: continue from the last checkpoint in the output folder, bit for bit as if the run had not stopped.
        console: where progress is shown.
        backend: how plans are evaluated, see :func:`carten.ops.library.evaluate`.

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
    run = _Run(config, resume, console or Console(), backend)
    with (
        quiet(),
        torch.random.fork_rng(devices=[]),
        only_kernels(config.training.devices),
        interruptible() as interruption,
    ):
        torch.set_rng_state(torch.Generator().manual_seed(config.seed).get_state())
        try:
            return run(interruption)
        except TrainingError:
            if not run.speaks:  # all processes have found the same
                raise SystemExit(1) from None
            raise
        except RuntimeError as error:
            if lost_process(error):
                raise TrainingError(
                    "another process of this run has ended, its message says why: --resume continues from the last "
                    "checkpoint"
                ) from error
            raise
        except Interrupted as stop:
            if not stop.announced:
                run.say(f"{stop.signal.name}: {run.kept}")
                stop.announced = True
            raise


class _Run:
    """One call of :func:`train`."""

    def __init__(self, config: Config, resume: bool, console: Console, backend: str) -> None:
        self.config = config
        self.resume = resume
        self.console = console
        self.backend = backend
        self.speaks = True
        self.resumed: Progress | None = None
        self.keeper: Keeper | None = None
        self.contacts: Mapping[str, float] = {}

    def __call__(self, interruption: Interruption) -> TrainResult:
        config, source = read_start(self.config)
        self.config = config
        last = config.output / LAST
        keeper = Keeper(last, self._save, config.training.checkpoint_minutes, interruption)
        display = Display(self.console)
        trainer = _trainer(config, [display, History(config.output / METRICS), keeper])
        self.keeper = keeper
        if not trainer.is_global_zero:
            self.speaks, self.console = False, Console(quiet=True)
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

    def say(self, line: str) -> None:
        """Show a line as it is."""
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

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
        sets = read_sets(config, loss_terms, kept_elements(config, source, replay))
        require_memory(config.model, len(sets.elements))
        losses = losses_of_means(loss_terms, sets)
        loss_terms = balanced(loss_terms, config.properties, losses)
        model = build_model(config, sets, loss_terms, source, self.backend)
        if replay is not None and source is not None:
            sets = replay.added(sets, config, loss_terms, model, source)
        batches = Batches(config, sets)
        tuning = Tuning(model, config, source)
        if writes:
            self.contacts = shortest_contacts(sets.train)
            write_text(config.output / CONFIG, config.dump())
        for line in [*summary(config, sets, model, source), *tuning.lines, *sets.notes, *lines(loss_terms, losses)]:
            self.say(line)
        schedule, length = Schedule(config.schedule), batches.length
        average, seed, groups = config.training.ema, config.seed, sets.groups
        fit = Fit(model, loss_terms, tuning, schedule, length, average, seed, groups)
        return fit, batches

    def _save(self, model: Potential, provenance: Mapping[str, Any]) -> None:
        config = self.config.model_dump(mode="json")
        facts = {**provenance, "config": config, "shortest_contacts": self.contacts}
        save(self.config.output / BEST, model, facts, overwrite=True)

    def _test(self, trainer: Trainer, fit: Fit, batches: Batches) -> Fit:
        """The best model with its errors on the test set."""
        model = load(self.config.output / BEST, backend=self.backend)
        best = Fit(model, fit.terms, fit.tuning, fit.schedule, fit.length, groups=batches.sets.groups)
        trainer.test(best, datamodule=batches, verbose=False)
        return best


def _logger(output: Path) -> TensorBoardLogger | bool:
    """TensorBoard files where TensorBoard is installed (the extra ``tensorboard``); ``metrics.csv`` has the same."""
    if importlib.util.find_spec("tensorboard") is None:
        return False
    return TensorBoardLogger(output, name=TENSORBOARD, version="")


def _trainer(config: Config, callbacks: list[Callback]) -> Trainer:
    training = config.training
    if training.patience is not None:
        validations = -(-training.patience // training.validate_every)
        callbacks = [*callbacks, EarlyStopping("validation_loss", patience=validations, check_finite=False)]
    try:
        return Trainer(
            accelerator=training.accelerator,
            devices=training.devices,
            num_nodes=training.nodes,
            strategy=processes(training.devices, training.nodes),
            max_epochs=training.epochs,
            check_val_every_n_epoch=training.validate_every,
            gradient_clip_val=training.clip,
            callbacks=callbacks,
            logger=_logger(config.output),
            plugins=[SafetensorsCheckpoint()],
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            inference_mode=False,
            use_distributed_sampler=False,
        )
    except MisconfigurationException as error:
        raise ConfigError(
            f"training: {training.devices} devices of accelerator {training.accelerator} can't be used here: {error}"
        ) from error
