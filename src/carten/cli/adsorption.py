"""carten adsorb."""

from __future__ import annotations

from typing import Annotated

import typer

from carten.cli.jobs import Folder, JobDtype, JobFiles, RelaxForce, RelaxSteps, run_job
from carten.cli.options import DataFiles, FileFormat, ModelFile, Overwrite


def adsorb_command(
    model: ModelFile,
    data: DataFiles,
    adsorbate: Annotated[
        list[str],
        typer.Option(
            "--adsorbate",
            "-a",
            metavar="NAME",
            help="An element, a molecule of ASE (CO, H2O, ..), or a file. May be repeated.",
            show_default=False,
        ),
    ],
    output: Folder = None,
    fmax: RelaxForce = 0.01,
    steps: RelaxSteps = 500,
    dtype: JobDtype = "float64",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Adsorption energies of atoms and molecules on slabs, at all distinct sites: on top, on bridges, in hollows.

    Clean slab, molecules and covered slabs relax in one batch; fixed atoms stay. What relaxes to the same structure is
    there once; adsorbates that leave the slab or fall apart are named.
    """
    from carten.workflows.adsorb import adsorb
    from carten.workflows.relax import Goal

    files, goal = JobFiles(model, data, output, dtype, overwrite, format), Goal(fmax, steps=steps)
    run_job("adsorb", files, lambda atoms, calculator, show: adsorb(atoms, calculator, adsorbate, goal, show))
