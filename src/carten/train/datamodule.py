"""Batches of a run, for Lightning."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from carten.data.batches import BatchSampler, Bounds, loader
from carten.data.dataset import Dataset, Sample
from carten.errors import ConfigError
from carten.train.config import Config
from carten.train.loader import Loader, ProcessShare
from carten.train.optimizer import Length
from carten.train.sets import Sets


class Batches(LightningDataModule):
    """Batches of a run; the position in the stream of training batches is part of a checkpoint.

    Raises:
        ConfigError: an epoch has fewer batches than there are devices.
    """

    def __init__(self, config: Config, sets: Sets) -> None:
        super().__init__()
        self.config = config
        self.sets = sets
        self.stream = Loader(sets.train, self._sampler(sets.train, shuffle=True).batches, config.data.workers)
        if len(self.stream) < (devices := config.training.devices):
            raise ConfigError(
                f"training.devices is {devices}, but an epoch of {len(sets.train)} structures has "
                f"{len(self.stream)} {'batch' if len(self.stream) == 1 else 'batches'}, and every device takes batches "
                "of its own: lower data.batch, or set fewer devices"
            )

    @property
    def length(self) -> Length:
        """How long the run is."""
        training = self.config.training
        steps = training.epochs * (len(self.stream) // training.devices)
        return Length(steps, None if training.max_minutes is None else 60.0 * training.max_minutes)

    def train_dataloader(self) -> Loader:
        if self.trainer is not None:
            self.stream.divide(ProcessShare(self.trainer.global_rank, self.trainer.world_size))
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
        return loader(dataset, self._sampler(dataset, shuffle=False), self.config.data.workers)

    def _sampler(self, dataset: Dataset, shuffle: bool) -> BatchSampler:
        bound = self.config.data.batch
        return BatchSampler(dataset, Bounds(bound.structures, bound.atoms, bound.edges), self.config.seed, shuffle)
