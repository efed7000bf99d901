"""What the header of a model file may say; files come from anywhere, so nothing in one is taken for granted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator
from typing_extensions import TypedDict

import carten
from carten.errors import ModelFileError
from carten.model.conditions import Input
from carten.model.config import NetworkConfig
from carten.physics.config import AnyTerm
from carten.properties.peek import COMMITTEE
from carten.properties.routes import Property
from carten.properties.rows import dump, load_input, load_property
from carten.properties.upgrades import UPGRADES

FORMAT = 9
CHECKED_SINCE = 6
"""Format from which on files have a checksum."""

PropertyRow = Annotated[Property, BeforeValidator(load_property), PlainSerializer(dump)]
InputRow = Annotated[Input, BeforeValidator(load_input), PlainSerializer(dump)]
AtomicNumber = Annotated[int, Field(ge=1, le=118)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class LabelOptions(TypedDict, total=False):
    """Under which key and in which unit training data had a property; with further options."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    key: str | None
    unit: str | None


class TrainedConfig(TypedDict, total=False):
    """The configuration of the training, of which labels are read again."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    properties: dict[str, LabelOptions]
    inputs: dict[str, LabelOptions]


class Provenance(TypedDict):
    """How a model was made, as training writes it; other facts may be added."""

    __pydantic_config__ = ConfigDict(extra="allow")  # type: ignore[misc]
    epoch: NotRequired[int]
    step: NotRequired[int]
    minutes: NotRequired[float]
    validation: NotRequired[dict[str, float]]
    config: NotRequired[TrainedConfig]
    sources: NotRequired[list[Provenance]]
    """Of the trainings before, the first one first, where the model began as a trained one."""


class UncertaintyFacts(BaseModel):
    """What a model knows of its errors, see :class:`carten.properties.members.Uncertainty`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scales: dict[str, Annotated[Finite, Field(gt=0)]] = {}
    draws: Annotated[int, Field(ge=2, le=4096)] = 16
    facts: dict[str, float | int | str] = {}


class Header(BaseModel):
    """The header of a model file in the current format."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int
    version: str
    network: NetworkConfig
    elements: Annotated[list[AtomicNumber], Field(min_length=1)]
    neighbours: Annotated[Finite, Field(gt=0)]
    properties: Annotated[list[PropertyRow], Field(min_length=1)]
    inputs: list[InputRow]
    terms: list[AnyTerm]
    units: dict[str, str]
    reference_energies: dict[str, float | dict[str, float]]
    dtype: Literal["float32", "float64"]
    provenance: Provenance
    pulls_ions: bool = True
    """Whether a field that the network is told pulls on charged structures as a whole."""
    uncertainty: UncertaintyFacts | None = None
    by_roots: bool = Field(default=False, exclude=True)
    """Whether weights are those of products that divided by the root of the number of paths."""

    @model_validator(mode="after")
    def _check_names(self) -> Header:
        for rows in (self.properties, self.inputs):
            names = [row.name for row in rows]
            if twice := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"{min(twice)} is described twice")
        for row in self.properties:
            if self.units.get(row.name) != row.unit:
                raise ValueError(f"the unit of {row.name} is said twice: {row.unit!r} and {self.units.get(row.name)!r}")
        levels = [value for value in self.reference_energies.values() if isinstance(value, dict)]
        numbers = set().union(*levels) if levels else set(self.reference_energies)
        if foreign := numbers - set(map(str, self.elements)):
            raise ValueError(f"reference energies of elements that the model does not know: {sorted(foreign)}")
        if levels and len(levels) != len(self.reference_energies):
            raise ValueError("reference energies of some levels of theory, but not of all")
        for provenance in (self.provenance, *self.provenance.get("sources", ())):
            training = [name in provenance for name in ("epoch", "step", "minutes")]
            if any(training) and not all(training):
                raise ValueError("provenance of a training has epoch, step and minutes")
        return self

    def as_dict(self) -> dict[str, Any]:
        """JSON-compatible data."""
        return self.model_dump(mode="json")


def checked(data: Mapping[str, Any]) -> Header:
    """The header that a dictionary describes.

    Raises:
        ModelFileError: something is missing, unknown, or of the wrong type.
    """
    try:
        return Header.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ModelFileError(f"{where and f'{where}: '}{first['msg']}") from error


def current(data: Mapping[str, Any], is_verified: bool | None) -> Header:
    """The header that a file had, brought to the current format.

    Args:
        data: as it stood in the file.
        is_verified: whether the checksum of the file is right; None where it has none.

    Raises:
        ModelFileError: the header is damaged, or of a newer format.
    """
    version = data.get("format")
    if COMMITTEE in data:
        raise ModelFileError(
            "this is a committee of several models: carten evaluate, predict, calibrate, md and carten.Calculator take "
            "it; for anything else, and in other programs, take one of the models it was made of"
        )
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ModelFileError(f"a damaged header: there is no format {version!r}; restore the file from a copy")
    if version > FORMAT:
        raise ModelFileError(
            f"format {version}, this carten ({carten.__version__}) reads up to {FORMAT}: please upgrade carten"
        )
    upgraded = dict(data)
    try:
        for older in range(version, FORMAT):
            upgraded = UPGRADES[older](upgraded)
    except (KeyError, TypeError) as error:
        raise ModelFileError(f"damaged header of format {version} ({error!r}): restore the file from a copy") from error
    header = checked(upgraded)
    if is_verified is False or (is_verified is None and version >= CHECKED_SINCE):
        raise ModelFileError(
            "this file does not hold the model its header describes: header or weights were changed after they were "
            "written, the checksum does not fit; restore the file from a copy"
        )
    return header
