"""The application: its commands in the order people use them, and how errors are shown."""

from __future__ import annotations

import errno
import io
import math
import sys
from collections.abc import Callable
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
COMMANDS: tuple[tuple[str, tuple[tuple[str, Callable[..., None], str], ...]], ...] = (
    (
        "Data",
        (
            ("check", data.check_command, "Check labels, units, outliers and duplicates of data."),
            ("convert", data.convert_command, "Convert data to one file, which training reads lazily."),
            ("label", labelling.label_command, "Label structures with xTB, DFT, a model or others."),
            ("augment", learning.augment_command, "Put many cheap labels beside a few expensive ones."),
            ("select", learning.select_command, "Choose the structures that are most worth labelling."),
        ),
    ),
    (
        "Train a model and judge it",
        (
            ("init", data.init_command, "Print a commented configuration for data."),
            ("train", training.train_command, "Train a model, or fine-tune one."),
            ("learn", learning.learn_command, "Active learning: train, explore, select, label, repeat."),
            ("evaluate", model.evaluate_command, "Errors of a model on labelled data, as a report too."),
            ("committee", uncertainty.committee_command, "Join models into one whose spread is its uncertainty."),
            ("calibrate", uncertainty.calibrate_command, "Scale uncertainties to fit errors on held-out data."),
            ("benchmark", benchmark.benchmark_command, "Check the physics of a model: a page with traffic lights."),
            ("speed", speed.speed_command, "Measure the time and memory that a model takes."),
            ("info", model.info_command, "Say what a model is, and how it was trained."),
        ),
    ),
    (
        "Predict and simulate",
        (
            ("predict", model.predict_command, "Write structures with predicted properties."),
            ("relax", relax.relax_command, "Relax many structures at once, with or without cells."),
            ("screen", screen.screen_command, "Rank structures by their distance to the convex hull."),
            ("md", dynamics.md_command, "Molecular dynamics at constant energy, temperature, pressure."),
            ("analyse", analysis.analyse_command, "Averages, distributions, diffusion and more of dynamics."),
            ("report", report.report_command, "Show everything that lies in a folder on one HTML page."),
        ),
    ),
    (
        "Molecules and reactions",
        (
            ("vibrations", molecules.vibrations_command, "Vibrations, infrared and Raman lines, thermochemistry."),
            ("spectrum", spectrum.spectrum_command, "Infrared and Raman spectra from dynamics."),
            ("neb", paths.neb_command, "Barrier and path between two structures."),
            ("ts", paths.ts_command, "Saddle points, with exact Hessians."),
        ),
    ),
    (
        "Crystals and surfaces",
        (
            ("eos", crystals.eos_command, "Equation of state and bulk modulus."),
            ("elastic", crystals.elastic_command, "Elastic tensor, moduli, stability."),
            ("phonons", crystals.phonons_command, "Phonon bands, density of states, free energy."),
            ("qha", crystals.qha_command, "Thermal expansion in the quasi-harmonic approximation."),
            ("surface", surfaces.surface_command, "Surface energies and the Wulff shape."),
            ("adsorb", adsorption.adsorb_command, "Adsorption energies at all distinct sites of slabs."),
            ("defects", surfaces.defects_command, "Formation energies of vacancies, solutes, interstitials."),
            ("magnetic", magnetism.magnetic_command, "Relax magnetic moments; exchange constants."),
            ("spins", magnetism.spins_command, "Spin dynamics with the magnetic forces of a model."),
        ),
    ),
    (
        "Use a model in other programs",
        (
            ("export", export.export_command, "Compile a model into a library for LAMMPS, C and C++."),
            ("lammps", engines.lammps_command, "Compile pair_style carten for a LAMMPS."),
            ("check-lammps", engines.check_lammps_command, "Compare LAMMPS on 1 to N processes with ASE."),
            ("path", engines.path_command, "Print where a file for another program lies."),
        ),
    ),
    (
        "Get to know carten",
        (
            ("demo", demo.demo_command, "Train, evaluate and simulate on shipped data: three minutes."),
            ("properties", reference.properties_command, "List what can be learned and given, with units."),
            ("config", reference.config_command, "Check a configuration; print the schema for editors."),
        ),
    ),
)
"""By what they are for: name, function and what the list of commands says."""
for panel, commands in COMMANDS:
    for command_name, command, summary in commands:
        app.command(command_name, cls=Command, rich_help_panel=panel, short_help=summary)(command)


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
