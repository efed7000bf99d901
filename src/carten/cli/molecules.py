"""carten vibrations."""

from __future__ import annotations

from typing import Annotated

import typer

from carten.cli.jobs import Folder, JobDtype, JobFiles, run_job
from carten.cli.options import DataFiles, FileFormat, ModelFile, Overwrite
from carten.errors import ConfigError


def vibrations_command(
    model: ModelFile,
    data: DataFiles,
    output: Folder = None,
    temperature: Annotated[float, typer.Option(min=1e-6, help="K, of the ideal gas.")] = 298.15,
    pressure: Annotated[float, typer.Option(min=1e-6, help="Pa, of the ideal gas.")] = 101325.0,
    symmetry_number: Annotated[int, typer.Option(min=1, help="Rotations that bring the molecule to itself.")] = 1,
    spin: Annotated[float, typer.Option(min=0.0, help="Total electronic spin: 0.5 for doublets.")] = 0.0,
    dtype: JobDtype = "float64",
    overwrite: Overwrite = False,
    format: FileFormat = None,
) -> None:
    """Harmonic vibrations of molecules: wavenumbers, infrared and Raman intensities, thermochemistry of the ideal gas.

    Intensities need a model with dipoles, activities one with polarizabilities. NAME.extxyz animates the modes,
    imaginary ones are named. Relax first (carten relax --fmax 0.001).
    """
    from carten.workflows.thermochemistry import GasConditions
    from carten.workflows.vibrations import vibrations

    try:
        conditions = GasConditions(temperature, pressure, symmetry_number, spin)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    files = JobFiles(model, data, output, dtype, overwrite, format)
    run_job("vibrations", files, lambda atoms, calculator, show: vibrations(atoms, calculator, conditions, show))
