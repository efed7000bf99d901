"""Sections of the configuration for runs that start from a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from carten.train.fields import Files, ModelPath, PositiveFloat, PositiveInt, as_list

Groups = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(as_list)]
"""Groups of parameters, see :mod:`carten.train.parts`."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StartConfig(_Section):
    """The trained model that a run starts from; the path of the model alone is enough."""

    model: ModelPath
    """A model file, or the name of one that carten ships (``organic``); the section ``model`` of the configuration may
    then be left out."""
    elements: Literal["data", "all"] = "data"
    """Elements of the new model: those in the data, or all of the trained model as well."""
    like: dict[str, str] = {}
    """Where new elements (``Ag: Cu``) and new levels of theory (``ccsd: pbe``) begin: with the weights of these. Other
    new elements begin with random weights, other new levels as the first level of the trained model."""


class LoraConfig(_Section):
    """Low-rank adaptation (Hu et al., 2021): of weights W only A and B of ``W + alpha / rank A B`` are trained."""

    rank: PositiveInt = 4
    alpha: PositiveFloat | None = None
    """Factor of what is added; ``rank`` by default."""
    groups: Groups = ("network", "readouts")
    """Groups of parameters that are adapted, named as in ``freeze``. Those of their parameters that low rank does not
    make smaller, and parameters that the trained model lacks, are trained as they are, all others are frozen."""


class ReplayConfig(_Section):
    """Structures trained on beside the data, so that the model does not forget what it knew."""

    data: Files
    """Structures that the model of ``start`` was trained on, or others that it should go on to predict as it does."""
    labels: Literal["model", "files"] = "model"
    """What they are trained on: predictions of the model of ``start``, or the labels in the files."""
    structures: PositiveInt | None = None
    """How many of them are drawn at random; all by default."""
    weight: PositiveFloat = 1.0
    """Weight of each of them in the loss."""
    level: str | None = None
    """Their level of theory, where the model has levels: the energies of atoms may then be others than in the data."""


def _as_section(value: Any) -> Any:
    return {"model": value} if isinstance(value, (str, Path)) else value


Start = Annotated[StartConfig | None, BeforeValidator(_as_section)]
"""A section, or the path of the model alone."""
