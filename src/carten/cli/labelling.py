"""carten label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from carten.cli.options import DataFiles, FileFormat, Overwrite, require_new
from carten.errors import ConfigError

if TYPE_CHECKING:
    from carten.learning.labelling import Labelled

LabellerName = Annotated[
    str,
    typer.Option(
        "--with",
        metavar="LABELLER",
        help="tblite, pyscf, a model (.carten), a calculator of ASE by name, or module:Class.",
        show_default=False,
    ),
]
LabellerOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--option", metavar="KEY=VALUE", help="Option of the labeller, e.g. method=GFN1-xTB. May be repeated."
    ),
]
Level = Annotated[
    str,
    typer.Option(metavar="NAME", help="Level of theory to write (default: as the labeller says).", show_default=False),
]
Jobs = Annotated[int, typer.Option(min=1, help="Structures labelled at a time, each in a process of its own.")]


def label_command(
    data: DataFiles,
    labeller: LabellerName,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Labelled structures, extended XYZ.")],
    option: LabellerOptions = None,
    level: Level = "",
    properties: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="With commas: energy,forces,dipole (default: energy, forces, and stress of periodic structures).",
            show_default=False,
        ),
    ] = None,
    jobs: Jobs = 1,
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Label structures with an electronic-structure program or with a model.

    Charge and multiplicity are read from total_charge and spin_multiplicity of each structure. Labels that structures
    have already are left out; fidelity says the level of theory of the new ones. An interrupted run continues when the
    same command is given again. Structures that fail are written to *.failed.extxyz with the reason; the status is 1 if
    all do.
    """
    from rich.console import Console

    from carten.cli.progress import progress
    from carten.data.read import read_structures
    from carten.learning.labelling import label_structures

    if output.suffix not in (".extxyz", ".xyz"):
        raise ConfigError(f"labels are written as extended XYZ: expected a name ending in .extxyz, found {output}")
    require_new(output, overwrite)
    names = None if properties is None else [name.strip() for name in properties.split(",") if name.strip()]
    frames = [atoms for _, atoms in read_structures(data, format)]
    program = read_labeller(labeller, option, level)
    with progress(Console(), f"{len(frames)} structures", len(frames)) as done:
        labelled = label_structures(frames, program, output, names, jobs, done)
    typer.echo(f"{len(labelled.frames)} structures: {output}, level of theory {program.level_of_theory}")
    for line in remarks(labelled, output):
        typer.echo(line, err=True)


def read_labeller(name: str, options: Sequence[str] | None, level: str = "") -> Any:
    """The labeller of the command line.

    Raises:
        ConfigError: an option has not the form KEY=VALUE.
    """
    import yaml

    from carten.learning.labellers import Labeller

    values = {}
    for text in options or ():
        key, separator, value = text.partition("=")
        if not separator or not key.isidentifier():
            raise ConfigError(f"--option: expected KEY=VALUE, found {text!r}")
        try:
            values[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--option: cannot read the value of {text!r}: {error}") from error
    return Labeller(name, values, level)


def remarks(labelled: Labelled, output: Path) -> list[str]:
    """What the user should know, a sentence each."""
    from carten.learning.labelling import FAILURE

    lines = []
    if labelled.resumed:
        lines.append(f"{labelled.resumed} had been labelled before the interruption")
    if labelled.removed:
        lines.append(f"labels that structures had before are left out: {', '.join(labelled.removed)}")
    if labelled.failed:
        path = output.with_suffix(".failed.extxyz")
        failed = len(labelled.failed)
        count = f"{failed} {'structure' if failed == 1 else 'structures'}"
        lines.append(f"{count} failed: {path}; the first: {labelled.failed[0].info[FAILURE]}")
    return lines
