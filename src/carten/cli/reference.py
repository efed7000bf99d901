"""carten properties, carten config."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer


def properties_command(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Show everything about one row.", show_default=False)
    ] = None,
) -> None:
    """List the properties that can be learned and the inputs that models accept, with units and routes.

    Files hold them under these names or, with a key in the configuration, under any other.
    """
    from carten.errors import ConfigError
    from carten.properties.spec import INPUTS, PROPERTIES
    from carten.report.catalogue import INPUT_HEADER, PROPERTY_HEADER, input_cells, property_cells

    if name is None:
        routes = [
            [*cells[:5], ", ".join(route.name for route in row.routes)]
            for row, cells in zip(PROPERTIES, property_cells(), strict=True)
        ]
        _print("Properties (section properties of the configuration)", (*PROPERTY_HEADER[:5], "routes"), routes)
        _print("Inputs (section inputs of the configuration)", INPUT_HEADER[:6], [cells[:6] for cells in input_cells()])
        typer.echo("carten properties NAME shows one of them in full.")
        return
    rows: dict[str, tuple[tuple[str, ...], list[str]]] = {}
    rows |= {row.name: (PROPERTY_HEADER, cells) for row, cells in zip(PROPERTIES, property_cells(), strict=True)}
    rows |= {row.name: (INPUT_HEADER, cells) for row, cells in zip(INPUTS, input_cells(), strict=True)}
    if name not in rows:
        raise ConfigError(f"no property or input {name!r}; carten properties lists them")
    for title, text in zip(*rows[name], strict=True):
        if text:
            typer.echo(f"{title:<25}{text.replace('`', '')}")


def config_command(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="A YAML file to check and print.", show_default=False)
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of configurations, for editors.")
    ] = False,
) -> None:
    """Check a configuration and print it with all defaults, or print the JSON schema with which editors check it."""
    from carten.train.config import Config

    if (config is None) != schema:
        raise typer.BadParameter("give either a configuration or --schema")
    text = (
        json.dumps(Config.model_json_schema(), indent=2, ensure_ascii=False) + "\n"
        if config is None
        else Config.load(config).dump()
    )
    typer.echo(text, nl=False)


def _print(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose lines are not broken."""
    cells = [[cell.replace("`", "") for cell in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    typer.echo(f"{title}\n")
    for row in cells:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    typer.echo("")
