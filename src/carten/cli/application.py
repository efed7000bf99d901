"""The application: its commands in the order people use them, and how errors are shown."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import carten
from carten import errors
from carten.cli import bench, data, demo, dynamics, model, spectrum, training

USER_ERRORS = (
    errors.ConfigError,
    errors.DataError,
    errors.ModelError,
    errors.ModelFileError,
    errors.TrainingError,
    OSError,
)


class Group(TyperGroup):
    """Shows errors of the user's making as one message; all others keep their traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of a pipe has seen enough, typer ends quietly
            raise
        except USER_ERRORS as error:
            typer.secho("Error: ", err=True, fg="red", bold=True, nl=False)
            typer.echo(message(error), err=True)
            raise typer.Exit(1) from error


def message(error: Exception) -> str:
    """What an error says; errors of the operating system name their file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
DATA, USE = "From data to a model", "Use a model"
app.command(rich_help_panel=DATA)(data.init)
app.command(rich_help_panel=DATA)(data.check)
app.command(rich_help_panel=DATA)(training.train)
app.command(rich_help_panel=USE)(model.evaluate)
app.command(rich_help_panel=USE)(model.predict)
app.command(rich_help_panel=USE)(dynamics.md)
app.command(rich_help_panel=USE)(spectrum.spectrum)
app.command(rich_help_panel=USE)(model.info)
app.command(rich_help_panel=USE)(bench.bench)
app.command(rich_help_panel="See it work")(demo.demo)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"carten {carten.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Machine learning for atomistic simulation in Cartesian space.

    [bold]carten init --data train.extxyz > config.yaml[/]
    [bold]carten check train.extxyz[/]
    [bold]carten train config.yaml[/]
    [bold]carten evaluate run/best.carten test.extxyz --report report.html[/]
    [bold]carten md run/best.carten start.xyz --steps 10000[/]

    [bold]carten demo[/] does all of it in three minutes. Every command has its own --help.
    """
