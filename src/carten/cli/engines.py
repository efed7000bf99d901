"""carten path: what other programs need to find."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated

import typer

from carten.errors import ModelError


class Part(StrEnum):
    """Files that other programs are told of."""

    ipi = "ipi"


MODULES = {Part.ipi: "carten.interfaces.ipi_driver"}


def path_command(
    part: Annotated[Part, typer.Argument(help="ipi: the driver that i-PI loads.", show_default=False)],
) -> None:
    """Print where a file for another program is."""
    spec = find_spec(MODULES[part])
    if spec is None or spec.origin is None:
        raise ModelError(f"{MODULES[part]} is not installed")
    typer.echo(spec.origin)
