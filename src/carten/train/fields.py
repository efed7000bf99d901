"""Types of values in the configuration of a run; relative paths are resolved against the folder of its file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

from carten.pretrained import absent, located, names

PositiveInt = Annotated[int, Field(ge=1, le=2**31)]
PositiveFloat = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


def _resolve(path: Any, info: ValidationInfo) -> Any:
    folder = (info.context or {}).get("folder")
    if "\0" in str(path) or not str(path):
        raise ValueError("expected the name of a file or folder")
    return path if folder is None or not isinstance(path, (str, Path)) else Path(folder) / Path(path).expanduser()


def as_list(value: Any) -> Any:
    """One path or word, or a list of these, as a list; anything else as it is."""
    return [value] if isinstance(value, (str, Path)) else value


File = Annotated[Path, BeforeValidator(_resolve)]


def _find(value: Any, info: ValidationInfo) -> Any:
    path, folder = _resolve(value, info), (info.context or {}).get("folder")
    if str(value) in names():
        return located(value, folder or "")
    if folder is not None and Path(value).name == str(value) and not Path(value).suffix and not path.exists():
        raise ValueError(absent(value))  # a name, but of no model
    return path


ModelPath = Annotated[Path, BeforeValidator(_find)]
"""A model file, or the name of a model that carten ships."""

Files = Annotated[tuple[File, ...], Field(min_length=1), BeforeValidator(as_list)]


def _every(value: Any) -> Any:
    matched = re.fullmatch(r"([1-9]\d{0,8})(?: (steps?|epochs?))?", str(value))
    if isinstance(value, bool) or matched is None:
        raise ValueError('expected a number of epochs, or of steps, as in "500 steps"')
    return f"{matched[1]} steps" if (matched[2] or "").startswith("step") else int(matched[1])


Every = Annotated[int | str, BeforeValidator(_every)]
"""Number of epochs, or of steps as ``"500 steps"``."""


def steps_of(every: int | str, steps_per_epoch: int) -> int:
    """Number of steps of an :data:`Every`."""
    return int(every.split()[0]) if isinstance(every, str) else every * steps_per_epoch
