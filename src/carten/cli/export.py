"""carten export: a model as a library for other programs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

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
    from carten.deploy.sealed import header_of, read_library
    from carten.report.text import printable

    header = header_of(read_library(path))
    if as_json:
        typer.echo(json.dumps(header, indent=2))
        return
    for name, text in library_description(header):
        typer.echo(printable(f"{name:<15}{text}"))


def library_description(header: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the header of a library says, line by line."""
    from ase.data import chemical_symbols

    network, model = header["network"], header.get("model") or {}
    yield "library", f"compiled by carten {header['version']} for {header['machine']}, {header['march']}"
    yield "elements", " ".join(chemical_symbols[number] for number in header["elements"])
    names = [row["name"] for row in header["rows"] if row["source"]]
    yield "gives", ", ".join(names)
    if rest := [row["name"] for row in header["rows"] if not row["source"]]:
        yield "in Python only", ", ".join(rest)
    if header["readouts"]:
        yield "readouts", ", ".join(header["readouts"])
    if header["inputs"]:
        yield "is told", ", ".join(row["name"] for row in header["inputs"])
    if header["terms"]:
        yield "adds", ", ".join(term["kind"] for term in header["terms"])
    yield "network", f"{network['n_layers']} layers, {network['n_channels']} channels, cutoff {network['cutoff']:g} Å"
    intervals = header["intervals"]
    radial = f"tables of {intervals} intervals" if intervals else "evaluated exactly"
    yield "precision", f"{header['dtype']}; radial functions: {radial}"
    yield "parameters", f"{header['parameters']:,}"
    if "epoch" in (provenance := model.get("provenance", {})):
        yield "trained", f"{provenance['epoch']} epochs, {provenance['step']} steps"
