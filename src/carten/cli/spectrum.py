"""carten spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carten.cli.jobs import Folder, JobFiles, result_folder, show_result
from carten.cli.options import Backend, Device, ModelFile, Overwrite, load_model, trained_labels

if TYPE_CHECKING:
    from carten.workflows.bands import BandsAndLines


def spectrum_command(
    model: ModelFile,
    trajectory: Annotated[
        Path, typer.Argument(metavar="TRAJECTORY", help="Dynamics of one molecule, by carten md.", show_default=False)
    ],
    output: Folder = None,
    resolution: Annotated[float, typer.Option(min=0.1, help="Resolution in cm⁻¹.")] = 10.0,
    timestep: Annotated[
        float | None, typer.Option(min=1e-6, help="fs between frames, if they do not carry it.", show_default=False)
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(min=1e-6, help="Temperature in K, if frames carry no momenta.", show_default=False)
    ] = None,
    device: Device = None,
    backend: Backend = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Infrared and, with polarizabilities, Raman spectrum of a molecule from dynamics, beside its harmonic lines.

    The classical autocorrelation of the dipole, with the harmonic quantum correction: areas of bands are intensities.
    For each harmonic line its wavenumber, its intensity and the nearest maximum of the bands are printed.
    """
    from carten.data.read import read_structures
    from carten.errors import ModelError
    from carten.properties.io import header
    from carten.workflows.bands import BandsAndLines
    from carten.workflows.inputs import with_inputs
    from carten.workflows.spectrum import spectrum as run
    from carten.workflows.vibrations import harmonic_lines, no_harmonic_lines

    folder = result_folder("spectrum", JobFiles(model, [trajectory], output, overwrite=overwrite))
    potential = load_model(model, device, "float64", backend)
    inputs = trained_labels(header(model), potential.inputs, section="inputs")
    frames = [atoms for _, atoms in read_structures(trajectory)]
    bands = run(potential, frames, timestep, temperature, resolution, inputs)
    remark = ""
    try:
        lines = harmonic_lines(potential, with_inputs(potential, frames[0], inputs))
    except ModelError as error:
        lines, remark = no_harmonic_lines(frames[0]), str(error)
    result = BandsAndLines(bands, lines, remark)
    for line in _lines(result):
        typer.echo(line)
    show_result(result, f"spectrum  {frames[0].get_chemical_formula()}", result.save(folder))


def _lines(result: BandsAndLines) -> list[str]:
    """Harmonic lines, and the nearest maximum of the spectra."""
    columns = result.line_columns()
    head = ["harmonic", "km/mol", "infrared", "Å⁴/amu", "Raman"][: len(columns)]
    rows = ["".join(f"{value:>10.1f}" for value in row) for row in zip(*columns.values(), strict=True)]
    return ["lines and the bands next to them in cm⁻¹", "".join(f"{name:>10}" for name in head), *rows, ""]
