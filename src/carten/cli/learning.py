"""carten augment, carten select, carten learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from carten.cli.labelling import Jobs, LabellerName, LabellerOptions, read_labeller, remarks
from carten.cli.options import DataFiles, FileFormat, Overwrite, require_new
from carten.errors import ConfigError

if TYPE_CHECKING:
    from ase import Atoms
    from rich.table import Table

    from carten.learning.curve import LearningCurve
    from carten.learning.selection import Selection


def augment_command(
    data: DataFiles,
    labeller: LabellerName,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Structures with cheap labels, extended XYZ.")
    ],
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="Structures to label cheaply.")] = 500,
    temperature: Annotated[
        list[float] | None,
        typer.Option(metavar="K", help="Of dynamics and normal modes (default: 300 and 600). May be repeated."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="labelled: the structures themselves; md: dynamics; modes: normal modes; bonds: turned bonds "
            "(default: all of them). May be repeated.",
        ),
    ] = None,
    option: LabellerOptions = None,
    level: Annotated[
        str, typer.Option(metavar="NAME", help="Level of theory of DATA, where fidelity does not say it.")
    ] = "target",
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    jobs: Jobs = 1,
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Put cheap labels beside expensive ones: geometries around those of DATA, and a configuration that trains both.

    Beside FILE, cheap.extxyz for example, there are cheap.train.extxyz and cheap.validation.extxyz with the structures
    of DATA, and cheap.yaml for carten train: one model of both levels of theory, DATA's being the target.
    """
    from rich.console import Console

    from carten.cli.progress import progress
    from carten.data.read import read_structures
    from carten.learning.augment import SOURCES, TEMPERATURES, Around, augment

    _require_xyz(output)
    require_new(output, overwrite)
    around = Around(number, tuple(temperature or TEMPERATURES), tuple(source or SOURCES), seed=seed)
    frames = [atoms for _, atoms in read_structures(data, format)]
    with progress(Console(), f"{number} structures", number) as done:
        result = augment(frames, read_labeller(labeller, option), output, around, level, jobs, done)
    counts = ", ".join(f"{count} {name}" for name, count in result.counts.items())
    typer.echo(f"{len(result.cheap.frames)} structures with cheap labels: {output} ({counts})")
    typer.echo(f"next: carten train {result.config}")
    for line in remarks(result.cheap, output):
        typer.echo(line, err=True)


def select_command(
    pool: DataFiles,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Chosen structures, extended XYZ.")],
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many to choose.")] = 50,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Model whose descriptors and uncertainties are used (default: descriptors of an untrained network).",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        Literal["farthest", "kmedoids", "cur", "uncertainty"] | None,
        typer.Option(help="How (default: uncertainty if the model gives any, else farthest).", show_default=False),
    ] = None,
    known: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Structures that have labels already. May be repeated."),
    ] = None,
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Choose the structures of a pool that are worth labelling: they differ from each other and from known ones.

    Duplicates and structures with overlapping atoms are left out. The same files give the same choice.
    """
    from carten.data.read import read_structures
    from carten.data.write import replacing, write_structure
    from carten.learning.choice import choose_structures

    _require_xyz(output)
    require_new(output, overwrite)
    structures = read_structures(pool, format)
    frames = [atoms for _, atoms in structures]
    others = [atoms for _, atoms in read_structures(known, format)] if known else []
    selection = choose_structures(frames, number, model, method, others)
    with replacing(output) as file:
        for k in selection.indices:
            write_structure(file, _marked(frames[k], structures[k][0]))
    typer.echo(f"{number} of {len(frames)} structures: {output}, chosen by {selection.method}")
    for line in _explained(selection):
        typer.echo(line, err=True)


def _marked(atoms: Atoms, where: str) -> Atoms:
    atoms.info["selected_from"] = where
    return atoms


def _explained(selection: Selection) -> Sequence[str]:
    lines = [f"left out: {count} {reason}" for reason, count in selection.left_out.items()]
    if selection.uncertainties:
        largest, least = max(selection.uncertainties), min(selection.uncertainties)
        lines.append(f"uncertainty of forces: {1000 * least:.3g} to {1000 * largest:.3g} meV/Å")
    return lines


def _require_xyz(output: Path) -> None:
    if output.suffix not in (".extxyz", ".xyz"):
        raise ConfigError(f"structures are written as extended XYZ: expected a name ending in .extxyz, found {output}")


def learn_command(
    config: Annotated[
        Path, typer.Argument(metavar="LOOP", help="A YAML file, see the documentation.", show_default=False)
    ],
) -> None:
    """Active learning: train, explore with the model, select structures, label them, and train again.

    Everything is in the output folder: a folder for each round, and the learning curve (learn-rounds.csv, learn.svg).
    A loop that was interrupted goes on where it was when the same command is given again; with more rounds in LOOP, a
    finished one does. Exits with status 1 if the dynamics of the proof does not last.
    """
    from rich.console import Console

    from carten.errors import ModelError
    from carten.learning.config import LoopConfig
    from carten.learning.loop import learn

    console = Console()
    loop = LoopConfig.load(config)
    curve = learn(loop, lambda text: console.print(text, highlight=False, soft_wrap=True, markup=False), console)
    console.print(_curve_table(curve))
    for name, value, unit in curve.lines():
        console.print(f"{name}: {value} {unit}", highlight=False)
    for remark in curve.warnings():
        typer.echo(remark, err=True)
    typer.echo(f"{loop.output}: learn-rounds.csv, learn.svg; the last model is {curve.model}")
    if curve.failures():
        raise ModelError(f"the dynamics of the proof did not last: {curve.failures()[0]}")


def _curve_table(curve: LearningCurve) -> Table:
    import math

    from rich.table import Table

    table = Table("round", *curve.columns(), box=None, header_style="dim")
    for number, row in enumerate(zip(*curve.columns().values(), strict=True)):
        table.add_row(str(number), *("" if math.isnan(value) else f"{value:.4g}" for value in row))
    return table
