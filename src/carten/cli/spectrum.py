"""carten spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from carten.cli.options import Backend, Device, ModelFile, Overwrite, load_model, require_new, trained_labels

if TYPE_CHECKING:
    from carten.workflows.spectrum import Spectrum
    from carten.workflows.vibrations import Vibrations

def spectrum_command(
    model: ModelFile,
    trajectory: Annotated[
        Path, typer.Argument(metavar="TRAJECTORY", help="Dynamics of one molecule, by carten md.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The spectrum as CSV columns.")] = Path(
        "spectrum.csv"
    ),
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw a figure: .svg, .png, .pdf.")] = None,
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
    """
    from carten.data.read import read_structures
    from carten.drawing import require_picture
    from carten.errors import ModelError
    from carten.properties.io import header
    from carten.report.spectrum import draw
    from carten.workflows.inputs import with_inputs
    from carten.workflows.spectrum import spectrum as run
    from carten.workflows.vibrations import harmonic_lines, no_harmonic_lines

    for path in (output, plot):
        require_new(path, overwrite)
    if plot is not None:
        require_picture(plot)
    potential = load_model(model, device, "float64", backend)
    inputs = trained_labels(header(model), potential.inputs, section="inputs")
    frames = [atoms for _, atoms in read_structures(trajectory)]
    bands = run(potential, frames, timestep, temperature, resolution, inputs)
    try:
        harmonic = harmonic_lines(potential, with_inputs(potential, frames[0], inputs))
    except ModelError as error:
        typer.echo(f"Warning: no harmonic lines: {error}", err=True)
        harmonic = no_harmonic_lines(frames[0])
    for line in table(bands, harmonic):
        typer.echo(line)
    _write(bands, output)
    typer.echo(f"spectrum      {output}")
    if plot is not None:
        draw(bands, harmonic, plot)
        typer.echo(f"figure        {plot}")


def table(bands: Spectrum, harmonic: Vibrations) -> list[str]:
    """Harmonic lines, and the nearest maximum of the spectra."""
    from carten.workflows.spectrum import nearest_peaks

    infrared = nearest_peaks(bands.wavenumbers, bands.infrared, harmonic.wavenumbers)
    columns = [harmonic.wavenumbers, harmonic.infrared, infrared]
    head = f"{'harmonic':>10}{'km/mol':>10}{'infrared':>10}"
    if bands.raman is not None:
        columns += [harmonic.raman, nearest_peaks(bands.wavenumbers, bands.raman, harmonic.wavenumbers)]
        head += f"{'Å⁴/amu':>10}{'Raman':>10}"
    rows = ["".join(f"{value:>10.1f}" for value in row) for row in zip(*columns, strict=True)]
    return [f"wavenumbers in cm⁻¹, dynamics at {bands.temperature:.0f} K", head, *rows]


def _write(bands: Spectrum, path: Path) -> None:
    import csv

    from carten.data.write import replacing

    names = ["wavenumber_cm-1", "infrared_km/mol/cm-1"]
    columns = [bands.wavenumbers, bands.infrared]
    if bands.raman is not None:
        names.append("raman_A^4/amu/cm-1")
        columns.append(bands.raman)
    with replacing(path) as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([f"{value:.6g}" for value in row] for row in zip(*columns, strict=True))
