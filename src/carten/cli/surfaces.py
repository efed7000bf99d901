"""carten surface."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from carten.cli.jobs import Folder, JobDtype, JobFiles, run_job
from carten.cli.options import DataFiles, FileFormat, ModelFile, Overwrite
from carten.errors import ConfigError

if TYPE_CHECKING:
    from carten.workflows.slabs import Miller


def surface_command(
    model: ModelFile,
    data: DataFiles,
    output: Folder = None,
    max_index: Annotated[int, typer.Option(min=1, max=6, help="Largest Miller index.")] = 1,
    plane: Annotated[
        list[str] | None,
        typer.Option(metavar="'H K L'", help="Only this plane. May be repeated.", show_default=False),
    ] = None,
    thickness: Annotated[float, typer.Option(min=1.0, help="Of the thinnest of three slabs, Å.")] = 10.0,
    vacuum: Annotated[float, typer.Option(min=1.0, help="Between a slab and its image, Å.")] = 12.0,
    fmax: Annotated[float, typer.Option(min=1e-6, help="Largest force that may remain, eV/Å.")] = 0.01,
    steps: Annotated[int, typer.Option(min=1, help="Steps of relaxation at most.")] = 500,
    dtype: JobDtype = "float64",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Surface energies of crystals, of all planes up to a Miller index and all their terminations; the Wulff shape.

    Slabs of three thicknesses relax in one batch. Indices refer to the conventional cell. Relax the crystal first
    (carten relax --cell).
    """
    from carten.workflows.relax import Goal
    from carten.workflows.surface import SlabSizes, surface

    planes = [_miller(text) for text in plane] if plane else max_index
    sizes, goal = SlabSizes(thickness, vacuum), Goal(fmax, steps=steps)
    files = JobFiles(model, data, output, dtype, overwrite, format)
    run_job("surface", files, lambda atoms, calculator, show: surface(atoms, calculator, planes, sizes, goal, show))


def _miller(text: str) -> Miller:
    try:
        first, second, third = map(int, text.split())
    except ValueError as error:
        raise ConfigError(f"--plane takes three integers, such as '1 1 0', found {text!r}") from error
    return first, second, third
