"""carten relax."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carten.cli.jobs import JobDtype
from carten.cli.options import DataFiles, FileFormat, ModelFile, Overwrite, require_new
from carten.errors import ModelError

if TYPE_CHECKING:
    from rich.table import Table

    from carten.workflows.relax import Relaxation


def relax_command(
    model: ModelFile,
    data: DataFiles,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Relaxed structures, extended XYZ.")
    ] = Path("relaxed.extxyz"),
    cell: Annotated[bool, typer.Option("--cell", help="Relax cells as well as atoms.")] = False,
    pressure: Annotated[float, typer.Option(help="External pressure in GPa, with --cell.")] = 0.0,
    fmax: Annotated[float, typer.Option(help="Largest force that may remain, eV/Å.")] = 0.01,
    smax: Annotated[float, typer.Option(help="Largest component of stress plus pressure, GPa.")] = 0.05,
    steps: Annotated[int, typer.Option(min=1, help="Steps at most.")] = 500,
    dtype: JobDtype = "float64",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Relax structures to minima of the energy, or of the enthalpy under pressure: all of them in one batch.

    Models with inputs or long-range terms, and structures with constraints other than fixed atoms, are relaxed one by
    one. Whatever else a structure carries is kept. Exits with status 1 if any structure did not converge; it is written
    all the same, marked by relaxed=F.
    """
    from rich.console import Console

    from carten.data.read import read_structures
    from carten.data.write import replacing, write_structure
    from carten.interfaces.ase import Calculator
    from carten.workflows.relax import Goal, choose_evaluator, relax

    if pressure and not cell:
        raise ModelError("--pressure acts on cells: add --cell")
    require_new(output, overwrite)
    try:
        goal = Goal(fmax, smax, cell, pressure, steps)
    except ValueError as error:
        raise ModelError(str(error)) from error
    structures = [atoms for _, atoms in read_structures(data, format)]
    evaluator = choose_evaluator(Calculator(model, dtype=dtype), structures)
    console = Console()
    with console.status("relaxing") as status:

        def show(done: int, total: int) -> None:
            status.update(f"relaxing: {done} of {total} structures done")

        results = relax(structures, evaluator, goal, show)
    with replacing(output) as file:
        for result in results:
            result.atoms.info["relaxed"] = result.converged
            write_structure(file, result.atoms)
    console.print(_table(results, cell))
    typer.echo(f"written: {output}")
    if failures := _failures(results, steps):
        raise ModelError(f"{'; '.join(failures)}; all are in {output}")


def _failures(results: Sequence[Relaxation], steps: int) -> list[str]:
    lost = [number for number, result in enumerate(results) if result.problem]
    slow = [number for number, result in enumerate(results) if not (result.converged or result.problem)]
    failures = []
    if slow:
        failures.append(
            f"{len(slow)} of {len(results)} structures did not converge in {steps} steps, the first is number "
            f"{slow[0]}: allow more --steps"
        )
    if lost:
        failures.append(
            f"{len(lost)} of {len(results)} structures became impossible and are as they were before, the first is "
            f"number {lost[0]}: {results[lost[0]].problem}"
        )
    return failures


def _table(results: Sequence[Relaxation], cell: bool) -> Table:
    from ase.units import GPa
    from rich.table import Table

    headings = ["#", "formula", "steps", "E before, eV/atom", "E, eV/atom", "F max, eV/Å"]
    headings += ["stress max, GPa", "volume, Å³/atom"] if cell else []
    table = Table(*headings, title=f"{len(results)} structure{'s' if len(results) != 1 else ''}")
    shown = list(enumerate(results))[:50]
    for number, result in shown:
        n_atoms = len(result.atoms)
        row = [str(number), result.atoms.get_chemical_formula(), str(result.steps)]
        row += [f"{energy / n_atoms:.4f}" for energy in (result.energy_before, result.energy)]
        row += [f"{result.largest_force:.1e}"]
        if cell:
            row += [f"{result.largest_stress / GPa:.1e}", f"{result.atoms.get_volume() / n_atoms:.3f}"]
        table.add_row(*row, style=None if result.converged else "red")
    if len(shown) < len(results):
        table.caption = f"the first {len(shown)} of {len(results)}"
    return table
