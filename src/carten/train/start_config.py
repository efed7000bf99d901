"""Sections of the configuration for runs that start from a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from carten.train.fields import File


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class StartConfig(_Section):
    """The trained model that a run starts from; the path of the model alone is enough."""

    model: File
    """A model file; the section ``model`` of the configuration may then be left out."""
    elements: Literal["data", "all"] = "data"
    """Elements of the new model: those in the data, or all of the trained model as well."""
    like: dict[str, str] = {}
    """Where new elements (``Ag: Cu``) and new levels of theory (``ccsd: pbe``) begin: with the weights of these. Other
    new elements begin with random weights, other new levels as the first level of the trained model."""


def _as_section(value: Any) -> Any:
    return {"model": value} if isinstance(value, (str, Path)) else value


Start = Annotated[StartConfig | None, BeforeValidator(_as_section)]
"""A section, or the path of the model alone."""
