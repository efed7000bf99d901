"""The kinds of energy terms that configurations and model files may list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from carten.physics.charges import ChargesConfig, LesConfig
from carten.physics.dispersion import D3Config, D4Config
from carten.physics.term import TermConfig
from carten.physics.zbl import ZblConfig

AnyTerm = Annotated[ZblConfig | D3Config | D4Config | LesConfig | ChargesConfig, Field(discriminator="kind")]
"""One entry under ``terms``, told from others by its ``kind``."""


def load_terms(entries: Iterable[Mapping[str, Any]]) -> tuple[TermConfig, ...]:
    """The terms that the header of a model file lists."""
    return TypeAdapter(tuple[AnyTerm, ...]).validate_python(tuple(entries))
