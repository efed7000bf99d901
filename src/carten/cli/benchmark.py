"""carten benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from carten.cli.jobs import Folder, show_result
from carten.cli.options import FileFormat, ModelFile, Overwrite, require_new
from carten.errors import ModelError


def benchmark_command(
    model: ModelFile,
    data: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[STRUCTURES...]",
            help="Crystals and molecules it is for (default: lattices of its elements, or small molecules).",
            show_default=False,
        ),
    ] = None,
    output: Folder = None,
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Physical checks of a model, as one page with traffic lights: benchmark.html.

    Curves of all pairs of elements; forces and stress as derivatives of the energy; symmetry; lattices, bulk moduli,
    elastic constants, phonons and vacancies of crystals; vibrations of molecules; energy conservation; heating. Each
    check has its bounds beside it, what it means, and what to do. Exits with status 1 if a check could not be run; a
    red light is a result.

    [bold]carten benchmark run/best.carten silicon.cif -o checks[/]
    """
    from rich.console import Console

    from carten.data.read import read_structures
    from carten.data.write import replacing
    from carten.interfaces.ase import Calculator
    from carten.report.benchmark import benchmark_page
    from carten.workflows.benchmark import benchmark

    folder = output or Path("benchmark")
    require_new(folder / "benchmark.json" if folder.is_dir() else folder, overwrite)
    structures = [atoms for _, atoms in read_structures(data, format)] if data else []
    calculator = Calculator(model, dtype="float64")
    console = Console()
    with console.status("checking") as status:

        def show(done: int, total: int) -> None:
            status.update(f"checking: {done} of {total} parts done")

        result = benchmark(calculator, structures, _name(model), show)
    paths = result.save(folder)
    page = folder / "benchmark.html"
    with replacing(page) as file:
        file.write(benchmark_page(result))
    show_result(result, str(model), [page, *paths])
    if failures := result.failures():
        raise ModelError(f"some checks could not be run, the others are written: {'; '.join(failures)}")


def _name(model: Path) -> str:
    """A model's file, with the folder of its run."""
    return "/".join(model.absolute().parts[-2:])
