"""The configuration of active learning: one YAML file, every key checked as in the configuration of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from carten.errors import ConfigError
from carten.learning.labellers import Labeller
from carten.train.config import Config
from carten.train.document import read_document
from carten.train.explain import explain
from carten.train.fields import File, Files, PositiveFloat, PositiveInt

FILES = ("train", "validation", "test")
"""Keys of ``train.data`` that the loop sets itself."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class LabelConfig(_Section):
    """What labels structures, see ``carten label``."""

    labeller: str
    """tblite, a model (.carten), a calculator of ASE by name, or module:Class."""
    options: dict[str, Any] = {}
    """Keyword arguments of the calculator."""
    level: str = ""
    """Level of theory that is written."""
    max_force: PositiveFloat = 50.0
    """eV/Å; structures with a larger one are not trained on."""

    def build(self) -> Labeller:
        """The labeller."""
        return Labeller(self.labeller, self.options, self.level)


class DynamicsConfig(_Section):
    """Molecular dynamics with the model of the round, by Langevin's thermostat."""

    kind: Literal["md"] = "md"
    temperatures: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (300.0,)
    """K, a run at each."""
    picoseconds: PositiveFloat = 2.0
    """Length of each run, which ends before if it explodes."""
    timestep: PositiveFloat = 0.5
    """fs."""
    frames: PositiveInt = 50
    """Structures taken from each run."""


class CellsConfig(_Section):
    """Random cells around periodic structures."""

    kind: Literal["cells"] = "cells"
    number: PositiveInt = 20
    volumes: tuple[PositiveFloat, PositiveFloat] = (0.9, 1.2)
    """Least and largest, relative to that of the structure."""
    strain: Annotated[float, Field(ge=0, le=0.5)] = 0.03
    """Standard deviation of the components of the strain."""
    rattle: Annotated[float, Field(ge=0, le=2)] = 0.1
    """Standard deviation of displacements, Å."""


class DimersConfig(_Section):
    """Pairs of the molecules that have labels, turned at random."""

    kind: Literal["dimers"] = "dimers"
    number: PositiveInt = 20
    contacts: tuple[PositiveFloat, PositiveFloat] = (1.6, 5.0)
    """Least and largest distance of the closest atoms, Å."""


Exploration = Annotated[DynamicsConfig | CellsConfig | DimersConfig, Field(discriminator="kind")]


class SelectConfig(_Section):
    """Which structures of those explored are labelled, see ``carten select``."""

    number: PositiveInt = 20
    """Structures in each round."""
    method: Literal["farthest", "kmedoids", "cur", "uncertainty"] | None = None
    """By default uncertainty if the model gives any (model.n_members above 1), else farthest."""


class ProofConfig(_Section):
    """Dynamics with the final model that has to last."""

    temperature: PositiveFloat = 300.0
    """K."""
    picoseconds: PositiveFloat = 10.0
    timestep: PositiveFloat = 0.5
    """fs."""


class LoopConfig(_Section):
    """Everything that active learning depends on."""

    structures: Files
    """To start from; they are labelled first, whatever labels they have."""
    label: LabelConfig
    explore: Annotated[tuple[Exploration, ...], Field(min_length=1)] = (DynamicsConfig(),)
    select: SelectConfig = SelectConfig()
    train: dict[str, Any] = {}
    """A configuration of ``carten train`` without files and output."""
    from_previous: bool = True
    """Whether a round starts from the model of the round before, or from nothing."""
    rounds: PositiveInt = 3
    """Times that new structures are labelled; the last model is trained after that."""
    test: Files | None = None
    """Structures on which the model of each round is tested; they are labelled first."""
    proof: ProofConfig | None = None
    jobs: Annotated[int, Field(ge=1, le=256)] = 1
    """Structures labelled at a time."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    output: File = Path("learn")

    @model_validator(mode="after")
    def _train_fits(self) -> LoopConfig:
        data = self.train.get("data", {})
        keys = [f"data.{key}" for key in FILES if isinstance(data, dict) and key in data]
        keys += [key for key in ("output", "start") if key in self.train]
        if keys:
            raise ValueError(f"train: {keys[0]} is set by the loop; leave it out")
        try:
            self.training([Path("train.extxyz")], [Path("validation.extxyz")], self.output, None)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def training(self, train: list[Path], validation: list[Path], output: Path, previous: Path | None) -> Config:
        """The configuration of a training run.

        Args:
            train: files to train on.
            validation: files that are held out.
            output: folder of the run.
            previous: model to start from.
        """
        document = {key: value for key, value in self.train.items() if key != "model" or previous is None}
        document["data"] = {**self.train.get("data", {}), "train": train, "validation": validation}
        document["output"] = output
        document.setdefault("seed", self.seed)
        if previous is not None:
            document["start"] = previous
        return Config.parse(document, source="train")

    @classmethod
    def load(cls, path: str | Path) -> LoopConfig:
        """Read a YAML file; relative paths are resolved against its folder.

        Raises:
            ConfigError: the file cannot be read, is not YAML, or a key or value is wrong; all mistakes are listed.
        """
        path = Path(path)
        document = read_document(path)
        if not isinstance(document, dict):
            raise ConfigError(f"{path}: expected keys {', '.join(cls.model_fields)}; found {document!r:.60}")
        try:
            return cls.model_validate(document, context={"folder": path.parent.absolute()})
        except ValidationError as error:
            raise ConfigError(explain(error, cls, document, str(path))) from error

    def dump(self) -> str:
        """The configuration with every default written out, as YAML that :meth:`load` reads."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
