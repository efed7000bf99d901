"""carten export: a model as a library for other programs."""

from __future__ import annotations

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from carten.cli.options import Dtype, ModelFile, Overwrite, require_new


class March(StrEnum):
    """Processors."""

    native = "native"
    v2 = "x86-64-v2"
    v3 = "x86-64-v3"
    v4 = "x86-64-v4"


def export_command(
    model: ModelFile,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The library.", show_default=False)],
    dtype: Dtype = None,
    march: Annotated[
        March, typer.Option(help="The processor: this one (native), or all of a level, slower and for clusters.")
    ] = March.native,
    kim: Annotated[
        bool, typer.Option("--kim", help="Write a folder instead: a portable model of KIM (see docs/kim.md).")
    ] = False,
    overwrite: Overwrite = False,
) -> None:
    """Compile a model into one shared library, for LAMMPS, C, C++ and the calculator: no Python is needed to run it.

    Rounding in float32 changes forces by some 1e-5 of the largest: enough for dynamics, but relaxations below 1e-3 eV/Å
    and vibrations need `--dtype float64`. `carten path include` prints the folder of the header. See docs/deploy.md.
    """
    from carten.deploy import export
    from carten.interfaces.kim import export_portable_model

    if not kim:
        require_new(output, overwrite)
    elif output.exists() and not overwrite:
        raise FileExistsError(f"{output} exists already: choose another name, or replace its files with --overwrite")
    started = time.perf_counter()
    library = (export_portable_model if kim else export)(model, output, dtype, march.value)
    seconds, size = time.perf_counter() - started, len(library.content) / 1e6
    typer.echo(f"{output}: {size:.1f} MB, {library.header['dtype']}, {march.value}; {seconds:.1f} s")


def print_library(path: Path, as_json: bool) -> None:
    """What a library is."""
    from carten.deploy.facts import library_facts
    from carten.deploy.sealed import header_of, read_library
    from carten.text import printable

    header = header_of(read_library(path))
    if as_json:
        typer.echo(json.dumps(header, indent=2))
        return
    for name, text in library_facts(header):
        typer.echo(printable(f"{name:<15}{text}"))
