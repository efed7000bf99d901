"""Lightning's trainer of a run."""

from __future__ import annotations

import math
from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping

from carten.errors import ConfigError
from carten.train.checkpoint import SafetensorsCheckpoint
from carten.train.config import Config, TrainingConfig
from carten.train.fields import steps_of
from carten.train.world import processes


class Patience(EarlyStopping):
    """Stops a run after some epochs without a lower validation loss, however often it is validated."""

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__("validation_loss", check_finite=False)
        self.config = config

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        steps = steps_of(self.config.validate_every, int(trainer.num_training_batches))
        self.patience = math.ceil((self.config.patience or 0) * trainer.num_training_batches / steps)


def make_trainer(config: Config, callbacks: list[Callback], **options: Any) -> Trainer:
    """The trainer of a run; it writes nothing itself.

    Args:
        config: of the run.
        callbacks: what is done at each step.
        options: of Lightning's trainer, in place of those of the run.

    Raises:
        ConfigError: the devices are not there, or the cluster has other numbers of processes.
    """
    training = config.training
    by_steps = isinstance(training.validate_every, str)
    chosen: dict[str, Any] = {
        "accelerator": training.accelerator,
        "devices": training.devices,
        "num_nodes": training.nodes,
        "strategy": processes(training.devices, training.nodes),
        "max_epochs": training.epochs,
        "check_val_every_n_epoch": None if by_steps else training.validate_every,
        "val_check_interval": steps_of(training.validate_every, 1) if by_steps else None,
        "gradient_clip_val": training.clip,
    }
    try:
        return Trainer(
            **{**chosen, **options},
            callbacks=callbacks,
            logger=False,
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
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
    except RuntimeError as error:  # what Lightning asks of variables of SLURM
        raise ConfigError(f"training: the processes of this run can't be told apart: {error}") from error
