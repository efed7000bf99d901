"""carten screen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carten.cli.jobs import JobDtype, show_result
from carten.cli.options import DataFiles, FileFormat, ModelFile, parse_energies, require_new
from carten.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from carten.workflows.relax import Goal


def screen_command(
    model: ModelFile,
    data: DataFiles,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE.db", help="Database of ASE; one that exists goes on.")
    ],
    relaxed: Annotated[bool, typer.Option("--relax", help="Relax atoms.")] = False,
    cell: Annotated[bool, typer.Option("--cell", help="With --relax: relax cells too.")] = False,
    pressure: Annotated[float, typer.Option(help="External pressure in GPa, with --cell.")] = 0.0,
    fmax: Annotated[float, typer.Option(help="Largest force that may remain, eV/Å.")] = 0.01,
    smax: Annotated[float, typer.Option(help="Largest component of stress plus pressure, GPa.")] = 0.05,
    steps: Annotated[int, typer.Option(min=1, help="Steps of a relaxation at most.")] = 500,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ELEMENT=EV",
            help="Energy of an element, eV/atom (default: the lowest in the set). May be repeated.",
        ),
    ] = None,
    executor: Annotated[
        str | None,
        typer.Option(
            metavar="N|ADDRESS|FILE",
            help="Number of local processes, or a Dask scheduler: tcp://host:8786 or scheduler.json.",
            show_default=False,
        ),
    ] = None,
    dtype: JobDtype = "float64",
    format: FileFormat = None,
) -> None:
    """Energies of many structures, relaxed or not, ranked by their distance to the convex hull.

    Killed at any moment, the same command goes on where it was; further structures are added to those that are there.
    Structures that fail are kept with the reason, and the others go on; the exit status is then 1. FILE.db is a
    database of ASE; beside it are FILE.json, the ranking (FILE-ranking.csv), the hull's structures (FILE.extxyz) and
    a picture: the hull of two elements, else a histogram.

    [bold]carten screen run/best.carten candidates/*.cif -o results.db --relax --cell --executor 8[/]
    """
    from rich.console import Console

    from carten.data.read import read_structures
    from carten.workflows.executors import open_executor
    from carten.workflows.screen import ScreenSettings, screen

    references = parse_energies("--reference", reference or ())
    settings = ScreenSettings(_goal(relaxed, cell, (fmax, smax, pressure), steps), references, dtype)
    stem = output.with_suffix("")
    if not output.exists():
        for path in (output, stem.with_suffix(".json"), stem.with_suffix(".extxyz")):
            require_new(path, overwrite=False)
    names, structures = zip(*read_structures(data, format), strict=True)
    console = Console()
    with open_executor(executor) as pool, console.status("screening") as status:

        def show(done: int, total: int) -> None:
            status.update(f"screening: {done} of {total} structures done")

        result = screen(structures, model, output, settings, pool, names, show)
    paths = result.save(output.parent, stem.name)
    show_result(result, str(output), [output, *paths])
    if failures := result.failures():
        raise ModelError(f"not all succeeded, results are written all the same: {'; '.join(failures)}")


def _goal(relaxed: bool, cell: bool, bounds: tuple[float, float, float], steps: int) -> Goal | None:
    from carten.workflows.relax import Goal

    fmax, smax, pressure = bounds
    if pressure and not cell:
        raise ConfigError("--pressure acts on cells: add --cell")
    if cell and not relaxed:
        raise ConfigError("--cell relaxes cells together with atoms: add --relax")
    if not relaxed:
        return None
    try:
        return Goal(fmax, smax, cell, pressure, steps)
    except ValueError as error:
        raise ConfigError(str(error)) from error
