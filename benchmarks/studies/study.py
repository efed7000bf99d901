"""Studies: data, held-out frames, configurations to compare, published errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict

HERE = Path(__file__).parent


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Published(_Section):
    """A published error.

    ``error`` is of ``property`` in ``unit``; ``by`` says whose it is and what it was trained on.
    """

    property: str
    error: Literal["rmse", "mae"]
    value: float
    unit: str
    by: str


class Study(_Section):
    """One file ``NAME.yaml``.

    Args:
        title: what is learned, in a line.
        source: where the data come from.
        prepare: how files become frames, a function of :mod:`benchmarks.studies.frames`.
        files: extended xyz files, relative to the data folder.
        test: number of frames held out, chosen at random by the seed, or files of their own.
        validation: number of frames that choose the best model; the rest is trained on.
        units: in which errors are given, by property, where it is not the unit that carten reports.
        published: errors to compare with.
        shown: properties compared, by default all that are trained.
        config: of the training run, without data and output.
        variants: by name, what each run changes in ``config``; the first is the one compared with published errors.
        note: what was found.
    """

    title: str
    source: str
    prepare: str = "labelled"
    files: tuple[str, ...]
    test: int | tuple[str, ...]
    validation: int
    units: dict[str, str] = {}
    published: tuple[Published, ...] = ()
    shown: tuple[str, ...] = ()
    config: dict[str, Any]
    variants: dict[str, dict[str, Any]] = {"": {}}
    note: str = ""


def read_study(name: str) -> Study:
    """The study of a name."""
    return Study.model_validate(yaml.safe_load((HERE / f"{name}.yaml").read_text(encoding="utf-8")))


def names() -> list[str]:
    """The names of all studies."""
    return sorted(path.stem for path in HERE.glob("*.yaml"))


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A nested dictionary with changes; a change to ``None`` removes the key."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = value
    return result
