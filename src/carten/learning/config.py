"""The configuration of active learning: one YAML file, every key checked as in the configuration of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from carten.errors import ConfigError
from carten.learning.labellers import Labeller
from carten.properties.potential import Potential
from carten.properties.routes import Property
from carten.train.config import Config
from carten.train.document import read_document
from carten.train.explain import explain
from carten.train.fields import File, Files, PositiveFloat, PositiveInt, as_list
from carten.train.terms import terms
from carten.uncertainty import Ensemble
from carten.workflows.stop import parse_criterion

FILES = ("train", "validation", "test")
"""Keys of ``train.data`` that the loop sets itself."""
STOP_KEY = "explore.stop_at"
PLACEHOLDERS = (1, 6)
"""Elements of a model that only tells which properties there will be."""


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
    """Length at each temperature; where a run ends early, another one from another structure takes the rest."""
    timestep: PositiveFloat = 0.5
    """fs."""
    frames: PositiveInt = 50
    """Structures taken at each temperature."""
    stop_at: Annotated[tuple[str, ...], BeforeValidator(as_list)] = ()
    """Criteria by which a run ends, as for ``carten md --stop-at``: ``forces_uncertainty>0.5`` (eV/Å), ``contacts``.
    The frame is among the structures; criteria are looked at whenever one is taken."""


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
    """By default uncertainty if the model gives any (committee or train.model.n_members above 1), else farthest."""


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
    committee: Annotated[int, Field(ge=1, le=32)] = 1
    """Models trained in each round, with different seeds; several explore and select together, with uncertainties."""
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
            config = self.training([Path("train.extxyz")], [Path("validation.extxyz")], self.output, None)
            self._require_criteria(config)
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def _require_criteria(self, config: Config) -> None:
        """Check that dynamics can be stopped as asked for, before anything is trained."""
        criteria = [text for section in self.explore if isinstance(section, DynamicsConfig) for text in section.stop_at]
        several = self.committee > 1
        if several and config.model.n_members > 1:
            raise ConfigError(
                f"committee: {self.committee} models of {config.model.n_members} members each; set committee or "
                "train.model.n_members to 1"
            )
        if not criteria:
            return
        rows = [term.property for term in terms(config.properties)]
        model = Potential(config.model, PLACEHOLDERS, rows, backend="reference")
        properties: Mapping[str, Property] = model.properties
        if several or model.n_members > 1:
            properties = Ensemble([model, model] if several else [model]).properties
        for text in criteria:
            try:
                parse_criterion(text, properties, {"any": 0.0}, config.model.cutoff, STOP_KEY)
            except ConfigError as error:
                if "_uncertainty" not in text or len(properties) > len(model.properties):
                    raise
                raise ConfigError(
                    f"{STOP_KEY}: models of this loop have no uncertainties, found {text!r}: set committee: 4, or "
                    "n_members: 4 in train.model"
                ) from error

    def training(
        self, train: list[Path], validation: list[Path], output: Path, previous: Path | None, member: int = 0
    ) -> Config:
        """The configuration of a training run.

        Args:
            train: files to train on.
            validation: files that are held out.
            output: folder of the run.
            previous: model to start from.
            member: of the committee; each has a seed of its own.
        """
        document = {key: value for key, value in self.train.items() if key != "model" or previous is None}
        document["data"] = {**self.train.get("data", {}), "train": train, "validation": validation}
        document["output"] = output
        document.setdefault("seed", self.seed)
        if previous is not None:
            document["start"] = previous
        config = Config.parse(document, source="train")
        return config.model_copy(update={"seed": config.seed + member})

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
