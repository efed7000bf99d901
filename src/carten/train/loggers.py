"""Loggers of other projects, by name: what a run measures goes to each of them, and none of them can end the run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from carten.errors import ConfigError
from carten.train.files import TENSORBOARD


def _mlflow(output: Path) -> Logger:
    """Writes to where MLflow is set up to write (``MLFLOW_TRACKING_URI``), or to its database in the working folder."""
    import mlflow

    return MLFlowLogger("carten", run_name=output.name, tracking_uri=mlflow.get_tracking_uri())


MAKERS: Mapping[str, Callable[[Path], Logger]] = {
    "tensorboard": lambda output: TensorBoardLogger(output, name=TENSORBOARD, version="", default_hp_metric=False),
    "wandb": lambda output: WandbLogger(name=output.name, save_dir=output),
    "mlflow": _mlflow,
}
"""Loggers by name, which is also that of the package that each needs and of the extra that installs it."""


def chosen_loggers(names: Sequence[str] | None) -> list[str]:
    """Names of the loggers of a run; by default TensorBoard where it is installed.

    Raises:
        ConfigError: the package of a logger is not installed.
    """
    if names is None:
        return ["tensorboard"] if importlib.util.find_spec("tensorboard") else []
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(f"training.loggers: {name} is not installed: pip install 'carten[{name}]'")
    return list(names)


class Recorder:
    """Passes values to loggers; one that fails is left out from then on, and the run goes on.

    Args:
        makers: of the loggers, by name.
        say: shows a sentence to the user.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Logger]], say: Callable[[str], None]) -> None:
        self.makers = makers
        self.say = say
        self._loggers: dict[str, Logger] = {}

    def begin(self, config: Mapping[str, Any]) -> None:
        """Make the loggers, and pass them the configuration of the run."""
        for name, make in self.makers.items():
            self._try(name, lambda make=make, name=name: self._loggers.update({name: make()}))  # type: ignore[misc]
        self._all(lambda logger: logger.log_hyperparams(dict(config)))

    def record(self, values: Mapping[str, float], step: int) -> None:
        """Pass values of a step."""
        named = {name.replace("_", "/", 1): value for name, value in values.items()}
        self._all(lambda logger: logger.log_metrics(named, step))
        self._all(lambda logger: logger.save())

    def end(self, status: str) -> None:
        """Close the loggers; ``status`` is ``success`` or ``failed``."""
        self._all(lambda logger: logger.finalize(status))
        self._loggers.clear()

    def _all(self, use: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            self._try(name, lambda logger=logger: use(logger))  # type: ignore[misc]

    def _try(self, name: str, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # noqa: BLE001  whatever it is, the training is worth more than a record of it
            self._loggers.pop(name, None)
            self.say(f"{name} can't be written to ({error}): the training goes on without")
