"""What the commands of jobs share: a model and structures in, one folder with the results out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from carten.cli.options import require_new
from carten.errors import ModelError

if TYPE_CHECKING:
    import ase
    from rich.table import Table

    from carten.interfaces.ase import Calculator
    from carten.workflows.results import JobResult, Progress

Folder = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", metavar="FOLDER", help="Where results go (default: name of the job).", show_default=False
    ),
]

JobDtype = Annotated[Literal["float32", "float64"], typer.Option(help="Precision.")]
RelaxForce = Annotated[float, typer.Option(min=1e-6, help="Largest force that may remain, eV/Å.")]
RelaxSteps = Annotated[int, typer.Option(min=1, help="Steps of relaxation at most.")]


@dataclass(frozen=True)
class JobFiles:
    """Where a job reads and writes.

    Args:
        model: file.
        data: files of structures.
        output: folder; the name of the job by default.
        dtype: precision of the model.
        overwrite: whether results that exist are replaced.
        format: ASE's name of the format of the structures.
    """

    model: Path
    data: list[Path]
    output: Path | None
    dtype: str = "float64"
    overwrite: bool = False
    format: str | None = None


Job = Callable[["ase.Atoms", "Calculator", "Progress"], "JobResult"]


def run_job(name: str, files: JobFiles, job: Job) -> None:
    """Run a job on each structure of the files, show and write its result.

    Raises:
        ModelError: something did not converge; all results are written before.
        FileExistsError: there are results already.
    """
    from carten.data.read import read_structures

    run_on([atoms for _, atoms in read_structures(files.data, files.format)], name, files, job)


def result_folder(name: str, files: JobFiles) -> Path:
    """The folder of the results.

    Raises:
        FileExistsError: there are results already.
    """
    folder = files.output or Path(name)
    if folder.is_dir():
        require_new(folder / f"{name}.json", files.overwrite)
        require_new(folder / f"{name}-0.json", files.overwrite)
    else:
        require_new(folder, files.overwrite)
    return folder


def run_on(
    structures: Sequence[ase.Atoms], name: str, files: JobFiles, job: Job, calculator: Calculator | None = None
) -> None:
    """As :func:`run_job`, on structures that were read already, with the model that was opened already, if it was."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    from carten.interfaces.ase import Calculator

    folder = result_folder(name, files)
    calculator = calculator or Calculator(files.model, dtype=files.dtype)
    console, failures = Console(), []
    for number, atoms in enumerate(structures):
        stem = name if len(structures) == 1 else f"{name}-{number}"
        with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task(f"{stem}  {atoms.get_chemical_formula()}", total=None)

            def show(done: int, total: int, bar: Bar = bar, task: Any = task) -> None:
                bar.update(task, completed=done, total=total)

            result = job(atoms, calculator, show)
        show_result(result, f"{stem}  {atoms.get_chemical_formula()}", result.save(folder, stem))
        failures += [f"{stem}: {failure}" for failure in result.failures()]
    if failures:
        raise ModelError(f"not converged, results are written all the same: {'; '.join(failures)}")


def show_result(result: JobResult, title: str, paths: list[Path]) -> None:
    """Print the numbers of a result, its warnings, and where it was written."""
    from rich.console import Console

    Console().print(_table(result, title))
    for warning in result.warnings():
        typer.echo(f"Warning: {title}: {warning}", err=True)
    typer.echo(f"written: {', '.join(map(str, paths))}")


def _table(result: JobResult, title: str) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for line in result.lines():
        table.add_row(*line)
    return table
