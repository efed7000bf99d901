"""Whether the output folder is free, or has a run to resume: from where, with which configuration, on which data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carten.errors import ConfigError, DataError, ModelFileError
from carten.model.config import NetworkConfig
from carten.properties.upgrades import with_present_preset
from carten.train.checkpoint import SafetensorsCheckpoint
from carten.train.config import Config
from carten.train.files import CONFIG, LAST, LOCK, LOG, TENSORBOARD, content_digest

CHANGEABLE = {"training", "schedule", "output"}
"""Sections of the configuration that a resumed run may change: how long it goes on, and how fast it learns."""
Digests = Mapping[str, Mapping[str, str]]
"""SHA-256 of every file that a run reads, by key of the configuration and path."""

FACTS = "run"
"""Key of a checkpoint under which :class:`Facts` stand."""


@dataclass(frozen=True)
class Facts:
    """What a checkpoint says of its run besides the state of the training.

    Args:
        config: the configuration, as JSON.
        data: of the files that were read.
    """

    config: Mapping[str, Any]
    data: Digests

    @classmethod
    def of(cls, config: Config) -> Facts:
        """Of a run that begins."""
        files: dict[str, Sequence[Path]] = {"data.train": config.data.train}
        if isinstance(config.data.validation, tuple):
            files["data.validation"] = config.data.validation
        if config.data.test:
            files["data.test"] = config.data.test
        if config.start is not None:
            files["start"] = [config.start.model]
        if config.replay is not None:
            files["replay.data"] = config.replay.data
        digests = {key: {str(path): content_digest(path) for path in paths} for key, paths in files.items()}
        return cls(config.model_dump(mode="json"), digests)

    def state(self) -> dict[str, Any]:
        """As a checkpoint holds them."""
        return {"config": dict(self.config), "data": {key: dict(files) for key, files in self.data.items()}}


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Args:
        epochs: those that are complete.
        steps: of the optimiser.
        facts: of the run.
    """

    epochs: int
    steps: int
    facts: Facts

    @classmethod
    def read(cls, path: Path) -> Progress:
        """Of a checkpoint.

        Raises:
            ModelFileError: it is damaged, or no checkpoint of a training run.
        """
        content = SafetensorsCheckpoint().load_checkpoint(path)
        try:
            epochs = content["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
            facts = Facts(_with_present_network(content[FACTS]["config"]), dict(content[FACTS]["data"]))
            return cls(int(epochs), int(content["global_step"]), facts)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(
                f"{path} does not say what run it belongs to ({error!r}): restore it from a copy, or train anew"
            ) from error


def _with_present_network(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration, of which the network may have been written before its preset ``tace`` was called ``carten``."""
    if "residual" in config["model"]:
        return dict(config)
    network = NetworkConfig.model_validate(with_present_preset(config["model"]))
    return {**config, "model": network.model_dump(mode="json")}


def require_free(config: Config) -> None:
    """Check that the output folder has nothing that a new run would overwrite.

    What a run leaves that was stopped before it had any result does not count.

    Raises:
        ConfigError: it has files.
    """
    output = config.output
    if not output.exists():
        return
    files = sorted(path.name for path in output.iterdir() if path.name not in (LOCK, LOG, TENSORBOARD))
    if files == [CONFIG] and (output / CONFIG).read_text(encoding="utf-8") == config.dump():
        return
    if files:
        shown = ", ".join(files[:5])
        advice = "or resume (--resume)" if LAST in files else "or remove it: it has no checkpoint to resume from"
        raise ConfigError(f"output: {output} has files already ({shown}); choose another folder, {advice}")


def find_progress(config: Config) -> Progress:
    """Progress of the run in the output folder.

    Raises:
        ConfigError: there is nothing to resume.
        ModelFileError: its checkpoint is damaged.
    """
    last = config.output / LAST
    if not last.is_file():
        files = sorted(path.name for path in config.output.iterdir() if path.name not in (LOCK, LOG, TENSORBOARD))
        begin = f"remove it ({', '.join(files[:5])}) or choose another output, then train" if files else "train"
        raise ConfigError(f"--resume: nothing to resume, there is no checkpoint {last}; {begin} without --resume")
    return Progress.read(last)


def require_same_run(before: Facts, now: Facts, last: Path) -> None:
    """Check that the run of a checkpoint is the one that is configured.

    Raises:
        ConfigError: the run had another configuration.
        DataError: its data have changed.
    """
    _require_same_config(before.config, now.config, last)
    _require_same_data(before.data, now.data, last)


def _require_same_config(before: Mapping[str, Any], now: Mapping[str, Any], last: Path) -> None:
    changed = [key for key in now if key not in CHANGEABLE and before.get(key) != now[key]]
    if changed:
        raise ConfigError(
            f"the run of {last} had another configuration: {', '.join(changed)} differ from its {CONFIG}; "
            "resume with the same, or choose another output"
        )
    averaged = [bool(sections["training"].get("ema")) for sections in (before, now)]
    if averaged[0] != averaged[1]:
        raise ConfigError(
            f"the run of {last} was {'' if averaged[0] else 'not '}averaged: training.ema can't be switched "
            f"{'off' if averaged[0] else 'on'} on resuming; resume with the same, or choose another output"
        )


def _require_same_data(before: Digests, now: Digests, last: Path) -> None:
    for key, files in now.items():
        for path, current in files.items():
            if before.get(key, {}).get(path) != current:
                raise DataError(
                    f"{key}: {path} is not the file that the run of {last} began with, "
                    f"{'its content has changed' if current else 'it is missing'}: restore it, or choose another output"
                )
