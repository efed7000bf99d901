"""carten eos, elastic, phonons, qha."""

from __future__ import annotations

from typing import Annotated

import typer

from carten.cli.jobs import Folder, JobDtype, JobFiles, run_job
from carten.cli.options import DataFiles, FileFormat, ModelFile, Overwrite

Supercell = Annotated[
    tuple[int, int, int] | None,
    typer.Option(metavar="N N N", help="Multiples of the cell (default: images 10 Å apart).", show_default=False),
]


def eos_command(
    model: ModelFile,
    data: DataFiles,
    output: Folder = None,
    width: Annotated[float, typer.Option(min=0.001, max=0.4, help="Largest change of volume, as a share.")] = 0.06,
    points: Annotated[int, typer.Option(min=5, max=1000, help="Volumes.")] = 9,
    relaxed: Annotated[bool, typer.Option("--relaxed", help="Relax the atoms at each volume.")] = False,
    dtype: JobDtype = "float64",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Equation of state of crystals: energies at several volumes, bulk modulus and its derivative by four equations.

    The cell is scaled, its shape is kept: relax it first (carten relax --cell).
    """
    from carten.workflows.eos import eos

    files = JobFiles(model, data, output, dtype, overwrite, format)
    run_job("eos", files, lambda atoms, calculator, show: eos(atoms, calculator, width, points, relaxed, show))


def elastic_command(
    model: ModelFile,
    data: DataFiles,
    output: Folder = None,
    dtype: JobDtype = "float64",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Elastic tensors of crystals by derivatives, of clamped ions and of ions that follow; moduli, stability.

    Models of electric fields also give dielectric and piezoelectric tensors. Relax first (carten relax --cell): ions
    with forces on them are an error, stress is pointed out.
    """
    from carten.workflows.elastic import elastic

    files = JobFiles(model, data, output, dtype, overwrite, format)
    run_job("elastic", files, elastic)


def phonons_command(
    model: ModelFile,
    data: DataFiles,
    output: Folder = None,
    supercell: Supercell = None,
    dtype: JobDtype = "float64",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Phonons of crystals from exact force constants: bands, density of states, free energy, heat capacity.

    Imaginary modes are named. NAME.yaml holds the force constants for phonopy. Relax first (carten relax --cell).
    """
    from carten.workflows.phonons import phonons

    files = JobFiles(model, data, output, dtype, overwrite, format)
    run_job("phonons", files, lambda atoms, calculator, show: phonons(atoms, calculator, supercell, show))


def qha_command(
    model: ModelFile,
    data: DataFiles,
    output: Folder = None,
    supercell: Supercell = None,
    points: Annotated[int, typer.Option(min=5, max=1000, help="Volumes.")] = 7,
    dtype: JobDtype = "float64",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Thermal expansion of crystals in the quasi-harmonic approximation: volume, bulk modulus, heat capacity.

    The cell is scaled, its shape is kept; atoms relax at each volume. Relax first (carten relax --cell).
    """
    from carten.workflows.qha import qha

    files = JobFiles(model, data, output, dtype, overwrite, format)
    run_job("qha", files, lambda atoms, calculator, show: qha(atoms, calculator, supercell, points, show))
