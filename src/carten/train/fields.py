"""Types of values in the configuration of a run; relative paths are resolved against the folder of its file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo

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
Files = Annotated[tuple[File, ...], Field(min_length=1), BeforeValidator(as_list)]
