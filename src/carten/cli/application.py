"""The application: its commands in the order people use them, and how errors are shown."""

from __future__ import annotations

import errno
import io
import math
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

import carten
from carten import errors
from carten.cli import (
    adsorption,
    analysis,
    benchmark,
    crystals,
    data,
    demo,
    dynamics,
    engines,
    export,
    labelling,
    learning,
    magnetism,
    model,
    molecules,
    paths,
    reference,
    relax,
    report,
    screen,
    spectrum,
    speed,
    surfaces,
    training,
    uncertainty,
)
from carten.text import printable

USER_ERRORS = (
    errors.ConfigError,
    errors.DataError,
    errors.ModelError,
    errors.ModelFileError,
    errors.TrainingError,
    OSError,
)


class Command(TyperCommand):
    """A command that refuses arguments no file name and no quantity can be: NUL characters, nan and infinities."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest: list[str] = super().parse_args(ctx, args)
        for parameter in self.params:
            value = ctx.params.get(parameter.name)
            for item in value if isinstance(value, list | tuple) else [value]:
                if isinstance(item, float) and not math.isfinite(item):
                    raise typer.BadParameter(f"expected a finite number, found {item}", param_hint=parameter.opts[0])
                if "\0" in str(item):
                    raise typer.BadParameter("contains a NUL character", param_hint=parameter.opts[0])
        return rest


class Group(TyperGroup):
    """Shows errors the user can act on as one message; defects of carten keep their traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):  # what the terminal's encoding lacks is escaped, not an error
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # whoever reads our output has seen enough; typer exits quietly
            raise
        except MemoryError as error:
            _fail(f"not enough memory: {error}" if str(error) else "not enough memory", error)
        except USER_ERRORS as error:
            _fail(message(error), error)
        except RuntimeError as error:
            from carten.ops.memory import is_out_of_memory

            if not is_out_of_memory(error):
                raise
            _fail("not enough memory: make model.n_channels, data.batch or --max-atoms smaller", error)


def _fail(text: str, error: Exception) -> None:
    typer.secho("Error: ", err=True, fg="red", bold=True, nl=False)
    typer.echo(printable(text), err=True)
    raise typer.Exit(1) from error


def message(error: Exception) -> str:
    """What an error says; errors of the operating system name their file."""
    if isinstance(error, OSError) and error.strerror:
        advice = "; make space and repeat the command" if error.errno == errno.ENOSPC else ""
        return (f"{error.filename}: " if error.filename else "") + error.strerror + advice
    return str(error)


app = typer.Typer(
    cls=Group,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
DATA, USE, ENGINES = "From data to a model", "Use a model", "Use a model in other programs"
LEARN = "Learn about carten"
app.command("init", cls=Command, rich_help_panel=DATA)(data.init_command)
app.command("check", cls=Command, rich_help_panel=DATA)(data.check_command)
app.command("label", cls=Command, rich_help_panel=DATA)(labelling.label_command)
app.command("augment", cls=Command, rich_help_panel=DATA)(learning.augment_command)
app.command("select", cls=Command, rich_help_panel=DATA)(learning.select_command)
app.command("learn", cls=Command, rich_help_panel=DATA)(learning.learn_command)
app.command("convert", cls=Command, rich_help_panel=DATA)(data.convert_command)
app.command("train", cls=Command, rich_help_panel=DATA)(training.train_command)
app.command("evaluate", cls=Command, rich_help_panel=USE)(model.evaluate_command)
app.command("predict", cls=Command, rich_help_panel=USE)(model.predict_command)
app.command("committee", cls=Command, rich_help_panel=USE)(uncertainty.committee_command)
app.command("calibrate", cls=Command, rich_help_panel=USE)(uncertainty.calibrate_command)
app.command("md", cls=Command, rich_help_panel=USE)(dynamics.md_command)
app.command("relax", cls=Command, rich_help_panel=USE)(relax.relax_command)
app.command("screen", cls=Command, rich_help_panel=USE)(screen.screen_command)
app.command("eos", cls=Command, rich_help_panel=USE)(crystals.eos_command)
app.command("elastic", cls=Command, rich_help_panel=USE)(crystals.elastic_command)
app.command("phonons", cls=Command, rich_help_panel=USE)(crystals.phonons_command)
app.command("qha", cls=Command, rich_help_panel=USE)(crystals.qha_command)
app.command("surface", cls=Command, rich_help_panel=USE)(surfaces.surface_command)
app.command("adsorb", cls=Command, rich_help_panel=USE)(adsorption.adsorb_command)
app.command("defects", cls=Command, rich_help_panel=USE)(surfaces.defects_command)
app.command("vibrations", cls=Command, rich_help_panel=USE)(molecules.vibrations_command)
app.command("magnetic", cls=Command, rich_help_panel=USE)(magnetism.magnetic_command)
app.command("spins", cls=Command, rich_help_panel=USE)(magnetism.spins_command)
app.command("neb", cls=Command, rich_help_panel=USE)(paths.neb_command)
app.command("ts", cls=Command, rich_help_panel=USE)(paths.ts_command)
app.command("analyse", cls=Command, rich_help_panel=USE)(analysis.analyse_command)
app.command("spectrum", cls=Command, rich_help_panel=USE)(spectrum.spectrum_command)
app.command("report", cls=Command, rich_help_panel=USE)(report.report_command)
app.command("info", cls=Command, rich_help_panel=USE)(model.info_command)
app.command("benchmark", cls=Command, rich_help_panel=USE)(benchmark.benchmark_command)
app.command("speed", cls=Command, rich_help_panel=USE)(speed.speed_command)
app.command("export", cls=Command, rich_help_panel=ENGINES)(export.export_command)
app.command("path", cls=Command, rich_help_panel=ENGINES)(engines.path_command)
app.command("lammps", cls=Command, rich_help_panel=ENGINES)(engines.lammps_command)
app.command("check-lammps", cls=Command, rich_help_panel=ENGINES)(engines.check_lammps_command)
app.command("demo", cls=Command, rich_help_panel=LEARN)(demo.demo_command)
app.command("properties", cls=Command, rich_help_panel=LEARN)(reference.properties_command)
app.command("config", cls=Command, rich_help_panel=LEARN)(reference.config_command)


def _show_version(requested: bool) -> None:
    if requested:
        typer.echo(f"carten {carten.__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Machine learning for atomistic simulation in Cartesian space.

    [bold]carten init --data train.extxyz > config.yaml[/]
    [bold]carten check train.extxyz[/]
    [bold]carten train config.yaml[/]
    [bold]carten evaluate run/best.carten test.extxyz --report report.html[/]
    [bold]carten md run/best.carten start.xyz --steps 10000[/]

    [bold]carten demo[/] runs all of these in three minutes. Every command has its own --help.

    Exit status: 0 success, 1 error (explained on stderr), 2 wrong usage, 128 + N stopped by signal N.
    """
