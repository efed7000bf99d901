"""Batches of a run, for Lightning."""

from __future__ import annotations

from functools import partial
from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from carten.data.batches import BatchSampler, Bounds
from carten.data.dataset import Dataset, Sample
from carten.errors import ConfigError
from carten.train.config import Config
from carten.train.loader import Loader, ProcessShare, collate_share
from carten.train.optimizer import Length
from carten.train.sets import Sets


class Batches(LightningDataModule):
    """Batches of a run; the position in the stream of training batches is part of a checkpoint.

    Raises:
        ConfigError: every batch has fewer structures than there are processes.
    """

    def __init__(self, config: Config, sets: Sets) -> None:
        super().__init__()
        self.config = config
        self.sets = sets
        sampler = self._sampler(sets.train, shuffle=True)
        self.stream = Loader(sets.train, sampler.batches, config.data.workers)
        self.share = ProcessShare()
        largest = sampler.batches(0).largest
        if largest < (n_processes := config.training.processes):
            raise ConfigError(
                f"training.devices times training.nodes is {n_processes}, but the batches have at most {largest} "
                f"{'structure' if largest == 1 else 'structures'}, and every process takes a part of each: raise "
                "data.batch, or set fewer"
            )

    @property
    def length(self) -> Length:
        """How long the run is."""
        training = self.config.training
        steps = training.epochs * len(self.stream)
        return Length(steps, None if training.max_minutes is None else 60.0 * training.max_minutes)

    def setup(self, stage: str) -> None:
        """Take the share of this process of every batch."""
        if self.trainer is not None:
            self.share = ProcessShare(self.trainer.global_rank, self.config.training.processes)

    def train_dataloader(self) -> Loader:
        self.stream.divide(self.share)
        return self.stream

    def val_dataloader(self) -> DataLoader[Sample]:
        return self._once(self.dataset("validation"))

    def test_dataloader(self) -> DataLoader[Sample]:
        return self._once(self.dataset("test"))

    def dataset(self, part: str) -> Dataset:
        """The structures of ``validation`` or ``test``."""
        return self.sets.test if part == "test" and self.sets.test is not None else self.sets.validation

    def state_dict(self) -> dict[str, Any]:
        return self.stream.state()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.stream.restore(state_dict)

    def _once(self, dataset: Dataset) -> DataLoader[Sample]:
        n_atoms, plan = dataset.n_atoms(), self._sampler(dataset, shuffle=False).batches(0)
        return DataLoader(
            dataset,
            batch_sampler=[list(self.share.of(batch, n_atoms)) for batch in plan],
            collate_fn=partial(collate_share, dataset),
            num_workers=self.config.data.workers,
            persistent_workers=self.config.data.workers > 0,
        )

    def _sampler(self, dataset: Dataset, shuffle: bool) -> BatchSampler:
        bound = self.config.data.batch
        bounds = Bounds(bound.structures, bound.atoms, bound.edges)
        return BatchSampler(dataset, bounds, self.config.seed, shuffle, self.sets.mixture if shuffle else None)
