"""carten surface, defects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from carten.cli.crystals import Supercell
from carten.cli.jobs import Folder, JobDtype, JobFiles, RelaxForce, RelaxSteps, run_job
from carten.cli.options import DataFiles, FileFormat, ModelFile, Overwrite, parse_energies
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
    fmax: RelaxForce = 0.01,
    steps: RelaxSteps = 500,
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


def defects_command(
    model: ModelFile,
    data: DataFiles,
    output: Folder = None,
    solute: Annotated[
        list[str] | None,
        typer.Option(metavar="ELEMENT", help="Replaces atoms of the crystal. May be repeated.", show_default=False),
    ] = None,
    interstitials: Annotated[bool, typer.Option("--interstitials", help="Put atoms into voids.")] = False,
    no_vacancies: Annotated[bool, typer.Option("--no-vacancies", help="Leave vacancies out.")] = False,
    barriers: Annotated[bool, typer.Option("--barriers", help="Barriers of vacancies to the nearest site.")] = False,
    potential: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ELEMENT=EV",
            help="Chemical potential (default: energy of the crystal, if it has one element). May be repeated.",
            show_default=False,
        ),
    ] = None,
    supercell: Supercell = None,
    fmax: RelaxForce = 0.01,
    steps: RelaxSteps = 500,
    dtype: JobDtype = "float64",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Formation energies of point defects of crystals: vacancies, solutes, interstitials; barriers of vacancies.

    Supercells relax in one batch; their cells are kept. Relax the crystal first (carten relax --cell).
    """
    from carten.workflows.defects import DefectKinds, defects
    from carten.workflows.relax import Goal

    kinds = DefectKinds(not no_vacancies, tuple(solute or ()), interstitials, barriers)
    potentials, goal = parse_energies("--potential", potential or ()), Goal(fmax, steps=steps)
    files = JobFiles(model, data, output, dtype, overwrite, format)
    run_job(
        "defects",
        files,
        lambda atoms, calculator, show: defects(atoms, calculator, kinds, potentials, supercell, goal, show),
    )


def _miller(text: str) -> Miller:
    try:
        first, second, third = map(int, text.split())
    except ValueError as error:
        raise ConfigError(f"--plane takes three integers, such as '1 1 0', found {text!r}") from error
    return first, second, third
