"""A training run, from a configuration to a model file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningDataModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from rich.console import Console
from torch.utils.data import DataLoader

from carten.data.batches import BatchSampler, Bounds, loader
from carten.data.dataset import Dataset, Sample
from carten.data.statistics import statistics
from carten.errors import ConfigError
from carten.ops.memory import keep_freed_memory
from carten.properties.fixed import ENERGIES
from carten.properties.io import load, save
from carten.properties.potential import Potential
from carten.train.balance import balanced, lines, losses_of_means
from carten.train.baseline import set_energy_baseline, set_readout_baselines
from carten.train.checkpoint import SafetensorsCheckpoint
from carten.train.config import Config
from carten.train.history import History
from carten.train.keeper import Keeper
from carten.train.loader import Loader, Share
from carten.train.loss import Term
from carten.train.module import Fit
from carten.train.optimizer import Length, Schedule
from carten.train.progress import Display
from carten.train.sets import Sets, read_sets
from carten.train.start import begin, known, read_start
from carten.train.terms import terms, untrained

BEST, LAST, METRICS, CONFIG = "best.carten", "last.ckpt", "metrics.csv", "config.yaml"


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
    """

    model: Path
    epochs: int
    steps: int
    minutes: float
    validation: Mapping[str, float]
    test: Mapping[str, float]


def train(config: Config, resume: bool = False, console: Console | None = None) -> TrainResult:
    """Train a model; everything is written to ``config.output``.

    Args:
        config: what to train, on what, and how.
        resume: continue from the last checkpoint in the output folder, bit for bit as if it had not stopped.
        console: where progress is shown.

    Raises:
        ConfigError: the output folder has results already (and ``resume`` is false), or the resumed run had another
            configuration.
        DataError: the data cannot be read, or no structure carries a label that has a weight.
        TrainingError: the loss became NaN or infinite.
    """
    with _quiet(), torch.random.fork_rng(devices=[]):
        torch.set_rng_state(torch.Generator().manual_seed(config.seed).get_state())
        return _train(config, resume, console or Console())


def _train(config: Config, resume: bool, console: Console) -> TrainResult:
    keep_freed_memory()
    config, source = read_start(config)
    keeper = Keeper(config.output / LAST, partial(_save, config), config.training.checkpoint_minutes)
    trainer = _trainer(config, [Display(console), History(config.output / METRICS), keeper])
    if trainer.is_global_zero:
        _require_free(config, config.output, resume)
    wanted = terms(config.properties)
    sets = read_sets(config, wanted)
    losses = losses_of_means(wanted, sets)
    wanted = balanced(wanted, config.properties, losses)
    model = build(config, sets, wanted, source)
    if trainer.is_global_zero:
        config.output.mkdir(parents=True, exist_ok=True)
        (config.output / CONFIG).write_text(config.dump(), encoding="utf-8")
        console.print(
            "\n".join([_summary(config, sets, model), *lines(wanted, losses)]), highlight=False, soft_wrap=True
        )
    batches = Batches(config, sets)
    schedule, length = Schedule(config.schedule), _length(config, batches)
    fit = Fit(model, wanted, config.optimizer, schedule, length, config.training.ema)
    last = config.output / LAST
    trainer.fit(fit, datamodule=batches, ckpt_path=last if last.exists() else None)
    minutes, steps, epochs = fit.elapsed / 60.0, trainer.global_step, trainer.current_epoch
    test = _test(config, trainer, fit, batches) if sets.test is not None else {}
    return TrainResult(config.output / BEST, epochs, steps, minutes, keeper.results, test)


def build(config: Config, sets: Sets, wanted: Sequence[Term], source: Potential | None = None) -> Potential:
    """The model to train: statistics of the training set give its scales and its average number of neighbours.

    Where the run starts from a trained model, ``source``, that gives weights, scales and elements.
    """
    found = statistics(sets.train, sets.references[0] if sets.references else {})
    rows = [term.property for term in wanted]
    model = Potential(
        config.model,
        sets.elements if source is None else known(source, sets.elements, config.start),
        [*rows, *untrained(config, rows)],
        found.neighbours if source is None else source.neighbours,
        config.seed,
        inputs=sets.inputs,
        terms=config.terms,
    )
    model.to(sets.train.dtype)
    by_energy = any(row.name == "energy" for row in rows)
    if by_energy:
        set_energy_baseline(model, sets.references, sets.train.frames, found)
    set_readout_baselines(model, [row for row in rows if not (by_energy and row.name == "energies")], sets.train.frames)
    if source is not None:
        begin(model, source, config, sets)
    return model


class Batches(LightningDataModule):
    """Batches of a run; the position in the stream of training batches is part of a checkpoint."""

    def __init__(self, config: Config, sets: Sets) -> None:
        super().__init__()
        self.config = config
        self.sets = sets
        self.stream = Loader(sets.train, self._sampler(sets.train, shuffle=True).batches, config.data.workers)

    def train_dataloader(self) -> Loader:
        if self.trainer is not None:
            self.stream.divide(Share(self.trainer.global_rank, self.trainer.world_size))
        return self.stream

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._once(self.sets.validation)

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._once(self.sets.test or self.sets.validation)

    def state_dict(self) -> dict[str, Any]:
        return self.stream.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.stream.restore(state_dict)

    def _once(self, dataset: Dataset) -> DataLoader[Sample]:
        return loader(dataset, self._sampler(dataset, shuffle=False), self.config.data.workers)

    def _sampler(self, dataset: Dataset, shuffle: bool) -> BatchSampler:
        bound = self.config.data.batch
        return BatchSampler(dataset, Bounds(bound.structures, bound.atoms, bound.edges), self.config.seed, shuffle)


def _length(config: Config, batches: Batches) -> Length:
    training = config.training
    steps = training.epochs * (len(batches.stream) // training.devices or 1)
    return Length(steps, None if training.max_minutes is None else 60.0 * training.max_minutes)


def _trainer(config: Config, callbacks: list[Callback]) -> Trainer:
    training = config.training
    if training.patience is not None:
        validations = -(-training.patience // training.validate_every)
        callbacks = [*callbacks, EarlyStopping("validation_loss", patience=validations, check_finite=False)]
    return Trainer(
        accelerator=training.accelerator,
        devices=training.devices,
        max_epochs=training.epochs,
        check_val_every_n_epoch=training.validate_every,
        gradient_clip_val=training.clip,
        callbacks=callbacks,
        logger=TensorBoardLogger(config.output, name="tensorboard", version=""),
        plugins=[SafetensorsCheckpoint()],
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        inference_mode=False,
        use_distributed_sampler=False,
    )


def _save(config: Config, model: Potential, facts: Mapping[str, Any]) -> None:
    save(config.output / BEST, model, {**facts, "config": config.model_dump(mode="json")}, overwrite=True)


def _test(config: Config, trainer: Trainer, fit: Fit, batches: Batches) -> Mapping[str, float]:
    """Errors of the best model on the test set."""
    best = Fit(load(config.output / BEST), fit.terms, config.optimizer, fit.schedule, fit.length)
    trainer.test(best, datamodule=batches, verbose=False)
    return best.results


def _require_free(config: Config, output: Path, resume: bool) -> None:
    """Check that the output folder can be written to; nothing is, until data and model have been found right.

    Raises:
        ConfigError: it has results and they are not to be continued, or they come from another configuration.
    """
    there = sorted(path.name for path in output.iterdir()) if output.is_dir() else []
    if there and not resume:
        raise ConfigError(
            f"output: {output} has files already ({', '.join(there[:5])}); choose another folder, or resume (--resume)"
        )
    if CONFIG in there:
        _require_same(Config.load(output / CONFIG), config)


def _require_same(before: Config, now: Config) -> None:
    """What a resumed run may change is how long it goes on and how fast it learns."""
    free = {"training", "schedule", "output"}
    old, new = before.model_dump(mode="json", exclude=free), now.model_dump(mode="json", exclude=free)
    changed = [key for key in new if new[key] != old[key]]
    if changed:
        raise ConfigError(
            f"the run in {now.output} had another configuration: {', '.join(changed)} differ from its {CONFIG}; "
            "resume with the same, or choose another output"
        )


def _references(model: Potential) -> list[list[tuple[int, float]]]:
    """Elements and their E0 in eV for each level of theory that has any."""
    if ENERGIES not in model.heads:
        return []
    levels = model.heads[ENERGIES].get_buffer("reference").view(-1, len(model.elements))
    return [list(zip(model.elements, level.tolist(), strict=True)) for level in levels if level.any()]


def _summary(config: Config, sets: Sets, model: Potential) -> str:
    from ase.data import chemical_symbols

    energies = "; ".join(", ".join(f"{chemical_symbols[z]} {e:.3f}" for z, e in found) for found in _references(model))
    return "\n".join(
        [
            f"training on {len(sets.train)} structures, validation on {len(sets.validation)}"
            + (f", test on {len(sets.test)}" if sets.test is not None else ""),
            f"elements {' '.join(chemical_symbols[z] for z in model.elements)}"
            + (f"; reference energies (eV) {energies}" if energies else ""),
            *([f"starts from {config.start}"] if config.start else []),
            *([f"terms {', '.join(term.kind for term in config.terms)}"] if config.terms else []),
            f"preset {config.model.preset}, {sum(p.numel() for p in model.parameters()):,} parameters, "
            f"{model.neighbours:.1f} neighbours per atom within {model.cutoff:g} Å, {config.dtype}",
        ]
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what Lightning says about choices that are ours."""
    known = (
        ".*does not have many workers.*",  # structures are prepared once and kept
        ".*dataloader is not resumable.*",  # it is: its state travels with the data module
        ".*smaller than the logging interval.*",  # nothing is logged in steps
        ".*overridden `transfer_batch_to_device`.*",  # in the module, on purpose
        ".*LeafSpec.*deprecated.*",  # Lightning's own use of torch
    )
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)  # "GPU available: ..."
    try:
        with warnings.catch_warnings():
            for message in known:
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        logger.setLevel(level)
